"""The threshold scan against counting pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defectops.learning.operating_point import STEPS, ThresholdScan

SHAPE = (3, 5)
# Exact hundredths are where rounding of `probability * 100` would put a pixel on the wrong side.
CHANCES = hnp.arrays(
    np.float32,
    SHAPE,
    elements=st.one_of(
        st.integers(0, 100).map(lambda k: float(np.float32(k / 100))), st.floats(0, 1, width=32)
    ),
)
MASKS = hnp.arrays(bool, SHAPE)


def counted(chance, label, valid, threshold):
    """IoU with numpy's own comparison, the one that evaluation makes."""
    called = chance >= threshold
    either = ((called | label) & valid).sum()
    return (called & label & valid).sum() / either if either else math.nan


@settings(deadline=None)
@given(CHANCES, MASKS, MASKS)
def test_every_threshold_counts_what_evaluation_would_count(chance, label, valid):
    scan = ThresholdScan()
    scan.add(chance, label, valid)
    if not (label & valid).any():
        assert not scan.has_positive
        assert np.isnan(scan.iou()).all()
        return
    wanted = [counted(chance, label, valid, k / STEPS) for k in range(STEPS)]
    np.testing.assert_allclose(scan.iou(), wanted)


@settings(deadline=None)
@given(CHANCES, MASKS, MASKS)
def test_the_best_is_the_best_of_the_99(chance, label, valid):
    scan = ThresholdScan()
    scan.add(chance, label, valid)
    best = scan.best()
    if not (label & valid).any():
        assert best.threshold == 0.5
        assert math.isnan(best.iou)
        return
    ious = [counted(chance, label, valid, k / STEPS) for k in range(1, STEPS)]
    assert best.iou == pytest.approx(max(ious))
    assert counted(chance, label, valid, best.threshold) == pytest.approx(max(ious))
    assert 0.01 <= best.threshold <= 0.99


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_hundredths_reach_their_own_threshold(dtype):
    chance = (np.arange(STEPS) / STEPS).astype(dtype)[None]
    scan = ThresholdScan()
    scan.add(chance, np.ones_like(chance, bool), np.ones_like(chance, bool))
    np.testing.assert_array_equal(scan.positive, 1)


def test_two_separate_peaks_do_not_meet_in_a_bad_middle():
    # IoU 1/2 from 0.01 to 0.20 and again from 0.61 to 0.90; between them a third.
    scan = ThresholdScan()
    chance = np.array([[0.2, 0.9, 0.6, 0.6]], np.float32)
    scan.add(chance, np.array([[1, 1, 0, 0]], bool), np.ones((1, 4), bool))
    best = scan.best()
    assert best.iou == 0.5
    assert 0.6 < best.threshold <= 0.9


def test_planes_of_any_size_add_up():
    random = np.random.default_rng(0)
    chance, label = random.random((7, 11)).astype(np.float32), random.random((7, 11)) < 0.4
    valid = random.random((7, 11)) < 0.8
    whole, parts = ThresholdScan(), ThresholdScan()
    whole.add(chance, label, valid)
    for rows in (slice(0, 2), slice(2, 7)):
        parts.add(chance[rows], label[rows], valid[rows])
    np.testing.assert_array_equal(whole.iou(), parts.iou())


def test_an_empty_scan_is_undefined():
    best = ThresholdScan().best()
    assert best.threshold == 0.5
    assert math.isnan(best.iou)
