"""What a trial's model sees on dev, as one small picture that costs next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from defectops.measurement.agreement import comparison_map
from defectops.micrograph import Array, Region

if TYPE_CHECKING:
    from defectops.learning.inference import LoadedModel
    from defectops.micrograph import Field

EDGE_PX = 384


def dev_picture(model: LoadedModel, dev: Sequence[Field], edge_px: int = EDGE_PX) -> Array:
    """Return a piece of the dev side beside its comparison map.

    Parameters
    ----------
    model : LoadedModel
    dev : sequence of Field
        With a labelled pixel in at least one.
    edge_px : int
        Edge of the piece; of several places, the one with most labelled pixels.

    Returns
    -------
    ndarray of uint8, shape (h, 2 w, 3)
        ``h, w`` at most `edge_px`. The map has the colours of `agreement`.
    """
    field, place = max(
        ((f, r) for f in dev for r in _places(f.label.shape, edge_px)),
        key=lambda found: int(found[0].label[found[1].slices].sum()),
    )
    plane = field.intensity[place.slices]
    mask = model.probability(plane) >= model.bundle.threshold
    compared = comparison_map(mask, field.label[place.slices], field.ignore[place.slices])
    low, high = np.percentile(plane, (0.5, 99.5))
    grey = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return np.hstack([np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), compared])


def _places(shape: tuple[int, int], edge_px: int) -> list[Region]:
    """Return squares of an edge that cover a field; the whole length where it is shorter."""
    spans = []
    for length in shape:
        edge = min(edge_px, length)
        starts = {*range(0, length - edge + 1, edge), length - edge}
        spans.append([(s, s + edge) for s in sorted(starts)])
    rows, columns = spans
    return [Region(*r, *c) for r in rows for c in columns]
