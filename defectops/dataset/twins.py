"""Find pictures that share pixels: copies, crops, and either of them turned or mirrored.

Short row segments of each picture (anchors) are hashed and looked for at every place of the other
pictures; each hit is then verified pixel by pixel, so that nothing is reported by chance. Only
equal values are found: a copy that was rescaled, filtered or saved as JPEG is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from defectops.micrograph import Array

SEGMENT_PX = 24
GRID = 8
"""Anchors are taken on a grid of so many rows and columns: a shared part that holds none of them
is missed, so parts larger than about an eighth of the smaller picture are found."""

_MAX_TRIES = 500  # a pair: a lattice matches at many places, and few verifications decide
_MIN_LEVELS = 6  # a segment with fewer grey levels (a hole, a clipped bar) says nothing
_BASE = 0x9E3779B97F4A7C15  # odd, so that no power of it vanishes modulo 2^64


@dataclass(frozen=True)
class Twin:
    """Two pictures that share pixels.

    Parameters
    ----------
    one, other : str
    turn : int
        Which of the eight turns of `other` (see `turned`) fits.
    top, left : int
        Where the turned `other` lies in `one`; may be negative.
    """

    one: str
    other: str
    turn: int
    top: int
    left: int


def find_twins(planes: Mapping[str, Array]) -> list[Twin]:
    """Return all pairs of pictures that share pixels, each pair once.

    Parameters
    ----------
    planes : mapping of str to ndarray, shape (H, W)
        Name to pixels. Values are compared as float32.

    Returns
    -------
    list of Twin
        Sorted by name; of several ways to fit, the first in order of turns.
    """
    floats = {name: np.ascontiguousarray(p, np.float32) for name, p in sorted(planes.items())}
    anchors = _anchor_table(floats)
    wanted = np.fromiter(anchors, np.uint64, len(anchors))
    found: dict[tuple[str, str], Twin] = {}
    tries: Counter[tuple[str, str]] = Counter()
    for one, plane in floats.items():
        codes = _codes(plane)
        for top, left in np.argwhere(np.isin(codes, wanted)).tolist():
            for other, turn, y, x in anchors[int(codes[top, left])]:
                pair = (min(one, other), max(one, other))
                if one == other or pair in found or tries[pair] >= _MAX_TRIES:
                    continue
                tries[pair] += 1
                twin = Twin(one, other, turn, top - y, left - x)
                if np.array_equal(*shared(plane, floats[other], twin)):
                    found[pair] = twin
    return [found[pair] for pair in sorted(found)]


def turned(plane: Array, turn: int) -> Array:
    """Return one of the eight turns of a plane: quarter turns, for 4 to 7 after a mirror."""
    base = plane[:, ::-1] if turn >= 4 else plane
    return np.rot90(base, turn % 4)


def shared(one: Array, other: Array, twin: Twin) -> tuple[Array, Array]:
    """Return the parts of `one` and of the turned `other` that lie on each other.

    Parameters
    ----------
    one, other : ndarray, shape (H, W)
        Of the two pictures: pixels, or anything else of the same shape.
    twin : Twin
    """
    second = turned(other, twin.turn)
    top, left = max(0, twin.top), max(0, twin.left)
    bottom = min(one.shape[0], twin.top + second.shape[0])
    right = min(one.shape[1], twin.left + second.shape[1])
    return (
        one[top:bottom, left:right],
        second[top - twin.top : bottom - twin.top, left - twin.left : right - twin.left],
    )


def _anchor_table(planes: Mapping[str, Array]) -> dict[int, list[tuple[str, int, int, int]]]:
    """Return, by hash, all anchors: picture, turn, row and column in the turned picture."""
    anchors: dict[int, list[tuple[str, int, int, int]]] = {}
    for name, plane in planes.items():
        for turn in range(8):
            for code, top, left in _anchors(turned(plane, turn)):
                anchors.setdefault(code, []).append((name, turn, top, left))
    return anchors


def _codes(plane: Array) -> Array:
    """Hash the segment that starts at each pixel; shape (H, W - SEGMENT_PX + 1)."""
    values = plane.view(np.uint32).astype(np.uint64)
    width = plane.shape[1] - SEGMENT_PX + 1
    if width < 1:
        return np.zeros((plane.shape[0], 0), np.uint64)
    # Halves are joined: 2, 4, 8, 16 pixels, then 16 + 8; arithmetic modulo 2^64.
    sizes = {1: values}
    for size in (2, 4, 8, 16):
        sizes[size] = _join(sizes[size // 2], sizes[size // 2], size // 2, size // 2)
    return _join(sizes[16], sizes[8], 16, 8)


def _join(first: Array, second: Array, first_px: int, second_px: int) -> Array:
    """Join the hashes of segments of some length with those of the segments right of them."""
    weight = np.uint64(pow(_BASE, second_px, 2**64))
    width = min(first.shape[1], second.shape[1] - first_px)
    joined: Array = first[:, :width] * weight + second[:, first_px : first_px + width]
    return joined


def _anchors(plane: Array) -> Iterator[tuple[int, int, int]]:
    """Yield hash, row and column of segments on a grid that say something."""
    height, width = plane.shape[0], plane.shape[1] - SEGMENT_PX + 1
    if width < 1:
        return
    for top in np.unique(np.linspace(0, height - 1, GRID + 2)[1:-1].astype(int)).tolist():
        for left in np.unique(np.linspace(0, width - 1, GRID).astype(int)).tolist():
            segment = np.ascontiguousarray(plane[top : top + 1, left : left + SEGMENT_PX])
            if len(np.unique(segment)) >= _MIN_LEVELS:
                yield int(_codes(segment)[0, 0]), top, left
