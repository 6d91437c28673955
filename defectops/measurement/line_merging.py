"""How much length is lost where lines lie on each other, and what crossings should read beside it.

Two lines of width w that meet at an angle a share w / sin(a) of their length. Most of it is told
apart (`line_crossings`); a part is lost for good: ends that lie inside another line, and lines that
run on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from defectops.measurement.line_fields import ROSE_BINS, LineMeasurement

if TYPE_CHECKING:
    from defectops.measurement.quantities import Array, Merging

# Both by `python benchmarks/coverage_lines.py --calibrate`. Lost part of the shared length.
LOST_PART = 0.55
# Covered share, and crossings over length, both as densities: they are counted on the same centre
# lines, so that what merges is missing from both alike; 1 within the error of 0.002.
EXPECTED_RATIO = ((0.0, 1.0), (0.03, 0.999), (0.06, 1.0), (0.12, 0.999))


@dataclass(frozen=True)
class Hidden:
    """What merging does to the fields of one pool.

    Parameters
    ----------
    line_share : float
        Covered part of the area.
    factor : float
        By which lengths and crossings are multiplied to make up for what is hidden.
    remark : str
        For the method of a quantity.
    """

    line_share: float
    factor: float
    remark: str


def hidden_by_merging(fields: Sequence[LineMeasurement], rule: Merging) -> Hidden:
    """Estimate what merging hides.

    Parameters
    ----------
    fields : sequence of LineMeasurement
        At least one; without lines the factor is 1.
    rule : {"corrected", "as seen"}
        ``as seen``: the factor is 1 anyway.

    Notes
    -----
    Lines at random meet at the angle a in proportion to ``sin a``, so that the mean of ``w/sin a``
    over their meetings is ``w/s``, with ``s`` the mean of ``sin a`` over all pairs of lines whether
    they meet or not: 2/pi without a preferred direction. Each meeting that was seen makes up for
    ``LOST_PART w/s``. Lines that never meet hide nothing, and nothing is added.

    Not for lines that coincide on purpose, as dipoles and pile-ups seen edge-on do: no label can
    tell how many there are.
    """
    share = sum(f.covered for f in fields) / sum(f.field_area for f in fields)
    if rule == "as seen":
        return Hidden(share, 1.0, "not corrected for lines that merge")
    length = float(sum(f.lengths.sum() for f in fields))
    hidden = LOST_PART * sum(shared_length(f) for f in fields)
    factor = 1 + hidden / length if length > 0 else 1.0
    return Hidden(share, factor, f"times {factor:.4f} for lines that merge")


def expected_ratio(line_share: float) -> float:
    """Return what the ratio of both densities is on the mean at a share of line pixels."""
    shares, ratios = zip(*EXPECTED_RATIO, strict=True)
    return float(np.interp(line_share, shares, ratios))


def shared_length(field: LineMeasurement) -> float:
    """Length that the lines of a field share at their meetings, on the mean, in nm (px)."""
    meetings = float(field.tiles["meetings"].sum())
    total = field.rose.sum(axis=0)
    pairs = np.outer(total, total) - field.rose.T @ field.rose
    sine = float((pairs * _MEAN_SINE).sum())
    if not (meetings and sine > 0):
        return 0.0
    return meetings * field.covered / float(total.sum()) * float(pairs.sum()) / sine


def _mean_sine() -> Array:
    """Mean of the sine of the angle between directions spread evenly over two bins of the rose."""
    step = np.pi / ROSE_BINS
    turn = step * (np.arange(ROSE_BINS)[:, None] - np.arange(ROSE_BINS))
    sine = np.abs(np.sin(turn)) * (2 * np.sin(step / 2) / step) ** 2
    np.fill_diagonal(sine, 2 * (step - np.sin(step)) / step**2)
    return np.asarray(sine)


_MEAN_SINE = _mean_sine()
