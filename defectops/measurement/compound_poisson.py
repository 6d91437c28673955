"""Intervals of what a random number of unequal objects add up to, and of ratios of such sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from defectops.measurement.uncertainty import LEVEL, UNDEFINED, Interval, log_interval

Array = npt.NDArray[Any]

_FARTHEST = 40.0  # standard deviations: where the search for an end of an interval stops
_CERTAIN = 30.0  # standard errors: from there on the normal law will do
_NEARLY_ALIKE, _ALL_ALIKE = 1 - 1e-6, 1 - 1e-9  # beyond, rounding decides


def mid_sum_interval(weights: Array, unseen: float, level: float = LEVEL) -> Interval:
    """Interval of the expected sum of what a random number of objects each contribute.

    Parameters
    ----------
    weights : ndarray of float, shape (N,)
        Contribution of each independent object, such as the length of a line; those of zero do not
        matter.
    unseen : float
        The contribution that one object more may well have made. If larger than the largest that
        was seen it takes its place: of few objects the large ones are rarely among them.
    level : float

    Returns
    -------
    Interval
        ``low`` is 0 and ``high`` a multiple of `unseen` where nothing is there.

    Notes
    -----
    The sum of weights with mean m and sum of squares v is taken for gamma distributed with mean m
    and variance v; with one object more of weight u, m + u and v + u^2. The ends are quantiles of
    both mixed half and half ("mid-p"): with the first alone below and the second alone above, as
    `uncertainty.sum_interval` has it, intervals cover more than their level at every size, with
    the mixture their level on the mean. Use that one for plain counts, where it is exact.

    References
    ----------
    Fay, M. P. and Feuer, E. J., Statist. Med. 16, 791 (1997),
    doi:10.1002/(SICI)1097-0258(19970415)16:7<791::AID-SIM500>3.0.CO;2-#.
    """
    total, square = float(np.sum(weights)), float(np.sum(np.square(weights)))
    more = max(unseen, float(np.max(weights, initial=0.0)))
    tail = (1 - level) / 2
    return gamma_interval((total, square), (total + more, square + more**2), tail)


def gamma_interval(
    seen: tuple[float, float], extended: tuple[float, float], tail: float
) -> Interval:
    """Return the tails of two gamma distributions mixed, each given by mean and variance."""

    def below(x: float) -> float:
        parts = [
            special.gammainc(mean**2 / variance, x * mean / variance) if mean > 0 else 1.0
            for mean, variance in (seen, extended)
        ]
        return float(sum(parts)) / 2

    far = extended[0] + _FARTHEST * math.sqrt(extended[1])
    near = 1e-12 * far
    low = 0.0 if below(near) > tail else optimize.brentq(lambda x: below(x) - tail, near, far)
    if below(near) > 1 - tail:  # nothing seen, and nothing more that might have been
        return Interval(low, 0.0)
    high = optimize.brentq(lambda x: below(x) - (1 - tail), near, far)
    return Interval(float(low), float(high))


def ratio_interval(above: Array, below: Array, level: float = LEVEL) -> Interval:
    """Interval of the ratio of two sums over the same independent objects.

    Parameters
    ----------
    above, below : ndarray of float, shape (N,)
        What each object adds to numerator and denominator.
    level : float

    Returns
    -------
    Interval
        Student's on the logarithmic scale, with the relative error ``sqrt(sum((a/A - b/B)^2))`` of
        linear propagation; what both sums share cancels. Undefined (NaN) where either sum is not
        positive or fewer than two objects are there.
    """
    total = float(np.sum(above)), float(np.sum(below))
    objects = int(np.count_nonzero((above != 0) | (below != 0)))
    if min(total) <= 0 or objects < 2:
        return UNDEFINED
    square = float(np.sum((above / total[0] - below / total[1]) ** 2))
    relative = math.sqrt(square * objects / (objects - 1))
    # Few long lines among many short ones make most of the error: they are its degrees of freedom.
    weight = below / total[1]
    freedom = max(1.0 / float(np.sum(weight**2)) - 1.0, 1.0)
    return log_interval(total[0] / total[1], relative, freedom, level)


def resultant_interval(
    found: float, second: float, square_share: float, level: float = LEVEL
) -> Interval:
    """Interval of the length of the mean of unit vectors with unequal weights.

    Parameters
    ----------
    found : float
        Length of the weighted mean of the vectors, 0 to 1; on the mean longer than what it
        estimates.
    second : float
        Weighted mean cosine of twice the angle between the vectors and their mean.
    square_share : float
        Sum of the squared weights over the square of their sum.
    level : float

    Returns
    -------
    Interval
        Those lengths r for which what was found is in neither tail. Along the mean its variance is
        ``square_share ((1 + second) / 2 - r^2)``, at least that of normally spread directions; the
        found length squared over it follows a non-central chi-square distribution with two degrees
        of freedom.
    """
    tail = (1 - level) / 2
    found = min(found, _NEARLY_ALIKE)

    def below(true: float) -> float:
        spread = max((1 + second) / 2 - true**2, (1 - true**2) ** 2 / 2)
        sd = math.sqrt(square_share * spread)
        if true > _CERTAIN * sd:
            return float(special.ndtr((found - true) / sd))
        return float(special.chndtr((found / sd) ** 2, 2, (true / sd) ** 2))

    def end(probability: float) -> float:
        if below(0.0) <= probability:
            return 0.0
        if below(_ALL_ALIKE) >= probability:
            return 1.0
        return float(optimize.brentq(lambda true: below(true) - probability, 0.0, _ALL_ALIKE))

    return Interval(end(1 - tail), end(tail))
