"""Prepare the micrographs of one defect: read, calibrate, condition, store with their labels."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectops.atomic import write_text
from defectops.dataset.manifest import ManifestRow, check_files, read_manifest
from defectops.dataset.splits import pixel_digest
from defectops.errors import IntegrityFault, LabelRefused, MicrographRefused
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.imaging.reading import read_label, read_micrograph
from defectops.micrograph import (
    UNCALIBRATED,
    Array,
    Calibration,
    Field,
    Micrograph,
    Region,
    save_fields,
)

if TYPE_CHECKING:
    from defectops.defects import DefectType

SUMMARY = "summary.csv"


@dataclass(frozen=True)
class Prepared:
    """One row of ``prepared/<defect>/summary.csv``: what the split needs to know of an image.

    `pixels_sha256` is the digest of the pixels as recorded, before conditioning.
    """

    image: str
    rows: int
    columns: int
    side: str
    specimen: str
    pixel_size_nm: float | None
    pixel_size_source: str
    thickness_nm: float | None
    defect_fraction: float
    ignored_fraction: float
    pixels_sha256: str


def prepare(root: Path, defect: DefectType, options: ConditioningOptions) -> list[Prepared]:
    """Write ``prepared/<defect>/<stem>.npz`` for each image that is labelled for a defect.

    Nothing is estimated across images, so no side of a later split sees another. True quantities
    of synthetic images (``data/truth/<stem>.json``) are carried along.

    Parameters
    ----------
    root : Path
        The project's folder; ``data/`` lies in it.
    defect : DefectType
    options : ConditioningOptions

    Returns
    -------
    list of Prepared
        In the order of the manifest; also written as ``prepared/<defect>/summary.csv``.

    Raises
    ------
    InputRefused
        The manifest, an image, a label or a calibration cannot be used, or no image is labelled
        for the defect (``E_LABEL_MISSING``).
    """
    data, out = root / "data", root / "prepared" / defect.key
    manifest = data / "manifest.csv"
    rows = [r for r in read_manifest(manifest, data) if defect.key in r.labels]
    if not rows:
        raise LabelRefused(
            "manifest.csv",
            "E_LABEL_MISSING",
            f"no label for {defect.key}: the column label_{defect.key} is missing or empty; import "
            "labels with `defectops data import`, or take the type out of params.yaml",
        )
    check_files(manifest, rows, data)
    shutil.rmtree(out, ignore_errors=True)
    prepared = []
    for row in rows:
        field = _field(data, row, defect, options)
        save_fields(out / f"{row.stem}.npz", [field])
        truth = data / "truth" / f"{row.stem}.json"
        if truth.is_file():
            write_text(out / "truth" / truth.name, truth.read_text(encoding="utf-8"))
        prepared.append(_summary(row, field))
    write_text(out / SUMMARY, _as_csv(prepared))
    return prepared


def read_summary(path: Path) -> list[Prepared]:
    """Read ``summary.csv`` back.

    Raises
    ------
    IntegrityFault
        Missing, or not as `prepare` wrote it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [_parsed(row) for row in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise IntegrityFault(
            path, "E_CORRUPT", f"cannot be read ({error!r}); run the stage prepare again"
        ) from error


def calibrated(micrograph: Micrograph, row: ManifestRow) -> Calibration:
    """Return an image's calibration: the manifest's where it has one, else the file's own."""
    size, source = micrograph.calibration.pixel_size_nm, micrograph.calibration.pixel_size_source
    if row.uncalibrated:
        size, source = None, UNCALIBRATED
    elif row.pixel_size_nm is not None:
        size, source = row.pixel_size_nm, row.pixel_size_source
    told = replace(micrograph.calibration, pixel_size_nm=size, pixel_size_source=source)
    if row.thickness_nm is None:
        return told
    return replace(told, thickness_nm=row.thickness_nm, thickness_sd_nm=row.thickness_sd_nm)


def _field(data: Path, row: ManifestRow, defect: DefectType, options: ConditioningOptions) -> Field:
    """Return one whole image as a field."""
    micrograph = read_micrograph(
        data / "micrographs" / row.image,
        pixel_size_nm=row.pixel_size_nm,
        uncalibrated=row.uncalibrated,
    )
    shape = micrograph.pixels.shape
    label = read_mask(data / row.labels[defect.key], shape)
    mask = row.ignore_for(defect.key)
    ignore = np.zeros(shape, bool) if mask is None else read_mask(data / mask, shape)
    try:
        intensity = condition(micrograph.pixels, defect.polarity, options)
    except MicrographRefused as error:
        raise MicrographRefused(row.image, error.code, error.message) from error
    return Field(
        image=row.image,
        region=Region(0, shape[0], 0, shape[1]),
        intensity=intensity,
        label=label,
        ignore=ignore,
        calibration=calibrated(micrograph, row),
        specimen=row.specimen,
        pixels_sha256=digest_of(micrograph.pixels),
    )


def digest_of(pixels: Array) -> str:
    """Return the digest of a plane's values; equal values in another dtype give the same."""
    values = np.ascontiguousarray(pixels, dtype="<f4")
    return pixel_digest((values.shape[0], values.shape[1]), values.tobytes())


def read_mask(path: Path, shape: tuple[int, ...]) -> Array:
    """Read a binary label or ignore mask of a given shape as booleans.

    Raises
    ------
    LabelRefused
        Not a binary picture, or ``E_SHAPE`` if it is not as large as its image.
    """
    mask = np.asarray(read_label(path)) > 0
    if mask.shape != shape:
        given, wanted = (" x ".join(map(str, s)) for s in (mask.shape, shape))
        raise LabelRefused(
            f"{path.parent.name}/{path.name}",
            "E_SHAPE",
            f"shape {given} does not match its image, {wanted} (rows x columns)",
        )
    return mask


def _summary(row: ManifestRow, field: Field) -> Prepared:
    return Prepared(
        image=row.image,
        rows=field.region.shape[0],
        columns=field.region.shape[1],
        side=row.side,
        specimen=row.specimen,
        pixel_size_nm=field.calibration.pixel_size_nm,
        pixel_size_source=field.calibration.pixel_size_source,
        thickness_nm=field.calibration.thickness_nm,
        defect_fraction=round(float(field.label.mean()), 6),
        ignored_fraction=round(float(field.ignore.mean()), 6),
        pixels_sha256=field.pixels_sha256,
    )


def _as_csv(prepared: Sequence[Prepared]) -> str:
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    out.writerow([f.name for f in fields(Prepared)])
    out.writerows(["" if v is None else v for v in astuple(p)] for p in prepared)
    return stream.getvalue()


def _parsed(row: dict[str, str]) -> Prepared:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    return Prepared(
        image=row["image"],
        rows=int(row["rows"]),
        columns=int(row["columns"]),
        side=row["side"],
        specimen=row["specimen"],
        pixel_size_nm=number("pixel_size_nm"),
        pixel_size_source=row["pixel_size_source"],
        thickness_nm=number("thickness_nm"),
        defect_fraction=float(row["defect_fraction"]),
        ignored_fraction=float(row["ignored_fraction"]),
        pixels_sha256=row["pixels_sha256"],
    )
