"""Test lines laid over a field, whose crossings with defect lines are counted one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from defectops.measurement.lines import Steps

Array = npt.NDArray[Any]
Probe = Literal["grid", "circles", "random"]

# Directions of the probe `random`: with eight, lines that all run the same way are counted within
# 1.3 % whatever that way is, where rows and columns alone are up to 21 % low or 11 % high.
_DIRECTIONS = 8
# Circles around one centre.
_RINGS = 4
# A test line is sampled this densely to find how much of it lies where the field counts.
_SAMPLE_PX = 0.5


@dataclass(frozen=True, eq=False)
class TestLines:
    """Equally spaced test lines of one kind, straight and parallel or circles.

    Parameters
    ----------
    family : str
        ``rows``, ``columns``, ``circles``, or ``direction_1`` and so on.
    length_px : ndarray of float64, shape (number of test lines,)
        Length of each inside the counted area.
    spacing_px : float
        Distance from one to the next.
    angle : float
        Direction of straight lines in radians, from the columns' axis towards the rows'.
    offset_px : float
        Of straight lines: where the first runs, along their normal.
    cell : (float, float, float, int) or None
        Of circles: top and left of the first square cell, its side, and the cells in a row; in
        each cell the circles run around its middle.
    """

    __test__ = False  # not a test, whatever its name

    family: str
    length_px: Array
    spacing_px: float
    angle: float = 0.0
    offset_px: float = 0.0
    cell: tuple[float, float, float, int] | None = None

    def crossings(self, cut: Steps) -> tuple[Array, Array]:
        """Count crossings.

        Parameters
        ----------
        cut : Steps
            Shorter than the spacing, as `lines.steps` returns them.

        Returns
        -------
        of_steps : ndarray of bool, shape (S,)
            Whether each step crosses a test line. Steps that do not count cross nothing.
        of_test_lines : ndarray of int64, shape (number of test lines,)
        """
        here, there = self._number(cut.start), self._number(cut.stop)
        crosses = (here != there) & (cut.length_px > 0)
        number = np.maximum(here, there)[crosses]
        size = self.length_px.size
        crosses[crosses] = number < size
        return crosses, np.bincount(number[number < size], minlength=size)

    def _number(self, point: Array) -> Array:
        """Return the number of the last test line before each point; -1 before the first."""
        if self.cell is None:
            along = point @ np.array([math.cos(self.angle), -math.sin(self.angle)])
            found = np.floor((along - self.offset_px) / self.spacing_px).astype(np.int64)
            return np.asarray(np.clip(found, -1, self.length_px.size - 1))
        return self._ring(point)

    def _ring(self, point: Array) -> Array:
        top, left, side, in_row = self.cell or (0.0, 0.0, 1.0, 1)
        place = (point - (top, left)) / side
        square = np.floor(place).astype(np.int64)
        radius = np.hypot(*((place - square - 0.5).T * side))
        # Rings are numbered from outside inwards, so that no ring is 0 whichever the cell.
        ring = np.maximum(_RINGS - np.floor(radius / self.spacing_px + 0.5), 0).astype(np.int64)
        known = (square >= 0).all(axis=1) & (square[:, 1] < in_row)
        cell = square[:, 0] * in_row + square[:, 1]
        known &= cell < self.length_px.size // _RINGS
        return np.where(known & (ring > 0), cell * _RINGS + ring - 1, -1)


def lay_test_lines(probe: Probe, valid: Array, spacing_px: int, seed: int) -> tuple[TestLines, ...]:
    """Lay test lines over a field, all of them in a place drawn by the seed.

    Parameters
    ----------
    probe : {"grid", "circles", "random"}
        ``grid``: along rows and along columns, between the centres of pixels. ``circles``: four
        around each of many centres. ``random``: eight directions, evenly spread from a random one.
    valid : ndarray of bool, shape (H, W)
        True where the field counts.
    spacing_px : int
        Distance of neighbouring test lines; four times that for each of the eight directions,
        so that all together are about as long as the grid.
    seed : int

    Returns
    -------
    tuple of TestLines
        One a family. A field too small for a test line has families of no length.
    """
    random = np.random.default_rng(seed)
    if probe == "grid":
        return _grid(valid, spacing_px, random)
    if probe == "circles":
        return (_circles(valid, spacing_px, random),)
    turn = random.uniform(0, math.pi / _DIRECTIONS)
    return tuple(
        _parallel(
            f"direction_{k + 1}",
            valid,
            spacing_px * _DIRECTIONS / 2,
            turn + math.pi * k / _DIRECTIONS,
            random.random(),
        )
        for k in range(_DIRECTIONS)
    )


def _grid(valid: Array, spacing_px: int, random: np.random.Generator) -> tuple[TestLines, ...]:
    found = []
    for axis, family in enumerate(("rows", "columns")):
        extent = valid.shape[axis]
        first = int(random.integers(max(1, min(spacing_px, extent - 1)))) + 0.5
        at = np.arange(first, extent - 1, spacing_px)
        counted = valid.sum(axis=1 - axis)[at.astype(np.int64)].astype(np.float64)
        # The normal of test lines along rows runs along the columns' axis, and the other way round.
        angle = 0.0 if axis == 0 else -math.pi / 2
        found.append(TestLines(family, counted, float(spacing_px), angle, first))
    return tuple(found)


def _parallel(
    family: str, valid: Array, spacing_px: float, angle: float, phase: float
) -> TestLines:
    rows, columns = valid.shape
    normal = np.array([math.cos(angle), -math.sin(angle)])
    along = np.array([math.sin(angle), math.cos(angle)])
    corners = np.array([[r, c] for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)])
    low, high = (corners @ normal).min(), (corners @ normal).max()
    first = low + phase * spacing_px
    number = max(math.ceil((high - first) / spacing_px), 0)
    far = (corners @ along).min(), (corners @ along).max()
    place = np.arange(far[0] + _SAMPLE_PX / 2, far[1], _SAMPLE_PX)
    length = np.array(
        [
            _counted(valid, (first + k * spacing_px) * normal + place[:, None] * along)
            for k in range(number)
        ]
    )
    return TestLines(family, length * _SAMPLE_PX, spacing_px, angle, first)


def _circles(valid: Array, spacing_px: int, random: np.random.Generator) -> TestLines:
    smallest = min(valid.shape)
    apart = min(float(spacing_px), smallest / (2 * _RINGS))
    side = 2 * _RINGS * apart
    cells = [int(n // side) for n in valid.shape]
    corner = [
        -0.5 + float(random.uniform(0, n - m * side))
        for n, m in zip(valid.shape, cells, strict=True)
    ]
    length = np.zeros((cells[0] * cells[1], _RINGS))
    for ring in range(_RINGS):
        radius = (_RINGS - ring - 0.5) * apart
        samples = max(round(2 * math.pi * radius / _SAMPLE_PX), 1)
        turn = 2 * math.pi * (np.arange(samples) + 0.5) / samples
        circle = radius * np.column_stack([np.sin(turn), np.cos(turn)])
        for cell in range(length.shape[0]):
            middle = np.add(corner, (np.array(divmod(cell, cells[1])) + 0.5) * side)
            share = _counted(valid, middle + circle) / samples
            length[cell, ring] = 2 * math.pi * radius * share
    return TestLines("circles", length.ravel(), apart, cell=(corner[0], corner[1], side, cells[1]))


def _counted(valid: Array, point: Array) -> int:
    """How many points lie where the field counts."""
    pixel = np.floor(point + 0.5).astype(np.int64)
    pixel = pixel[((pixel >= 0) & (pixel < valid.shape)).all(axis=1)]
    return int(np.count_nonzero(valid[pixel[:, 0], pixel[:, 1]]))
