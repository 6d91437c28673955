"""What flows through defectops: a picture with its pixel size, and labelled fields cut from it.

Symbols used throughout: H, W are rows and columns of a plane; N a number of fields or patches;
C channels; every array is indexed (row, column); `pixel_size_nm` is nm per pixel.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.atomic import replacing
from defectops.errors import CalibrationRefused, GateFailed, MicrographRefused

Array = npt.NDArray[Any]
UNCALIBRATED = "uncalibrated"

# None: every file may be opened. Plain module state and not a context variable: it has to hold in
# all threads of the process.
_handed_out: list[frozenset[Path] | None] = [None]


@dataclass(frozen=True)
class Calibration:
    """Scale of a micrograph and thickness of the foil it shows.

    Parameters
    ----------
    pixel_size_nm : float or None
        nm per pixel, finite and positive; None only with the source ``uncalibrated``.
    pixel_size_source : str
        Where the pixel size comes from: ``tags``, ``sidecar``, ``manifest``, ``option``,
        ``synthesis`` or ``uncalibrated``.
    thickness_nm, thickness_sd_nm : float or None
        Foil thickness and its standard uncertainty in nm; None if unknown.
    """

    pixel_size_nm: float | None
    pixel_size_source: str
    thickness_nm: float | None = None
    thickness_sd_nm: float | None = None

    def __post_init__(self) -> None:
        if (self.pixel_size_nm is None) != (self.pixel_size_source == UNCALIBRATED):
            raise CalibrationRefused(
                "calibration",
                "E_PX_MISSING",
                f"pixel size {self.pixel_size_nm} with source {self.pixel_size_source!r}: a pixel "
                f"size in nm is needed, or the source {UNCALIBRATED!r} without one",
            )
        for name in ("pixel_size_nm", "thickness_nm", "thickness_sd_nm"):
            value = getattr(self, name)
            if value is not None and not (
                math.isfinite(value) and (value > 0 or (value == 0 and name == "thickness_sd_nm"))
            ):
                raise CalibrationRefused(
                    "calibration", "E_PX_INVALID", f"{name} must be a positive number, got {value}"
                )

    @property
    def calibrated(self) -> bool:
        """Whether lengths can be given in nm."""
        return self.pixel_size_nm is not None

    @property
    def length_unit(self) -> str:
        """``nm``, or ``px`` for an uncalibrated micrograph."""
        return "nm" if self.calibrated else "px"

    @property
    def spacing(self) -> float:
        """Length of one pixel in `length_unit` (1 px when uncalibrated)."""
        return 1.0 if self.pixel_size_nm is None else self.pixel_size_nm


@dataclass(frozen=True, eq=False)
class Micrograph:
    """A recorded picture: pixels of shape (H, W) in their own dtype, with a calibration."""

    name: str
    pixels: Array
    calibration: Calibration
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2:
            raise MicrographRefused(
                self.name,
                "E_CHANNELS",
                f"a micrograph is one plane of rows and columns, got shape {self.pixels.shape}",
            )


@dataclass(frozen=True)
class Region:
    """A rectangle of a micrograph: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this region in a plane."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def overlaps(self, other: Region) -> bool:
        """Whether the two rectangles share a pixel."""
        return (
            self.top < other.bottom
            and other.top < self.bottom
            and self.left < other.right
            and other.left < self.right
        )


@dataclass(frozen=True, eq=False)
class Field:
    """One labelled rectangle of a conditioned micrograph; what networks learn from.

    Parameters
    ----------
    image : str
        Name of the micrograph (the manifest's column ``image``).
    region : Region
        Where the field lies in the micrograph.
    intensity : ndarray of float32, shape (H, W)
        Conditioned: mean near 0, standard deviation near 1, defect bright.
    label : ndarray of bool, shape (H, W)
        True where the defect is.
    ignore : ndarray of bool, shape (H, W)
        True where nothing counts, neither in the loss nor in a score.
    calibration : Calibration
    specimen : str
        Empty if unknown.
    pixels_sha256 : str
        Digest of the whole micrograph's pixels as recorded, by which a copy under another name is
        known; empty if unknown.
    """

    image: str
    region: Region
    intensity: Array
    label: Array
    ignore: Array
    calibration: Calibration
    specimen: str = ""
    pixels_sha256: str = ""

    def __post_init__(self) -> None:
        for name in ("intensity", "label", "ignore"):
            shape = getattr(self, name).shape
            if shape != self.region.shape:
                raise ValueError(f"{name} has shape {shape}, its region {self.region.shape}")


def field_names(fields: Sequence[Field], side: str) -> list[str]:
    """Return a file stem for each field of a side; several fields of one image are numbered.

    ``a_dev``, ``a_dev_2``, ``b_dev``.
    """
    names = []
    seen: dict[str, int] = {}
    for field in fields:
        stem = PurePosixPath(field.image).stem
        seen[stem] = seen.get(stem, 0) + 1
        names.append(f"{stem}_{side}" + (f"_{seen[stem]}" if seen[stem] > 1 else ""))
    return names


def save_fields(path: Path, rows: Sequence[Field]) -> None:
    """Write fields to one file of our own form (npz without pickles; the same bytes every time)."""
    arrays: dict[str, Any] = {}
    head = []
    for i, f in enumerate(rows):
        arrays[f"intensity_{i}"] = f.intensity.astype(np.float32, copy=False)
        arrays[f"label_{i}"] = np.packbits(f.label.astype(bool))
        arrays[f"ignore_{i}"] = np.packbits(f.ignore.astype(bool))
        head.append(
            {
                "image": f.image,
                "region": asdict(f.region),
                "calibration": asdict(f.calibration),
                "specimen": f.specimen,
                "pixels_sha256": f.pixels_sha256,
            }
        )
    arrays["head"] = np.frombuffer(json.dumps(head, sort_keys=True).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


@contextlib.contextmanager
def sealed(*handed_out: Path) -> Iterator[None]:
    """Refuse, in the whole process, every file of fields but these while the block runs.

    A study chooses among models, so it must not see what later judges the choice: the test side,
    the gate, whole micrographs. Inside another seal only what both hand out can be opened.
    """
    before = _handed_out[0]
    allowed = frozenset(path.resolve() for path in handed_out)
    _handed_out[0] = allowed if before is None else allowed & before
    try:
        yield
    finally:
        _handed_out[0] = before


def load_fields(path: Path) -> list[Field]:
    """Read what `save_fields` wrote. An empty side is an empty list.

    Raises
    ------
    GateFailed
        ``E_LEAK``: the file is `sealed` now.
    """
    allowed = _handed_out[0]
    if allowed is not None and path.resolve() not in allowed:
        names = ", ".join(sorted(p.name for p in allowed)) or "nothing"
        raise GateFailed(
            path,
            "E_LEAK",
            f"sealed while models are chosen: {names} may be opened, never the side that judges "
            "them; evaluate the promoted model with `dvc repro evaluate`",
        )
    with np.load(path, allow_pickle=False) as data:
        head = json.loads(bytes(data["head"]))
        return [_field(data, i, row) for i, row in enumerate(head)]


def _field(data: Any, i: int, row: dict[str, Any]) -> Field:
    region = Region(**row["region"])
    count = region.shape[0] * region.shape[1]

    def mask(name: str) -> Array:
        return np.unpackbits(data[f"{name}_{i}"], count=count).astype(bool).reshape(region.shape)

    return Field(
        image=row["image"],
        region=region,
        intensity=data[f"intensity_{i}"],
        label=mask("label"),
        ignore=mask("ignore"),
        calibration=Calibration(**row["calibration"]),
        specimen=row["specimen"],
        pixels_sha256=row.get("pixels_sha256", ""),
    )
