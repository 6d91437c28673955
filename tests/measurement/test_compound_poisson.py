"""Intervals of sums, ratios and mean directions over unequal objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.measurement.compound_poisson import (
    mid_sum_interval,
    ratio_interval,
    resultant_interval,
)
from defectops.measurement.uncertainty import count_interval

weights = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=30).map(np.array)


def test_of_counts_it_lies_within_the_exact_interval():
    for count in (0, 1, 5, 40):
        exact, mid = count_interval(count), mid_sum_interval(np.ones(count), 1.0)
        assert exact.low <= mid.low <= count <= mid.high <= exact.high


def test_mid_p_bounds_of_counts_by_hand():
    # Nothing seen: half of exp(-m) is the tail, so m = -ln(0.05); of ten 5.08 and 17.82.
    assert mid_sum_interval(np.empty(0), 1.0).high == pytest.approx(-np.log(0.05))
    ten = mid_sum_interval(np.ones(10), 1.0)
    assert (ten.low, ten.high) == pytest.approx((5.08, 17.82), abs=0.01)


@given(w=weights, factor=st.floats(0.01, 100.0))
def test_sums_scale_with_their_unit(w, factor):
    one, other = mid_sum_interval(w, 3.0), mid_sum_interval(w * factor, 3.0 * factor)
    assert (other.low, other.high) == pytest.approx(
        (one.low * factor, one.high * factor), rel=1e-6, abs=1e-9 * factor
    )
    assert one.low < w.sum() < one.high


def test_an_unseen_large_object_raises_the_upper_end_only():
    few = np.array([1.0, 2.0, 1.5])
    narrow, wide = mid_sum_interval(few, 1.0), mid_sum_interval(few, 10.0)
    assert wide.high > narrow.high
    assert wide.low <= narrow.low


def covered(truth, draw, n=1000, seed=0):
    random = np.random.default_rng(seed)
    held = 0
    for _ in range(n):
        interval = draw(random)
        held += interval.low <= truth <= interval.high
    return held / n


@pytest.mark.parametrize("mean", [6.0, 25.0])
def test_sums_of_unequal_weights_are_covered(mean):
    def draw(random):
        return mid_sum_interval(random.gamma(2.0, 1.0, random.poisson(mean)), 4.0)

    assert 0.925 < covered(2 * mean, draw) < 0.985


def test_ratios_are_covered_where_both_sums_share_the_chance():
    def draw(random):
        length = random.gamma(2.0, 1.0, 1 + random.poisson(25.0))
        return ratio_interval(random.poisson(3.0 * length).astype(float), length)

    assert 0.925 < covered(3.0, draw) < 0.975


def test_a_ratio_of_too_little_has_no_interval():
    for above, below in (([], []), ([1.0], [2.0]), ([0.0, 0.0], [1.0, 2.0])):
        assert np.isnan(ratio_interval(np.array(above), np.array(below)).low)


@pytest.mark.parametrize("true", [0.0, 0.3, 0.7])
def test_the_mean_direction_is_covered(true):
    def draw(random):
        n = 40
        angle = np.where(random.random(n) < true, 0.0, random.uniform(0, 2 * np.pi, n))
        mean = np.exp(1j * angle).mean()
        second = np.cos(2 * (angle - np.angle(mean))).mean()
        return resultant_interval(float(abs(mean)), float(second), 1 / n)

    # At 0 the lower end is held there, so that only one tail is left.
    assert (0.925 if true else 0.95) < covered(true, draw) < (0.975 if true else 0.99)


def test_all_alike_is_one():
    interval = resultant_interval(1.0, 1.0, 0.1)
    assert interval.high == 1.0
    assert interval.low > 0.3
    assert resultant_interval(0.0, 0.0, 0.1).low == 0.0
