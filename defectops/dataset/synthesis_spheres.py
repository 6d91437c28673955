"""Fields of spheres in a foil whose true number and sizes are known, without a picture around them.

Centres lie at random in and around the field and the foil, so that borders and surfaces cut
spheres as they cut the material; in projection they touch and overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
Shape = tuple[int, int]

_REACH = 6.0  # standard deviations beyond which no sphere is drawn


@dataclass(frozen=True)
class Spheres:
    """A population of spheres in a foil; all lengths in pixels.

    Parameters
    ----------
    density : float
        Centres per px^3.
    mean, sd : float
        Of the diameters.
    thickness : float
        Of the foil.
    sizes : {"lognormal", "normal"}
        Distribution of the diameters; a normal one is cut off at a tenth of its mean.
    """

    density: float
    mean: float
    sd: float
    thickness: float
    sizes: Literal["lognormal", "normal"] = "lognormal"

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm of lognormal diameters."""
        return math.sqrt(math.log1p((self.sd / self.mean) ** 2))

    @property
    def median(self) -> float:
        """Median diameter."""
        return self.mean * (math.exp(-(self.sigma**2) / 2) if self.sizes == "lognormal" else 1.0)

    @property
    def largest(self) -> float:
        """No sphere is larger than this."""
        if self.sizes == "lognormal":
            return self.median * math.exp(_REACH * self.sigma)
        return self.mean + _REACH * self.sd

    def moment(self, power: int) -> float:
        """Mean of the diameters to a power of 0 to 4."""
        if self.sizes == "lognormal":
            return self.median**power * math.exp((power * self.sigma) ** 2 / 2)
        m, v = self.mean, self.sd**2
        return (1, m, m**2 + v, m**3 + 3 * m * v, m**4 + 6 * m**2 * v + 3 * v**2)[power]

    @property
    def seen_density(self) -> float:
        """Discs seen per px^2: centres in a layer of thickness t + d."""
        return self.density * (self.thickness + self.mean)

    @property
    def seen_mean(self) -> float:
        """Mean diameter of the discs, caps included."""
        caps = math.pi / 4 * self.moment(2)
        return (self.thickness * self.mean + caps) / (self.thickness + self.mean)

    @property
    def cover(self) -> float:
        """Share of the field that the union of the discs covers."""
        areas = self.thickness * self.moment(2) + 2 / 3 * self.moment(3)
        return -math.expm1(-self.density * math.pi / 4 * areas)


@dataclass(frozen=True, eq=False)
class Discs:
    """What a field shows of spheres.

    Parameters
    ----------
    rows, columns : ndarray of float64, shape (N,)
        Centres in pixels; the first pixel reaches from 0 to 1.
    diameters : ndarray of float64, shape (N,)
        As seen: of the sphere if its centre lies in the foil, else of a cap.
    """

    rows: Array
    columns: Array
    diameters: Array


def seen_discs(
    rng: np.random.Generator, shape: Shape, spheres: Spheres, min_area_px: float = 12
) -> Discs:
    """Draw spheres and return the discs that reach into the field.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int)
        Of the field in pixels.
    spheres : Spheres
    min_area_px : float
        Discs smaller than this are not seen.

    Returns
    -------
    Discs
        Uppermost last. Their number is Poisson distributed; there may be none.
    """
    margin = spheres.largest / 2
    low = np.array([-margin, -margin, -margin])
    size = np.array([*shape, spheres.thickness]) + 2 * margin
    count = rng.poisson(spheres.density * float(np.prod(size)))
    centres = low + size * rng.random((count, 3))
    diameters = _diameters(rng, count, spheres)
    depth = centres[:, 2]
    outside = np.maximum(np.maximum(-depth, depth - spheres.thickness), 0.0)
    seen = 2 * np.sqrt(np.maximum(diameters**2 / 4 - outside**2, 0.0))
    near = np.abs(centres[:, :2] - np.array(shape) / 2) < (np.array(shape) + seen[:, None]) / 2
    there = near.all(axis=1) & (seen > 0) & (math.pi / 4 * seen**2 >= min_area_px)
    order = np.flatnonzero(there)[np.argsort(-depth[there], kind="stable")]
    return Discs(centres[order, 0], centres[order, 1], seen[order])


def disc_labels(discs: Discs, shape: Shape) -> npt.NDArray[np.int32]:
    """Mark the pixels whose centre lies in a disc.

    Returns
    -------
    ndarray of int32, shape (H, W)
        0, or 1 + index of the disc; where discs overlap the last one.
    """
    out = np.zeros(shape, dtype=np.int32)
    for i, (row, column, d) in enumerate(
        zip(discs.rows, discs.columns, discs.diameters, strict=True), 1
    ):
        top, left = (max(math.floor(c - d / 2), 0) for c in (row, column))
        window = out[top : math.ceil(row + d / 2), left : math.ceil(column + d / 2)]
        down = (np.arange(window.shape[0]) + top + 0.5 - row)[:, None]
        right = np.arange(window.shape[1]) + left + 0.5 - column
        window[down**2 + right**2 <= d**2 / 4] = i
    return out


def disc_table(discs: Discs, shape: Shape) -> pd.DataFrame:
    """Return discs as the table that ideal instance labels would give, without drawing them.

    Parameters
    ----------
    discs : Discs
    shape : (int, int)
        Of the field in pixels.

    Returns
    -------
    DataFrame
        Columns of `measurement.particles.particle_table` in px, areas and diameters exact. A disc
        that hides behind another is there all the same, and one that is cut keeps its full size:
        its box touches the border, so that no rule that needs whole particles takes it.
    """
    d = discs.diameters
    box = {}
    for (first, last), centre, length in (
        (("top", "bottom"), discs.rows, shape[0]),
        (("left", "right"), discs.columns, shape[1]),
    ):
        box[f"{first}_px"] = np.clip(np.ceil(centre - d / 2 - 0.5), 0, length).astype(np.int64)
        box[f"{last}_px"] = np.clip(np.floor(centre + d / 2 + 0.5), 0, length).astype(np.int64)
    table = pd.DataFrame(box)
    table = table.assign(
        label=np.arange(1, d.size + 1),
        centroid_row_px=discs.rows - 0.5,
        centroid_column_px=discs.columns - 0.5,
        area_px2=np.pi / 4 * d**2,
        equivalent_diameter_px=d,
        perimeter_px=np.pi * d,
        circularity=1.0,
        feret_max_px=d,
        feret_min_px=d,
        touches_border=(table["top_px"] == 0)
        | (table["left_px"] == 0)
        | (table["bottom_px"] == shape[0])
        | (table["right_px"] == shape[1]),
    )
    drawn = (table["bottom_px"] > table["top_px"]) & (table["right_px"] > table["left_px"])
    return table[drawn].reset_index(drop=True)


def _diameters(rng: np.random.Generator, count: int, spheres: Spheres) -> Array:
    chance = np.clip(rng.standard_normal(count), -_REACH, _REACH)
    if spheres.sizes == "lognormal":
        return np.asarray(spheres.median * np.exp(spheres.sigma * chance))
    return np.asarray(np.maximum(spheres.mean + spheres.sd * chance, 0.1 * spheres.mean))
