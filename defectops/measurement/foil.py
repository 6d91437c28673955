"""What a foil of finite thickness shows of the spheres in it, and how to see through it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

POWERS = 4  # scores for the powers 0 to 3 of the diameter
_CLOSURE = 8  # the power at which the chain of scores ends
_CLASSES = 512  # sizes that are told apart when a distribution is unfolded


def cap_moment(power: int) -> float:
    """Mean of the power of a cap's diameter over that of its sphere, centres evenly outside.

    ``c_k``, the integral of ``(1 - u**2)**(k/2)`` over u from 0 to 1, for k above -2: pi/2 for -1,
    then 1, pi/4, 2/3, 3 pi/16 ...
    """
    return math.sqrt(math.pi) / 2 * math.gamma(power / 2 + 1) / math.gamma(power / 2 + 1.5)


def sphere_scores(diameters: Array, thickness: float | None, smallest: float = 0.0) -> Array:
    """Return what each seen particle adds to the moments of the true diameters.

    A sphere of diameter d is seen if its centre lies in a layer of thickness t + d: inside the
    foil it shows d, outside (weight d) a cap. With ``M_k`` the number per volume times the mean of
    ``d**k``, and ``S_k`` the sum of ``s**k`` of the seen diameters s per area::

        S_k = t M_k + c_k M_(k+1)

    Solved for ``M_k`` from a high k down, each seen particle contributes on its own::

        phi_k(s) = (s**k - c_k phi_(k+1)(s)) / t

    and ``M_k`` is the sum of ``phi_k`` per area, whatever the distribution of sizes is.

    Parameters
    ----------
    diameters : ndarray of float, shape (N,)
        Equivalent circle diameters as seen.
    thickness : float or None
        Of the foil, in the unit of `diameters`. None: nothing is corrected, ``phi_k = s**k``.
    smallest : float
        Smaller caps were not seen; what they would add, ``smallest**(k + 2) / ((k + 2) d)`` a
        sphere, is put back. 0 if all were seen.

    Returns
    -------
    ndarray of float64, shape (4, N)
        ``phi_0`` to ``phi_3``; with a thickness, in powers of length k - 1. Sums of ratios such as
        ``sum(phi_1) / sum(phi_0)`` are the mean diameter.

    Notes
    -----
    Not for particles wider than the foil, for foils whose surfaces are etched, or where caps are
    too faint to be seen: then choose the foil rule ``t``, and no correction is made.

    References
    ----------
    The relation of seen to true sizes is that of Goldsmith, P. L., Brit. J. Appl. Phys. 18, 813
    (1967), doi:10.1088/0508-3443/18/6/317; derived in the documentation.
    """
    seen = np.asarray(diameters, dtype=np.float64)
    if thickness is None:
        return np.asarray(seen ** np.arange(POWERS)[:, None])
    # phi_(-1), for the caps below the smallest: they would add smallest**(k + 2) / ((k + 2) d).
    inverse = 1 / (seen * (thickness + cap_moment(-1) * seen))
    score = seen**_CLOSURE / (thickness + cap_moment(_CLOSURE) * seen)
    found = []
    for power in range(_CLOSURE - 1, -1, -1):
        lost = smallest ** (power + 2) / (power + 2) * inverse
        score = (seen**power + lost - cap_moment(power) * score) / thickness
        found.append(score)
    return np.array(found[: -POWERS - 1 : -1])


def unfolded_weights(diameters: Array, weights: Array, thickness: float) -> Array:
    """Weights that turn the seen sizes into the distribution of the true ones.

    With ``W(s)`` the seen number from size s upward and ``P(s)`` the true one in the foil::

        W(s) = P(s) + sum over d > s of p(d) sqrt(d**2 - s**2) / t

    which is solved from the largest size downward.

    Parameters
    ----------
    diameters, weights : ndarray of float, shape (N,)
        Seen diameters and what each counts.
    thickness : float
        Of the foil, above the diameters.

    Returns
    -------
    ndarray of float64, shape (N,)
        Not negative; they sum to the number of centres in the foil. More than 512 sizes are
        unfolded in 512 classes of equal number.

    References
    ----------
    Goldsmith 1967, see `sphere_scores`.
    """
    order = np.argsort(-diameters, kind="stable")
    size, mass = diameters[order], weights[order]
    classes = np.arange(size.size) * min(_CLASSES, size.size) // max(size.size, 1)
    whole = np.bincount(classes, weights=mass)
    middle = np.bincount(classes, weights=size) / np.bincount(classes)
    true, above, seen = np.zeros(whole.size), 0.0, np.cumsum(whole)
    for k in range(whole.size):
        caps = float(true[:k] @ np.sqrt(np.maximum(middle[:k] ** 2 - middle[k] ** 2, 0.0)))
        # Chance can show fewer than the larger ones alone must leave as caps; none is then true.
        true[k] = max(seen[k] - caps / thickness - above, 0.0)
        above += true[k]
    out = np.empty(size.size)
    out[order] = mass * (true / np.where(whole > 0, whole, 1.0))[classes]
    return out
