"""The same mask as it might as well have been drawn: at other thresholds, its edges moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import expand_labels

from defectops.measurement.budget import SEGMENTATION

if TYPE_CHECKING:
    from defectops.micrograph import Array
    from defectops.workflows.mask_sources import MeasureRequest

_CROSS = ndimage.generate_binary_structure(2, 1)
_LOWEST, _HIGHEST = 0.01, 0.99


def variants(values: Array, plane: Array, request: MeasureRequest) -> list[tuple[str, str, Array]]:
    """Return the same mask as it might as well have been drawn."""
    found: list[tuple[str, str, Array]] = []
    if request.threshold is not None and request.threshold_spread > 0:
        for at in (
            max(request.threshold - request.threshold_spread, _LOWEST),
            min(request.threshold + request.threshold_spread, _HIGHEST),
        ):
            found.append((SEGMENTATION, f"threshold {at:g}", values >= at))
    if request.edge_px:
        px = request.edge_px
        found.append((SEGMENTATION, f"edges {px} px further out", moved_edges(plane, px)))
        found.append((SEGMENTATION, f"edges {px} px further in", moved_edges(plane, -px)))
    return found


def moved_edges(plane: Array, px: int) -> Array:
    """Move the edges of a mask, or of each object of instance labels, out (px > 0) or in."""
    if plane.dtype == bool:
        if px > 0:
            return np.asarray(ndimage.binary_dilation(plane, _CROSS, iterations=px))
        # Outside the picture a particle goes on: its cut edge does not move.
        return np.asarray(ndimage.binary_erosion(plane, _CROSS, iterations=-px, border_value=1))
    if px > 0:
        return np.asarray(expand_labels(plane, px))
    shrunk = plane.copy()
    for _ in range(-px):
        low = ndimage.minimum_filter(shrunk, footprint=_CROSS, mode="nearest")
        high = ndimage.maximum_filter(shrunk, footprint=_CROSS, mode="nearest")
        shrunk = np.where(low == high, shrunk, 0)
    return shrunk
