"""Lines that cross: which ends are one line, and the straight way between them.

Where two lines cross at an angle a, their masks of width w are one over a length w / sin(a/2), and
thinning shows a single bridge there, or bends both lines towards each other. Both are undone: the
ends that go straight on are joined by a chord, and what thinning made of the crossing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csgraph

from defectops.measurement.lines import (
    SMOOTHING_PX,
    JoinedPaths,
    TracedLines,
    linked,
    path_bounds,
)

Array = npt.NDArray[Any]

# All lengths below are in line widths. A bridge this short is always part of a crossing: thinning
# tears an X of 40 degrees or more into two Ts not farther apart.
_SHORT = 3.0
# A longer one is where the mask along it is this much wider than a line on its own. Over the bridge
# of two lines the separation falls from w to 0 and rises again: 1.5 on the mean.
_WIDE = 1.15
# Thinning bends lines towards a crossing up to here, plus the half-width of the smoothing.
_BENT = 1.5
# How far along a line its direction at a crossing is taken, and how far two ends may deviate from
# straight on to be one line.
_REACH_PX = 10
_MAX_BEND_DEG = 40.0
# More ends than this at one crossing are a tangle (noise, not lines): nothing goes straight on, and
# asking each for each would take memory without end.
_MOST_ENDS = 2048


@dataclass(frozen=True, eq=False)
class _Crossing:
    """Junctions close together: the bridges between them and the path ends that leave them.

    `point` is where each end is no longer bent by thinning, `direction` a unit vector from there
    away from the crossing.
    """

    bridges: Array
    path: Array
    side: Array
    node: Array
    point: Array
    direction: Array


def join_paths(lines: TracedLines, width_px: float, local_width_px: Array) -> JoinedPaths:
    """Join paths that go straight on through a crossing.

    Parameters
    ----------
    lines : TracedLines
    width_px : float
        Of a line on its own.
    local_width_px : ndarray of float64, shape (number of paths,)
        Mean width of the mask along each path.

    Returns
    -------
    JoinedPaths

    Notes
    -----
    Junctions joined by less than three widths of line, or by a longer bridge along which the mask
    is wide enough for two, are one crossing. At each, the two ends that go most nearly straight on
    (within 40 degrees) are one line, then the next two. A tangle of over 2048 ends, as noise makes
    them, is left as it is: each path a line.
    """
    begin, end = path_bounds(lines)
    reach = round(_BENT * width_px) + SMOOTHING_PX
    inner = np.column_stack(_inner(lines, begin, end, reach))
    so_far = _Joining(lines, begin.copy(), end.copy())
    bridge = _bridges(lines, width_px, local_width_px)
    for crossing in _crossings(lines, bridge, inner):
        so_far.go_through(crossing)
    return so_far.result()


class _Joining:
    """Paths joined so far, crossing by crossing."""

    def __init__(self, lines: TracedLines, first: Array, last: Array) -> None:
        self.lines, self.first, self.last = lines, first, last
        self.root = np.arange(lines.n_paths)
        self.loose = np.ones((lines.n_paths, 2), dtype=bool)
        self.chords: list[Array] = []
        self.meeting: list[Array] = []
        self.met_path: list[int] = []
        self.met_times: list[float] = []

    def go_through(self, crossing: _Crossing) -> None:
        """Join what goes straight on, and note who meets whom."""
        pairs = _straight_on(self.lines.point[crossing.point], crossing.direction)
        for pair in pairs:
            self._join(crossing, list(pair))
        met = len(crossing.path) - len(pairs) - 1
        self.meeting += [self.lines.point[crossing.point[0]]] * met
        once = np.delete(crossing.path, [other for _, other in pairs])
        self.met_path += once.tolist()
        self.met_times += [2 * met / once.size] * once.size

    def _join(self, crossing: _Crossing, pair: list[int]) -> None:
        path, side, point = crossing.path[pair], crossing.side[pair], crossing.point[pair]
        self.chords.append(point)
        self.loose[path, side] = False
        _union(self.root, path[0], path[1])
        for p, s, at in zip(path, side, point, strict=True):
            (self.last if s else self.first)[p] = at
        for bridge in _way(self.lines, crossing, *crossing.node[pair]):
            if self.first[bridge] <= self.last[bridge]:
                self.first[bridge] = self.last[bridge] + 1
                _union(self.root, bridge, path[0])

    def result(self) -> JoinedPaths:
        """Return what was joined, with lines numbered."""
        root = np.array([_find(self.root, i) for i in range(self.root.size)], dtype=np.int64)
        line = np.unique(root, return_inverse=True)[1].reshape(-1)
        size = line.max(initial=-1) + 1
        return JoinedPaths(
            line,
            self.first,
            self.last,
            np.array(self.chords, dtype=np.int64).reshape(-1, 2),
            self.loose,
            np.array(self.meeting).reshape(-1, 2),
            np.bincount(line[self.met_path], weights=self.met_times, minlength=size),
        )


def _inner(lines: TracedLines, begin: Array, end: Array, reach: int) -> tuple[Array, Array]:
    """Points `reach` behind either end; where both ends are junctions, not beyond the middle."""
    both = (lines.degree[lines.first_node] >= 3) & (lines.degree[lines.last_node] >= 3)
    most = np.where(both, (end - begin) // 2, end - begin)
    step = np.minimum(reach, most)
    return begin + step, end - step


def _bridges(lines: TracedLines, width_px: float, local_width_px: Array) -> Array:
    """Whether each path lies inside a crossing."""
    both = np.column_stack([lines.first_node, lines.last_node])
    between = (lines.degree[both] >= 3).all(axis=1) & (both[:, 0] != both[:, 1])
    short = lines.path_length_px < _SHORT * width_px
    return np.asarray(between & (short | (local_width_px > _WIDE * width_px)))


def _crossings(lines: TracedLines, bridge: Array, inner: Array) -> list[_Crossing]:
    """Group the junctions that belong together."""
    both = np.column_stack([lines.first_node, lines.last_node])
    at_junction = lines.degree[both] >= 3
    cluster = csgraph.connected_components(linked(both[bridge], lines.degree.size), directed=False)[
        1
    ]
    bridges = np.flatnonzero(bridge)
    path, side = np.nonzero(at_junction & ~bridge[:, None])
    node, at, away = both[path, side], inner[path, side], _away(lines, inner, path, side)
    names, members = np.unique(cluster[node], return_inverse=True)
    ends = _grouped(members, names.size)
    home = cluster[both[bridges, 0]]
    known = np.isin(home, names)
    inside = _grouped(np.searchsorted(names, home[known]), names.size)
    return [
        _Crossing(bridges[known][over], path[here], side[here], node[here], at[here], away[here])
        for over, here in zip(inside, ends, strict=True)
        if here.size
    ]


def _grouped(group: Array, count: int) -> list[Array]:
    """Return for each of the groups 0 to count - 1 the indices of its members, in order."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(1, count))
    return np.split(order, bounds)


def _away(lines: TracedLines, inner: Array, path: Array, side: Array) -> Array:
    """Direction of each path end, taken where thinning no longer bends it if there is such."""
    begin, end = path_bounds(lines)
    here, other = inner[path, side], np.where(side == 0, end[path], begin[path])
    towards = np.where(side == 0, 1, -1)
    far = here + towards * np.minimum(_REACH_PX, np.abs(other - here))
    # A path too short to have a straight part gives its whole direction.
    near = np.where(np.abs(far - here) >= 3, here, np.where(side == 0, begin[path], end[path]))
    step = lines.point[far] - lines.point[near]
    return np.asarray(step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12))


def _straight_on(point: Array, direction: Array) -> list[tuple[int, int]]:
    """Pair the ends at one crossing, those with the straightest chord first; none in a tangle."""
    if len(point) > _MOST_ENDS:
        return []
    chord = point[None, :, :] - point[:, None, :]
    chord /= np.maximum(np.linalg.norm(chord, axis=2, keepdims=True), 1e-12)
    leaves = -np.einsum("ijk,ik->ij", chord, direction)
    straight = np.minimum(leaves, leaves.T)
    limit = np.cos(np.radians(_MAX_BEND_DEG))
    one, other = np.nonzero(np.triu(straight > limit, 1))
    free = np.ones(len(point), dtype=bool)
    pairs = []
    for k in np.argsort(-straight[one, other], kind="stable"):
        a, b = int(one[k]), int(other[k])
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return pairs


def _way(lines: TracedLines, crossing: _Crossing, start: int, stop: int) -> list[int]:
    """Return the bridges of a crossing that lead from one junction to another."""
    came: dict[int, tuple[int, int]] = {}
    reached = [int(start)]
    for here in reached:
        if here == stop:
            break
        for b in crossing.bridges:
            a, c = int(lines.first_node[b]), int(lines.last_node[b])
            there = c if a == here else a if c == here else -1
            if there >= 0 and there != start and there not in came:
                came[there] = (here, int(b))
                reached.append(there)
    found = []
    at = int(stop)
    while at != start:
        at, b = came[at]
        found.append(b)
    return found


def _find(root: Array | Sequence[int], i: int) -> int:
    while root[i] != i:
        i = int(root[i])
    return i


def _union(root: Array, a: int, b: int) -> None:
    root[_find(root, int(a))] = _find(root, int(b))
