"""Moments and percentiles of particle diameters, each with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.measurement import quantiles
from defectops.measurement.foil import sphere_scores, unfolded_weights
from defectops.measurement.uncertainty import UNDEFINED, Interval, log_interval

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sizes:
    """Diameters of the particles that may be sized.

    Parameters
    ----------
    diameters : ndarray of float, shape (N,)
        As seen.
    weights : ndarray of float, shape (N,)
        Positive; from `particles.border_weights`.
    thickness : float or None
        Of the foil, in the unit of `diameters`; None if nothing is to be corrected for caps.
    smallest : float
        Smallest diameter that is seen at all.
    level : float
        Coverage of the intervals.
    """

    diameters: Array
    weights: Array
    thickness: float | None
    smallest: float
    level: float

    @property
    def n(self) -> int:
        """How many particles there are."""
        return int(self.diameters.size)

    @cached_property
    def effective_n(self) -> float:
        """How many equally weighted particles would know as much (Kish)."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum()) if self.n else 0.0

    @cached_property
    def _scores(self) -> Array:
        """Return ``w phi_k`` over the sum of ``w phi_0``, shape (4, N)."""
        weighted = self.weights * sphere_scores(self.diameters, self.thickness, self.smallest)
        return np.asarray(weighted / weighted[0].sum())

    def moment(self, power: int) -> float:
        """Mean of the diameters to a power, 0 to 3; NaN without particles."""
        return float(self._scores[power].sum()) if self.n else float("nan")

    @property
    def layer(self) -> float:
        """Depth that centres of seen particles fill: t + d; NaN without thickness or particles."""
        if self.thickness is None or not self.n:
            return float("nan")
        scores = sphere_scores(self.diameters, self.thickness, self.smallest)
        return float(self.weights.sum() / (self.weights @ scores[0]))

    @cached_property
    def mean(self) -> float:
        """Mean diameter."""
        return self.moment(1)

    @cached_property
    def sd(self) -> float:
        """Sample standard deviation (n - 1) of the diameters; NaN below two."""
        if self.n < 2:
            return float("nan")
        variance = self.moment(2) - self.mean**2
        return float(np.sqrt(max(variance, 0.0) * self.n / (self.n - 1)))

    @cached_property
    def mean_relative_sd(self) -> float:
        """Standard error of the mean over the mean; NaN below two."""
        if self.n < 2:
            return float("nan")
        return self._error(self._scores[1] - self.mean * self._scores[0]) / self.mean

    def mean_interval(self) -> Interval:
        """Student's interval on the logarithmic scale; undefined below two particles."""
        if self.n < 2:
            return UNDEFINED
        return log_interval(self.mean, self.mean_relative_sd, self.n - 1, self.level)

    def sd_interval(self) -> Interval:
        """Interval of the standard deviation on the logarithmic scale.

        Its standard error is the larger of the seen one (from the fourth moment) and that of
        lognormal sizes of the same mean and spread: a few particles rarely show the tail that a
        standard deviation hangs on. Undefined for fewer than five particles or if all are equal.
        """
        if self.n < 5 or not self.sd > 0:
            return UNDEFINED
        spread = self.moment(2) - self.mean**2
        one, mean, square, _ = self._scores
        influence = square - 2 * self.mean * mean + (self.mean**2 - spread) * one
        seen = self._error(influence) / (2 * self.sd**2)
        kurtosis = np.polynomial.polynomial.polyval((self.sd / self.mean) ** 2, (3, 16, 15, 6, 1))
        excess = kurtosis - (self.n - 3) / self.n
        modelled = np.sqrt(excess / (4 * (self.n - 1)) * self.n / self.effective_n)
        return log_interval(self.sd, max(seen, float(modelled)), self.n - 1, self.level)

    @cached_property
    def cube_relative_sd(self) -> float:
        """Standard error of the mean cube over it, with the floor of `sd_interval`; NaN below two.

        A lognormal cube has the relative variance ``exp(9 s**2) - 1``, s**2 the variance of the
        logarithm.
        """
        if self.n < 2:
            return float("nan")
        cube = self.moment(3)
        seen = self._error(self._scores[3] - cube * self._scores[0]) / cube
        growth = (1 + (self.sd / self.mean) ** 2) ** 9 - 1
        return max(seen, float(np.sqrt(growth / self.effective_n)))

    @cached_property
    def true_weights(self) -> Array:
        """Weights of the sizes with the caps taken out."""
        if self.thickness is None or not self.n:
            return self.weights
        return unfolded_weights(self.diameters, self.weights, self.thickness)

    def percentile(self, percent: float) -> tuple[float, Interval]:
        """Percentile of the true diameters.

        Parameters
        ----------
        percent : float
            Between 0 and 100.

        Returns
        -------
        value : float
            NaN without particles.
        Interval
            Of order statistics: the exact binomial interval of the share of seen particles that
            are smaller, turned into sizes. Undefined where so few particles cannot bound it: fewer
            than 6 for the median, 36 for the percentiles 10 and 90, at 95 %.

        References
        ----------
        Woodruff, R. S., J. Am. Stat. Assoc. 47, 635 (1952), doi:10.1080/01621459.1952.10483443.
        """
        if not self.n:
            return float("nan"), UNDEFINED
        order = np.argsort(self.diameters, kind="stable")
        size = self.diameters[order]
        value = float(np.interp(percent / 100, _middles(self.true_weights[order]), size))
        tail, n = (1 - self.level) / 2, self.effective_n
        if max(percent, 100 - percent) / 100 > tail ** (1 / n):
            return value, UNDEFINED
        seen = _middles(self.weights[order])
        share = float(np.clip(np.interp(value, size, seen), 0.5 / n, 1 - 0.5 / n))
        below = quantiles.beta(tail, n * share, n * (1 - share) + 1)
        above = quantiles.beta(1 - tail, n * share + 1, n * (1 - share))
        low, high = np.interp([below, above], seen, size)
        return value, Interval(float(low), float(high))

    def _error(self, influence: Array) -> float:
        """Return the standard error from what each particle does to an estimate."""
        return float(np.sqrt(self.n / (self.n - 1) * np.sum(influence**2)))


def _middles(weights: Array) -> Array:
    """Return the share of weight up to the middle of each member, increasing."""
    upto = np.cumsum(weights)
    return np.asarray((upto - weights / 2) / upto[-1])
