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
SMOOTHING_PX = 3


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
class JoinedPaths:
    """Which paths are one line, and how lines go through crossings.

    Parameters
    ----------
    line : ndarray of int64, shape (number of paths,)
        The line each path belongs to, numbered from 0 without gaps.
    first, last : ndarray of int64, shape (number of paths,)
        The points of each path, as indices into `TracedLines.point`, between which it counts; a
        path that is left out has `first` beyond `last`.
    chords : ndarray of int64, shape (C, 2)
        Pairs of points joined by a straight line.
    loose : ndarray of bool, shape (number of paths, 2)
        Whether the line ends at the first and at the last point of the path.
    meeting : ndarray of float64, shape (J, 2)
        Where lines meet, (row, column) in px; once for each line beyond the first.
    met : ndarray of float64, shape (number of lines,)
        How many others each line meets; where k meet at once, each meets 2 (k - 1) / k.
    """

    line: Array
    first: Array
    last: Array
    chords: Array
    loose: Array
    meeting: Array
    met: Array

    @property
    def n_lines(self) -> int:
        """Number of lines."""
        return int(self.met.size)


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps between successive points of all lines.

    Parameters
    ----------
    line : ndarray of int64, shape (S,)
    start, stop : ndarray of float64, shape (S, 2)
        Smoothed (row, column) in px. The last step of a line that leaves the picture is half as
        long again, since the line goes on to the edge of its last pixel.
    length_px : ndarray of float64, shape (S,)
        Length inside the counted area: steps into an ignored pixel count half, steps inside
        ignored area not.
    """

    line: Array
    start: Array
    stop: Array
    length_px: Array

    @property
    def middle(self) -> Array:
        """(row, column) of the middle of each step in px, shape (S, 2)."""
        return np.asarray((self.start + self.stop) / 2)


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
        From `line_crossings.join_paths` or `as_traced`.
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.
    """
    at = np.flatnonzero(lines.path[1:] == lines.path[:-1])
    path = lines.path[at]
    at = at[(at >= joined.first[path]) & (at < joined.last[path])]
    start, stop = lines.point[at], lines.point[at + 1]
    leaves, along = _leaves_picture(lines), stop - start
    start = start - 0.5 * leaves[at, None] * along
    stop = stop + 0.5 * leaves[at + 1, None] * along
    number, piece, from_px, to_px = _chord_steps(lines, joined.chords)
    valid = np.ones(lines.node.size)
    if ignore is not None:
        valid = 1.0 - ignore.ravel()[lines.pixels[lines.node]]
    weight = np.concatenate([valid[at] + valid[at + 1], (valid[joined.chords].sum(axis=1))[number]])
    start, stop = np.concatenate([start, from_px]), np.concatenate([stop, to_px])
    return Steps(
        np.concatenate([joined.line[lines.path[at]], joined.line[piece]]),
        start,
        stop,
        np.linalg.norm(stop - start, axis=1) * weight / 2,
    )


def as_traced(lines: TracedLines) -> JoinedPaths:
    """Take each path for a line of its own, whatever happens at junctions."""
    first, last = path_bounds(lines)
    return JoinedPaths(
        np.arange(lines.n_paths),
        first,
        last,
        np.empty((0, 2), dtype=np.int64),
        np.ones((lines.n_paths, 2), dtype=bool),
        np.empty((0, 2)),
        np.zeros(lines.n_paths),
    )


def path_bounds(lines: TracedLines) -> tuple[Array, Array]:
    """Return the first and the last point of each path, as indices into `TracedLines.point`."""
    bounds = np.searchsorted(lines.path, np.arange(lines.n_paths + 1))
    return bounds[:-1], bounds[1:] - 1


def line_ends(lines: TracedLines, joined: JoinedPaths) -> tuple[Array, Array]:
    """Return the ends of lines inside the picture: line, and (row, column) in px.

    Where a line leaves the picture it does not end; a closed loop has no end.
    """
    first, last = path_bounds(lines)
    point = np.column_stack([first, last])
    ends = joined.loose & ~_leaves_picture(lines)[point]
    ends &= (lines.first_node != lines.last_node)[:, None] & (joined.first <= joined.last)[:, None]
    path, side = np.nonzero(ends)
    return joined.line[path], lines.point[point[path, side]]


def _chord_steps(lines: TracedLines, chords: Array) -> tuple[Array, Array, Array, Array]:
    """Cut chords into steps of at most a pixel: number of the chord, its path, start, stop."""
    start, along = lines.point[chords[:, 0]], np.diff(lines.point[chords], axis=1)[:, 0]
    parts = np.maximum(np.ceil(np.hypot(along[:, 0], along[:, 1])), 1).astype(np.int64)
    number = np.repeat(np.arange(parts.size), parts)
    place = np.arange(number.size) - np.repeat(np.cumsum(parts) - parts, parts)
    step = (along / parts[:, None])[number]
    begin = start[number] + place[:, None] * step
    return number, lines.path[chords[number, 0]], begin, begin + step


def line_table(
    lines: TracedLines, joined: JoinedPaths, cut: Steps, spacing: float, length_unit: str
) -> pd.DataFrame:
    """One row a line, joined through its crossings.

    Parameters
    ----------
    lines : TracedLines
    joined : JoinedPaths
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
    line, n = cut.line, joined.n_lines
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
    graph = linked(edges, n)
    label = csgraph.connected_components(graph, directed=False)[1]
    plain = np.flatnonzero(~junction)
    # Sorting by (loose ends first, number) finds a start for each chain: an end where it has one.
    order = plain[np.lexsort((plain, inner[plain] == 2, label[plain]))]
    names, first = np.unique(label[order], return_index=True)
    start = order[first]
    closing = start[inner[start] == 2]
    opened = linked(_cut_loops(edges, closing), n + 1, [(n, int(s)) for s in start])
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


def linked(edges: Array, n: int, more: list[tuple[int, int]] | None = None) -> sparse.csr_matrix:
    """Return the graph of `n` nodes with these edges, and `more`."""
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
    half = np.minimum(np.minimum(index - begin, end - index), SMOOTHING_PX)
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(point, axis=0)])
    mean = (total[index + half + 1] - total[index - half]) / (2 * half + 1)[:, None]
    return np.asarray(mean)


def _leaves_picture(lines: TracedLines) -> Array:
    """Whether each point is an end on the picture's border."""
    rows, columns = np.divmod(lines.pixels[lines.node], lines.shape[1])
    border = (rows == 0) | (rows == lines.shape[0] - 1)
    border |= (columns == 0) | (columns == lines.shape[1] - 1)
    return np.asarray(border & (lines.degree[lines.node] == 1))
