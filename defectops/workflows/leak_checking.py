"""Audit the splits that params.yaml asks for, on the pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectops.dataset.manifest import ManifestRow, check_files, read_manifest
from defectops.dataset.splits import (
    BY_SPECIMEN,
    SIDES,
    Candidate,
    Piece,
    SplitOptions,
    assign,
    audit,
)
from defectops.dataset.twins import Twin, find_twins, shared
from defectops.imaging.reading import read_micrograph
from defectops.workflows.parameters import load_parameters

if TYPE_CHECKING:
    from defectops.micrograph import Array


@dataclass(frozen=True)
class Checked:
    """What the audit of one type of defect found; `leaks` is empty if all is well."""

    defect: str
    scheme: str
    images: int
    pieces: int
    leaks: tuple[str, ...]
    notes: tuple[str, ...]


def leak_check(root: Path, defects: tuple[str, ...] = ()) -> list[Checked]:
    """Split the images as the pipeline would, and look for what is on two sides.

    Beyond the audit of the stage ``split`` (overlapping rectangles, specimens where the scheme
    promises them) the pictures are compared with each other: copies under another name, crops of
    one another, turned or mirrored.

    Parameters
    ----------
    root : Path
        The project's folder.
    defects : tuple of str
        Types to check; all of ``params.yaml`` if empty.

    Returns
    -------
    list of Checked
        One a type; a type without labelled images has no pieces.

    Raises
    ------
    InputRefused
        Settings, manifest or images cannot be used.
    """
    parameters = load_parameters(root)
    kinds = [parameters.defect(d).key for d in defects or parameters.defects]
    data = root / "data"
    rows = read_manifest(data / "manifest.csv", data)
    check_files(data / "manifest.csv", rows, data)
    planes = {r.image: _pixels(data, r) for r in rows}
    twins = find_twins(planes)
    return [
        _check(
            kind,
            [r for r in rows if kind in r.labels],
            planes,
            twins,
            parameters.options("split", kind, SplitOptions),
        )
        for kind in kinds
    ]


def _pixels(data: Path, row: ManifestRow) -> Array:
    return read_micrograph(
        data / "micrographs" / row.image,
        pixel_size_nm=row.pixel_size_nm,
        uncalibrated=row.uncalibrated,
    ).pixels


def _check(
    defect: str,
    rows: list[ManifestRow],
    planes: dict[str, Array],
    twins: list[Twin],
    options: SplitOptions,
) -> Checked:
    shapes = {r.image: (planes[r.image].shape[0], planes[r.image].shape[1]) for r in rows}
    pieces = assign(
        [Candidate(r.image, shapes[r.image], r.side, r.specimen) for r in rows], options
    )
    specimens = {r.image: r.specimen for r in rows}
    by_specimen = audit(pieces, {}, specimens)
    strict = options.scheme in BY_SPECIMEN
    own = [leak for leak in by_specimen if leak.kind != "specimen" or strict]
    maps = {image: _side_map(shape, pieces, image) for image, shape in shapes.items()}
    alike = [text for twin in twins for text in _twin_leaks(twin, maps)]
    mixed = sorted({specimens[x.one] for x in by_specimen if x.kind == "specimen"})
    return Checked(
        defect,
        options.scheme,
        len(rows),
        len(pieces),
        (*map(str, own), *alike),
        () if strict or not mixed else (f"specimens on several sides: {', '.join(mixed)}",),
    )


def _side_map(shape: tuple[int, int], pieces: list[Piece], image: str) -> Array:
    """Draw the sides of an image: 0 unused, else 1 + position in `SIDES`."""
    sides = np.zeros(shape, np.uint8)
    for p in pieces:
        if p.image == image:
            sides[p.region.slices] = 1 + SIDES.index(p.side)
    return sides


def _twin_leaks(twin: Twin, maps: dict[str, Array]) -> list[str]:
    if twin.one not in maps or twin.other not in maps:
        return []
    a, b = shared(maps[twin.one], maps[twin.other], twin)
    apart = (a > 0) & (b > 0) & (a != b)
    pairs = np.unique(np.stack([a[apart], b[apart]], axis=1), axis=0).tolist()
    how = "" if twin.turn == 0 else ", turned or mirrored,"
    return [
        f"{twin.one} and {twin.other} share pixels{how} on {SIDES[i - 1]} and {SIDES[j - 1]}"
        for i, j in pairs
    ]
