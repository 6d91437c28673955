"""Agreement of a prediction with a label, pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.errors import LabelRefused

Array = npt.NDArray[Any]

SCORES = ("pixel_accuracy", "precision", "recall", "iou")

TRUE_POSITIVE = (64, 224, 208)  # turquoise
TRUE_NEGATIVE = (0, 0, 0)
FALSE_POSITIVE = (255, 0, 0)
FALSE_NEGATIVE = (255, 255, 0)
IGNORED = (96, 96, 96)  # not in the paper; none of its colours


@dataclass(frozen=True)
class Counts:
    """Pixels of a prediction by what the label says, with the scores that follow.

    A score without anything to judge is None: precision without predicted pixels, recall without
    labelled ones, IoU without either, accuracy without pixels. None is left out of means and
    counted (`summarise`); it is never 0 or 1.

    Parameters
    ----------
    tp, fp, fn, tn : int
        True positive, false positive, false negative and true negative pixels.

    References
    ----------
    Roberts, G. et al., Sci. Rep. 9, 12744 (2019), doi:10.1038/s41598-019-49105-0.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def pixel_accuracy(self) -> float | None:
        """(TP + TN) / all."""
        return ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def iou(self) -> float | None:
        """TP / (TP + FP + FN), intersection over union."""
        return ratio(self.tp, self.tp + self.fp + self.fn)

    def scores(self) -> dict[str, float | None]:
        """Return the four scores by name, in the order of `SCORES`."""
        return {name: getattr(self, name) for name in SCORES}

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn
        )


@dataclass(frozen=True)
class Summary:
    """One score over several images.

    Parameters
    ----------
    mean : float or None
        None if the score is undefined in every image.
    sd : float or None
        Sample standard deviation (N - 1); None for fewer than two defined values.
    n : int
        Images in which it is defined.
    undefined : int
        Images left out because it is not.
    """

    mean: float | None
    sd: float | None
    n: int
    undefined: int


def confusion(prediction: Array, label: Array, ignore: Array | None = None) -> Counts:
    """Count pixels by prediction and label.

    Parameters
    ----------
    prediction, label : ndarray of bool, shape (H, W)
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.

    Raises
    ------
    LabelRefused
        Shapes differ.
    """
    found, true = np.asarray(prediction, dtype=bool), np.asarray(label, dtype=bool)
    refuse_unlike_shapes(found, true, ignore)
    code = 2 * true.astype(np.uint8) + found
    counted = code.ravel() if ignore is None else code[~np.asarray(ignore, dtype=bool)]
    tn, fp, fn, tp = (int(n) for n in np.bincount(counted, minlength=4))
    return Counts(tp, fp, fn, tn)


def comparison_map(prediction: Array, label: Array, ignore: Array | None = None) -> Array:
    """Colour each pixel by its agreement, as the paper does.

    Parameters
    ----------
    prediction, label : ndarray of bool, shape (H, W)
    ignore : ndarray of bool, shape (H, W), optional

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
        True positive turquoise (64, 224, 208), true negative black, false positive red, false
        negative yellow, ignored grey (96, 96, 96).

    Raises
    ------
    LabelRefused
        Shapes differ.
    """
    found, true = np.asarray(prediction, dtype=bool), np.asarray(label, dtype=bool)
    refuse_unlike_shapes(found, true, ignore)
    colours = np.array(
        [TRUE_NEGATIVE, FALSE_POSITIVE, FALSE_NEGATIVE, TRUE_POSITIVE, IGNORED], dtype=np.uint8
    )
    code = 2 * true.astype(np.uint8) + found
    if ignore is not None:
        code[np.asarray(ignore, dtype=bool)] = 4
    return np.asarray(colours[code])


def summarise(rows: Iterable[Mapping[str, float | None]]) -> dict[str, Summary]:
    """Mean and sample standard deviation of each score over images.

    Parameters
    ----------
    rows : iterable of mapping
        One an image, with the names of `SCORES`; None or NaN where undefined. `Counts.scores`
        makes one.
    """
    given = list(rows)
    return {name: _summary([row.get(name) for row in given]) for name in SCORES}


def overall(summaries: Sequence[Mapping[str, Summary]]) -> dict[str, Summary]:
    """Average the rows of several defect types, as the last row of the paper's Table 1 does.

    Parameters
    ----------
    summaries : sequence of mapping
        One a defect type, from `summarise`.

    Returns
    -------
    dict of str to Summary
        Mean of the means and mean of the standard deviations (that is the paper's convention:
        averaged, not pooled); ``n`` and ``undefined`` count defect types.
    """
    result = {}
    for name in SCORES:
        means = _defined([s[name].mean for s in summaries])
        spreads = _defined([s[name].sd for s in summaries])
        result[name] = Summary(
            mean=math.fsum(means) / len(means) if means else None,
            sd=math.fsum(spreads) / len(spreads) if spreads else None,
            n=len(means),
            undefined=len(summaries) - len(means),
        )
    return result


def ratio(part: float, whole: float) -> float | None:
    """Return a share of a whole; None where there is no whole."""
    return part / whole if whole else None


def refuse_unlike_shapes(prediction: Array, label: Array, ignore: Array | None) -> None:
    """Raise `LabelRefused` unless prediction, label and ignored area have one shape."""
    shapes = [prediction.shape, label.shape] + ([] if ignore is None else [np.shape(ignore)])
    if len(set(shapes)) > 1:
        raise LabelRefused(
            "prediction",
            "E_SHAPE",
            f"prediction, label and ignored area must have one shape, got "
            f"{' and '.join(str(s) for s in shapes)}",
        )


def _summary(values: Sequence[float | None]) -> Summary:
    defined = _defined(values)
    n = len(defined)
    mean = math.fsum(defined) / n if n else None
    sd = float(np.std(defined, ddof=1)) if n > 1 else None
    return Summary(mean, sd, n, len(values) - n)


def _defined(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None and not math.isnan(v)]
