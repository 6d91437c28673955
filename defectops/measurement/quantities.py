"""One measured number with unit and interval, the choices behind it, and its row in the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from defectops.errors import LabelRefused, SettingsRefused
from defectops.measurement.line_probes import Probe
from defectops.measurement.objects import ObjectOptions
from defectops.measurement.particles import Border, Foil
from defectops.measurement.uncertainty import LEVEL, Interval

if TYPE_CHECKING:
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]

Overlap = Literal["none", "union"]
Detail = Literal["full", "main"]
Merging = Literal["corrected", "as seen"]

_CHOICES = {
    "border": get_args(Border),
    "foil": get_args(Foil),
    "overlap": get_args(Overlap),
    "detail": get_args(Detail),
    "probe": get_args(Probe),
    "merging": get_args(Merging),
}

MATERIAL: Literal["material"] = "material"
MODEL: Literal["model"] = "model"

COLUMNS = (
    "image",
    "region",
    "source",
    "quantity",
    "value",
    "unit",
    "low",
    "high",
    "level",
    "interval",
    "n",
    "method",
)

PER_M = 1e9  # 1 / nm in 1 / m

TILES = 4  # tiles along each side of a field, for the paired bootstrap


@dataclass(frozen=True)
class Quantity:
    """One measured number with its interval.

    Parameters
    ----------
    quantity : str
        ``number_density``, ``areal_density``, ``mean_diameter``, ``sd_diameter``,
        ``area_fraction``, ``dislocation_density_grid``, ``dislocation_density_skeleton``,
        ``projected_line_density``, ``projected_line_density_grid`` and the others that
        `pooling.pool` lists.
    value : float
        NaN where undefined: a diameter without particles.
    unit : str
        ``m^-3``, ``m^-2``, ``nm``, ``1``, ``nm^-1``; ``px``, ``px^-1``, ``px^-2`` if uncalibrated.
    low, high : float
        Ends of the interval; NaN where undefined.
    level : float
        Its nominal coverage.
    interval : {"material", "model"}
        ``material``: where the true value of the material lies. ``model``: where the value that
        this model gives lies, for fields like these with this label; the label's own value outside
        it means that model and label differ.
    n : int
        Objects, lines or crossings behind the value.
    method : str
        Which estimator, corrections and rules.
    """

    quantity: str
    value: float
    unit: str
    low: float
    high: float
    level: float
    interval: Literal["material", "model"]
    n: int
    method: str


@dataclass(frozen=True)
class MeasureOptions:
    """The choices that move results; each is written into the method of what it moves.

    Parameters
    ----------
    objects : ObjectOptions
    border : {"gundersen", "weighted", "guard", "exclude", "all"}
        See `particles.border_weights`.
    guard_px : int
        Margin of the border rule ``guard``; at least half the longest particle.
    foil : {"t+d", "t"}
        ``t+d``: particles cut by the foil's surfaces are seen too, so centres lie in a layer of
        thickness t + d, and diameters are corrected for the caps; ``t``: neither (the paper's way).
    overlap : {"none", "union"}
        ``union``: the number of particles in a mask is that of overlapping discs at random with
        the same cover, outline and pieces, see `overlap.union_density`; instance labels need no
        such correction and get none.
    detail : {"full", "main"}
        ``main``: densities, mean and standard deviation of the diameter, area fraction; ``full``:
        also percentiles, shapes, volume fraction, spacings.
    probe : {"grid", "circles", "random"}
        Test lines whose crossings with dislocations are counted; see `line_probes`.
    grid_spacing_px : int
        Distance of neighbouring test lines.
    merging : {"corrected", "as seen"}
        Whether densities make up for lines that merge; see `line_merging`.
    seed : int
        Of the place of the test lines and of the bootstrap.
    level : float
        Coverage of intervals.
    """

    objects: ObjectOptions = field(default_factory=ObjectOptions)
    border: Border = "gundersen"
    guard_px: int = 64
    foil: Foil = "t+d"
    overlap: Overlap = "none"
    detail: Detail = "full"
    probe: Probe = "grid"
    grid_spacing_px: int = 32
    merging: Merging = "corrected"
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsRefused(
                    "measure",
                    "E_CONFIG",
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}",
                )
        if self.guard_px < 0:
            raise SettingsRefused(
                "measure", "E_CONFIG", f"guard_px must not be negative, got {self.guard_px}"
            )
        if self.grid_spacing_px < 2 or not 0 < self.level < 1:
            raise SettingsRefused(
                "measure",
                "E_CONFIG",
                "grid_spacing_px must be at least 2 and level between 0 and 1; got "
                f"{self.grid_spacing_px} and {self.level}",
            )


def why_no_volume(calibrations: Iterable[Calibration]) -> str | None:
    """Say why densities per volume cannot be given, or return None if they can."""
    given = list(calibrations)
    if not all(c.calibrated for c in given):
        return "no pixel size: results are in pixels, and nothing can be said per volume"
    missing = sum(c.thickness_nm is None for c in given)
    if missing:
        return (
            f"no foil thickness for {missing} of {len(given)} fields: "
            "areal values only; a thickness is never assumed"
        )
    return None


def table_rows(
    quantities: Iterable[Quantity], *, image: str, region: str, source: str
) -> list[dict[str, object]]:
    """Return rows of the quantities table, one an interval, with the keys `COLUMNS` in order.

    Parameters
    ----------
    quantities : iterable of Quantity
    image : str
        File name of the micrograph, or what several are called together.
    region : str
        ``dev``, ``test``, ``dev+test`` or ``whole``.
    source : str
        ``label``, ``prediction`` or ``truth``.
    """
    where = (image, region, source)
    return [dict(zip(COLUMNS, where + astuple(q), strict=True)) for q in quantities]


def material_quantity(  # noqa: PLR0913 - one argument a column
    name: str,
    value: float,
    interval: Interval,
    unit: str,
    n: int,
    method: str,
    *,
    level: float,
) -> Quantity:
    """Return a quantity with the interval ``material``."""
    return Quantity(
        name, float(value), unit, interval.low, interval.high, level, MATERIAL, n, method
    )


def in_si(areal: Quantity) -> Quantity:
    """Turn nm^-2 into m^-2; leave pixels alone."""
    if areal.unit != "nm^-2":
        return areal
    low, high = areal.low * PER_M**2, areal.high * PER_M**2
    return replace(areal, value=areal.value * PER_M**2, unit="m^-2", low=low, high=high)


@dataclass(frozen=True)
class PooledThickness:
    """Area-weighted thickness of the fields in nm, its standard uncertainty and how it is known."""

    nm: float
    sd_nm: float
    remark: str


def pooled_thickness(fields: Sequence[tuple[float, Calibration]]) -> PooledThickness | None:
    """Pool thicknesses; errors of one method on one session are taken as fully correlated."""
    if why_no_volume(c for _, c in fields) is not None:
        return None
    area = sum(a for a, _ in fields)
    nm = sum(a * (c.thickness_nm or 0.0) for a, c in fields) / area
    sd_nm = sum(a * (c.thickness_sd_nm or 0.0) for a, c in fields) / area
    known = all(c.thickness_sd_nm is not None for _, c in fields)
    remark = f"thickness {nm:.6g} nm"
    remark += f" with sd {sd_nm:.6g} nm" if known else " taken as exact where no sd is given"
    return PooledThickness(nm, sd_nm, remark)


def counted_pixels(shape: tuple[int, ...], ignore: Array | None) -> Array:
    """Return where a field counts; `LabelRefused` if shapes differ or nothing is left."""
    valid = np.ones(shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    if valid.shape != shape:
        raise LabelRefused(
            "ignore", "E_SHAPE", f"has shape {valid.shape}, the label {shape}; they must agree"
        )
    if not valid.any():
        raise LabelRefused("ignore", "E_EMPTY", "covers the whole field: nothing to measure")
    return valid


def tile_numbers(position: Array, shape: tuple[int, ...]) -> Array:
    """Return the number of the tile that each (row, column) lies in, 0 to 15."""
    part = [
        np.clip(position[:, axis] * TILES // shape[axis], 0, TILES - 1).astype(np.int64)
        for axis in (0, 1)
    ]
    return np.asarray(part[0] * TILES + part[1])
