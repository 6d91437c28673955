"""Cut a plane into overlapping windows and blend what comes back; the weights sum to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from defectops.errors import SettingsRefused
from defectops.micrograph import Array, Region


@dataclass(frozen=True)
class TilingOptions:
    """Size of the windows in which a plane is processed.

    Parameters
    ----------
    window_px : int
        Edge of a window; bounds the memory, not the result.
    overlap_px : int
        Pixels that neighbouring windows share; at least twice the reach of the network, so that
        each pixel is seen with its full context by some window.
    margin_px : int
        Pixels along the inner edges of a window that are left to its neighbours; at most half
        of the overlap. With the reach of the network, windows give what the whole plane gives.
    """

    window_px: int = 1024
    overlap_px: int = 128
    margin_px: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap_px < self.window_px:
            raise SettingsRefused(
                "tiling",
                "E_CONFIG",
                f"overlap_px must be 0 to below window_px = {self.window_px}, "
                f"got {self.overlap_px}",
            )
        if not 0 <= 2 * self.margin_px <= self.overlap_px:
            raise SettingsRefused(
                "tiling",
                "E_CONFIG",
                f"margin_px must be 0 to half of overlap_px = {self.overlap_px}, "
                f"got {self.margin_px}",
            )


def windows(shape: tuple[int, int], options: TilingOptions) -> list[Region]:
    """Return windows that cover a plane of `shape`, row by row; the last ones reach the edge.

    >>> [(w.top, w.bottom) for w in windows((10, 4), TilingOptions(4, 1))]
    [(0, 4), (3, 7), (6, 10)]
    """
    rows = _spans(shape[0], options)
    columns = _spans(shape[1], options)
    return [Region(t, b, le, r) for t, b in rows for le, r in columns]


def process(plane: Array, apply: Callable[[Array], Array], options: TilingOptions) -> Array:
    """Apply a function window by window and blend the results.

    Parameters
    ----------
    plane : ndarray, shape (H, W)
    apply : callable
        Takes a window, returns an array of the same shape.
    options : TilingOptions

    Returns
    -------
    ndarray of float32, shape (H, W)
        In an overlap the windows are blended linearly, so no seam shows.
    """
    total = np.zeros(plane.shape, np.float32)
    for region, weight in weighted_windows((plane.shape[0], plane.shape[1]), options):
        total[region.slices] += weight * apply(plane[region.slices])
    return total


def weighted_windows(
    shape: tuple[int, int], options: TilingOptions
) -> Iterator[tuple[Region, Array]]:
    """Yield each window with its blending weights; at every pixel all weights sum to one."""
    rows = _spans(shape[0], options)
    columns = _spans(shape[1], options)
    row_weights = _ramps(rows, shape[0], options.margin_px)
    column_weights = _ramps(columns, shape[1], options.margin_px)
    for (top, bottom), down in zip(rows, row_weights, strict=True):
        for (left, right), across in zip(columns, column_weights, strict=True):
            yield Region(top, bottom, left, right), np.outer(down, across).astype(np.float32)


def _spans(length: int, options: TilingOptions) -> list[tuple[int, int]]:
    size = min(options.window_px, length)
    step = max(1, options.window_px - options.overlap_px)
    starts = list(range(0, max(1, length - size + 1), step))
    if starts[-1] + size < length:
        starts.append(length - size)
    return [(s, s + size) for s in starts]


def _ramps(spans: list[tuple[int, int]], length: int, margin_px: int) -> list[Array]:
    raw = []
    for start, stop in spans:
        # Distance to the margin at the nearer end; the picture's own edges count as far away.
        inside = np.maximum(np.arange(stop - start) + 1.0 - margin_px, 0)
        before = inside if start > 0 else np.full(stop - start, np.inf)
        after = inside[::-1] if stop < length else np.full(stop - start, np.inf)
        raw.append(np.minimum(np.minimum(before, after), 1e6))
    total = np.zeros(length)
    for (start, stop), ramp in zip(spans, raw, strict=True):
        total[start:stop] += ramp
    return [ramp / total[a:b] for (a, b), ramp in zip(spans, raw, strict=True)]
