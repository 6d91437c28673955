"""Describe a data folder: what is in it, how large, how much of it is labelled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from defectops.dataset.manifest import ManifestRow, check_files, read_manifest
from defectops.imaging.reading import read_micrograph
from defectops.workflows.preparing import calibrated, read_mask


@dataclass(frozen=True)
class ImageInfo:
    """One image; fractions are of its area, by type."""

    image: str
    rows: int
    columns: int
    dtype: str
    side: str
    specimen: str
    condition: str
    pixel_size_nm: float | None
    pixel_size_source: str
    thickness_nm: float | None
    thickness_sd_nm: float | None
    defect_fraction: dict[str, float]
    ignored: tuple[str, ...]
    licence: str
    source: str


@dataclass(frozen=True)
class DataInfo:
    """All images of a data folder, and the types that are labelled in any of them."""

    defects: tuple[str, ...]
    images: tuple[ImageInfo, ...]


def describe(data: Path) -> DataInfo:
    """Read a data folder and say what is in it.

    Parameters
    ----------
    data : Path
        Holds ``manifest.csv``, ``micrographs/`` and ``labels/<defect>/``.

    Raises
    ------
    InputRefused
        Whatever the stage ``prepare`` would refuse.
    """
    rows = read_manifest(data / "manifest.csv", data)
    check_files(data / "manifest.csv", rows, data)
    defects = tuple(sorted({d for r in rows for d in r.labels}))
    return DataInfo(defects, tuple(_image(data, r) for r in rows))


def _image(data: Path, row: ManifestRow) -> ImageInfo:
    micrograph = read_micrograph(
        data / "micrographs" / row.image,
        pixel_size_nm=row.pixel_size_nm,
        uncalibrated=row.uncalibrated,
    )
    shape = micrograph.pixels.shape
    scale = calibrated(micrograph, row)
    return ImageInfo(
        image=row.image,
        rows=shape[0],
        columns=shape[1],
        dtype=str(micrograph.pixels.dtype),
        side=row.side,
        specimen=row.specimen,
        condition=row.condition,
        pixel_size_nm=scale.pixel_size_nm,
        pixel_size_source=scale.pixel_size_source,
        thickness_nm=scale.thickness_nm,
        thickness_sd_nm=scale.thickness_sd_nm,
        defect_fraction={
            d: round(float(read_mask(data / p, shape).mean()), 6)
            for d, p in sorted(row.labels.items())
        },
        ignored=row.ignore,
        licence=row.licence,
        source=row.source,
    )
