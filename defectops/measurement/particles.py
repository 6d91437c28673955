"""Size and shape of each particle, and which particles a field of view may count."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from defectops.errors import SettingsRefused

Array = npt.NDArray[Any]
Border = Literal["gundersen", "weighted", "guard", "exclude", "all"]
Foil = Literal["t+d", "t"]

_FERET_ANGLES = 36


def particle_table(instances: Array, spacing: float, length_unit: str) -> pd.DataFrame:
    """Measure each particle.

    Parameters
    ----------
    instances : ndarray of int, shape (H, W)
        0 outside, one number a particle, in any order and with gaps.
    spacing : float
        Length of one pixel in `length_unit`.
    length_unit : {"nm", "px"}
        Ends the names of columns.

    Returns
    -------
    DataFrame
        One row a particle in the order of its numbers; no rows for an empty plane:

        ``label``
            Its number.
        ``centroid_row_px, centroid_column_px``
            Mean of its pixel centres.
        ``top_px, bottom_px, left_px, right_px``
            Bounding box, half-open.
        ``area_<unit>2``
            Pixels times spacing squared.
        ``equivalent_diameter_<unit>``
            Of the circle of the same area, ``sqrt(4 area / pi)``.
        ``perimeter_<unit>``
            Crofton's formula over four directions: exact for discs, up to 6 % short for bars.
        ``circularity``
            ``4 pi area / perimeter**2``, at most 1; meaningless below about 30 pixels.
        ``feret_max_<unit>, feret_min_<unit>``
            Largest and smallest distance of parallel tangents over 36 directions, from middles of
            pixel edges: exact along rows, columns and diagonals; on discs the largest reads about
            0.3 px long, the smallest 0.3 px short.
        ``touches_border``
            Whether it has a pixel on the picture's border, so that it may be cut.

    References
    ----------
    Legland, D., Kiêu, K. and Devaux, M.-F., Image Anal. Stereol. 26, 83 (2007),
    doi:10.5566/ias.v26.p83-92 (perimeter).
    """
    rows, columns = np.nonzero(instances)
    names, index = np.unique(instances[rows, columns], return_inverse=True)
    n = names.size
    area = np.bincount(index, minlength=n)
    numbered = np.zeros(instances.shape, dtype=np.int32)
    numbered[rows, columns] = index + 1
    box = _boxes(numbered, n)
    perimeter = _perimeter(numbered, n)
    feret = _feret(numbered, n)
    circularity = np.minimum(4 * np.pi * area / np.maximum(perimeter, 1e-9) ** 2, 1.0)
    return pd.DataFrame(
        {
            "label": names,
            "centroid_row_px": np.bincount(index, weights=rows, minlength=n) / area,
            "centroid_column_px": np.bincount(index, weights=columns, minlength=n) / area,
            "top_px": box[:, 0],
            "bottom_px": box[:, 1],
            "left_px": box[:, 2],
            "right_px": box[:, 3],
            f"area_{length_unit}2": area * spacing**2,
            f"equivalent_diameter_{length_unit}": np.sqrt(4 * area / np.pi) * spacing,
            f"perimeter_{length_unit}": perimeter * spacing,
            "circularity": circularity,
            f"feret_max_{length_unit}": feret[0] * spacing,
            f"feret_min_{length_unit}": feret[1] * spacing,
            "touches_border": _touches(box, instances.shape),
        }
    )


def box_table(instances: Array) -> pd.DataFrame:
    """Return of `particle_table` what `border_weights` needs: boxes and ``touches_border``.

    Particles must be numbered from 1 without gaps.
    """
    box = _boxes(instances, int(instances.max(initial=0)))
    table = pd.DataFrame(box, columns=["top_px", "bottom_px", "left_px", "right_px"])
    return table.assign(touches_border=_touches(box, instances.shape))


def border_weights(
    table: pd.DataFrame, shape: tuple[int, int], border: Border, guard_px: int = 0
) -> tuple[Array, Array]:
    """Return what each particle counts, in number and in size.

    Parameters
    ----------
    table : DataFrame
        From `particle_table`.
    shape : (int, int)
        Rows and columns of the picture.
    border : {"gundersen", "weighted", "guard", "exclude", "all"}
        ``gundersen``
            Two-edge frame: particles on the top or left edge are not counted, those on the bottom
            or right edge are; the frame begins with the second row and column. Unbiased in number.
            Sizes from whole particles, weighted as in ``weighted``.
        ``weighted``
            Only whole particles, each weighted by the frame area over the area in which its
            bounding box fits (Miles and Lantuéjoul). Unbiased in number and size; noisier.
        ``guard``
            Particles whose bounding box has its middle in an inner frame, `guard_px` from the
            edges. Unbiased in number and size if no particle is longer than twice that; what lies
            in the margin is not used.
        ``exclude``
            Only whole particles, each counts 1: reads low, and large particles are missing.
        ``all``
            Everything counts 1, cut or not (the paper's way): reads high by
            ``2 d/L + (pi/4) d**2/L**2`` on a square field of side L.
    guard_px : int
        Width of the margin of the rule ``guard``.

    Returns
    -------
    number, size : ndarray of float64, shape (len(table),)
        Divide summed `number` by the area of `frame_mask` for a density; weigh sizes with `size`.

    Raises
    ------
    SettingsRefused
        Unknown rule.

    References
    ----------
    Gundersen, H. J. G., J. Microsc. 111, 219 (1977), doi:10.1111/j.1365-2818.1977.tb00062.x.
    Miles, R. E., in Harding and Kendall (eds.), *Stochastic Geometry*, 1974, p. 228 (no DOI).
    """
    if border not in get_args(Border):
        raise SettingsRefused(
            "border", "E_CONFIG", f"must be one of {', '.join(get_args(Border))}, got {border!r}"
        )
    whole = ~table["touches_border"].to_numpy(dtype=bool)
    if border == "all":
        return np.ones(len(table)), np.ones(len(table))
    if border == "exclude":
        return whole.astype(np.float64), whole.astype(np.float64)
    if border == "guard":
        inner = _middle_inside(table, shape, guard_px)
        return inner.astype(np.float64), (inner & whole).astype(np.float64)
    size = _fitting_weights(table, shape) * whole
    if border == "weighted":
        return size, size
    return ((table["top_px"] > 0) & (table["left_px"] > 0)).to_numpy(dtype=np.float64), size


def frame_mask(shape: tuple[int, int], border: Border, guard_px: int = 0) -> Array:
    """Return where a border rule counts: bool, shape (H, W).

    ``gundersen`` and ``weighted`` cannot tell a particle cut by the first row or column from one
    that just reaches it, so their frame begins one pixel further in; that of ``guard`` begins and
    ends `guard_px` further in.
    """
    frame = np.ones(shape, dtype=bool)
    if border in ("gundersen", "weighted"):
        frame[0, :] = frame[:, 0] = False
    if border == "guard":
        frame[:] = False
        frame[guard_px : shape[0] - guard_px, guard_px : shape[1] - guard_px] = True
    return frame


def _middle_inside(table: pd.DataFrame, shape: tuple[int, int], guard_px: int) -> Array:
    """Whether the middle of each bounding box lies in the inner frame."""
    inside = np.ones(len(table), dtype=bool)
    for (first, last), length in zip((("top", "bottom"), ("left", "right")), shape, strict=True):
        middle = (table[f"{first}_px"] + table[f"{last}_px"]).to_numpy() / 2
        inside &= (middle >= guard_px) & (middle < length - guard_px)
    return inside


def _fitting_weights(table: pd.DataFrame, shape: tuple[int, int]) -> Array:
    height = (table["bottom_px"] - table["top_px"]).to_numpy()
    width = (table["right_px"] - table["left_px"]).to_numpy()
    rows, columns = shape
    places = np.maximum(rows - 1 - height, 1) * np.maximum(columns - 1 - width, 1)
    return np.asarray((rows - 1) * (columns - 1) / places)


def _boxes(numbered: Array, n: int) -> Array:
    """Bounding boxes (top, bottom, left, right), shape (n, 4)."""
    found = ndimage.find_objects(numbered, max_label=n)
    rows = [(s[0].start, s[0].stop, s[1].start, s[1].stop) for s in found]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _touches(box: Array, shape: tuple[int, ...]) -> Array:
    """Whether boxes reach the border of the picture."""
    first = (box[:, 0] == 0) | (box[:, 2] == 0)
    return np.asarray(first | (box[:, 1] == shape[0]) | (box[:, 3] == shape[1]))


def _perimeter(numbered: Array, n: int) -> Array:
    """Crofton: pi/2 times the mean over directions of crossings times line distance, in px."""
    plane = np.pad(numbered, 1)
    total = np.zeros(n + 1)
    for down, right, distance in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.5**0.5), (1, -1, 0.5**0.5)):
        here = plane[: plane.shape[0] - down, max(0, -right) : plane.shape[1] - max(0, right)]
        there = plane[down:, max(0, right) : plane.shape[1] + min(0, right)]
        change = here != there
        for side in (here, there):
            total += distance * np.bincount(side[change], minlength=n + 1)
    return np.asarray(np.pi / 8 * total[1:])


def _feret(numbered: Array, n: int) -> tuple[Array, Array]:
    """Largest and smallest calliper width in px, between middles of pixel edges."""
    if not n:
        return np.zeros(0), np.zeros(0)
    owner, rows, columns = _outline(numbered)
    order = np.argsort(owner, kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(owner[order], np.arange(1, n + 1))
    largest, smallest = np.zeros(n), np.full(n, np.inf)
    for angle in np.pi * np.arange(_FERET_ANGLES) / _FERET_ANGLES:
        along = rows * np.sin(angle) + columns * np.cos(angle)
        width = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
        largest, smallest = np.maximum(largest, width), np.minimum(smallest, width)
    return largest, smallest


def _outline(numbered: Array) -> tuple[Array, Array, Array]:
    """Particle, row and column of the middle of each pixel edge on an outline."""
    plane = np.pad(numbered, 1)
    inner = plane[1:-1, 1:-1]
    found = []
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        rows = slice(1 + down, plane.shape[0] - 1 + down)
        columns = slice(1 + right, plane.shape[1] - 1 + right)
        at = np.nonzero((plane[rows, columns] != inner) & (inner > 0))
        found.append((inner[at], at[0] + down / 2, at[1] + right / 2))
    owner, down_px, right_px = (np.concatenate(part) for part in zip(*found, strict=True))
    return owner, down_px, right_px
