"""Distances between neighbouring particles of one field, without the bias of its border."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from defectops.measurement.uncertainty import UNDEFINED, Interval, log_interval

Array = npt.NDArray[Any]

# Variance of the mean nearest distance of n points at random over that of n independent ones:
# pairs that are each other's nearest count twice (Donnelly 1978: 0.0703 against 0.0683).
_RECIPROCAL = 0.0703 / ((4 - math.pi) / (4 * math.pi))
_AT_RANDOM = (4 - math.pi) / math.pi  # relative variance of one nearest distance at random


def nearest_distances(centres: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Distance of each particle to its nearest neighbour, and what that distance counts.

    Parameters
    ----------
    centres : ndarray of float, shape (N, 2)
        Rows and columns in px.
    shape : (int, int)
        Of the field.

    Returns
    -------
    distance : ndarray of float64, shape (N,)
        In px; infinite for a particle alone.
    weight : ndarray of float64, shape (N,)
        0 if the border is nearer than the neighbour, since a nearer one may lie beyond; else the
        field's area over the area whose points are that far from the border (Hanisch). Weighted
        distances are free of the border's bias.

    References
    ----------
    Hanisch, K.-H., Math. Operationsforsch. Stat., Ser. Statist. 15, 409 (1984),
    doi:10.1080/02331888408801788.
    """
    if len(centres) < 2:
        return np.full(len(centres), np.inf), np.zeros(len(centres))
    distance = cKDTree(centres).query(centres, k=2)[0][:, 1]
    size = np.asarray(shape, dtype=np.float64)
    border = np.minimum(centres + 0.5, size - 0.5 - centres).min(axis=1)
    inner = np.prod(np.maximum(size - 2 * distance[:, None], 0.0), axis=1)
    inside = (distance < border) & (inner > 0)
    return distance, np.where(inside, size.prod() / np.where(inside, inner, 1.0), 0.0)


@dataclass(frozen=True)
class Neighbours:
    """How far apart particles are in projection.

    Parameters
    ----------
    distance : float
        Mean distance to the nearest neighbour; NaN below two particles that count.
    distance_interval : Interval
    ratio : float
        Over the mean of particles at random with the same density, ``1 / (2 sqrt(density))``
        (Clark and Evans): 1 at random, below 1 clustered, up to 2.149 for a hexagonal lattice.
    ratio_interval : Interval
    n : int
        Particles whose neighbour is known.
    """

    distance: float
    distance_interval: Interval
    ratio: float
    ratio_interval: Interval
    n: int


def neighbour_statistics(
    distances: Array, weights: Array, density: float, count: int, level: float
) -> Neighbours:
    """Mean nearest distance and Clark and Evans' ratio.

    Parameters
    ----------
    distances, weights : ndarray of float, shape (N,)
        From `nearest_distances`, in a unit of length.
    density : float
        Particles an area, in that unit to the power -2.
    count : int
        Particles behind the density.
    level : float

    Returns
    -------
    Neighbours
        The interval of the distance takes distances to scatter at least as points at random do.

    Notes
    -----
    In projection particles at different depths are neighbours too: a ratio of 1 says that they lie
    at random in the foil; order within a layer thinner than the foil is not seen. Particles cannot
    overlap in a label image, which pushes the ratio of dense fields above 1.

    References
    ----------
    Clark, P. J. and Evans, F. C., Ecology 35, 445 (1954), doi:10.2307/1931034; Donnelly, K., in
    Hodder (ed.), *Simulation Methods in Archaeology*, 1978 (no DOI).
    """
    used = weights > 0
    n = int(used.sum())
    if n < 2:
        return Neighbours(math.nan, UNDEFINED, math.nan, UNDEFINED, n)
    d, w = distances[used], weights[used]
    share = w / w.sum()
    mean = float(share @ d)
    effective = float(w.sum() ** 2 / (w**2).sum())
    seen = n / (n - 1) * float(np.sum((share * (d - mean)) ** 2)) / mean**2
    spread = _RECIPROCAL * max(seen, _AT_RANDOM / effective)
    # The mean goes with the square root of the density, itself known from a Poisson count; in the
    # ratio that cancels only for the particles that are in both.
    unknown = 0.25 / max(count, 1)
    uncommon = max(0.25 / effective - unknown, 0.0)
    ratio = mean * 2 * math.sqrt(density)
    ratio_sd = math.sqrt(_RECIPROCAL * seen + uncommon)
    return Neighbours(
        mean,
        log_interval(mean, math.sqrt(spread + unknown), n - 1, level),
        ratio,
        log_interval(ratio, ratio_sd, n - 1, level) if density > 0 else UNDEFINED,
        n,
    )
