"""What else particles tell: percentiles, shapes, volume, spacings, and the histogram of sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.measurement.lognormal import fit_lognormal
from defectops.measurement.neighbours import neighbour_statistics
from defectops.measurement.quantities import (
    MATERIAL,
    PER_M,
    Array,
    PooledThickness,
    Quantity,
    material_quantity,
)
from defectops.measurement.uncertainty import (
    LEVEL,
    UNDEFINED,
    Interval,
    log_interval,
    mean_interval,
    sum_interval,
)

if TYPE_CHECKING:
    from defectops.measurement.sizes import Sizes

# Mean distance to the nearest of points at random in space, times the cube root of their density.
_NEAREST_3D = math.gamma(4 / 3) * (4 * math.pi / 3) ** (-1 / 3)
_PERCENTILES = ((50, "median_diameter"), (10, "diameter_p10"), (90, "diameter_p90"))
_HISTOGRAM_BINS = 12


def size_quantities(sizes: Sizes, unit: str, remark: str) -> list[Quantity]:
    """Percentiles and lognormal fit of the diameters.

    Parameters
    ----------
    sizes : Sizes
    unit : str
        Of the sizes.
    remark : str
        On border rule and foil correction, for the methods.

    Returns
    -------
    list of Quantity
        ``median_diameter, diameter_p10, diameter_p90, lognormal_median_diameter, lognormal_sigma,
        lognormal_p_value`` (no interval; the probability that lognormal sizes fit worse).
    """
    n, level = sizes.n, sizes.level
    found = []
    for percent, name in _PERCENTILES:
        value, interval = sizes.percentile(percent)
        method = f"{remark}; interval of order statistics"
        found.append(material_quantity(name, value, interval, unit, n, method, level=level))
    fit = fit_lognormal(sizes)
    rows = (
        ("lognormal_median_diameter", fit.median, fit.median_interval, unit),
        ("lognormal_sigma", fit.sigma, fit.sigma_interval, "1"),
        ("lognormal_p_value", fit.p_value, UNDEFINED, "1"),
    )
    method = f"maximum likelihood of lognormal sizes; {remark}; p of Anderson and Darling"
    return found + [material_quantity(*row, n, method, level=level) for row in rows]


def shape_quantities(objects: pd.DataFrame, unit: str, border: str, level: float) -> list[Quantity]:
    """Mean shape of the whole particles.

    Parameters
    ----------
    objects : DataFrame
        From `particle_table`, with ``counts_in_size``.
    unit : str
    border : str
        The border rule, for the method.
    level : float

    Returns
    -------
    list of Quantity
        ``mean_feret_max, mean_feret_min, mean_circularity``; NaN without whole particles.
    """
    weight = objects["counts_in_size"].to_numpy()
    whole = weight > 0
    n = int(whole.sum())
    found = []
    for name, column, its_unit in (
        ("mean_feret_max", f"feret_max_{unit}", unit),
        ("mean_feret_min", f"feret_min_{unit}", unit),
        ("mean_circularity", "circularity", "1"),
    ):
        values = objects[column].to_numpy()[whole]
        mean = float(np.average(values, weights=weight[whole])) if n else math.nan
        interval = mean_interval(values, weight[whole], level)
        if its_unit == "1":
            interval = Interval(interval.low, min(interval.high, 1.0))
        method = f"whole particles as seen; border {border}; Student"
        found.append(material_quantity(name, mean, interval, its_unit, n, method, level=level))
    return found


def neighbour_quantities(
    objects: pd.DataFrame, areal: Quantity, unit: str, level: float
) -> list[Quantity]:
    """Nearest neighbours in projection.

    Parameters
    ----------
    objects : DataFrame
        With ``nearest_neighbour_<unit>`` and ``counts_in_neighbours``.
    areal : Quantity
        Areal density in `unit` to the power -2.
    unit : str
    level : float

    Returns
    -------
    list of Quantity
        ``nearest_neighbour_distance, clark_evans_ratio``.
    """
    found = neighbour_statistics(
        objects[f"nearest_neighbour_{unit}"].to_numpy(),
        objects["counts_in_neighbours"].to_numpy(),
        areal.value,
        areal.n,
        level,
    )
    method = "between centres in projection; Hanisch's border weights; Student, logarithmic"
    return [
        material_quantity(
            "nearest_neighbour_distance",
            found.distance,
            found.distance_interval,
            unit,
            found.n,
            method,
            level=level,
        ),
        material_quantity(
            "clark_evans_ratio",
            found.ratio,
            found.ratio_interval,
            "1",
            found.n,
            f"mean distance times 2 sqrt(areal density); {method}",
            level=level,
        ),
    ]


def volume_quantities(
    number: Quantity, mean: Quantity, sizes: Sizes, foil: PooledThickness
) -> list[Quantity]:
    """Volume fraction and spacings from number density and diameters.

    Parameters
    ----------
    number, mean : Quantity
        ``number_density`` in m^-3 and ``mean_diameter`` in nm.
    sizes : Sizes
    foil : PooledThickness

    Returns
    -------
    list of Quantity
        ``volume_fraction``, N pi/6 times the mean cube; ``obstacle_spacing``, 1/sqrt(N d), the
        mean distance of the particles that a slip plane cuts; ``neighbour_spacing``, 0.554
        N^(-1/3), the mean distance of centres at random in space to the nearest. The spacings are
        NaN without particles, the fraction 0 without upper bound.
    """
    per_nm3 = number.value / PER_M**3
    spacing = neighbour = math.nan
    of_neighbour = UNDEFINED
    if number.value > 0:
        spacing = 1 / math.sqrt(per_nm3 * mean.value)
        ends = np.array([number.high, number.low]) / PER_M**3
        with np.errstate(divide="ignore"):
            low, high = _NEAREST_3D * ends ** (-1 / 3)
        neighbour, of_neighbour = _NEAREST_3D * per_nm3 ** (-1 / 3), Interval(low, high)
    level, n = number.level, number.n
    rows = (
        ("obstacle_spacing", spacing, _spacing_interval(spacing, number, mean), "1/sqrt(N d)"),
        ("neighbour_spacing", neighbour, of_neighbour, "0.554 N^(-1/3)"),
    )
    return [
        _volume_fraction(number, sizes, foil),
        *(
            material_quantity(
                name, value, interval, "nm", n, f"{formula}; {number.method}", level=level
            )
            for name, value, interval, formula in rows
        ),
    ]


def _volume_fraction(number: Quantity, sizes: Sizes, foil: PooledThickness) -> Quantity:
    value = 0.0
    interval = Interval(0.0, math.nan)
    if number.value > 0:
        value = number.value / PER_M**3 * math.pi / 6 * sizes.moment(3)
        layer = sizes.layer if math.isfinite(sizes.layer) else foil.nm
        relative_sd = math.hypot(
            sizes.cube_relative_sd, 1 / math.sqrt(number.n), foil.sd_nm / layer
        )
        interval = log_interval(value, relative_sd, sizes.n - 1, number.level)
        interval = Interval(interval.low, min(interval.high, 1.0))
    return material_quantity(
        "volume_fraction",
        value,
        interval,
        "1",
        sizes.n,
        f"spheres, N pi/6 mean cube; Student, logarithmic; {number.method}",
        level=number.level,
    )


def _spacing_interval(value: float, number: Quantity, mean: Quantity) -> Interval:
    """Half the logarithmic distances of both factors' ends, in quadrature."""
    if not (number.value > 0 and number.low > 0 and math.isfinite(mean.low)):
        return UNDEFINED
    up = [math.log(q.value / q.low) / 2 for q in (number, mean)]
    down = [math.log(q.high / q.value) / 2 for q in (number, mean)]
    return Interval(value * math.exp(-math.hypot(*down)), value * math.exp(math.hypot(*up)))


def swelling(quantities: Sequence[Quantity]) -> list[Quantity]:
    """Swelling by voids: the volume gained over the volume of the matrix, ``f / (1 - f)``.

    Parameters
    ----------
    quantities : sequence of Quantity
        Of voids, as `pooling.pool` returns them.

    Returns
    -------
    list of Quantity
        ``swelling``, unit 1; empty without a volume fraction (no foil thickness).

    Notes
    -----
    For voids and bubbles only. The matrix is taken as otherwise unchanged.
    """
    return [
        replace(
            q,
            quantity="swelling",
            value=_over_rest(q.value),
            low=_over_rest(q.low),
            high=_over_rest(q.high),
            method=f"f/(1 - f); {q.method}",
        )
        for q in quantities
        if q.quantity == "volume_fraction" and q.interval == MATERIAL
    ]


def _over_rest(fraction: float) -> float:
    return fraction / (1 - fraction) if fraction != 1 else math.inf


def size_histogram(
    diameters: Array,
    weights: Array,
    edges: Array | None = None,
    *,
    unit: str,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Histogram of diameters with an interval for each bin.

    Parameters
    ----------
    diameters, weights : ndarray of float, shape (N,)
        Seen diameters and what each counts, from the columns ``equivalent_diameter_<unit>`` and
        ``counts_in_size``.
    edges : ndarray of float, shape (B + 1,), optional
        Increasing; 12 bins from 0 to the largest if absent.
    unit : {"nm", "px"}
    level : float

    Returns
    -------
    DataFrame
        ``bin_low_<unit>, bin_high_<unit>, n`` (particles), ``count`` (what they count), ``low,
        high`` (interval of the expected count: exact for equal weights, else Fay and Feuer's; an
        empty bin has 0 to 3.69 at 95 %). Bins are half-open, the last one closed. No rows without
        particles and edges.
    """
    used = weights > 0
    d, w = diameters[used], weights[used]
    if edges is None:
        edges = np.linspace(0, d.max(), _HISTOGRAM_BINS + 1) if d.size else np.zeros(1)
    bins = len(edges) - 1
    place = np.where(d == edges[-1], bins - 1, np.searchsorted(edges, d, side="right") - 1)
    rows = []
    for k in range(bins):
        own = w[place == k]
        interval = sum_interval(own, level, weight_if_empty=1.0)
        rows.append((edges[k], edges[k + 1], own.size, own.sum(), interval.low, interval.high))
    columns = [f"bin_low_{unit}", f"bin_high_{unit}", "n", "count", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
