"""Write a synthetic data folder: micrographs, labels, instances, truth and manifest."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from defectops.atomic import replacing, write_text
from defectops.dataset import synthesis
from defectops.errors import SettingsRefused

Preset = Literal["paper", "small"]

_PRESETS: dict[str, Callable[..., tuple[synthesis.SynthesisOptions, ...]]] = {
    "paper": synthesis.paper,
    "small": synthesis.small,
}
_DEFECTS = ("dislocations", "precipitates", "voids")
_SOURCE = "synthetic: drawn by defectops, preset {preset}, seed {seed}"

_README = """# Synthetic data

**Nothing here was seen in a microscope.** `defectops data synth` drew these micrographs from
known defects (preset `{preset}`, seed {seed}), at the pixel size, foil thicknesses, densities and
sizes of the HT-9 steel in Roberts et al., Scientific Reports 9, 12744 (2019),
doi:10.1038/s41598-019-49105-0. Licence: CC0-1.0.

| folder | content |
|---|---|
| `micrographs/` | 8-bit grey PNG |
| `labels/<defect>/` | 0/255: what a careful microscopist marks; dislocations {width:g} px wide |
| `instances/<defect>/` | 16-bit PNG: 0, or the `id` of the object in the truth |
| `ignore/<defect>/` | pixels that do not count; none in this set |
| `truth/` | JSON: every object with its position in nm and its size, and the true densities |
| `manifest.csv` | one row a micrograph |

Labels hold what is visible. The truth holds everything: dislocations whose contrast vanishes
(`"visible": false`), caps of particles whose centre is outside the foil
(`"centre_in_foil": false`), particles outside the field. Where objects overlap, the instance
label shows the later line, or the particle nearer to the upper surface. The residual dislocations
of the irradiated micrographs are in the truth and are not labelled.
"""

_IGNORE = "Masks (0/255) of pixels that count neither in the loss nor in a score. None here.\n"


def synthesise(into: Path, preset: Preset, seed: int, line_width_px: float = 3) -> None:
    """Draw a preset and write it as a data folder; the same arguments give the same bytes.

    Parameters
    ----------
    into : Path
        The data folder. Files of the same names are replaced, others are left alone.
    preset : {"paper", "small"}
        Four micrographs of 2048 x 2048, or the same materials in 256 x 320.
    seed : int
        Not negative.
    line_width_px : float
        Width of the line labels.

    Raises
    ------
    SettingsRefused
        Unknown preset, negative seed, or a line width that is not positive.
    EnvironmentFault
        The folder cannot be written.
    """
    _check(preset, seed, line_width_px)
    rows = []
    for index, options in enumerate(_PRESETS[preset](line_width_px=line_width_px)):
        drawn = synthesis.draw(options, seed + index)
        _write_micrograph(into, drawn)
        rows.append(_manifest_row(options, drawn, _SOURCE.format(preset=preset, seed=seed)))
    for defect in _DEFECTS:
        write_text(into / "ignore" / defect / "README.txt", _IGNORE)
    write_text(into / "manifest.csv", _table(rows))
    readme = _README.format(preset=preset, seed=seed, width=line_width_px)
    write_text(into / "README.md", readme)


def _check(preset: str, seed: int, line_width_px: float) -> None:
    if preset not in _PRESETS:
        message = f"unknown preset {preset!r}; allowed are {' and '.join(_PRESETS)}"
        raise SettingsRefused("data synth", "E_CONFIG", message)
    if seed < 0:
        raise SettingsRefused("data synth", "E_CONFIG", f"seed must be 0 or more, got {seed}")
    if not 1 <= line_width_px <= 99:
        message = f"line width must be 1 to 99 px, got {line_width_px}"
        raise SettingsRefused("data synth", "E_CONFIG", message)


def _write_micrograph(into: Path, drawn: synthesis.SyntheticMicrograph) -> None:
    name = f"{drawn.micrograph.name}.png"
    _write_png(into / "micrographs" / name, drawn.micrograph.pixels)
    for defect, label in drawn.labels.items():
        _write_png(into / "labels" / defect / name, label.astype("uint8") * 255)
        _write_png(into / "instances" / defect / name, drawn.instances[defect])
    text = json.dumps(drawn.truth, separators=(",", ":"), sort_keys=True)
    # A line an object: readable, and a difference shows which object changed.
    text = text.replace('},{"', '},\n{"')
    write_text(into / "truth" / f"{drawn.micrograph.name}.json", text + "\n")


def _write_png(path: Path, plane: Any) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        Image.fromarray(plane).save(stream, format="PNG", compress_level=6)


def _manifest_row(
    options: synthesis.SynthesisOptions, drawn: synthesis.SyntheticMicrograph, source: str
) -> dict[str, object]:
    name = f"{options.name}.png"
    labels = {
        f"label_{defect}": f"labels/{defect}/{name}" if defect in drawn.labels else ""
        for defect in _DEFECTS
    }
    return {
        "image": name,
        **labels,
        "ignore": "",
        "specimen": options.specimen,
        "condition": options.condition,
        "side": "auto",
        "pixel_size_nm": options.pixel_size_nm,
        "pixel_size_source": "synthesis",
        "thickness_nm": options.foil.thickness_nm,
        "thickness_sd_nm": options.foil.thickness_sd_nm,
        "licence": "CC0-1.0",
        "source": source,
    }


def _table(rows: Sequence[dict[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
