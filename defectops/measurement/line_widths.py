"""How wide lines are drawn: on the whole, and along each path between ends and junctions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

if TYPE_CHECKING:
    from defectops.measurement.lines import TracedLines

Array = npt.NDArray[Any]

# Beyond this reach (garbage, or very thick lines) the distance map of the whole picture is quicker
# than looking around each pixel of a centre line.
_LOOK_AROUND_PX = 12


def line_widths(lines: TracedLines, mask: Array) -> tuple[float, Array]:
    """Return the width of a line on its own and the mean width of the mask along each path.

    Parameters
    ----------
    lines : TracedLines
    mask : ndarray of bool, shape (H, W)
        That was thinned to them.

    Returns
    -------
    width_px : float
        Area of the mask over length of its lines, at least 1; 1 for an empty mask.
    path_width_px : ndarray of float64, shape (number of paths,)
        Twice the distance from the centre line to the nearest pixel outside, on the mean, scaled so
        that its mean over all paths but the short ones between two junctions is `width_px`.
    """
    length = float(lines.path_length_px.sum())
    width = max(float(mask.sum()) / length, 1.0) if length > 0 else 1.0
    # Of two lines side by side the mask is at most two widths wide; beyond, nothing is told apart.
    wide = 2 * _distances(mask, lines.pixels, int(np.ceil(width)) + 1)[lines.node] - 1
    points = np.maximum(np.bincount(lines.path, minlength=lines.n_paths), 1)
    each = np.bincount(lines.path, weights=wide, minlength=lines.n_paths) / points
    both = np.column_stack([lines.first_node, lines.last_node])
    between = (lines.degree[both] >= 3).all(axis=1)
    alone = ~between | (lines.path_length_px > 3 * width)
    total = float(points[alone].sum())
    typical = float((each * points)[alone].sum()) / total if total else 1.0
    return width, each / typical * width


def _distances(mask: Array, at: Array, most_px: int) -> Array:
    """Distance from pixels of a mask to the nearest pixel outside it, none beyond `most_px`."""
    if mask.all():
        return np.full(at.size, float(most_px))
    if most_px > _LOOK_AROUND_PX:
        away: Array = ndimage.distance_transform_edt(mask).ravel()
        return np.minimum(away[at], float(most_px))
    padded = np.pad(mask, most_px, constant_values=True)
    across = padded.shape[1]
    rows, columns = np.divmod(at, mask.shape[1])
    place = (rows + most_px) * across + columns + most_px
    reach = np.arange(-most_px, most_px + 1)
    away = np.hypot(reach[:, None], reach).ravel()
    shift = (reach[:, None] * across + reach).ravel()
    outside = ~padded.ravel()
    found = np.full(at.size, float(most_px))
    open_ = np.arange(at.size)
    for k in np.argsort(away, kind="stable"):
        if away[k] >= most_px or not open_.size:
            break
        hit = outside[place[open_] + shift[k]]
        found[open_[hit]] = away[k]
        open_ = open_[~hit]
    return found
