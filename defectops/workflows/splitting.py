"""Split the prepared micrographs of one defect into files for train, dev, test and gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from defectops.atomic import write_text
from defectops.dataset.splits import (
    BY_SPECIMEN,
    SIDES,
    Candidate,
    Leak,
    Piece,
    SplitOptions,
    assign,
    audit,
    unused_fraction,
)
from defectops.errors import GateFailed, SettingsRefused
from defectops.micrograph import Field, load_fields, save_fields
from defectops.workflows.preparing import SUMMARY, Prepared, read_summary

if TYPE_CHECKING:
    from defectops.defects import DefectType


def split(root: Path, defect: DefectType, options: SplitOptions) -> dict[str, Any]:
    """Write ``split/<defect>/{train,dev,test,gate}.npz`` and ``split.json``.

    The gate pack holds the dev fields unless the manifest puts images on a side ``gate``. A side
    without images is a file without fields.

    Parameters
    ----------
    root : Path
        The project's folder; ``prepared/<defect>/`` lies in it.
    defect : DefectType
    options : SplitOptions

    Returns
    -------
    dict
        What ``split.json`` holds: options, pieces, sizes of the sides, the audit.

    Raises
    ------
    GateFailed
        The audit found a leak (``E_LEAK``); nothing is written.
    SettingsRefused, LabelRefused
        The scheme does not fit the images, or train or dev is empty.
    """
    prepared = read_summary(root / "prepared" / defect.key / SUMMARY)
    images = candidates(prepared)
    pieces = assign(images, options)
    _check_sides(defect, pieces)
    leaks = find_leaks(prepared, pieces, options)
    if leaks:
        raise GateFailed(
            f"split.{defect.key}",
            "E_LEAK",
            f"{len(leaks)} leak(s), the first: {leaks[0]}; mend sides or specimens in the manifest",
        )
    fields = _cut(root, defect, pieces)
    record = _record(defect, options, prepared, pieces, fields)
    out = root / "split" / defect.key
    shutil.rmtree(out, ignore_errors=True)
    for side in SIDES:
        source = "dev" if side == "gate" and not fields["gate"] else side
        save_fields(out / f"{side}.npz", fields[source])
    write_text(out / "split.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
    return record


def candidates(prepared: Sequence[Prepared]) -> list[Candidate]:
    """Return what the split's schemes need to know of the prepared images."""
    return [Candidate(p.image, (p.rows, p.columns), p.side, p.specimen) for p in prepared]


def find_leaks(
    prepared: Sequence[Prepared], pieces: Sequence[Piece], options: SplitOptions
) -> list[Leak]:
    """Audit pieces by rectangle and content, and by specimen where the scheme promises it."""
    strict = options.scheme in BY_SPECIMEN
    return audit(
        pieces,
        {p.image: p.pixels_sha256 for p in prepared},
        {p.image: p.specimen for p in prepared} if strict else {},
    )


def _check_sides(defect: DefectType, pieces: Sequence[Piece]) -> None:
    for side in ("train", "dev"):
        if not any(p.side == side for p in pieces):
            raise SettingsRefused(
                f"split.{defect.key}",
                "E_CONFIG",
                f"nothing is on the side {side}; training needs train and dev: add images, or use "
                "the scheme 'rectangles'",
            )


def _cut(root: Path, defect: DefectType, pieces: Sequence[Piece]) -> dict[str, list[Field]]:
    """Return the fields of each side; each prepared image is read once."""
    fields: dict[str, list[Field]] = {side: [] for side in SIDES}
    for image in dict.fromkeys(p.image for p in pieces):
        stem = PurePosixPath(image).stem
        (whole,) = load_fields(root / "prepared" / defect.key / f"{stem}.npz")
        for piece in pieces:
            if piece.image == image:
                fields[piece.side].append(_crop(whole, piece))
    return fields


def _crop(whole: Field, piece: Piece) -> Field:
    part = piece.region.slices
    # Copies, so that the whole image can go.
    return Field(
        image=whole.image,
        region=piece.region,
        intensity=whole.intensity[part].copy(),
        label=whole.label[part].copy(),
        ignore=whole.ignore[part].copy(),
        calibration=whole.calibration,
        specimen=whole.specimen,
        pixels_sha256=whole.pixels_sha256,
    )


def _record(
    defect: DefectType,
    options: SplitOptions,
    prepared: Sequence[Prepared],
    pieces: Sequence[Piece],
    fields: Mapping[str, Sequence[Field]],
) -> dict[str, Any]:
    images = candidates(prepared)
    digests = {p.image: p.pixels_sha256 for p in prepared}
    return {
        "defect": defect.key,
        "options": asdict(options),
        # What an audit needs to know of each side without opening its file.
        "pieces": [{**asdict(p), "pixels_sha256": digests[p.image]} for p in pieces],
        "sides": {side: _sizes(fields[side]) for side in SIDES},
        "gate_is": "gate" if fields["gate"] else "dev",
        "unused_fraction": round(unused_fraction(images, pieces), 6),
        "audit": {
            "content_and_overlap": "no leak",
            "specimen": "no leak" if options.scheme in BY_SPECIMEN else "not asked by the scheme",
            "specimens_on_several_sides": _shared_specimens(images, pieces),
        },
    }


def _sizes(fields: Sequence[Field]) -> dict[str, Any]:
    pixels = sum(f.label.size for f in fields)
    return {
        "images": sorted({f.image for f in fields}),
        "fields": len(fields),
        "pixels": int(pixels),
        "defect_pixels": int(sum(f.label.sum() for f in fields)),
        "ignored_pixels": int(sum(f.ignore.sum() for f in fields)),
    }


def _shared_specimens(images: Sequence[Candidate], pieces: Sequence[Piece]) -> list[str]:
    """Name specimens that are on several sides: allowed in most schemes, but worth knowing."""
    specimen = {c.image: c.specimen for c in images}
    sides: dict[str, set[str]] = {}
    for piece in pieces:
        sides.setdefault(specimen[piece.image], set()).add(piece.side)
    return sorted(name for name, on in sides.items() if name and len(on) > 1)
