"""Touching particles told apart by the notches of their common outline."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]

_EIGHT = np.ones((3, 3), dtype=bool)
# Share of particle around a pixel of the outline, seen through a Gaussian of this width: about 0.6
# on a straight edge, more in a notch.
_SCALE_PX = 2.0
_REACH_PX = 8
_NOTCH = 0.77
# Squares that stay in a processor's cache: filters of whole columns do not on large planes.
_TILE_PX = 256
# A cut may be this long, as a part of the diameter of the circle of the piece's area.
_LONGEST = 0.75
_OVER_PX = 2.0
_MOST_NOTCHES = 200


def split_at_notches(clean: Array, min_area_px: int) -> Array:
    """Label particles, cutting pieces from notch to notch.

    Parameters
    ----------
    clean : ndarray of bool, shape (H, W)
        Particles, without specks and pinholes.
    min_area_px : int
        No cut makes a particle smaller than this.

    Returns
    -------
    ndarray of int32, shape (H, W)
        0 outside, particles numbered from 1 without gaps; zeros for an empty mask.

    Notes
    -----
    A piece is cut along the shortest straight way between two notches first; each notch is used
    once, and no cut is longer than three quarters of the piece's diameter. Three particles in a
    ring, or a small one that sits on a large one with a single notch, stay together. Not for
    ragged outlines: each bay is a notch.

    References
    ----------
    After Bai, X., Sun, C. and Zhou, F., Pattern Recogn. 42, 2434 (2009),
    doi:10.1016/j.patcog.2009.04.003 (concave points; without their ellipses).
    """
    pieces, count = ndimage.label(clean, structure=_EIGHT)
    cut = np.zeros(clean.shape, dtype=bool)
    area = np.bincount(pieces.ravel(), minlength=count + 1)
    for piece, notches in _notches(clean, pieces, count).items():
        longest = _LONGEST * math.sqrt(4 / math.pi * area[piece])
        for way in _cuts(pieces, piece, notches, longest):
            cut[way] = True
    parts, _ = ndimage.label(clean & ~cut, structure=_EIGHT)
    size = np.bincount(parts.ravel())
    size[0] = min_area_px
    parts[(size < min_area_px)[parts]] = 0
    return _filled(parts, clean, pieces)


def _notches(clean: Array, pieces: Array, count: int) -> dict[int, Array]:
    """Return the notches of each piece with two or more, (row, column) of the deepest pixels.

    A piece with hundreds is noise or a ragged outline, not particles that touch: it stays whole,
    and the pairs of its notches are not worth the time.
    """
    depth = _depth(clean)
    marked, number = ndimage.label(depth > 0, structure=_EIGHT)
    if not number:
        return {}
    # SciPy sorts whatever it is given, so only the marked pixels are.
    place = np.flatnonzero(marked)
    deepest = ndimage.maximum_position(
        depth.ravel()[place], marked.ravel()[place], np.arange(1, number + 1)
    )
    at = np.column_stack(np.divmod(place[np.array(deepest, dtype=np.int64)[:, 0]], clean.shape[1]))
    owner = pieces[at[:, 0], at[:, 1]]
    per_piece = np.bincount(owner, minlength=count + 1)
    several = np.flatnonzero((per_piece > 1) & (per_piece <= _MOST_NOTCHES))
    return {int(piece): at[owner == piece] for piece in several}


def _depth(clean: Array) -> Array:
    """Return the share of particle around each pixel of an outline that lies in a notch, else 0."""
    depth = np.zeros(clean.shape, dtype=np.float32)
    for row, column in product(*(range(0, length, _TILE_PX) for length in clean.shape)):
        top, left = max(row - _REACH_PX, 0), max(column - _REACH_PX, 0)
        seen = clean[top : row + _TILE_PX + _REACH_PX, left : column + _TILE_PX + _REACH_PX]
        if not seen.any():
            continue
        around = ndimage.gaussian_filter(
            seen.astype(np.float32), _SCALE_PX, mode="nearest", radius=_REACH_PX
        )
        outline = seen & ~ndimage.binary_erosion(seen, structure=_EIGHT, border_value=1)
        inner = np.where(outline & (around > _NOTCH), around, 0)[row - top :, column - left :]
        depth[row : row + _TILE_PX, column : column + _TILE_PX] = inner[:_TILE_PX, :_TILE_PX]
    return depth


def _cuts(pieces: Array, piece: int, notches: Array, longest: float) -> list[tuple[Array, Array]]:
    """Return the pixels of the ways from notch to notch, shortest first, each notch once."""
    low, high = notches.min(axis=0), notches.max(axis=0) + 1
    own = pieces[low[0] : high[0], low[1] : high[1]] == piece
    one, other = np.triu_indices(len(notches), 1)
    length = np.linalg.norm(notches[one] - notches[other], axis=1)
    free = np.ones(len(notches), dtype=bool)
    found = []
    for k in np.argsort(length, kind="stable"):
        a, b = one[k], other[k]
        if length[k] > longest:
            break
        if not (free[a] and free[b]):
            continue
        rows, columns = _way(notches[a], notches[b])
        if own[rows - low[0], columns - low[1]].all():
            free[[a, b]] = False
            # The deepest pixel may lie beside the tip of the notch.
            over = (notches[b] - notches[a]) * _OVER_PX / max(length[k], 1.0)
            rows, columns = _way(notches[a] - over, notches[b] + over)
            height, width = pieces.shape
            found.append((np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)))
    return found


def _way(start: Array, stop: Array) -> tuple[Array, Array]:
    """Pixels of a straight way that no diagonal step can slip through."""
    steps = 4 * math.ceil(float(np.abs(stop - start).max())) + 1
    line = np.rint(np.linspace(start, stop, steps)).astype(np.int64)
    # Both corners of each diagonal step, of which one is enough.
    corners = np.column_stack([line[1:, 0], line[:-1, 1]])
    rows, columns = np.unique(np.concatenate([line, corners]), axis=0).T
    return rows, columns


def _filled(parts: Array, clean: Array, pieces: Array) -> Array:
    """Give the pixels of cuts and of specks back to the particle beside them."""
    numbers = parts.copy()
    while True:
        rows, columns = np.nonzero(clean & (numbers == 0))
        around = np.pad(numbers, 1)  # so that the border has neighbours
        beside = np.max(
            [around[rows + i, columns + j] for i in range(3) for j in range(3)], axis=0, initial=0
        )
        if not beside.any():
            break
        numbers[rows, columns] = beside
    # A piece that fell apart into specks alone stays what it was.
    lost = clean & (numbers == 0)
    numbers[lost] = parts.max() + pieces[lost]
    used = np.bincount(numbers.ravel()) > 0
    used[0] = False
    return np.asarray((np.cumsum(used) * used)[numbers], dtype=np.int32)
