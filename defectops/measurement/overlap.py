"""How many particles a mask holds whose particles hide each other in projection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def union_density(mask: Array, valid: Array | None = None) -> float:
    """Return the number of particles per pixel area of a union of overlapping discs.

    For convex particles at random places (a Boolean model) the union has area fraction p,
    outline length L and Euler number chi (pieces less holes) per area with::

        n = chi / (1 - p) + (L / (1 - p))**2 / (4 pi)

    where the second term puts back what merged. It needs no separation of touching particles.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
    valid : ndarray of bool, shape (H, W), optional
        Where pixels count.

    Returns
    -------
    float
        0 for an empty mask; NaN for a full one, or if no 2 x 2 pixels count. No border rule is
        needed: pieces are counted by their local shape.

    Notes
    -----
    Not for particles that avoid each other or cluster, for ragged masks (each speck and hole
    counts in chi), and not above about 40 % cover. Elongated particles count as their outline
    asks: the formula is exact for convex ones whose directions are at random.

    References
    ----------
    Miles, R. E., Suppl. Adv. Appl. Prob. 4, 243 (1972), doi:10.2307/1425991; Ohser, J. and
    Mücklich, F., *Statistical Analysis of Microstructures in Materials Science*, 2000 (no DOI).
    """
    plane = np.asarray(mask, dtype=bool)
    counts = np.ones(plane.shape, dtype=bool) if valid is None else valid
    corner = [np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, :-1], np.s_[1:, 1:]]
    whole = counts[corner[0]] & counts[corner[1]] & counts[corner[2]] & counts[corner[3]]
    windows = int(whole.sum())
    share = float(plane[counts].mean()) if windows else 1.0
    if share == 1:
        return math.nan
    code = sum(plane[c].astype(np.uint8) << bit for bit, c in enumerate(corner))
    found = np.bincount(np.asarray(code)[whole], minlength=16) / windows
    return _density(found, share)


def _density(found: Array, share: float) -> float:
    """Return the density from how often each of the 16 pictures of 2 x 2 pixels is found.

    Bits 0 to 3: upper left, upper right, lower left, lower right.
    """
    set_bits = np.array([bin(code).count("1") for code in range(16)])
    # Euler number, mean of 4- and 8-connected: pixels that touch at a corner count as half.
    euler = (found[set_bits == 1].sum() - found[set_bits == 3].sum()) / 4
    code = np.arange(16)
    bit = [(code >> i) & 1 for i in range(4)]
    # Crossings of the outline with lines in four directions, per length of line (Crofton).
    straight = (bit[0] != bit[1]).astype(float), (bit[0] != bit[2]).astype(float)
    slanted = (bit[0] != bit[3]) / math.sqrt(2), (bit[1] != bit[2]) / math.sqrt(2)
    outline = math.pi / 8 * sum(float(found @ d) for d in (*straight, *slanted))
    return float(euler / (1 - share) + (outline / (1 - share)) ** 2 / (4 * math.pi))
