"""Intervals on counts, sums, means and spreads, and how independent errors add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.measurement import quantiles

Array = npt.NDArray[Any]

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A two-sided interval; both ends NaN where it is undefined."""

    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Return the interval of the quantity multiplied by a positive factor."""
        return Interval(self.low * factor, self.high * factor)


UNDEFINED = Interval(float("nan"), float("nan"))


def count_interval(count: int, level: float = LEVEL) -> Interval:
    """Exact interval of a Poisson mean from one count.

    Parameters
    ----------
    count : int
        Zero or more; nothing counted gives (0, 3.69) at 95 %.
    level : float
        Coverage, between 0 and 1.

    Notes
    -----
    Never covers less than `level`; covers more at small counts (97.5 to 98 % below 12). Not for
    counts that cluster: use `sum_interval`.

    References
    ----------
    Garwood, F., Biometrika 28, 437 (1936), doi:10.1093/biomet/28.3-4.437.
    """
    return sum_interval(np.ones(count), level=level, weight_if_empty=1.0)


def sum_interval(
    weights: Array, level: float = LEVEL, weight_if_empty: float = float("nan")
) -> Interval:
    """Interval of the expected sum of what a random number of objects each contribute.

    Parameters
    ----------
    weights : ndarray of float, shape (N,)
        Positive contribution of each independent object: 1 for a count, a length, an area, the
        number of crossings of one line.
    level : float
    weight_if_empty : float
        The contribution that one object would have made, for the upper bound of an empty field.

    Returns
    -------
    Interval
        For weights of 1 the exact interval of `count_interval`. N = 0: (0, 3.69 times
        `weight_if_empty`) at 95 %.

    References
    ----------
    Fay, M. P. and Feuer, E. J., Statist. Med. 16, 791 (1997),
    doi:10.1002/(SICI)1097-0258(19970415)16:7<791::AID-SIM500>3.0.CO;2-#.
    """
    given = np.asarray(weights, dtype=np.float64)
    given = given[given > 0]
    tail = (1 - level) / 2
    total, square = float(given.sum()), float((given**2).sum())
    largest = float(given.max()) if given.size else weight_if_empty
    low = square / (2 * total) * quantiles.chi_square(tail, 2 * total**2 / square) if total else 0.0
    more, spread = total + largest, square + largest**2
    high = spread / (2 * more) * quantiles.chi_square(1 - tail, 2 * more**2 / spread)
    return Interval(float(low), float(high))


def mean_interval(values: Array, weights: Array | None = None, level: float = LEVEL) -> Interval:
    """Student interval of a mean.

    Parameters
    ----------
    values : ndarray of float, shape (N,)
    weights : ndarray of float, shape (N,), optional
        Weights of the mean; equal if absent.
    level : float

    Returns
    -------
    Interval
        Undefined (NaN) for fewer than two values.

    References
    ----------
    Student, Biometrika 6, 1 (1908), doi:10.1093/biomet/6.1.1; weighted form: Cochran, W. G.,
    *Sampling Techniques*, 3rd ed. 1977, section 6.3 (a ratio of two sums).
    """
    n = len(values)
    if n < 2:
        return UNDEFINED
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    mean = float(share @ values)
    error = float(np.sqrt(n / (n - 1) * np.sum((share * (values - mean)) ** 2)))
    half = quantiles.student((1 + level) / 2, n - 1) * error
    return Interval(mean - half, mean + half)


def log_interval(
    value: float, relative_sd: float, freedom: float, level: float = LEVEL
) -> Interval:
    """Student interval of a positive quantity on the logarithmic scale.

    Parameters
    ----------
    value : float
    relative_sd : float
        Standard error over the value.
    freedom : float
        Degrees of freedom of the standard error.
    level : float

    Returns
    -------
    Interval
        ``value exp(+-t relative_sd)``: never negative, and wider above than below, as estimates
        from skewed sizes scatter. Undefined (NaN) where an argument is, or without freedom.

    References
    ----------
    Zhou, X.-H. and Gao, S., Statist. Med. 16, 783 (1997),
    doi:10.1002/(SICI)1097-0258(19970415)16:7<783::AID-SIM488>3.0.CO;2-2 (skewed means).
    """
    if not (np.isfinite(value) and np.isfinite(relative_sd) and freedom > 0):
        return UNDEFINED
    half = min(quantiles.student((1 + level) / 2, freedom) * relative_sd, 700.0)
    return Interval(float(value * np.exp(-half)), float(value * np.exp(half)))


def widened(value: float, interval: Interval, relative_sd: float, level: float = LEVEL) -> Interval:
    """Add an independent relative error to an interval, side by side in quadrature.

    Parameters
    ----------
    value : float
    interval : Interval
        Of the same quantity, without that error.
    relative_sd : float
        Standard uncertainty of a factor of the quantity, such as the foil thickness, over the
        factor; 0 changes nothing.
    level : float

    Returns
    -------
    Interval
        Not below zero. For a value of 0 only the upper end grows.

    References
    ----------
    JCGM 100:2008 (GUM), section 5.1, doi:10.59161/JCGM100-2008E.
    """
    z = quantiles.normal((1 + level) / 2)
    if value == 0:
        return Interval(interval.low, interval.high * (1 + z * relative_sd))
    below = np.hypot(value - interval.low, value * z * relative_sd)
    above = np.hypot(interval.high - value, value * z * relative_sd)
    return Interval(float(max(value - below, 0.0)), float(value + above))


def resampled(n_tiles: int, n_draws: int, seed: int) -> Array:
    """Draw tiles with replacement.

    Returns
    -------
    ndarray of int64, shape (n_draws, n_tiles)
        How often each tile is taken in each draw; rows sum to `n_tiles`. The same for the same
        seed.

    References
    ----------
    Efron, B., Ann. Stat. 7, 1 (1979), doi:10.1214/aos/1176344552.
    """
    share = np.full(n_tiles, 1 / n_tiles)
    return np.random.default_rng(seed).multinomial(n_tiles, share, size=n_draws)
