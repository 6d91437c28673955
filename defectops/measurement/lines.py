"""Length, crossings and segments of centre lines, free of the bias of counting pixel steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph

Array = npt.NDArray[Any]

# Half-width of the moving average that takes the stair steps out of a digital line. As
# `tests/measurement/test_lines.py` shows: straight lines at any angle within 1 %, circles of 20 px
# radius within 1.5 %.
_SMOOTHING_PX = 3
# Junctions closer than this along a line are one crossing: thinning tears an X into two Ts.
_CROSSING_PX = 20.0
# How far along a line its direction at a crossing is taken, and how far two ends may deviate from
# straight on to be one line.
_REACH_PX = 10
_MAX_BEND_DEG = 40.0
# More ends than this at one crossing are a tangle (noise, not lines): nothing goes straight on, and
# asking each for each would take memory without end.
_MOST_ENDS = 2048


@dataclass(frozen=True, eq=False)
class TracedLines:
    """Centre lines as paths between ends and junctions.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    pixels : ndarray of int64, shape (P,)
        Flat index of each centre-line pixel, a node of the graph.
    degree : ndarray of int64, shape (P,)
        Neighbours of each node: 0 a lone pixel, 1 an end, 2 on a line, 3 or more a junction.
    node, path : ndarray of int64, shape (Q,)
        The points of all paths one after the other: which node, on which path. A junction is a
        point of each path that meets there; a closed loop ends on the point it starts from.
    point : ndarray of float64, shape (Q, 2)
        Smoothed (row, column) of each point in px.
    first_node, last_node : ndarray of int64, shape (number of paths,)
    path_length_px : ndarray of float64, shape (number of paths,)
        Bias-corrected length between the centres of the first and last pixel.
    """

    shape: tuple[int, int]
    pixels: Array
    degree: Array
    node: Array
    path: Array
    point: Array
    first_node: Array
    last_node: Array
    path_length_px: Array

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return int(self.first_node.size)


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps between successive points of all paths.

    Parameters
    ----------
    path : ndarray of int64, shape (S,)
    start, stop : ndarray of float64, shape (S, 2)
        Smoothed (row, column) in px.
    length_px : ndarray of float64, shape (S,)
        Length inside the counted area: steps into an ignored pixel count half, steps inside
        ignored area not; the last step of a line that leaves the picture counts one and a half
        times, since the line goes on to the edge of its last pixel. Multiplied by `passes`.
    passes : ndarray of int64, shape (S,)
        Lines that run along the step, see `JoinedPaths`.
    """

    path: Array
    start: Array
    stop: Array
    length_px: Array
    passes: Array

    @property
    def middle(self) -> Array:
        """(row, column) of the middle of each step in px, shape (S, 2)."""
        return np.asarray((self.start + self.stop) / 2)


@dataclass(frozen=True, eq=False)
class JoinedPaths:
    """Which paths are one line, and how many lines share a path.

    Parameters
    ----------
    line : ndarray of int64, shape (number of paths,)
        The line each path belongs to, numbered from 0 without gaps.
    passes : ndarray of int64, shape (number of paths,)
        Lines that run along the path: 1, or more where lines merge at a crossing.
    """

    line: Array
    passes: Array


@dataclass(frozen=True, eq=False)
class _Crossing:
    """Junctions close together: the bridges between them and the path ends that leave them."""

    bridges: Array
    path: Array
    node: Array
    direction: Array


def trace(centre: Array) -> TracedLines:
    """Follow centre lines pixel by pixel from end or junction to end or junction.

    Parameters
    ----------
    centre : ndarray of bool, shape (H, W)
        Lines one pixel wide, as `thin_lines` returns them.

    Returns
    -------
    TracedLines
        Empty arrays for an empty plane.

    Notes
    -----
    Diagonal neighbours are linked only where no orthogonal way joins them (mixed adjacency), so a
    corner is no junction. The points are smoothed by a moving average along the path, with windows
    that shrink towards its ends, which stay where they are. Summed steps of 1 and sqrt 2 would
    read ``(8/pi)(sqrt 2 - 1) - 1 = 5.48 %`` too long on isotropic lines.

    Not for masks with thick lines: thin them first.

    References
    ----------
    Dorst, L. and Smeulders, A. W. M., Comput. Vis. Graph. Image Process. 40, 311 (1987),
    doi:10.1016/S0734-189X(87)80145-7 (bias of digital length estimators).
    """
    pixels = np.flatnonzero(centre)
    edges = _edges(centre, pixels)
    degree = np.bincount(edges.ravel(), minlength=pixels.size)
    node, path = _paths(edges, degree)
    rows, columns = np.divmod(pixels[node], centre.shape[1])
    point = _smooth(np.column_stack([rows, columns]).astype(np.float64), path)
    n_paths = int(path[-1]) + 1 if path.size else 0
    bounds = np.searchsorted(path, np.arange(n_paths + 1))
    step = np.linalg.norm(np.diff(point, axis=0), axis=1)
    inside = path[1:] == path[:-1]
    return TracedLines(
        shape=(centre.shape[0], centre.shape[1]),
        pixels=pixels,
        degree=degree,
        node=node,
        path=path,
        point=point,
        first_node=node[bounds[:-1]],
        last_node=node[bounds[1:] - 1],
        path_length_px=np.bincount(path[1:][inside], weights=step[inside], minlength=n_paths),
    )


def steps(lines: TracedLines, joined: JoinedPaths, ignore: Array | None = None) -> Steps:
    """Cut traced lines into steps with the length of each that counts.

    Parameters
    ----------
    lines : TracedLines
    joined : JoinedPaths
        From `join_paths`.
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.
    """
    inside = np.flatnonzero(lines.path[1:] == lines.path[:-1])
    start, stop = lines.point[inside], lines.point[inside + 1]
    weight = np.ones(inside.size)
    if ignore is not None:
        valid = ~ignore.ravel()[lines.pixels[lines.node]]
        weight = (valid[inside] + valid[inside + 1].astype(np.float64)) / 2
    leaves = _leaves_picture(lines)
    outgoing = 0.5 * (leaves[inside] + leaves[inside + 1].astype(np.float64)) * (weight > 0)
    length = np.linalg.norm(stop - start, axis=1) * (weight + outgoing)
    path = lines.path[inside]
    passes = joined.passes[path]
    return Steps(path, start, stop, length * passes, passes)


def grid_crossings(
    cut: Steps, shape: tuple[int, int], spacing_px: int, offset_px: tuple[int, int]
) -> tuple[Array, Array]:
    """Count how often lines cross an orthogonal grid.

    Parameters
    ----------
    cut : Steps
    shape : (int, int)
        Rows and columns of the plane.
    spacing_px : int
        Distance of neighbouring grid lines.
    offset_px : (int, int)
        The first horizontal grid line runs below this row, the first vertical one right of this
        column; at most the plane's last but one, else there is no grid line.

    Returns
    -------
    horizontal, vertical : ndarray of int64, shape (S,)
        Crossings of each step with horizontal and with vertical grid lines. Steps that do not
        count cross nothing.

    References
    ----------
    Ham, R. K., Phil. Mag. 6, 1183 (1961), doi:10.1080/14786436108239679.
    """
    counted = np.where(cut.length_px > 0, cut.passes, 0)
    found = []
    for axis in (0, 1):
        lines = grid_positions(shape[axis], spacing_px, offset_px[axis])
        a = np.searchsorted(lines, cut.start[:, axis])
        b = np.searchsorted(lines, cut.stop[:, axis])
        found.append(np.abs(a - b) * counted)
    return found[0], found[1]


def grid_positions(extent_px: int, spacing_px: int, offset_px: int) -> Array:
    """Return where grid lines cut one axis: between the centres of two pixels, in px."""
    return np.arange(offset_px + 0.5, extent_px - 1, spacing_px)


def join_paths(lines: TracedLines) -> JoinedPaths:
    """Join paths that go straight on through a crossing.

    Parameters
    ----------
    lines : TracedLines

    Returns
    -------
    JoinedPaths

    Notes
    -----
    Junctions joined by less than `_CROSSING_PX` of line are one crossing. At each, the two ends
    that go most nearly straight on (within 40 degrees) are one line, then the next two. Where two
    lines cross at a small angle their masks merge for a while and thinning shows one line between
    two junctions: that bridge counts once for each line that goes on at either end of it. A tangle
    of over 2048 ends, as noise makes them, is left as it is: each path a line.
    """
    root = np.arange(lines.n_paths)
    passes = np.ones(lines.n_paths, dtype=np.int64)
    for crossing in _crossings(lines):
        pairs = _straight_on(crossing.direction)
        for one, other in pairs:
            _union(root, crossing.path[one], crossing.path[other])
        over: dict[frozenset[int], list[tuple[int, int]]] = {}
        for pair in pairs:
            over.setdefault(frozenset(int(crossing.node[i]) for i in pair), []).append(pair)
        for bridge in crossing.bridges if pairs else ():
            ends = frozenset((int(lines.first_node[bridge]), int(lines.last_node[bridge])))
            across = over.get(ends, [])
            passes[bridge] = max(1, len(across))
            _union(root, bridge, crossing.path[(across or pairs)[0][0]])
    flat = np.array([_find(root, i) for i in range(lines.n_paths)], dtype=np.int64)
    return JoinedPaths(np.unique(flat, return_inverse=True)[1].reshape(-1), passes)


def line_table(
    lines: TracedLines, joined: JoinedPaths, cut: Steps, spacing: float, length_unit: str
) -> pd.DataFrame:
    """One row a line, joined through its crossings.

    Parameters
    ----------
    lines : TracedLines
    joined : JoinedPaths
        From `join_paths`.
    cut : Steps
        From `steps`; ignored parts have no length.
    spacing : float
        Length of a pixel in `length_unit`.
    length_unit : str
        ``nm`` or ``px``; ends the names of columns.

    Returns
    -------
    DataFrame
        ``line, centroid_row_px, centroid_column_px, length_<unit>, direction_deg,
        touches_border``. The direction is that of the mean axis, in degrees from the columns' axis
        towards the rows', 0 to 180. Lines without counted length are absent.
    """
    line = joined.line[cut.path]
    n = int(joined.line.max()) + 1 if joined.line.size else 0
    length = np.bincount(line, weights=cut.length_px, minlength=n)
    kept = np.flatnonzero(length > 0)
    centroid = [
        np.bincount(line, weights=cut.length_px * cut.middle[:, axis], minlength=n)[kept]
        / length[kept]
        for axis in (0, 1)
    ]
    border = np.zeros(n, dtype=bool)
    border[joined.line[lines.path[_leaves_picture(lines)]]] = True
    return pd.DataFrame(
        {
            "line": np.arange(1, kept.size + 1),
            "centroid_row_px": centroid[0],
            "centroid_column_px": centroid[1],
            f"length_{length_unit}": length[kept] * spacing,
            "direction_deg": _directions(line, cut, n)[kept],
            "touches_border": border[kept],
        }
    )


def _directions(line: Array, cut: Steps, n: int) -> Array:
    """Mean axis of each line: angles doubled, since a line has no sense."""
    d = cut.stop - cut.start
    angle = 2 * np.arctan2(d[:, 0], d[:, 1])
    sine = np.bincount(line, weights=cut.length_px * np.sin(angle), minlength=n)
    cosine = np.bincount(line, weights=cut.length_px * np.cos(angle), minlength=n)
    return np.asarray(np.degrees(np.arctan2(sine, cosine)) / 2 % 180)


def _edges(centre: Array, pixels: Array) -> Array:
    """Return pairs of neighbouring nodes, shape (E, 2), by mixed adjacency."""
    rows, columns = centre.shape
    plane = np.zeros((rows + 1, columns + 2), dtype=bool)
    plane[:rows, 1 : columns + 1] = centre
    wide = columns + 2
    flat = plane.ravel()
    at = np.flatnonzero(flat)
    right, below = flat[at + 1], flat[at + wide]
    diagonals = (
        (wide + 1, flat[at + wide + 1] & ~right & ~below),
        (wide - 1, flat[at + wide - 1] & ~flat[at - 1] & ~below),
    )
    number = np.full(flat.size, -1, dtype=np.int64)
    number[at] = np.arange(pixels.size)
    pairs = [
        np.column_stack([number[at[linked]], number[at[linked] + shift]])
        for shift, linked in ((1, right), (wide, below), *diagonals)
    ]
    return np.concatenate(pairs)


def _paths(edges: Array, degree: Array) -> tuple[Array, Array]:
    """Return node and path of all points, path by path, in walking order."""
    junction = degree >= 3
    ends_at = junction[edges].sum(axis=1)
    chain, rank, start, closing = _chains(edges[ends_at == 0], degree, junction)
    is_start = np.isin(np.arange(degree.size), start)
    plain = np.flatnonzero(~junction)
    n_chains = start.size
    front, back = _attachments(edges[ends_at == 1], junction, chain, is_start)
    bridges = edges[ends_at == 2]
    bridge_path = n_chains + np.arange(len(bridges))
    node = np.concatenate([plain, front[0], back[0], closing, bridges[:, 0], bridges[:, 1]])
    path = np.concatenate(
        [chain[plain], front[1], back[1], chain[closing], bridge_path, bridge_path]
    )
    place = np.concatenate(
        [
            rank[plain],
            np.full(front[0].size, -1),
            np.full(back[0].size + closing.size, degree.size + 1),
            np.zeros(len(bridges)),
            np.ones(len(bridges)),
        ]
    )
    order = np.lexsort((place, path))
    return node[order], path[order]


def _chains(edges: Array, degree: Array, junction: Array) -> tuple[Array, Array, Array, Array]:
    """Order the nodes between junctions.

    Returns
    -------
    chain, rank : ndarray of int64, shape (P,)
        Chain of each node (-1 at junctions) and its place in walking order.
    start : ndarray of int64
        First node of each chain.
    closing : ndarray of int64
        First node of each closed loop, to be walked to once more at the end.
    """
    n = degree.size
    inner = np.bincount(edges.ravel(), minlength=n)
    graph = _graph(edges, n)
    label = csgraph.connected_components(graph, directed=False)[1]
    plain = np.flatnonzero(~junction)
    # Sorting by (loose ends first, number) finds a start for each chain: an end where it has one.
    order = plain[np.lexsort((plain, inner[plain] == 2, label[plain]))]
    names, first = np.unique(label[order], return_index=True)
    start = order[first]
    closing = start[inner[start] == 2]
    opened = _graph(_cut_loops(edges, closing), n + 1, [(n, int(s)) for s in start])
    rank = np.zeros(n + 1, dtype=np.int64)
    walk = csgraph.breadth_first_order(opened, n, directed=False, return_predecessors=False)
    rank[walk] = np.arange(walk.size)
    chain = np.full(n, -1, dtype=np.int64)
    chain[plain] = np.searchsorted(names, label[plain])
    return chain, rank[:n], start, closing


def _cut_loops(edges: Array, closing: Array) -> Array:
    """Leave out one of the two edges at the first node of each closed loop."""
    touches = np.isin(edges, closing)
    at = np.flatnonzero(touches.any(axis=1))
    owner = np.where(touches[at, 0], edges[at, 0], edges[at, 1])
    _, first = np.unique(owner, return_index=True)
    return np.delete(edges, at[first], axis=0)


def _graph(edges: Array, n: int, more: list[tuple[int, int]] | None = None) -> sparse.csr_matrix:
    every = np.concatenate([edges, np.array(more or np.empty((0, 2)), dtype=np.int64)])
    ones = np.ones(len(every), dtype=np.int8)
    return sparse.csr_matrix((ones, (every[:, 0], every[:, 1])), shape=(n, n))


def _attachments(
    edges: Array, junction: Array, chain: Array, is_start: Array
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the junctions that chains begin and end on: ((nodes, chains), (nodes, chains))."""
    swap = junction[edges[:, 0]]
    outer = np.where(swap, edges[:, 0], edges[:, 1])
    inner = np.where(swap, edges[:, 1], edges[:, 0])
    # A chain of one pixel has both junctions at its start: the first goes before, one behind.
    order = np.lexsort((outer, ~is_start[inner], chain[inner]))
    outer, inner = outer[order], inner[order]
    leading = is_start[inner]
    leading[1:] &= chain[inner][1:] != chain[inner][:-1]
    return (outer[leading], chain[inner[leading]]), (outer[~leading], chain[inner[~leading]])


def _smooth(point: Array, path: Array) -> Array:
    """Average along each path, in windows that shrink to nothing at its ends."""
    n = path.size
    if not n:
        return point
    index = np.arange(n)
    begin = np.searchsorted(path, path, side="left")
    end = np.searchsorted(path, path, side="right") - 1
    half = np.minimum(np.minimum(index - begin, end - index), _SMOOTHING_PX)
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(point, axis=0)])
    mean = (total[index + half + 1] - total[index - half]) / (2 * half + 1)[:, None]
    return np.asarray(mean)


def _leaves_picture(lines: TracedLines) -> Array:
    """Whether each point is an end on the picture's border."""
    rows, columns = np.divmod(lines.pixels[lines.node], lines.shape[1])
    border = (rows == 0) | (rows == lines.shape[0] - 1)
    border |= (columns == 0) | (columns == lines.shape[1] - 1)
    return np.asarray(border & (lines.degree[lines.node] == 1))


def _crossings(lines: TracedLines) -> list[_Crossing]:
    """Group the junctions; directions are unit vectors (row, column) away from the crossing."""
    both = np.column_stack([lines.first_node, lines.last_node])
    at_junction = lines.degree[both] >= 3
    bridge = at_junction.all(axis=1) & (lines.path_length_px < _CROSSING_PX)
    bridge &= both[:, 0] != both[:, 1]
    graph = _graph(both[bridge], lines.degree.size)
    cluster = csgraph.connected_components(graph, directed=False)[1]
    bridges = np.flatnonzero(bridge)
    path, side = np.nonzero(at_junction & ~bridge[:, None])
    node, away = both[path, side], _away(lines, path, side)
    names, members = np.unique(cluster[node], return_inverse=True)
    ends = _grouped(members, names.size)
    home = cluster[both[bridges, 0]]
    known = np.isin(home, names)
    inside = _grouped(np.searchsorted(names, home[known]), names.size)
    return [
        _Crossing(bridges[known][over], path[here], node[here], away[here])
        for over, here in zip(inside, ends, strict=True)
    ]


def _grouped(group: Array, count: int) -> list[Array]:
    """Return for each of the groups 0 to count - 1 the indices of its members, in order."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(1, count))
    return np.split(order, bounds)


def _away(lines: TracedLines, path: Array, side: Array) -> Array:
    first = np.searchsorted(lines.path, path, side="left")
    last = np.searchsorted(lines.path, path, side="right") - 1
    near = np.where(side == 0, first, last)
    far = np.where(
        side == 0, np.minimum(first + _REACH_PX, last), np.maximum(last - _REACH_PX, first)
    )
    step = lines.point[far] - lines.point[near]
    return np.asarray(step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12))


def _straight_on(directions: Array) -> list[tuple[int, int]]:
    """Pair the ends at one crossing, most nearly opposite first; none in a tangle."""
    if len(directions) > _MOST_ENDS:
        return []
    facing = -(directions @ directions.T)
    limit = np.cos(np.radians(_MAX_BEND_DEG))
    one, other = np.nonzero(np.triu(facing > limit, 1))
    free = np.ones(len(directions), dtype=bool)
    pairs = []
    for k in np.argsort(-facing[one, other], kind="stable"):
        a, b = int(one[k]), int(other[k])
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return pairs


def _find(root: Array, i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = int(root[i])
    return i


def _union(root: Array, a: int, b: int) -> None:
    root[_find(root, int(a))] = _find(root, int(b))
