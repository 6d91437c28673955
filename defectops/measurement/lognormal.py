"""Lognormal distribution of particle sizes seen through a foil: fit, intervals, goodness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from defectops.measurement import quantiles
from defectops.measurement.uncertainty import UNDEFINED, Interval

if TYPE_CHECKING:
    from defectops.measurement.sizes import Sizes

Array = npt.NDArray[Any]

_FEWEST = 5
_CLASSES = 256
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
_STEP = 1e-3
_ROUNDS = 20


@dataclass(frozen=True)
class LognormalFit:
    """Lognormal sizes: ``ln d`` is normal with mean ``ln(median)`` and deviation ``sigma``.

    Parameters
    ----------
    median : float
        ``exp(mu)``, in the unit of the sizes.
    sigma : float
    median_interval, sigma_interval : Interval
    p_value : float
        Of the test that the sizes are lognormal (Anderson and Darling, both parameters estimated):
        how often lognormal sizes fit worse. Below 0.05 do not use the fit.
    """

    median: float
    sigma: float
    median_interval: Interval
    sigma_interval: Interval
    p_value: float


_NO_FIT = LognormalFit(math.nan, math.nan, UNDEFINED, UNDEFINED, math.nan)


def fit_lognormal(sizes: Sizes) -> LognormalFit:
    """Fit by maximum likelihood to what the foil shows, caps included.

    The density of seen sizes s for a true density f of diameters with mean m is
    ``(t f(s) + s * integral over d > s of f(d) / sqrt(d**2 - s**2)) / (t + m)``.

    Parameters
    ----------
    sizes : Sizes

    Returns
    -------
    LognormalFit
        All NaN for fewer than five particles or if all are equal.

    References
    ----------
    Anderson, T. W. and Darling, D. A., J. Am. Stat. Assoc. 49, 765 (1954),
    doi:10.1080/01621459.1954.10501232; probabilities for estimated parameters: Stephens, M. A., in
    D'Agostino and Stephens (eds.), *Goodness-of-Fit Techniques*, 1986, table 4.9 (no DOI).
    """
    if sizes.n < _FEWEST or np.ptp(sizes.diameters) <= 1e-9 * sizes.diameters.max():
        return _NO_FIT
    log_size, share = _classes(sizes)
    n = sizes.effective_n
    place, curvature = _maximum(log_size, share, sizes.thickness)
    covariance = np.linalg.inv(curvature * n)
    mu, sigma = float(place[0]), math.exp(float(place[1])) * math.sqrt(n / (n - 1))
    error = math.sqrt(covariance[0, 0] * n / (n - 1))
    half = quantiles.student((1 + sizes.level) / 2, n - 1) * error
    # For normal logarithms alone the curvature gives 1/(2 n), hence n - 1 degrees of freedom.
    freedom = 1 / (2 * covariance[1, 1]) - 1
    tail = (1 - sizes.level) / 2
    ends = np.sqrt(freedom / quantiles.chi_square(np.array([1 - tail, tail]), freedom)) * sigma
    below = _shown_share(log_size, place, sizes.thickness)
    return LognormalFit(
        math.exp(mu),
        sigma,
        Interval(math.exp(mu - half), math.exp(mu + half)),
        Interval(float(ends[0]), float(ends[1])),
        _anderson_darling(below, share, n),
    )


def _classes(sizes: Sizes) -> tuple[Array, Array]:
    """Logarithms of the sizes, increasing, and their shares; many in classes of equal number."""
    order = np.argsort(sizes.diameters, kind="stable")
    log_size, weight = np.log(sizes.diameters[order]), sizes.weights[order]
    number = np.arange(sizes.n) * min(_CLASSES, sizes.n) // sizes.n
    mass = np.bincount(number, weights=weight)
    return np.bincount(number, weights=weight * log_size) / mass, mass / mass.sum()


def _log_density(log_size: Array, places: Array, thickness: float | None) -> Array:
    """Logarithm of the density of seen sizes under each of several (mu, ln sigma), shape (P, N).

    Up to a constant of the data.
    """
    mu, sigma = places[:, :1], np.exp(places[:, 1:])
    whole = _normal(log_size, mu, sigma)
    if thickness is None:
        return np.asarray(np.log(np.maximum(whole, 1e-300)))
    # With d = s cosh u the singular integral becomes that of f(s cosh u) over u, times s.
    reach = np.arccosh(np.maximum(np.exp(mu + 6 * sigma - log_size), 1 + 1e-12))
    wider = np.cosh((_NODES + 1) / 2 * reach[..., None])
    inner = log_size[:, None] + np.log(wider)
    caps = _normal(inner, mu[..., None], sigma[..., None]) / wider @ _NODE_WEIGHTS * reach / 2
    mean = np.exp(mu + sigma**2 / 2)
    shown = (thickness * whole + np.exp(log_size) * caps) / (thickness + mean)
    return np.asarray(np.log(np.maximum(shown, 1e-300)))


def _normal(x: Array, mu: Array, sigma: Array) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)))


def _maximum(log_size: Array, share: Array, thickness: float | None) -> tuple[Array, Array]:
    """Return (mu, ln sigma) of the greatest likelihood and minus the curvature there."""
    mu = float(share @ log_size)
    place = np.array([mu, 0.5 * math.log(float(share @ (log_size - mu) ** 2))])
    best, slope, curvature = _expansion(log_size, share, thickness, place)
    for _ in range(_ROUNDS):
        step = np.linalg.solve(curvature, slope)
        step *= min(1.0, 0.5 / (float(np.abs(step).max()) + 1e-12))
        tried = _expansion(log_size, share, thickness, place + step)
        while tried[0] < best and np.abs(step).max() > _STEP:
            step /= 2
            tried = _expansion(log_size, share, thickness, place + step)
        if tried[0] < best:
            break
        place, (best, slope, curvature) = place + step, tried
        if np.abs(step).max() < _STEP:
            break
    return place, curvature


def _expansion(
    log_size: Array, share: Array, thickness: float | None, place: Array
) -> tuple[float, Array, Array]:
    """Mean log-likelihood, its slope and minus its curvature (made positive), by differences."""
    steps = _STEP * np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [1, 1]])
    here, *up, left, down, both = _log_density(log_size, place + steps, thickness) @ share
    lower = np.array([left, down])
    slope = (np.array(up) - lower) / (2 * _STEP)
    second = 2 * here - np.array(up) - lower
    mixed = up[0] + up[1] - both - here
    curvature = np.array([[second[0], mixed], [mixed, second[1]]]) / _STEP**2
    values, axes = np.linalg.eigh(curvature)
    return float(here), slope, np.asarray((axes * np.maximum(values, 1e-3)) @ axes.T)


def _shown_share(log_size: Array, place: Array, thickness: float | None) -> Array:
    """Share of seen particles below each size, under the fitted distribution."""
    mu, sigma = float(place[0]), math.exp(float(place[1]))
    whole = special.ndtr((log_size - mu) / sigma)
    if thickness is None:
        return np.asarray(whole)
    mean = math.exp(mu + sigma**2 / 2)
    # Larger ones: t P(d > s) + the mean of sqrt(d^2 - s^2) over d > s.
    nodes = (_NODES + 1) / 2
    top = mu + 7 * sigma
    low = np.minimum(log_size, top)
    x = low[:, None] + (top - low)[:, None] * nodes**2
    way = np.sqrt(np.maximum(np.exp(2 * x) - np.exp(2 * low)[:, None], 0.0))
    density = (
        np.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) * way * 2 * nodes
    )
    caps = density @ _NODE_WEIGHTS / 2 * (top - low)
    return np.asarray(1 - (thickness * (1 - whole) + caps) / (thickness + mean))


def _anderson_darling(below: Array, share: Array, n: float) -> float:
    """Return the probability of a worse fit, both parameters estimated."""
    u = np.clip(below, 1e-12, 1 - 1e-12)
    step = np.concatenate([[0.0], np.cumsum(share)])
    ends = np.concatenate([[0.0], u, [1.0]])
    step[-1] = 1.0

    # The integral of (F - u)^2 / (u (1 - u)) between steps of the empirical F.
    def part(f: Array, at: Array) -> Array:
        return np.asarray(special.xlogy(f**2, at) - special.xlog1py((1 - f) ** 2, -at) - at)

    square = float(np.sum(part(step, ends[1:]) - part(step, ends[:-1]))) * n
    a = square * (1 + 0.75 / n + 2.25 / n**2)
    if a < 0.2:
        return 1 - math.exp(-13.436 + 101.14 * a - 223.73 * a**2)
    if a < 0.34:
        return 1 - math.exp(-8.318 + 42.796 * a - 59.938 * a**2)
    if a < 0.6:
        return math.exp(0.9177 - 4.279 * a - 1.38 * a**2)
    return math.exp(1.2937 - 5.709 * a + 0.0186 * a**2) if a < 13 else 0.0
