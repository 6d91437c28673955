"""What may be wrong on one micrograph of a batch, type by type, as plain rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defectops.measurement.doubts import list_doubts, named_covered

if TYPE_CHECKING:
    from defectops.measurement.doubt_rows import Doubt
    from defectops.micrograph import Array
    from defectops.workflows.batch_measuring import ImageResult, Seen

Row = dict[str, Any]

_MOST_OF_AN_IMAGE = 50
_DIGITS = 6


def kept_name(defect: str) -> str:
    """Return under what name the doubts about one type are kept."""
    return f"{defect}_doubts.json"


def add_doubts(result: ImageResult, seen: Sequence[Seen]) -> None:
    """Keep the gravest doubts about one micrograph, fifty for each type.

    Particles of the other types tell where a doubt is of a void over a precipitate or the reverse.
    """
    particles = {
        s.segmenter.defect.key: s.labels > 0 for s in seen if s.segmenter.defect.shape == "particle"
    }
    for one in seen:
        key = one.segmenter.defect.key
        with result.timed(key, "doubts"):
            rows = _rows(one, {k: mask for k, mask in particles.items() if k != key})
        result.kept[kept_name(key)] = json.dumps(rows, allow_nan=False).encode()


def _rows(seen: Seen, others: Mapping[str, Array]) -> list[Row]:
    """Return the gravest doubts about one type as plain values."""
    segmenter = seen.segmenter
    lines = segmenter.defect.shape == "line"
    doubts = list_doubts(
        seen.probability,
        segmenter.model.bundle.threshold,
        segmenter.defect.shape,
        segmenter.options,
        instances=None if lines else seen.labels,
        ignore=seen.ignore,
    )[:_MOST_OF_AN_IMAGE]
    if not lines:
        doubts = named_covered(doubts, others)
    columns_px = seen.labels.shape[1]
    return [_plain(d, columns_px) | _line_label(d, seen.labels, lines=lines) for d in doubts]


def _plain(doubt: Doubt, columns_px: int) -> Row:
    row = doubt.row(columns_px)
    return {k: float(f"{v:.{_DIGITS}g}") if isinstance(v, float) else v for k, v in row.items()}


def _line_label(doubt: Doubt, labels: Array, *, lines: bool) -> Row:
    """Return the number of the line that a stretch belongs to for the most part."""
    if not lines:
        return {}
    on = np.bincount(labels.ravel()[doubt.at])
    return {"label": int(on.argmax()) if 2 * on.max() > doubt.at.size else 0}
