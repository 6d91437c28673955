"""Quantiles of the distributions that intervals need, without the weight of SciPy's statistics.

Importing `scipy.stats` takes longer than most commands work; what its distributions call for a
quantile is in `scipy.special`, and the numbers are the same to the last bit. Every function works
elementwise and is NaN without degrees of freedom.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Numbers: TypeAlias = float | NDArray[np.float64]


def normal(share: float) -> float:
    """Return below which value so large a share of the standard normal distribution lies."""
    return float(special.ndtri(share))


def student(share: float, freedom: float) -> float:
    """Return below which value so large a share of Student's t distribution lies."""
    return float(special.stdtrit(freedom, share))


def chi_square(share: Numbers, freedom: float) -> NDArray[np.float64]:
    """Return below which values so large shares of the chi-square distribution lie."""
    return np.asarray(2 * special.gammaincinv(freedom / 2, share))


def fisher(share: float, numerator: float, denominator: float) -> float:
    """Return below which value so large a share of the F distribution lies."""
    return float(special.fdtri(numerator, denominator, share))


def beta(share: float, a: float, b: float) -> float:
    """Return below which value so large a share of the beta distribution lies."""
    return float(special.betaincinv(a, b, share))
