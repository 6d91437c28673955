"""Scores counted by hand, the empty case, and the exact colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.agreement import (
    SCORES,
    Counts,
    comparison_map,
    confusion,
    overall,
    summarise,
)

LABEL = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
FOUND = np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)


def test_counts_and_scores_by_hand():
    found = confusion(FOUND, LABEL)
    assert found == Counts(tp=2, fp=3, fn=2, tn=5)
    assert found.scores() == pytest.approx(
        {"pixel_accuracy": 7 / 12, "precision": 2 / 5, "recall": 2 / 4, "iou": 2 / 7}
    )


def test_ignored_pixels_do_not_count():
    ignore = np.zeros((3, 4), dtype=bool)
    ignore[:, 2:] = True
    assert confusion(FOUND, LABEL, ignore) == Counts(tp=2, fp=0, fn=2, tn=2)


def test_a_class_absent_from_both_is_undefined():
    nothing = np.zeros((3, 4), dtype=bool)
    found = confusion(nothing, nothing)
    assert found.scores() == {"pixel_accuracy": 1, "precision": None, "recall": None, "iou": None}
    missed = confusion(nothing, LABEL)
    assert (missed.precision, missed.recall, missed.iou) == (None, 0, 0)
    assert Counts(0, 0, 0, 0).pixel_accuracy is None


masks = hnp.arrays(bool, (7, 11))


@given(prediction=masks, label=masks, ignore=masks)
def test_laws_of_counting(prediction, label, ignore):
    found = confusion(prediction, label, ignore)
    assert found.tp + found.fp + found.fn + found.tn == (~ignore).sum()
    turned = confusion(label, prediction, ignore)
    assert (turned.fp, turned.fn) == (found.fn, found.fp)
    assert turned.iou == found.iou
    halves = confusion(prediction[:3], label[:3], ignore[:3])
    assert halves + confusion(prediction[3:], label[3:], ignore[3:]) == found


@given(prediction=masks, label=masks, ignore=masks)
def test_the_map_shows_the_counts(prediction, label, ignore):
    colours = comparison_map(prediction, label, ignore).reshape(-1, 3)
    found = confusion(prediction, label, ignore)

    def pixels(colour):
        return int((colours == colour).all(axis=1).sum())

    assert pixels((64, 224, 208)) == found.tp
    assert pixels((255, 0, 0)) == found.fp
    assert pixels((255, 255, 0)) == found.fn
    assert pixels((0, 0, 0)) == found.tn
    assert pixels((96, 96, 96)) == ignore.sum()


def test_shapes_must_agree():
    with pytest.raises(LabelRefused, match=r"\(3, 4\).*\(4, 3\)"):
        confusion(FOUND, LABEL.T)
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        comparison_map(FOUND, LABEL, np.zeros((2, 2), dtype=bool))


def test_summary_is_mean_and_sample_sd():
    rows = [dict.fromkeys(SCORES, 0.4), dict.fromkeys(SCORES, 0.6)]
    found = summarise(rows)["iou"]
    assert (found.mean, found.sd) == pytest.approx((0.5, 0.1 * np.sqrt(2)))
    assert (found.n, found.undefined) == (2, 0)


def test_undefined_scores_are_left_out_and_counted():
    rows = [{"iou": 0.4}, {"iou": None}, {"iou": float("nan")}]
    found = summarise(rows)
    assert (found["iou"].mean, found["iou"].sd) == (0.4, None)
    assert (found["iou"].n, found["iou"].undefined) == (1, 2)
    assert (found["recall"].mean, found["recall"].n, found["recall"].undefined) == (None, 0, 3)
    assert summarise([])["iou"].mean is None


def test_overall_averages_rows_not_images():
    rows = [
        summarise([dict.fromkeys(SCORES, v) for v in values])
        for values in ([0.2, 0.4], [0.8, 0.8, 0.8], [None])
    ]
    found = overall(rows)["iou"]
    assert (found.mean, found.sd) == pytest.approx((0.55, 0.1 * np.sqrt(2) / 2))
    assert (found.n, found.undefined) == (2, 1)
