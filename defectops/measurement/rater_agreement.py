"""How well raters agree: intraclass correlation, and Bland and Altman's limits of agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.errors import LabelRefused
from defectops.measurement import quantiles
from defectops.measurement.uncertainty import LEVEL, UNDEFINED, Interval

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class IntraclassCorrelation:
    """ICC(2,1) with its interval.

    Parameters
    ----------
    value : float
        1 for raters who agree, 0 (or below) for images that cannot be told apart by them; NaN
        where undefined.
    interval : Interval
        NaN for a value of 0 or below.
    n_images, n_raters : int
        Complete rows and columns behind it.
    """

    value: float
    interval: Interval
    n_images: int
    n_raters: int


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Where 95 % of the differences of one rater from a reference lie.

    Parameters
    ----------
    n : int
        Differences.
    bias, sd : float
        Their mean and sample standard deviation; NaN without any, the latter below two.
    bias_interval : Interval
    lower, upper : float
        ``bias -+ z sd``.
    lower_interval, upper_interval : Interval
        Of the two limits.
    """

    n: int
    bias: float
    sd: float
    bias_interval: Interval
    lower: float
    upper: float
    lower_interval: Interval
    upper_interval: Interval


def intraclass_correlation(ratings: Array, level: float = LEVEL) -> IntraclassCorrelation:
    """Return ICC(2,1): absolute agreement of single measurements, raters and images random.

    With mean squares of rows (images, MSR), columns (raters, MSC) and residual (MSE), n images and
    k raters::

        ICC(2,1) = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)

    Parameters
    ----------
    ratings : ndarray of float, shape (n, k)
        Every rater on every image; no gaps.
    level : float
        Coverage of the interval.

    Returns
    -------
    IntraclassCorrelation
        NaN for fewer than two images or two raters, or if nothing differs at all.

    Raises
    ------
    LabelRefused
        Not a table, or with gaps.

    Notes
    -----
    It is a share of variance: the same raters look better on images that differ more. With two
    images, as in the paper, the interval is nearly everything. Read the limits of agreement beside.

    References
    ----------
    Shrout, P. E. and Fleiss, J. L., Psychol. Bull. 86, 420 (1979),
    doi:10.1037/0033-2909.86.2.420 (the form); McGraw, K. O. and Wong, S. P., Psychol. Methods 1,
    30 (1996), doi:10.1037/1082-989X.1.1.30 (the interval).
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise LabelRefused(
            "ratings", "E_PANEL", f"needs every rater on every image, got shape {table.shape}"
        )
    n, k = table.shape
    undefined = IntraclassCorrelation(float("nan"), UNDEFINED, n, k)
    if n < 2 or k < 2:
        return undefined
    msr, msc, mse = _mean_squares(table)
    whole = msr + (k - 1) * mse + k * (msc - mse) / n
    if not msr + msc + mse > 0 or whole == 0:
        return undefined
    icc = float((msr - mse) / whole)
    return IntraclassCorrelation(icc, _icc_interval((msr, msc, mse), icc, (n, k), level), n, k)


def limits_of_agreement(differences: Array, level: float = LEVEL) -> LimitsOfAgreement:
    """Summarise differences between two ways of measuring the same things.

    Parameters
    ----------
    differences : ndarray of float, shape (N,)
        One measurement minus the other, for example from `percent_differences`.
    level : float
        Share of differences between the limits, and coverage of the intervals.

    Returns
    -------
    LimitsOfAgreement
        NaN where there is too little: no bias without a difference, no limits below two.

    Notes
    -----
    Supposes differences of one normal distribution that do not grow with the size: take percent
    differences for densities. The interval of a limit is Bland and Altman's approximation, with
    ``sd sqrt(1/N + z**2 / (2 (N - 1)))`` as standard error.

    References
    ----------
    Bland, J. M. and Altman, D. G., Lancet 327, 307 (1986), doi:10.1016/S0140-6736(86)90837-8;
    Stat. Methods Med. Res. 8, 135 (1999), doi:10.1177/096228029900800204.
    """
    given = np.asarray(differences, dtype=np.float64)
    n = given.size
    bias = float(given.mean()) if n else float("nan")
    if n < 2:
        nan = float("nan")
        return LimitsOfAgreement(n, bias, nan, UNDEFINED, nan, nan, UNDEFINED, UNDEFINED)
    sd = float(given.std(ddof=1))
    z = quantiles.normal((1 + level) / 2)
    t = quantiles.student((1 + level) / 2, n - 1)
    of_limit = t * sd * float(np.sqrt(1 / n + z**2 / (2 * (n - 1))))
    lower, upper = bias - z * sd, bias + z * sd
    return LimitsOfAgreement(
        n=n,
        bias=bias,
        sd=sd,
        bias_interval=_around(bias, t * sd / float(np.sqrt(n))),
        lower=lower,
        upper=upper,
        lower_interval=_around(lower, of_limit),
        upper_interval=_around(upper, of_limit),
    )


def percent_differences(values: Array, reference: Array) -> Array:
    """Return ``100 (value - reference) / mean of both``, NaN where both are zero.

    Dividing by the mean of both, not by the reference, keeps Bland and Altman's symmetry: twice
    and half are equally far, +67 and -67 %.
    """
    given, against = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(100 * (given - against) / ((given + against) / 2))


def _mean_squares(table: Array) -> tuple[float, float, float]:
    n, k = table.shape
    grand = table.mean()
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    residual = table - rows[:, None] - columns[None, :] + grand
    return (
        float(k * ((rows - grand) ** 2).sum() / (n - 1)),
        float(n * ((columns - grand) ** 2).sum() / (k - 1)),
        float((residual**2).sum() / ((n - 1) * (k - 1))),
    )


def _icc_interval(
    squares: tuple[float, float, float], icc: float, shape: tuple[int, int], level: float
) -> Interval:
    msr, msc, mse = squares
    n, k = shape
    if icc == 1:
        return Interval(icc, icc)
    if icc <= 0:  # the approximation of the degrees of freedom breaks down there
        return UNDEFINED
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * msc + b * mse) ** 2 / (
        (a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1))
    )
    upper_tail = (1 + level) / 2
    f_low = quantiles.fisher(upper_tail, n - 1, freedom)
    f_high = quantiles.fisher(upper_tail, freedom, n - 1)
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - f_low * mse) / (f_low * rest + n * msr)
    high = n * (f_high * msr - mse) / (rest + n * f_high * msr)
    return Interval(float(low), float(high))


def _around(centre: float, half: float) -> Interval:
    return Interval(centre - half, centre + half)
