"""Whether a probability comes true as often as it says: reliability, calibration error, Brier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement.agreement import refuse_unlike_shapes

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Reliability:
    """How probabilities compare with how often they come true.

    Parameters
    ----------
    bins : DataFrame
        One row a bin of probability: ``low, high, n, mean_probability, defect_fraction``; the last
        two NaN in an empty bin.
    n : int
        Pixels that count.
    expected_calibration_error : float or None
        ``sum_b n_b / n |defect_fraction_b - mean_probability_b|``; None without pixels.
    brier : float or None
        Mean of ``(probability - label)**2``; None without pixels.
    """

    bins: pd.DataFrame
    n: int
    expected_calibration_error: float | None
    brier: float | None


def reliability(
    probability: Array, label: Array, ignore: Array | None = None, *, n_bins: int = 10
) -> Reliability:
    """Bin the pixels of a probability map by what it claims and count what is true.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        In [0, 1].
    label : ndarray of bool, shape (H, W)
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.
    n_bins : int
        Bins of equal width; a probability of 1 falls into the last.

    Raises
    ------
    LabelRefused
        Shapes differ, no bins, or values outside [0, 1].

    Notes
    -----
    Most pixels of a micrograph are certain background, so a small error over all pixels says
    little; the bins in the middle decide. Not for networks trained with a weight on positive pixels
    unless their threshold is looked at too: they overstate probabilities on purpose.

    References
    ----------
    Naeini, M. P. et al., AAAI 2015, 2901, doi:10.1609/aaai.v29i1.9602 (expected calibration error).
    Brier, G. W., Mon. Weather Rev. 78, 1 (1950),
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    chance, true = np.asarray(probability, dtype=np.float64), np.asarray(label, dtype=bool)
    refuse_unlike_shapes(chance, true, ignore)
    if n_bins < 1 or not ((chance >= 0) & (chance <= 1)).all():
        raise LabelRefused(
            "probability", "E_CONFIG", f"needs values in [0, 1] and at least one bin, got {n_bins}"
        )
    valid = np.ones(true.shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    chance, true = chance[valid], true[valid]
    at = np.minimum((chance * n_bins).astype(np.int64), n_bins - 1)
    n = np.bincount(at, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        claimed = np.bincount(at, weights=chance, minlength=n_bins) / n
        came_true = np.bincount(at, weights=true, minlength=n_bins) / n
    edges = np.linspace(0, 1, n_bins + 1)
    bins = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n": n,
            "mean_probability": claimed,
            "defect_fraction": came_true,
        }
    )
    if not chance.size:
        return Reliability(bins, 0, None, None)
    error = float(np.nansum(n * np.abs(came_true - claimed)) / chance.size)
    return Reliability(bins, int(chance.size), error, float(((chance - true) ** 2).mean()))
