"""Intraclass correlation and limits of agreement against published examples and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.rater_agreement import (
    intraclass_correlation,
    limits_of_agreement,
    percent_differences,
)

# Shrout and Fleiss 1979, Table 2: six targets, four judges; ICC(2,1) is 0.29 there.
SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_the_example_of_shrout_and_fleiss():
    found = intraclass_correlation(SHROUT)
    assert found.value == pytest.approx(0.2898, abs=5e-5)
    # The interval that R's psych::ICC gives for these data.
    assert (found.interval.low, found.interval.high) == pytest.approx((0.0188, 0.7611), abs=2e-3)
    assert (found.n_images, found.n_raters) == (6, 4)


def test_raters_who_agree_and_raters_who_cannot_tell():
    agree = intraclass_correlation(np.array([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]))
    assert (agree.value, agree.interval.low) == (1, 1)
    blind = intraclass_correlation(np.array([[1.0, 3.0], [3.0, 1.0], [2.0, 2.0]]))
    assert blind.value < 0
    assert math.isnan(blind.interval.low)


def test_a_constant_offset_is_a_disagreement():
    exact = np.array([[1.0, 1.1], [2.0, 2.1], [5.0, 5.1]])
    shifted = exact + np.array([0, 3])
    assert intraclass_correlation(exact).value > 0.99
    assert intraclass_correlation(shifted).value < 0.6


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (0, 0)])
def test_too_little_for_a_correlation(shape):
    assert math.isnan(intraclass_correlation(np.ones(shape)).value)


def test_nothing_differs_at_all():
    assert math.isnan(intraclass_correlation(np.ones((3, 4))).value)


def test_gaps_are_refused():
    with pytest.raises(LabelRefused, match="E_PANEL"):
        intraclass_correlation(np.array([[1.0, np.nan], [2.0, 3.0]]))


@given(
    ratings=hnp.arrays(float, (4, 3), elements=st.integers(0, 50).map(float)),
    factor=st.floats(0.1, 10),
)
def test_laws_of_the_correlation(ratings, factor):
    found = intraclass_correlation(ratings)
    scaled = intraclass_correlation(ratings * factor)
    permuted = intraclass_correlation(ratings[::-1, [2, 0, 1]])
    for other in (scaled, permuted):
        assert found.value == pytest.approx(other.value, abs=1e-7, nan_ok=True)
    if not math.isnan(found.interval.low):
        assert found.interval.low <= found.value + 1e-9
        assert found.interval.high >= found.value - 1e-9


def test_limits_by_hand():
    found = limits_of_agreement(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    sd = math.sqrt(2.5)
    assert (found.bias, found.sd) == pytest.approx((3, sd))
    assert (found.lower, found.upper) == pytest.approx((3 - 1.959964 * sd, 3 + 1.959964 * sd))
    half = 2.776445 * sd / math.sqrt(5)
    assert found.bias_interval.low == pytest.approx(3 - half)
    of_limit = 2.776445 * sd * math.sqrt(1 / 5 + 1.959964**2 / 8)
    assert found.upper_interval.high - found.upper == pytest.approx(of_limit)


def test_limits_of_few():
    none, one = limits_of_agreement(np.array([])), limits_of_agreement(np.array([2.0]))
    assert (none.n, one.n, one.bias) == (0, 1, 2.0)
    assert math.isnan(none.bias)
    assert math.isnan(one.lower)
    assert math.isnan(one.bias_interval.low)


def test_twice_and_half_are_equally_far():
    assert percent_differences(np.array([2.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(
        [200 / 3, -200 / 3]
    )
    assert math.isnan(percent_differences(np.array([0.0]), np.array([0.0]))[0])
