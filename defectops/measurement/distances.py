"""How far each pixel of a mask is from its edge, and where it is farthest, at one cost a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]

_EIGHT = np.ones((3, 3), dtype=bool)
# What a piece costs on its own, in pixels of a transform of the whole plane.
_PIXELS_PER_PIECE = 600
# Rows are taken together up to about this many pixels, which stay in a processor's cache.
_BAND_PX = 1 << 17


def edge_distance(mask: Array) -> Array:
    """Distance of each pixel to the nearest pixel outside the mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)

    Returns
    -------
    ndarray of float64, shape (H, W)
        0 outside the mask, in px; the same numbers as ``scipy.ndimage.distance_transform_edt``.
        Outside the picture nothing is known and nothing is near.

    Notes
    -----
    Piece by piece within its bounding box, which is several times faster where little of the plane
    is mask: the nearest pixel outside a piece is never one of another piece, since pieces that
    touch, at corners too, are one. A plane that is all mask, or one of many tiny pieces, is
    transformed as a whole.
    """
    pieces, count = ndimage.label(mask, structure=_EIGHT)
    boxes = [_padded(box, mask.shape) for box in ndimage.find_objects(pieces)]
    area = sum((r.stop - r.start) * (c.stop - c.start) for r, c in boxes)
    if area + _PIXELS_PER_PIECE * count > mask.size:
        return np.asarray(ndimage.distance_transform_edt(mask))
    distance = np.zeros(mask.shape)
    for number, box in enumerate(boxes, 1):
        own = pieces[box] == number
        distance[box][own] = ndimage.distance_transform_edt(own)[own]
    return distance


def _padded(box: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a bounding box with one pixel around it, as far as there is picture."""
    rows, columns = (
        slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, shape, strict=True)
    )
    return rows, columns


def local_maxima(distance: Array) -> Array:
    """Where a map is as high as its highest neighbour, of eight.

    Parameters
    ----------
    distance : ndarray, shape (H, W)

    Returns
    -------
    ndarray of bool, shape (H, W)
        The same as ``distance == scipy.ndimage.maximum_filter(distance, size=3)``, by bands of
        rows: SciPy walks down whole columns, which on large planes costs several times as much a
        pixel as on small ones.
    """
    height, width = distance.shape
    rows = max(_BAND_PX // max(width, 1), 1)
    found = np.empty(distance.shape, dtype=bool)
    for start in range(0, height, rows):
        top, stop = max(start - 1, 0), min(start + rows, height)
        band = distance[top : stop + 1]
        around = _higher_neighbour(_higher_neighbour(band).T).T
        found[start:stop] = (band == around)[start - top : stop - top]
    return found


def _higher_neighbour(plane: Array) -> Array:
    """Return the highest of each value and those left and right of it."""
    highest = plane.copy()
    np.maximum(highest[:, 1:], plane[:, :-1], out=highest[:, 1:])
    np.maximum(highest[:, :-1], plane[:, 1:], out=highest[:, :-1])
    return highest
