"""Agreement of a prediction with a label: by pixel, by object and along lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from defectops.errors import LabelRefused
from defectops.measurement.objects import ObjectOptions, as_instances, thin_lines

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
        return _ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def iou(self) -> float | None:
        """TP / (TP + FP + FN), intersection over union."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

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


@dataclass(frozen=True)
class ObjectAgreement:
    """Objects found, invented and missed.

    Parameters
    ----------
    matched, invented, missed : int
        Objects of both, only of the prediction, only of the label.
    pairs : tuple of (int, int, float)
        Label number, prediction number and IoU of each match; both numbered from 1 among the
        objects that count.
    """

    matched: int
    invented: int
    missed: int
    pairs: tuple[tuple[int, int, float], ...]

    @property
    def precision(self) -> float | None:
        """Matched over predicted objects; None without predicted ones."""
        return _ratio(self.matched, self.matched + self.invented)

    @property
    def recall(self) -> float | None:
        """Matched over labelled objects; None without labelled ones."""
        return _ratio(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None without any object."""
        return _ratio(2 * self.matched, 2 * self.matched + self.invented + self.missed)


@dataclass(frozen=True)
class LineAgreement:
    """Centre lines that run together within a tolerance.

    Parameters
    ----------
    completeness : float or None
        Share of the label's centre line that has the prediction's nearby; None without label.
    correctness : float or None
        Share of the prediction's centre line that has the label's nearby; None without prediction.
    tolerance_px : float
    """

    completeness: float | None
    correctness: float | None
    tolerance_px: float


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
    _same_shape(found, true, ignore)
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
    _same_shape(found, true, ignore)
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


def object_agreement(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    min_iou: float = 0.5,
    options: ObjectOptions | None = None,
) -> ObjectAgreement:
    """Match predicted with labelled objects.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Bool masks or instance labels, see `objects.as_instances`.
    ignore : ndarray of bool, shape (H, W), optional
        Objects with more than half of their pixels there do not count; overlap there neither.
    min_iou : float
        Least intersection over union of a match. From 0.5 on a match is unique; below it the
        assignment with the largest summed IoU is taken.
    options : ObjectOptions, optional
        For masks.

    Raises
    ------
    LabelRefused
        Shapes differ.

    References
    ----------
    Kirillov, A. et al., CVPR 2019, doi:10.1109/CVPR.2019.00963 (matching at IoU 0.5).
    """
    found, true = as_instances(prediction, options), as_instances(label, options)
    _same_shape(found, true, ignore)
    valid = np.ones(true.shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    found, n_found = _counted(found, valid)
    true, n_true = _counted(true, valid)
    iou = _overlaps(true, n_true, found, n_found)
    rows, columns = linear_sum_assignment(np.where(iou >= min_iou, iou, 0.0), maximize=True)
    pairs = tuple(
        (int(i) + 1, int(j) + 1, float(iou[i, j]))
        for i, j in zip(rows, columns, strict=True)
        if iou[i, j] >= min_iou and iou[i, j] > 0
    )
    return ObjectAgreement(len(pairs), n_found - len(pairs), n_true - len(pairs), pairs)


def line_agreement(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    tolerance_px: float = 3.0,
    options: ObjectOptions | None = None,
) -> LineAgreement:
    """Compare the centre lines of two masks of lines.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Non-zero on lines, of any width.
    ignore : ndarray of bool, shape (H, W), optional
        Centre lines there are not asked for, but those nearby may be found there.
    tolerance_px : float
        Greatest distance at which lines run together; in nm, divide by the pixel size.
    options : ObjectOptions, optional

    Raises
    ------
    LabelRefused
        Shapes differ.

    References
    ----------
    Heipke, C. et al., Int. Arch. Photogramm. Remote Sens. 32 (3-4W2), 151 (1997) (no DOI).
    """
    found, true = thin_lines(prediction, options), thin_lines(label, options)
    _same_shape(found, true, ignore)
    valid = np.ones(true.shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    return LineAgreement(
        completeness=_near(true & valid, found, tolerance_px),
        correctness=_near(found & valid, true, tolerance_px),
        tolerance_px=tolerance_px,
    )


def _near(asked: Array, other: Array, tolerance_px: float) -> float | None:
    if not asked.any():
        return None
    if not other.any():
        return 0.0
    distance = ndimage.distance_transform_edt(~other)
    return float((distance[asked] <= tolerance_px).mean())


def _counted(instances: Array, valid: Array) -> tuple[Array, int]:
    """Renumber the objects that count from 1, in the order of their names; clear the others."""
    inside = instances > 0
    names, index = np.unique(instances[inside], return_inverse=True)
    size = np.bincount(index, minlength=names.size)
    keep = 2 * np.bincount(index, weights=valid[inside], minlength=names.size) >= size
    number = np.where(keep, np.cumsum(keep), 0)
    numbered = np.zeros(instances.shape, dtype=np.int64)
    numbered[inside] = number[index] * valid[inside]
    return numbered, int(keep.sum())


def _overlaps(true: Array, n_true: int, found: Array, n_found: int) -> Array:
    """Intersection over union of each labelled with each predicted object."""
    flat = np.bincount(
        (true * (n_found + 1) + found).ravel(), minlength=(n_true + 1) * (n_found + 1)
    )
    table = flat.reshape(n_true + 1, n_found + 1)
    both = table[1:, 1:]
    either = table.sum(axis=1)[1:, None] + table.sum(axis=0)[None, 1:] - both
    return np.asarray(both / np.maximum(either, 1))


def _summary(values: Sequence[float | None]) -> Summary:
    defined = _defined(values)
    n = len(defined)
    mean = math.fsum(defined) / n if n else None
    sd = float(np.std(defined, ddof=1)) if n > 1 else None
    return Summary(mean, sd, n, len(values) - n)


def _defined(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None and not math.isnan(v)]


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _same_shape(prediction: Array, label: Array, ignore: Array | None) -> None:
    shapes = [prediction.shape, label.shape] + ([] if ignore is None else [np.shape(ignore)])
    if len(set(shapes)) > 1:
        raise LabelRefused(
            "prediction",
            "E_SHAPE",
            f"prediction, label and ignored area must have one shape, got "
            f"{' and '.join(str(s) for s in shapes)}",
        )
