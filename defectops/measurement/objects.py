"""From a mask to objects: particles separated from each other, lines thinned to their centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

from defectops.errors import LabelRefused
from defectops.measurement.concavity import split_at_notches
from defectops.measurement.distances import edge_distance, local_maxima
from defectops.measurement.lines import TracedLines, trace

Array = npt.NDArray[Any]

_EIGHT = np.ones((3, 3), dtype=bool)
# Lines that leave the picture are thinned on a plane extended by this many repeated border
# pixels, else thinning would eat their ends as it does with real ends.
_MARGIN_PX = 16
_PRUNING_PASSES = 12
# Thinning forks the blunt end of a line into its two corners, 0.71 widths away.
_FORK = 0.75


def _removable() -> tuple[Array, Array]:
    """Tables of Guo and Hall's two passes over the 256 neighbourhoods, clockwise from north."""
    n, ne, e, se, s, sw, w, nw = ((np.arange(256) >> bit & 1).astype(bool) for bit in range(8))
    crossings = sum(
        (~side & (corner | next_side)).astype(int)
        for side, corner, next_side in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))
    )
    one = sum((a | b).astype(int) for a, b in ((nw, n), (ne, e), (se, s), (sw, w)))
    other = sum((a | b).astype(int) for a, b in ((n, ne), (e, se), (s, sw), (w, nw)))
    neighbours = np.minimum(one, other)
    simple = (crossings == 1) & (neighbours >= 2) & (neighbours <= 3)
    return simple & ~((n | ne | ~se) & e), simple & ~((s | sw | ~nw) & w)


_REMOVABLE = _removable()
_SURROUNDED = 255  # all eight neighbours set; such a pixel is never removed


@dataclass(frozen=True)
class ObjectOptions:
    """What counts as one object; all lengths in pixels of the mask.

    Parameters
    ----------
    min_area_px : int
        Connected pieces of fewer pixels are specks and dropped.
    max_hole_px : int
        Holes in particles of at most this many pixels are filled.
    max_line_hole_px : int
        The same between and in lines; smaller, since three crossing lines enclose real holes.
    separation_px : float
        Two maxima of the distance map are two particles if the neck between them is thinner than
        the smaller one by more than this (half-widths); the ``h`` of an h-maxima transform.
    separation_fraction : float
        The same as a fraction of the smaller half-width; the larger of both decides, so that a
        large irregular particle is not cut where a small one would be.
    max_spur_px : float
        Side branches of a centre line shorter than this, or than three quarters of the lines'
        width, are artefacts of thinning and pruned.
    min_line_px : float
        Separate lines shorter than this in total are dropped.
    """

    min_area_px: int = 12
    max_hole_px: int = 12
    max_line_hole_px: int = 4
    separation_px: float = 0.75
    separation_fraction: float = 0.05
    max_spur_px: float = 5.0
    min_line_px: float = 8.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (np.isfinite(value) and value >= 0):
                raise LabelRefused(
                    "objects", "E_CONFIG", f"{name} must be zero or positive, got {value!r}"
                )


def label_particles(mask: Array, options: ObjectOptions | None = None) -> Array:
    """Label the particles of a mask, touching ones apart.

    Small holes are filled, specks dropped, and what is left is flooded from the maxima of its
    distance map. Neighbouring basins are joined again, highest saddle first, unless the neck
    between them is thinner than the smaller of both by ``max(separation_px, separation_fraction *
    half-width)``. With a constant depth this is the h-maxima watershed.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Bool, or anything that is non-zero inside particles.
    options : ObjectOptions, optional

    Returns
    -------
    ndarray of int32, shape (H, W)
        0 outside, particles numbered from 1 without gaps. An empty mask gives zeros.

    Notes
    -----
    Not for particles that overlap in projection by more than about half their width: their union
    shows one maximum, and no rule on the outline alone can tell.

    References
    ----------
    Beucher, S. and Meyer, F., in *Mathematical Morphology in Image Processing*, 1993 (watershed).
    Soille, P., *Morphological Image Analysis*, 2003, doi:10.1007/978-3-662-05088-0 (h-maxima).
    """
    chosen = options or ObjectOptions()
    clean = _clean(_plane(mask), chosen.min_area_px, chosen.max_hole_px)
    distance = edge_distance(clean)
    peaks = clean & local_maxima(distance)
    markers, count = ndimage.label(peaks, structure=_EIGHT)
    if not count:
        return np.zeros(clean.shape, dtype=np.int32)
    basins = watershed(-distance, markers, mask=clean, connectivity=2)
    height = np.zeros(count + 1)
    np.maximum.at(height, markers[peaks], distance[peaks])
    root = _join_basins(basins, distance, height, chosen)
    _, numbered = np.unique(root, return_inverse=True)
    return np.asarray(numbered.astype(np.int32)[basins])


def thin_lines(mask: Array, options: ObjectOptions | None = None) -> Array:
    """Return the centre lines of a mask of lines, one pixel wide.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Bool, or anything that is non-zero on lines.
    options : ObjectOptions, optional

    Returns
    -------
    ndarray of bool, shape (H, W)
        Thinned, side branches below ``max_spur_px`` pruned, shortest first, and separate lines
        below ``min_line_px`` dropped. The result hardly depends on how wide the lines were drawn,
        as long as neighbouring lines do not merge: ends recede by about half the width, as much as
        a wider pen sticks out.
    """
    return centre_lines(clean_lines(mask, options), options)


def clean_lines(mask: Array, options: ObjectOptions | None = None) -> Array:
    """Return a mask of lines with small holes filled and specks dropped, bool, shape (H, W)."""
    chosen = options or ObjectOptions()
    return _clean(_plane(mask), chosen.min_area_px, chosen.max_line_hole_px)


def centre_lines(clean: Array, options: ObjectOptions | None = None) -> Array:
    """Return the centre lines of a mask from `clean_lines`; see `thin_lines`."""
    chosen = options or ObjectOptions()
    if not clean.any():
        return clean
    extended = np.pad(clean, _MARGIN_PX, mode="edge")
    thin = thinned(extended)
    width_px = extended.sum() / thin.sum()
    centre, lines = _pruned(thin, max(chosen.max_spur_px, _FORK * width_px))
    centre = _drop_short(centre, lines, chosen.min_line_px)
    inner = slice(_MARGIN_PX, -_MARGIN_PX)
    return np.ascontiguousarray(centre[inner, inner])


def thinned(mask: Array) -> Array:
    """Thin a mask to lines one pixel wide, by the algorithm of Guo and Hall.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)

    Returns
    -------
    ndarray of bool, shape (H, W)
        As connected as the mask, its ends kept. Empty for an empty mask.

    Notes
    -----
    The same pixels as ``skimage.morphology.thin``, which visits the whole plane each time where
    this visits the rim of what is left of the mask. Not ``skimage.morphology.skeletonize``: the
    algorithm of Zhang and Suen eats straight lines within a few degrees of a diagonal, up to the
    whole line.

    References
    ----------
    Guo, Z. and Hall, R. W., Commun. ACM 32, 359 (1989), doi:10.1145/62065.62074.
    """
    plane = np.pad(np.asarray(mask, dtype=bool), 1)
    wide = plane.shape[1]
    around = np.array([-wide, 1 - wide, 1, wide + 1, wide, wide - 1, -1, -wide - 1])
    flat = plane.ravel()
    rim = np.flatnonzero(flat)
    rim = rim[_neighbourhoods(flat, rim, around) != _SURROUNDED]
    known = np.zeros(flat.size, dtype=bool)
    known[rim] = True
    changed = True
    while changed:
        changed = False
        for removable in _REMOVABLE:
            gone = removable[_neighbourhoods(flat, rim, around)]
            bare = rim[gone]
            flat[bare] = False
            near = (bare[:, None] + around).ravel()
            near = np.unique(near[flat[near] & ~known[near]])
            known[near] = True
            rim = np.concatenate([rim[~gone], near])
            changed |= bool(bare.size)
    return np.ascontiguousarray(plane[1:-1, 1:-1])


def _neighbourhoods(flat: Array, at: Array, around: Array) -> Array:
    """Return the 8 neighbours of pixels as bits, clockwise from north."""
    code = np.zeros(at.size, dtype=np.intp)
    for bit, shift in enumerate(around):
        code |= flat[at + shift].astype(np.intp) << bit
    return code


def label_by_notches(mask: Array, options: ObjectOptions | None = None) -> Array:
    """Label the particles of a mask, touching ones apart where their common outline is notched.

    As `label_particles`, with `concavity.split_at_notches` in place of the watershed: a second
    opinion that shows how far the separation decides a count.
    """
    chosen = options or ObjectOptions()
    clean = _clean(_plane(mask), chosen.min_area_px, chosen.max_hole_px)
    return split_at_notches(clean, chosen.min_area_px)


def as_instances(mask_or_instances: Array, options: ObjectOptions | None = None) -> Array:
    """Return instance labels: given ones as they are, a mask through `label_particles`.

    Parameters
    ----------
    mask_or_instances : ndarray, shape (H, W)
        Bool, or unsigned 8-bit with 0 and 255 only: a mask. Any other integers: instance labels,
        0 outside; neither cleaned nor separated, since somebody numbered them on purpose.
    options : ObjectOptions, optional
        For a mask.

    Raises
    ------
    LabelRefused
        Not a plane, or neither bool nor integer.
    """
    plane = np.asarray(mask_or_instances)
    if plane.ndim != 2 or plane.dtype.kind not in "biu":
        raise LabelRefused(
            "label",
            "E_LABEL",
            f"a mask is a plane of bool, instance labels a plane of integers; got shape "
            f"{plane.shape} of {plane.dtype}",
        )
    return label_particles(plane > 0, options) if is_mask(plane) else plane


def is_mask(plane: Array) -> bool:
    """Whether a plane is a mask: bool, or unsigned 8-bit with 0 and 255 only."""
    if plane.dtype == bool:
        return True
    return plane.dtype == np.uint8 and not bool(((plane > 0) & (plane < 255)).any())


def _plane(mask: Array) -> Array:
    plane = np.asarray(mask)
    if plane.ndim != 2:
        raise LabelRefused("mask", "E_LABEL", f"a mask is one plane, got shape {plane.shape}")
    return plane if plane.dtype == bool else plane != 0


def _clean(mask: Array, min_area_px: int, max_hole_px: int) -> Array:
    # Objects connect diagonally, so holes must not (else a diagonal chain would leak).
    filled = mask | _pieces_below(~mask, max_hole_px + 1, structure=None)
    return np.asarray(filled & ~_pieces_below(filled, min_area_px, structure=_EIGHT))


def _pieces_below(mask: Array, size: int, structure: Array | None) -> Array:
    pieces, _ = ndimage.label(mask, structure=structure)
    small = np.bincount(pieces.ravel()) < size
    small[0] = False
    return np.asarray(small[pieces])


def _join_basins(basins: Array, distance: Array, height: Array, options: ObjectOptions) -> Array:
    """Return for each basin, 0 the outside, the basin that stands for its particle.

    `height` is the distance at the maximum of each basin.
    """
    one, other, saddle = _saddles(basins, distance)
    root = list(range(height.size))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for k in np.argsort(-saddle, kind="stable"):
        low, high = sorted((find(int(one[k])), find(int(other[k]))), key=lambda i: height[i])
        needed = max(options.separation_px, options.separation_fraction * height[low])
        if low != high and height[low] - saddle[k] < needed:
            root[low] = high
    return np.array([find(i) for i in range(height.size)])


def _saddles(basins: Array, distance: Array) -> tuple[Array, Array, Array]:
    """Return pairs of touching basins and the half-width of the neck between them."""
    pairs = [_touching(basins, distance, *shift) for shift in ((0, 1), (1, 0), (1, 1), (1, -1))]
    one, other, neck = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.lexsort((neck, other, one))
    one, other, neck = one[order], other[order], neck[order]
    # The saddle is the widest passage: the last of each pair after sorting.
    last = np.ones(one.size, dtype=bool)
    last[:-1] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    return one[last], other[last], neck[last]


def _touching(basins: Array, distance: Array, down: int, right: int) -> tuple[Array, Array, Array]:
    rows, columns = basins.shape
    here = (slice(0, rows - down), slice(max(0, -right), columns - max(0, right)))
    there = (slice(down, rows), slice(max(0, right), columns + min(0, right)))
    a, b = basins[here], basins[there]
    meet = (a != b) & (a > 0) & (b > 0)
    neck = np.minimum(distance[here][meet], distance[there][meet])
    return np.minimum(a[meet], b[meet]), np.maximum(a[meet], b[meet]), neck


def _pruned(centre: Array, max_spur_px: float) -> tuple[Array, TracedLines]:
    """Return centre lines without spurs, and their paths."""
    lines = trace(centre)
    for _ in range(_PRUNING_PASSES):
        spurs = _shortest_spurs(lines, max_spur_px)
        if not spurs.size:
            break
        centre = centre.copy()
        doomed = np.isin(lines.path, spurs) & (lines.degree[lines.node] < 3)
        centre.ravel()[lines.pixels[lines.node[doomed]]] = False
        centre = thinned(centre)
        lines = trace(centre)
    return centre, lines


def _shortest_spurs(lines: TracedLines, max_spur_px: float) -> Array:
    """Return the paths to prune now: at each junction only the shortest of its spurs.

    A forked end has two spurs; pruning both would shorten the line itself.
    """
    ends = np.column_stack([lines.first_node, lines.last_node])
    degree = lines.degree[ends]
    spur = (degree.min(axis=1) == 1) & (degree.max(axis=1) >= 3)
    spur &= lines.path_length_px < max_spur_px
    which = np.flatnonzero(spur)
    junction = np.where(degree[which, 0] >= 3, ends[which, 0], ends[which, 1])
    order = np.lexsort((which, lines.path_length_px[which], junction))
    _, first = np.unique(junction[order], return_index=True)
    return np.asarray(which[order][first])


def _drop_short(centre: Array, lines: TracedLines, min_line_px: float) -> Array:
    pieces, count = ndimage.label(centre, structure=_EIGHT)
    piece = pieces.ravel()[lines.pixels[lines.first_node]]
    length = np.bincount(piece, weights=lines.path_length_px, minlength=count + 1)
    keep = length >= min_line_px
    keep[0] = False
    return np.asarray(keep[pieces])
