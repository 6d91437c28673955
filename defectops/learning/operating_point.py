"""The threshold at which a probability becomes a defect: chosen on the development side, stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from defectops.micrograph import Array

STEPS = 100


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the intersection over union it reaches on the side it was chosen on."""

    threshold: float
    iou: float


class ThresholdScan:
    """Counts, over any number of planes, what each of 99 thresholds would call a defect.

    Examples
    --------
    >>> scan = ThresholdScan()
    >>> scan.add(np.array([[0.9, 0.8, 0.3]]), np.array([[1, 1, 0]], bool), np.ones((1, 3), bool))
    >>> scan.best()
    OperatingPoint(threshold=0.56, iou=1.0)
    """

    def __init__(self) -> None:
        self.positive = np.zeros(STEPS, np.int64)
        self.negative = np.zeros(STEPS, np.int64)

    def add(self, probability: Array, label: Array, valid: Array) -> None:
        """Count one plane; all arrays have shape (H, W), `label` and `valid` are bool."""
        # In the dtype of the plane, so that a pixel counts as it does in `plane >= threshold`.
        steps = (np.arange(STEPS) / STEPS).astype(probability.dtype)
        level = np.searchsorted(steps, probability, side="right") - 1
        self.positive += np.bincount(level[label & valid], minlength=STEPS)
        self.negative += np.bincount(level[~label & valid], minlength=STEPS)

    @property
    def has_positive(self) -> bool:
        """Whether any counted pixel is labelled; without one the IoU is undefined."""
        return bool(self.positive.sum())

    def iou(self) -> Array:
        """Return the IoU at thresholds 0.00, 0.01, ... 0.99, shape (100,).

        NaN everywhere if no pixel is labelled.
        """
        hit = self.positive[::-1].cumsum()[::-1]
        invented = self.negative[::-1].cumsum()[::-1]
        if not self.has_positive:
            return np.full(STEPS, np.nan)
        share: Array = hit / (self.positive.sum() + invented)
        return share

    def best(self) -> OperatingPoint:
        """Return the threshold of highest IoU; 0.5 and NaN if undefined.

        Of several, the one nearest to the middle between the first and the last.
        """
        curve = self.iou()[1:]
        if np.isnan(curve).any():
            return OperatingPoint(0.5, float("nan"))
        top = np.flatnonzero(curve == curve.max()) + 1
        middle = round(float(top[0] + top[-1]) / 2)
        step = int(top[np.abs(top - middle).argmin()])
        return OperatingPoint(step / STEPS, float(curve.max()))
