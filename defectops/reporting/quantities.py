"""Quantities of the material as a reader compares them: label beside prediction beside truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from defectops.reporting.numbers import (
    UNDEFINED,
    Scale,
    column_unit,
    common_scale,
    number,
    signed_percent,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from defectops.defects import DefectType

SOURCES = ("label", "prediction", "truth")
POOLED = "pooled"
# The whole comes first where it exists: it holds most objects.
REGIONS = ("dev+test", "whole", "test", "dev")

NAMES = {
    "dislocation_density_skeleton": "Dislocation density, line length",
    "dislocation_density_grid": "Dislocation density, grid intersections",
    "projected_line_density": "Projected line density, line length",
    "projected_line_density_grid": "Projected line density, grid intersections",
    "number_density": "Number density",
    "areal_density": "Areal density",
    "mean_diameter": "Mean diameter",
    "sd_diameter": "Standard deviation of diameter",
    "area_fraction": "Area fraction",
    "volume_fraction": "Volume fraction",
    "swelling": "Swelling",
    "barrier_hardening": "Hardening, this type of barrier alone",
    "taylor_hardening": "Hardening, dislocations alone",
    "grid_skeleton_ratio": "Ratio of both dislocation densities",
}
# In the table of quantities, but not on the page.
DETAILS = frozenset(
    {
        "anisotropy_index",
        "areal_density_by_notches",
        "clark_evans_ratio",
        "diameter_p10",
        "diameter_p90",
        "junction_density",
        "line_end_density",
        "lognormal_median_diameter",
        "lognormal_p_value",
        "lognormal_sigma",
        "mean_circularity",
        "mean_feret_max",
        "mean_feret_min",
        "mean_segment_length",
        "median_diameter",
        "nearest_neighbour_distance",
        "neighbour_spacing",
        "obstacle_spacing",
        "segment_density",
    }
)
# The first of each group that has a value makes the headline.
_HEADLINES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "line": (("dislocation_density_skeleton", "projected_line_density"),),
    "particle": (("number_density", "areal_density"), ("mean_diameter",)),
}
_KEYS = ["quantity", "region", "image"]


@dataclass(frozen=True)
class Value:
    """One number with the intervals that were given for it.

    Parameters
    ----------
    value : float or None
    intervals : tuple of (str, float, float)
        Kind (``material`` or ``model``), low, high; only those with both ends.
    level : float or None
        Probability of the intervals, for example 0.95.
    n : int or None
        Objects or images behind the number.
    method : str
        How it was found, or why it could not be.
    """

    value: float | None
    intervals: tuple[tuple[str, float, float], ...] = ()
    level: float | None = None
    n: int | None = None
    method: str = ""

    @property
    def reason(self) -> str:
        """Why an undefined value is undefined; a mean needs one object, a spread two."""
        return self.method if self.n is None or self.n > 1 else f"n = {self.n}"

    def interval(self, kind: str) -> tuple[float, float] | None:
        """Return the interval of one kind, None if it was not given."""
        return next(((low, high) for k, low, high in self.intervals if k == kind), None)


@dataclass(frozen=True)
class Comparison:
    """One quantity of one region: label, prediction and, for synthesis, truth."""

    quantity: str
    region: str
    image: str
    unit: str
    values: Mapping[str, Value]

    @property
    def name(self) -> str:
        """The quantity in words."""
        return NAMES.get(self.quantity, self.quantity.replace("_", " ").capitalize())

    @property
    def images(self) -> str:
        """The image in words."""
        return "all images" if self.image == POOLED else self.image

    @property
    def place(self) -> str:
        """Region and image in words."""
        return f"{self.region}, {self.images}"

    @property
    def error(self) -> float | None:
        """(prediction - label) / label; None where either is undefined or the label is 0."""
        label, prediction = (self._number(s) for s in ("label", "prediction"))
        if label is None or prediction is None or label == 0:
            return None
        return (prediction - label) / label

    @property
    def defined(self) -> bool:
        """Whether at least one source has a value."""
        return any(v.value is not None for v in self.values.values())

    @property
    def undefined(self) -> dict[str, str]:
        """Sources that were asked and have no value, each with the reason (may be empty)."""
        return {s: v.reason for s, v in self.values.items() if v.value is None}

    def _number(self, source: str) -> float | None:
        found = self.values.get(source)
        return None if found is None else found.value


@dataclass(frozen=True)
class Cell:
    """One number as it is printed: the number, below it its intervals, and its count."""

    value: str
    intervals: tuple[tuple[str, str], ...] = ()
    n: str = ""


@dataclass(frozen=True)
class QuantityRow:
    """One comparison as it is printed."""

    region: str
    image: str
    cells: Mapping[str, Cell]
    error: str

    @property
    def n(self) -> str:
        """Counts behind label and prediction, for example ``312 / 339``."""
        return " / ".join(self.cells[s].n or UNDEFINED for s in ("label", "prediction"))


@dataclass(frozen=True)
class QuantityGroup:
    """The rows of one quantity, in one unit and one power of ten."""

    name: str
    unit: str
    rows: tuple[QuantityRow, ...]


def comparisons(table: pd.DataFrame) -> list[Comparison]:
    """Bring the rows of one quantity together.

    Parameters
    ----------
    table : DataFrame
        Columns ``image, region, source, quantity, value, unit, low, high, level, interval, n,
        method``, one row an interval. May be empty.

    Returns
    -------
    list of Comparison
        Without `DETAILS`. Ordered by quantity (as in `NAMES`, unknown ones last), pooled before
        single images, region as in `REGIONS`. Without a test side dev+test repeats dev, and is left
        out.
    """
    if table.empty:
        return []
    table = table[~table["quantity"].isin(DETAILS)]
    text = table.assign(image=table["image"].astype(str), region=table["region"].astype(str))
    regions = set(text["region"])
    if "dev" in regions and "test" not in regions:
        text = text[text["region"] != "dev+test"]
    found = [
        Comparison(str(q), str(r), str(i), str(rows["unit"].iloc[0]), _by_source(rows))
        for (q, r, i), rows in text.groupby(_KEYS, sort=True)
    ]
    return sorted(found, key=_order)


def main_quantities(defect: DefectType) -> tuple[tuple[str, ...], ...]:
    """Return the groups of quantities of which the first that was measured is a main one."""
    return _HEADLINES[defect.shape]


def headlines(rows: Sequence[Comparison], defect: DefectType) -> list[Comparison]:
    """Return the main quantities of a defect type, each from the region that compares most.

    A comparison of label and prediction goes before a prediction alone, all images together
    before one image, dev+test before its parts.
    """
    found = []
    for group in main_quantities(defect):
        named = [c for q in group for c in rows if c.quantity == q]
        if named:
            found.append(min(named, key=lambda c: (not c.defined, c.error is None, _order(c))))
    return found


def pooled(rows: Sequence[Comparison]) -> list[Comparison]:
    """Return one comparison a quantity and region: over all images, or of each where none was."""
    together = _together(rows)
    return [c for c in rows if c.image == POOLED or (c.quantity, c.region) not in together]


def single(rows: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons image by image that `pooled` leaves out."""
    together = _together(rows)
    return [c for c in rows if c.image != POOLED and (c.quantity, c.region) in together]


def printed(rows: Iterable[Comparison]) -> list[QuantityGroup]:
    """Return comparisons as they are printed, those of one quantity and unit together.

    Undefined ones are left out; their reasons stand elsewhere.
    """
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for c in rows:
        if c.defined:
            groups.setdefault((c.name, c.unit), []).append(c)
    return [_group(name, unit, members) for (name, unit), members in groups.items()]


def length_unit(table: pd.DataFrame) -> str:
    """Return ``px`` if any quantity of the table is given in pixels, else ``nm``."""
    if table.empty:
        return "nm"
    return "px" if table["unit"].astype(str).str.startswith("px").any() else "nm"


def per_volume(defect: DefectType) -> str:
    """Return the quantity per volume that a defect type has if scale and thickness are known."""
    return _HEADLINES[defect.shape][0][0]


def levels(rows: Sequence[Comparison]) -> list[float]:
    """Return the probabilities that the intervals have, in increasing order."""
    given = {v.level for c in rows for v in c.values.values() if v.intervals}
    return sorted(level for level in given if level is not None)


def _by_source(rows: pd.DataFrame) -> dict[str, Value]:
    return {s: _value(rows[rows["source"] == s]) for s in SOURCES if (rows["source"] == s).any()}


def _value(rows: pd.DataFrame) -> Value:
    first = rows.iloc[0]
    intervals = tuple(
        (str(kind), float(low), float(high))
        for kind, low, high in zip(rows["interval"], rows["low"], rows["high"], strict=True)
        if _finite(low) is not None and _finite(high) is not None
    )
    n = _finite(first["n"])
    return Value(
        value=_finite(first["value"]),
        intervals=intervals,
        level=_finite(first["level"]),
        n=None if n is None else round(n),
        method="" if pd.isna(first["method"]) else str(first["method"]),
    )


def _finite(value: Any) -> float | None:
    """Return a cell as a number; None for an empty cell or an infinite value."""
    return float(value) if not pd.isna(value) and math.isfinite(value) else None


def _order(c: Comparison) -> tuple[int, str, bool, str, int]:
    known = list(NAMES)
    rank = known.index(c.quantity) if c.quantity in known else len(known)
    region = REGIONS.index(c.region) if c.region in REGIONS else len(REGIONS)
    return rank, c.quantity, c.image != POOLED, c.image, region


def _together(rows: Sequence[Comparison]) -> set[tuple[str, str]]:
    return {(c.quantity, c.region) for c in rows if c.image == POOLED}


def _group(name: str, unit: str, members: Sequence[Comparison]) -> QuantityGroup:
    scale = common_scale(v.value for c in members for v in c.values.values())
    rows = [
        QuantityRow(
            region=c.region,
            image=c.images,
            cells={s: _cell(c.values.get(s), scale) for s in SOURCES},
            error=signed_percent(c.error),
        )
        for c in members
    ]
    return QuantityGroup(name, column_unit(unit, scale), tuple(rows))


def _cell(value: Value | None, scale: Scale) -> Cell:
    if value is None:
        return Cell(UNDEFINED)
    return Cell(
        number(value.value, scale),
        tuple((k, f"{number(a, scale)} to {number(b, scale)}") for k, a, b in value.intervals),
        "" if value.n is None else str(value.n),
    )
