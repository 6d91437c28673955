"""What a model may have got wrong in one field, in the order of its effect on the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from defectops.errors import LabelRefused
from defectops.measurement.agreement import refuse_unlike_shapes
from defectops.measurement.doubt_rows import (
    COVERED,
    INVENTED,
    MISSED,
    Array,
    Doubt,
    Seen,
    doubt_table,
)
from defectops.measurement.labelling import relative_chance
from defectops.measurement.line_doubts import line_doubts
from defectops.measurement.particle_doubts import particle_doubts
from defectops.measurement.quantities import MeasureOptions, counted_pixels

if TYPE_CHECKING:
    import pandas as pd


# A doubt that would move no number by this part of a percent is not worth a look.
_LEAST_SCORE_PERCENT = 1e-3
# Void and precipitate cancel where at least this part of the doubtful pixels lies on the other.
_COVERED_SHARE = 0.25
_BAND_ROWS = 256


def find_doubts(  # noqa: PLR0913 - what is known of one field
    probability: Array,
    threshold: float,
    shape: Literal["line", "particle"],
    options: MeasureOptions | None = None,
    *,
    instances: Array | None = None,
    ignore: Array | None = None,
    others: Mapping[str, Array] | None = None,
) -> pd.DataFrame:
    """List what may be wrong with the objects of one field, the gravest first.

    Every doubt is an alternative reading of some pixels. It is scored by ``chance`` that the
    alternative is right times what it would change, in percent of this field's density or mean
    diameter, whichever moves more.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        As the network gives it.
    threshold : float
        The model's operating point.
    shape : {"line", "particle"}
    options : MeasureOptions, optional
        As the field was measured: what counts as an object, and the border rule.
    instances : ndarray of int, shape (H, W), optional
        Particles as they were measured, numbered from 1; found anew if not given.
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.
    others : mapping of str to ndarray of bool, shape (H, W), optional
        Pixels of the other defect types on the same micrograph. A doubt of `MISSED` or `INVENTED`
        with at least a quarter of its pixels on them is called `COVERED`: a void over a precipitate
        and the reverse, where two contrasts cancel and the probability says least.

    Returns
    -------
    DataFrame
        Columns `doubt_rows.COLUMNS` with the largest ``score`` first; no rows if every
        probability is 0 or 1 and no particle has a waist:

        ``kind``
            ``missed``, ``invented``, ``merged`` (two counted as one), ``split`` (one counted
            several times), ``widened`` (outline uncertain) or ``covered``.
        ``top_px, bottom_px, left_px, right_px``
            Box, half-open.
        ``label, other_label``
            Numbers of the particles concerned; 0 for none.
        ``over``
            The other defect type of a covered one, else empty.
        ``chance``
            Between 0 and 1, see below.
        ``objects, length_px``
            What the count or the length of lines would change by, after the border rule.
        ``density_percent, diameter_percent``
            The same as percent of the density and of the mean diameter of this field as measured,
            or, where nothing was found, of what would be measured then.
        ``score``
            ``chance`` times the larger of both.

    Raises
    ------
    LabelRefused
        Shapes differ, everything is ignored, or probabilities outside 0 to 1.

    Notes
    -----
    Probabilities are taken relative to the threshold (`labelling.relative_chance`), so that pixels
    of the mask have a chance above one half. They are those of a network and not calibrated:
    they order the list, and ``benchmarks/doubts.py`` shows how well. What the model is sure of and
    wrong about, such as a void that leaves no trace in the probability, is on no such list.
    """
    given = options or MeasureOptions()
    doubts = list_doubts(probability, threshold, shape, given, instances=instances, ignore=ignore)
    return doubt_table(named_covered(doubts, others or {}), np.shape(probability)[1])


def list_doubts(
    probability: Array,
    threshold: float,
    shape: Literal["line", "particle"],
    options: MeasureOptions,
    *,
    instances: Array | None = None,
    ignore: Array | None = None,
) -> list[Doubt]:
    """Return the doubts of `find_doubts` with their pixels, the largest score first."""
    plane = np.asarray(probability)
    if plane.ndim != 2 or not bool(((plane >= 0) & (plane <= 1)).all()):
        raise LabelRefused(
            "probability", "E_LABEL", f"one plane within 0 to 1 is needed, got shape {plane.shape}"
        )
    refuse_unlike_shapes(plane, plane if instances is None else instances, ignore)
    seen = Seen(
        chance=_chances(plane, threshold),
        found=plane >= threshold,
        counted=counted_pixels(plane.shape, ignore),
        options=options,
        instances=instances,
    )
    doubts = line_doubts(seen) if shape == "line" else particle_doubts(seen)
    worth = [doubt for doubt in doubts if doubt.score > _LEAST_SCORE_PERCENT]
    return sorted(worth, key=lambda doubt: -doubt.score)


def _chances(plane: Array, threshold: float) -> Array:
    """Return chances relative to the threshold as float32, band by band to save memory."""
    found = np.empty(plane.shape, dtype=np.float32)
    for top in range(0, plane.shape[0], _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        found[band] = relative_chance(plane[band], threshold)
    return found


def named_covered(doubts: Sequence[Doubt], others: Mapping[str, Array]) -> list[Doubt]:
    """Return doubts of which those that lie on another defect type are called `COVERED`."""
    return [_covered(doubt, others) for doubt in doubts]


def _covered(doubt: Doubt, others: Mapping[str, Array]) -> Doubt:
    if doubt.kind in (MISSED, INVENTED):
        for name, mask in others.items():
            if float(mask.ravel()[doubt.at].mean()) >= _COVERED_SHARE:
                return replace(doubt, kind=COVERED, over=name)
    return doubt
