"""Which masks a user wants measured, and what their pixels mean: mask, instances, probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from skimage.measure import label as connected

from defectops.dataset.importing import find_files, pair
from defectops.dataset.manifest import UNNAMED_DEFECT, ManifestRow, read_manifest
from defectops.errors import LabelRefused, ManifestRefused, SettingsRefused
from defectops.imaging.raster import MAX_PIXELS
from defectops.imaging.reading import read_calibrated_label, read_label

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration

Meaning = Literal["auto", "mask", "instances"]

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")
_MIN_SIDE_PX = 16
_TORN = 1.5  # more pieces than this for each number are no instances
_SPREAD = (0.0, 0.5)


@dataclass(frozen=True)
class MeasureRequest:
    """What the user asks for; see ``defectops measure --help`` for each.

    Places (`labels`, `ignore`, `against`) are folders, files or patterns. `thickness` is the
    foil's and its standard uncertainty, nm. `options` replaces fields of `MeasureOptions`.
    """

    defect: str
    labels: tuple[str, ...] = ()
    manifest: Path | None = None
    ignore: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    shape: str | None = None
    meaning: Meaning = "auto"
    label_index: int | None = None
    threshold: float | None = None
    threshold_spread: float = 0.1
    edge_px: int = 0
    pixel_size_nm: float | None = None
    pixel_size_sd_nm: float | None = None
    uncalibrated: bool = False
    thickness: tuple[float, float | None] | None = None
    max_pixels: int = MAX_PIXELS
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = _SPREAD
        problems = (
            (bool(self.labels) == (self.manifest is not None), "give masks, or --manifest"),
            (self.meaning not in get_args(Meaning), f"--as is {' or '.join(get_args(Meaning))}"),
            (
                self.threshold is not None and not 0 < self.threshold < 1,
                f"--threshold lies between 0 and 1, got {self.threshold}",
            ),
            (
                not low <= self.threshold_spread < high,
                f"--threshold-spread lies between 0 and 0.5, got {self.threshold_spread}",
            ),
            (not 0 <= self.edge_px <= 100, f"--edge-px lies between 0 and 100, got {self.edge_px}"),
            (
                self.uncalibrated and self.pixel_size_nm is not None,
                "--uncalibrated contradicts --pixel-size-nm; give one",
            ),
        )
        for wrong, sentence in problems:
            if wrong:
                raise SettingsRefused("measure", "E_USAGE", sentence)
        sd = self.pixel_size_sd_nm
        if sd is not None and not 0 <= sd < np.inf:
            raise SettingsRefused(
                "--pixel-size-sd-nm", "E_USAGE", f"must be zero or positive, got {sd}"
            )


@dataclass(frozen=True)
class MaskSource:
    """One mask to measure: its name in the tables, its files, what the manifest says of it."""

    name: str
    path: Path
    row: ManifestRow
    ignore: Path | None = None
    against: Path | None = None


@dataclass(frozen=True, eq=False)
class Mask:
    """What the pixels of one file say.

    Parameters
    ----------
    name : str
        Of the file, for errors.
    values : ndarray, shape (H, W)
        bool: a mask. Integers: one number an object, 0 outside. float32: probabilities.
    calibration : Calibration
    ignore : ndarray of bool, shape (H, W), or None
    warnings : tuple of str
    """

    name: str
    values: Array
    calibration: Calibration
    ignore: Array | None = None
    warnings: tuple[str, ...] = ()


def find_masks(request: MeasureRequest) -> list[MaskSource]:
    """List the masks of a request with what belongs to them, in the order of their names.

    Raises
    ------
    InputRefused
        Nothing there, two masks of one name, ignore masks or labels that do not pair up, a
        manifest that is wrong or names no mask of the type.
    """
    if request.manifest is not None:
        return _from_manifest(request.manifest, request.defect)
    found = find_files(request.labels, _SUFFIXES, "masks")
    ignore = find_files(request.ignore, _SUFFIXES, "ignore masks")
    against = find_files(request.against, _SUFFIXES, "labels")
    return [
        MaskSource(s.name, s.image, ManifestRow(s.name), s.ignore, s.label)
        for s in pair(found, against, ignore, "stem")
    ]


def read_mask(source: MaskSource, request: MeasureRequest, shape: str) -> Mask:
    """Read one mask with its calibration.

    Parameters
    ----------
    source : MaskSource
    request : MeasureRequest
    shape : {"line", "particle"}
        Lines have no instances: every number is line.

    Raises
    ------
    LabelRefused
        ``E_LABEL_VALUES``: grey values, classes instead of instances, probabilities without a
        threshold; ``E_SHAPE``: an ignore mask of another size.
    CalibrationRefused
        No pixel size, several that differ, or a thickness that is no length.
    """
    row = source.row
    read = read_calibrated_label(
        source.path,
        max_pixels=request.max_pixels,
        pixel_size_nm=row.pixel_size_nm if request.pixel_size_nm is None else request.pixel_size_nm,
        uncalibrated=request.uncalibrated or row.uncalibrated,
    )
    if min(read.pixels.shape) < _MIN_SIDE_PX:
        rows, columns = read.pixels.shape
        raise LabelRefused(
            source.name,
            "E_TOO_SMALL",
            f"{rows} x {columns} pixels; at least {_MIN_SIDE_PX} x {_MIN_SIDE_PX} are needed",
        )
    calibration = read.calibration
    if request.pixel_size_nm is None and calibration.pixel_size_source == "option":
        calibration = replace(calibration, pixel_size_source="manifest")
    given = request.thickness
    if given is None and row.thickness_nm is not None:
        given = row.thickness_nm, row.thickness_sd_nm
    if given is not None:
        calibration = replace(calibration, thickness_nm=given[0], thickness_sd_nm=given[1])
    ignore = None
    if source.ignore is not None:
        ignore = read_label(source.ignore, max_pixels=request.max_pixels)
    values = _meant(source.name, read.pixels, request, shape)
    return Mask(source.name, values, calibration, ignore, read.warnings)


def _meant(name: str, values: Array, request: MeasureRequest, shape: str) -> Array:
    """Return bool, integers or float32, by what the values are and what the user says they are."""
    if request.threshold is not None:
        return _probabilities(name, values)
    if request.label_index is not None:
        return np.asarray(values == request.label_index)
    low, high = values.min(), values.max()
    binary = not np.any((values != 0) & (values != 1)) or not np.any(
        (values != 0) & (values != 255)
    )
    if binary and not (request.meaning == "instances" and high <= 1):
        return np.asarray(values != 0)
    if low < 0 or np.any(values != np.floor(values)):
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"values from {low:g} to {high:g} that are no whole numbers; a probability map needs "
            "--threshold",
        )
    if request.meaning == "mask":
        return np.asarray(values != 0)
    if high >= 2**31:
        raise LabelRefused(
            name, "E_LABEL_VALUES", f"the number {high:g} is beyond {2**31 - 1} for one object"
        )
    numbers = values.astype(np.int32)
    if request.meaning == "auto":
        _refuse_torn(name, numbers)
    return np.asarray(numbers != 0) if shape == "line" else numbers


def _probabilities(name: str, values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    scale = 255.0 if values.dtype == np.uint8 else 1.0
    if values.dtype.kind not in "fu" or low < 0 or high > scale:
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"{values.dtype} from {low:g} to {high:g}; --threshold needs probabilities, as floats "
            "from 0 to 1 or 8-bit from 0 to 255",
        )
    return np.asarray(values, dtype=np.float32) / np.float32(scale)


def _refuse_torn(name: str, numbers: Array) -> None:
    """Refuse classes, grey rims and JPEG noise, which would be measured as if they were objects."""
    count = np.unique(numbers[numbers > 0]).size
    pieces = int(connected(numbers, background=0, connectivity=2).max())
    if pieces > max(_TORN * count, count + 1):
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"{count} different numbers lie in {pieces} separate pieces, so they are classes or "
            "grey values and not one number an object; give a binary mask, --label-index N for "
            "one class, --as mask, or --as instances if they are",
        )


def _from_manifest(manifest: Path, defect: str) -> list[MaskSource]:
    sources = []
    for number, row in enumerate(read_manifest(manifest), 2):
        where = f"{manifest.name} row {number}"
        label = row.labels.get(defect, row.labels.get(UNNAMED_DEFECT))
        if label is not None:
            ignore = [_there(where, manifest.parent, p) for p in _masks(row, defect)]
            path = _there(where, manifest.parent, label)
            sources.append(
                MaskSource(Path(row.image).name, path, row, ignore[0] if ignore else None)
            )
    if not sources:
        raise ManifestRefused(
            manifest.name, "E_LABEL_MISSING", f"no row has a label in the column label_{defect}"
        )
    return sources


def _masks(row: ManifestRow, defect: str) -> Sequence[str]:
    """Return the ignore mask of a type in a data folder's layout, else the only one there is."""
    own = row.ignore_for(defect)
    if own is not None:
        return (own,)
    return row.ignore if len(row.ignore) == 1 and "/" not in row.ignore[0] else ()


def _there(where: str, home: Path, name: str) -> Path:
    if not (home / name).is_file():
        raise ManifestRefused(where, "E_LABEL_MISSING", f"no file {name!r} in the folder")
    return home / name
