"""How far a model's quantities are from the label's on the same fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement.line_fields import LineMeasurement
from defectops.measurement.pooling import Measurement, pool
from defectops.measurement.quantities import MATERIAL, MODEL, Quantity
from defectops.measurement.uncertainty import UNDEFINED, Interval, resampled

Array = npt.NDArray[Any]

_DRAWS = 2000
_ROUNDING = 1e-12  # of a mean square; a variance below it is none
Statistic = Callable[[Array, pd.DataFrame], Array]


def percent_error(label: Sequence[Quantity], prediction: Sequence[Quantity]) -> dict[str, float]:
    """Compare a prediction's quantities with the label's.

    Parameters
    ----------
    label, prediction : sequence of Quantity
        As `quantities.pool` returns them, of the same fields.

    Returns
    -------
    dict of str to float
        ``100 (prediction - label) / label`` for each material quantity in both; NaN where the
        label's value is 0 or either is undefined.
    """
    truth = {q.quantity: q.value for q in label if q.interval == MATERIAL}
    return {
        q.quantity: 100 * (q.value - truth[q.quantity]) / (truth[q.quantity] or float("nan"))
        for q in prediction
        if q.interval == MATERIAL and q.quantity in truth
    }


def paired_interval(
    label: Sequence[Measurement], prediction: Sequence[Measurement]
) -> dict[str, Interval]:
    """Intervals of the percent error of a prediction against the label of the same fields.

    Both are resampled together, tile by tile (4 x 4 tiles a field), so the fields' own Poisson
    noise cancels: this says how far the model is from the label, not how well the material is
    known.

    Parameters
    ----------
    label, prediction : sequence of measurements
        Of the same fields in the same order, measured with the same options.

    Returns
    -------
    dict of str to Interval
        In percent, percentile bootstrap of 2000 seeded draws; undefined (NaN) where the percent
        error is, and where label or prediction shows too few particles for an interval of its own
        (a mean diameter of one, a spread of fewer than five): few particles resample to themselves.

    Raises
    ------
    LabelRefused
        Different numbers of fields, or measurements that cannot be pooled.

    Notes
    -----
    The resampled ratios leave out what hardly differs between label and prediction (the ``+ d`` of
    a foil correction, the correction for caps); the point estimate they are put around has it.
    Lines longer than a tile make tiles dependent; the interval is then somewhat too narrow.
    """
    if len(label) != len(prediction):
        raise LabelRefused(
            "measurement",
            "E_PAIR",
            f"{len(label)} labels and {len(prediction)} predictions: give the same fields twice",
        )
    pooled = pool(label), pool(prediction)
    actual = percent_error(*pooled)
    too_few = {q.quantity for side in pooled for q in side if math.isnan(q.low)}
    truth = pd.concat([m.tiles for m in label], ignore_index=True)
    found = pd.concat([m.tiles for m in prediction], ignore_index=True)
    options = label[0].options
    draws = resampled(len(truth), _DRAWS, options.seed)
    once = np.ones((1, len(truth)))
    tails = ((1 - options.level) / 2, (1 + options.level) / 2)
    intervals = {}
    for name, statistic in tile_statistics(label).items():
        if name in too_few:
            intervals[name] = UNDEFINED
        elif name in actual:
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = statistic(draws, found) / statistic(draws, truth)
                ratio = drawn / (statistic(once, found) / statistic(once, truth))
            intervals[name] = _percentiles(1 + actual[name] / 100, ratio, tails)
    return intervals


def model_quantities(
    label: Sequence[Measurement], prediction: Sequence[Measurement]
) -> list[Quantity]:
    """Return the prediction's quantities with the interval ``model``.

    Parameters
    ----------
    label, prediction : sequence of measurements
        As for `paired_interval`.

    Returns
    -------
    list of Quantity
        The value is the prediction's; ``low`` and ``high`` are the label's value times one plus
        the ends of the paired interval of the error. The label's own value outside them means that
        model and label differ by more than these fields let happen by chance.
    """
    intervals = paired_interval(label, prediction)
    truth = {q.quantity: q.value for q in pool(label)}
    rows = []
    for q in pool(prediction):
        error = intervals.get(q.quantity, UNDEFINED)
        rows.append(
            replace(
                q,
                low=truth.get(q.quantity, math.nan) * (1 + error.low / 100),
                high=truth.get(q.quantity, math.nan) * (1 + error.high / 100),
                interval=MODEL,
                method=f"paired bootstrap over tiles; {q.method}",
            )
        )
    return rows


def _percentiles(centre: float, ratio: Array, tails: tuple[float, float]) -> Interval:
    """Percent error at the tails of a ratio that scatters about 1."""
    finite = ratio[np.isfinite(ratio)]
    if not np.isfinite(centre) or not finite.size:
        return UNDEFINED
    low, high = 100 * (centre * np.quantile(finite, tails) - 1)
    return Interval(float(low), float(high))


def tile_statistics(fields: Sequence[Measurement]) -> dict[str, Statistic]:
    """Return for each quantity how it follows, up to a constant, from drawn tiles.

    Parameters
    ----------
    fields : sequence of Measurement
        Of one kind.

    Returns
    -------
    dict of str to callable
        ``(draws, tiles)`` to one value a draw: `draws` of shape (B, T) says how often each of the
        T rows of `tiles` is taken. Quantities that are no sums over tiles are absent (percentiles,
        lognormal fit, shapes, neighbours): they have no interval ``model``.
    """
    lines = [f for f in fields if isinstance(f, LineMeasurement)]
    if not lines:
        number, covered = _sum("number"), _sum("covered")
        return {
            "areal_density": number,
            "number_density": number,
            "mean_diameter": _mean_diameter,
            "sd_diameter": _sd_diameter,
            "area_fraction": covered,
            "volume_fraction": _volume_fraction,
            "obstacle_spacing": _obstacle_spacing,
            "neighbour_spacing": lambda draws, tiles: number(draws, tiles) ** (-1 / 3),
        }
    length, crossings, ends = _sum("length"), _crossings(lines), _sum("ends")
    return {
        "projected_line_density": length,
        "projected_line_density_grid": crossings,
        "dislocation_density_skeleton": length,
        "dislocation_density_grid": crossings,
        "grid_skeleton_ratio": lambda draws, tiles: crossings(draws, tiles) / length(draws, tiles),
        "anisotropy_index": _anisotropy,
        "segment_density": ends,
        "mean_segment_length": lambda draws, tiles: length(draws, tiles) / ends(draws, tiles),
        "line_end_density": ends,
        "junction_density": _sum("meetings"),
    }


def _crossings(lines: Sequence[LineMeasurement]) -> Statistic:
    families = {f: sum(m.test_length(f) for m in lines) for f in lines[0].families}

    def statistic(draws: Array, tiles: pd.DataFrame) -> Array:
        found = [
            draws @ tiles[f"crossings_{family}"].to_numpy() / (laid or math.nan)
            for family, laid in families.items()
        ]
        return np.asarray(sum(found))

    return statistic


def _anisotropy(draws: Array, tiles: pd.DataFrame) -> Array:
    cosine, sine, length = (draws @ tiles[k].to_numpy() for k in ("cosine", "sine", "length"))
    return np.asarray(np.hypot(cosine, sine) / length)


def _sum(column: str) -> Statistic:
    return lambda draws, tiles: np.asarray(draws @ tiles[column].to_numpy())


def _mean_diameter(draws: Array, tiles: pd.DataFrame) -> Array:
    return np.asarray(draws @ tiles["size_d"].to_numpy() / (draws @ tiles["size"].to_numpy()))


def _volume_fraction(draws: Array, tiles: pd.DataFrame) -> Array:
    number, size, cube = (draws @ tiles[c].to_numpy() for c in ("number", "size", "size_d3"))
    return np.asarray(number * cube / size)


def _obstacle_spacing(draws: Array, tiles: pd.DataFrame) -> Array:
    return np.asarray((draws @ tiles["number"].to_numpy() * _mean_diameter(draws, tiles)) ** -0.5)


def _sd_diameter(draws: Array, tiles: pd.DataFrame) -> Array:
    square = draws @ tiles["size_d2"].to_numpy() / (draws @ tiles["size"].to_numpy())
    variance = square - _mean_diameter(draws, tiles) ** 2
    # A draw that holds one particle has no spread; what rounding leaves of it would divide others.
    return np.sqrt(np.where(variance > _ROUNDING * square, variance, np.nan))
