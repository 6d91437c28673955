"""Lines of one field or several as dislocation densities, by length and by grid intersection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.measurement.compound_poisson import (
    gamma_interval,
    mid_sum_interval,
    ratio_interval,
    resultant_interval,
)
from defectops.measurement.line_fields import ROSE_BINS, LineMeasurement, observe_lines
from defectops.measurement.line_merging import Hidden, expected_ratio, hidden_by_merging
from defectops.measurement.quantities import (
    PER_M,
    Array,
    MeasureOptions,
    PooledThickness,
    Quantity,
    in_si,
    material_quantity,
    pooled_thickness,
)
from defectops.measurement.uncertainty import UNDEFINED, Interval, sum_interval, widened

if TYPE_CHECKING:
    from defectops.micrograph import Calibration

_PROBES = {
    "grid": "an orthogonal grid, lines",
    "circles": "circles",
    "random": "straight lines of eight directions, on the mean",
}
_INTERVAL = "mid-p gamma interval over lines"
_ALARM = (
    "crossings and length do not fit; lines may have a preferred direction (see anisotropy_index), "
    "then use the probe circles, or test lines lie as regularly as the lines do"
)
# Where lines lie closer, two that run into each other look like one that ends: 7 to 30 % more ends
# than there are at 12 % line pixels, at most 5 % at 6 %.
_MOST_SHARE_OF_ENDS = 0.08
_NO_ENDS = "no interval: lines lie too close for their ends to be told"
_FEWEST = 3  # lines, for a mean direction with an error


def measure_lines(
    mask: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> list[Quantity]:
    """Return the quantities of the lines of one field; see `observe_lines` and `pool`."""
    return line_quantities([observe_lines(mask, calibration, options, ignore)])


def line_quantities(fields: Sequence[LineMeasurement]) -> list[Quantity]:
    """Draw the quantities of lines from fields of the same options; see `pooling.pool`."""
    pooled = _Pooled(fields)
    foil = pooled_thickness([(f.field_area, f.calibration) for f in fields])
    skeleton, grid = _skeleton(pooled), _grid(pooled)
    volume = []
    if foil is not None:
        volume = [
            _per_foil(skeleton, "dislocation_density_skeleton", foil, pooled.options.level),
            _per_foil(grid, "dislocation_density_grid", foil, pooled.options.level),
        ]
    more = [_ratio(pooled), _anisotropy(pooled), *_segments(pooled), _junctions(pooled)]
    return [skeleton, grid, *volume, *(more if pooled.options.detail == "full" else [])]


class _Pooled:
    """Sums and lines of all fields of a pool; lengths in nm (px)."""

    def __init__(self, fields: Sequence[LineMeasurement]) -> None:
        self.fields = fields
        self.options: MeasureOptions = fields[0].options
        self.unit = fields[0].calibration.length_unit
        self.area = sum(f.field_area for f in fields)
        self.length: Array = np.concatenate([f.lengths for f in fields])
        self.chord = sum(f.chord * f.field_area for f in fields) / self.area

    @cached_property
    def merging(self) -> Hidden:
        """What merging hides, or that it was not asked for."""
        return hidden_by_merging(self.fields, self.options.merging)

    @cached_property
    def axis(self) -> Array:
        """Length of each line times cosine and sine of twice its mean direction, shape (N, 2)."""
        angle = np.radians(2 * self.of_lines("direction_deg"))
        return np.asarray(self.length[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))

    @property
    def crossings(self) -> int:
        """Crossings with all test lines."""
        return int(sum(f.probes["crossings"].sum() for f in self.fields))

    @property
    def laid(self) -> bool:
        """Whether each family of test lines has some length in the fields."""
        return all(length > 0 for length in self.laid_length.values())

    @cached_property
    def laid_length(self) -> dict[str, float]:
        """Length of the test lines of each family."""
        families = self.fields[0].families
        return {name: sum(f.test_length(name) for f in self.fields) for name in families}

    def of_lines(self, column: str) -> Array:
        """Return a column of the tables of objects, line by line."""
        return np.concatenate([f.objects[column].to_numpy(np.float64) for f in self.fields])

    def in_tiles(self, column: str) -> float:
        """Return the sum of a column over all tiles."""
        return float(sum(f.tiles[column].sum() for f in self.fields))

    @cached_property
    def per_test_length(self) -> Array:
        """Projected length over area that each line stands for by its crossings.

        A test line of length L crosses lines ``(2/pi) L`` times their length per area, on the mean
        over directions; families of test lines in several directions count alike.
        """
        found = np.zeros(self.length.size)
        for family, laid in self.laid_length.items():
            found += self.of_lines(f"crossings_{family}") / (laid or math.nan)
        return np.asarray(found * math.pi / 2 / len(self.laid_length))


def _skeleton(pooled: _Pooled) -> Quantity:
    """Length of all lines over area, made up for what merging hides."""
    hidden = pooled.merging
    value = float(pooled.length.sum()) / pooled.area
    interval = mid_sum_interval(pooled.length, pooled.chord, pooled.options.level)
    return material_quantity(
        "projected_line_density",
        value * hidden.factor,
        interval.scaled(hidden.factor / pooled.area),
        f"{pooled.unit}^-1",
        pooled.length.size,
        f"smoothed length of the centre line over area; {hidden.remark}; {_INTERVAL}",
        level=pooled.options.level,
    )


def _grid(pooled: _Pooled) -> Quantity:
    """Crossings with each family of test lines, each over its own length."""
    hidden, options = pooled.merging, pooled.options
    per_line = pooled.per_test_length
    value, interval = float("nan"), UNDEFINED
    if pooled.laid:
        value = float(per_line.sum()) * hidden.factor
        interval = mid_sum_interval(per_line, pooled.chord / pooled.area, options.level)
    return material_quantity(
        "projected_line_density_grid",
        value,
        interval.scaled(hidden.factor),
        f"{pooled.unit}^-1",
        pooled.crossings,
        f"crossings with {_PROBES[options.probe]} {options.grid_spacing_px} px apart, seed "
        f"{options.seed}; {hidden.remark}; {_INTERVAL}",
        level=options.level,
    )


def _ratio(pooled: _Pooled) -> Quantity:
    """Density by crossings over density by length, with an alarm if it is not what it should be."""
    per_line, level = pooled.per_test_length, pooled.options.level
    value, interval = float("nan"), UNDEFINED
    if pooled.laid and pooled.length.sum() > 0:
        value = float(per_line.sum()) / (float(pooled.length.sum()) / pooled.area)
        interval = ratio_interval(per_line, pooled.length / pooled.area, level)
    expected = expected_ratio(pooled.merging.line_share)
    method = f"density by crossings over density by length; expected {expected:.3f} at "
    method += f"{100 * pooled.merging.line_share:.3g} % line pixels"
    if interval.low > expected or interval.high < expected:
        method += f"; ALARM: {_ALARM}"
    return material_quantity(
        "grid_skeleton_ratio", value, interval, "1", pooled.crossings, method, level=level
    )


def _anisotropy(pooled: _Pooled) -> Quantity:
    """Length of the mean axis of all directions, its square without bias."""
    total, square = float(pooled.length.sum()), float((pooled.length**2).sum())
    value, interval = float("nan"), UNDEFINED
    if pooled.length.size >= _FEWEST:
        axis = pooled.axis.sum(axis=0)
        found = float(np.hypot(*axis)) / total
        cosine = pooled.axis @ (axis / max(found * total, 1e-12)) / pooled.length
        second = float(pooled.length @ (2 * cosine**2 - 1)) / total
        share = square / total**2
        # Each line is parallel to itself; what is left of the square are the pairs.
        value = math.sqrt(min(max((found**2 - share) / (1 - share), 0.0), 1.0))
        interval = resultant_interval(found, second, share, pooled.options.level)
    return material_quantity(
        "anisotropy_index",
        value,
        interval,
        "1",
        pooled.length.size,
        "length of the mean axis, weighted by length: 0 without a preferred direction, 1 if all "
        "lines run the same way; interval from the non-central chi-square distribution",
        level=pooled.options.level,
    )


def _segments(pooled: _Pooled) -> list[Quantity]:
    """Lines per area by their ends, of which each has two, and their mean length."""
    level, unit = pooled.options.level, pooled.unit
    ends, hidden = pooled.of_lines("ends"), pooled.merging
    told = hidden.line_share <= _MOST_SHARE_OF_ENDS
    per_area = sum_interval(ends, level, 2.0).scaled(1 / pooled.area) if told else UNDEFINED
    why = "Fay-Feuer interval over lines" if told else _NO_ENDS
    density = material_quantity(
        "line_end_density",
        float(ends.sum()) / pooled.area,
        per_area,
        f"{unit}^-2",
        int(ends.sum()),
        f"ends of lines inside the field over area; {why}",
        level=level,
    )
    number = material_quantity(
        "segment_density",
        float(ends.sum()) / 2 / pooled.area,
        per_area.scaled(0.5),
        f"{unit}^-2",
        pooled.length.size,
        f"half the ends over area, so that lines cut by the border do not count twice; {why}",
        level=level,
    )
    length = ratio_interval(pooled.length, ends / 2, level) if told else UNDEFINED
    mean = material_quantity(
        "mean_segment_length",
        2 * hidden.factor * float(pooled.length.sum()) / (float(ends.sum()) or math.nan),
        length.scaled(hidden.factor),
        unit,
        int(ends.sum()),
        f"projected length over half the ends; {hidden.remark}; "
        + ("Student's interval on the logarithm" if told else _NO_ENDS),
        level=level,
    )
    return [in_si(number), mean, in_si(density)]


def _junctions(pooled: _Pooled) -> Quantity:
    """Where lines meet or cross in projection, per area."""
    count, meets = pooled.in_tiles("meetings"), pooled.of_lines("meets")
    # Meetings that share a line come and go together: pairs of them add to the Poisson variance.
    variance = max(float((meets**2).sum()) - count, count)
    one_more = float(meets.max(initial=0.0)) + 1
    seen, extended = (count, variance), (count + one_more, variance + one_more**2)
    tail = (1 - pooled.options.level) / 2
    # The variance is itself known from few lines: the wider one, as Fay and Feuer have it.
    interval = Interval(
        gamma_interval(seen, seen, tail).low, gamma_interval(extended, extended, tail).high
    ).scaled(1 / pooled.area)
    return in_si(
        material_quantity(
            "junction_density",
            count / pooled.area,
            interval,
            f"{pooled.unit}^-2",
            int(count),
            "meetings and crossings of lines in projection over area; variance from meetings that "
            "share a line",
            level=pooled.options.level,
        )
    )


def _per_foil(projected: Quantity, name: str, foil: PooledThickness, level: float) -> Quantity:
    factor = 4 / np.pi * PER_M**2 / foil.nm
    interval = widened(
        projected.value, Interval(projected.low, projected.high), foil.sd_nm / foil.nm, level
    ).scaled(factor)
    return material_quantity(
        name,
        projected.value * factor,
        interval,
        "m^-2",
        projected.n,
        f"4/pi times projected density over t; {foil.remark}; {projected.method}",
        level=level,
    )


def rose_of_directions(fields: Sequence[LineMeasurement]) -> pd.DataFrame:
    """Return the projected line density by direction.

    Parameters
    ----------
    fields : sequence of LineMeasurement
        That can be pooled.

    Returns
    -------
    DataFrame
        One row a bin of 15 degrees: ``from_deg, to_deg, density_per_<unit>, low, high``; directions
        run from the columns' axis towards the rows', and the bins add up to the density of all as
        seen. An empty bin is 0 with an upper end from one line across the field.
    """
    pooled = _Pooled(fields)
    rose = np.concatenate([f.rose for f in fields]) / pooled.area
    ends = [
        mid_sum_interval(part, pooled.chord / pooled.area, pooled.options.level) for part in rose.T
    ]
    edges = np.linspace(0.0, 180.0, ROSE_BINS + 1)
    return pd.DataFrame(
        {
            "from_deg": edges[:-1],
            "to_deg": edges[1:],
            f"density_per_{pooled.unit}": rose.sum(axis=0),
            "low": [e.low for e in ends],
            "high": [e.high for e in ends],
        }
    )
