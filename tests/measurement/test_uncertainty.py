"""Intervals against known values and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.measurement.uncertainty import (
    Interval,
    count_interval,
    log_interval,
    mean_interval,
    resampled,
    sum_interval,
    widened,
)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0, 3.69), (10, 4.80, 18.4), (23, 14.6, 34.5), (125, 104, 149), (187, 161, 216)],
)
def test_garwood(count, low, high):
    found = count_interval(count)
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.005)


@given(count=st.integers(0, 400), weight=st.floats(0.01, 1e4))
def test_equal_weights_are_a_scaled_count(count, weight):
    found = sum_interval(np.full(count, weight), weight_if_empty=weight)
    expected = count_interval(count).scaled(weight)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_an_empty_sum_has_an_upper_bound_only_if_something_is_known():
    assert sum_interval(np.zeros(0), weight_if_empty=50).high == pytest.approx(184.4, abs=0.1)
    assert sum_interval(np.zeros(3), weight_if_empty=50).high == pytest.approx(184.4, abs=0.1)
    assert np.isnan(sum_interval(np.zeros(0)).high)


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.5, 3, 10, 60])
def test_counts_and_sums_cover(mean):
    random = np.random.default_rng(int(10 * mean))
    counts, sums, n = 0, 0, 1500
    for _ in range(n):
        drawn = random.poisson(mean)
        found = count_interval(drawn)
        counts += found.low <= mean <= found.high
        found = sum_interval(random.gamma(4, 1.0, drawn), weight_if_empty=4.0)
        sums += found.low <= 4 * mean <= found.high
    assert counts / n >= 0.94  # 0.95 less two standard errors
    assert sums / n >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 30, 120])
def test_means_cover(n):
    random = np.random.default_rng(n)
    mean, draws = 0, 1200
    for _ in range(draws):
        x = random.normal(22, 8, n)
        mean += mean_interval(x).low <= 22 <= mean_interval(x).high
    assert 0.93 <= mean / draws <= 0.97


def test_too_few_values_have_no_interval():
    assert np.isnan(mean_interval(np.array([3.0])).low)
    assert np.isnan(log_interval(3.0, 0.1, 0).low)
    assert np.isnan(log_interval(float("nan"), 0.1, 5).high)
    assert np.isnan(log_interval(3.0, float("nan"), 5).low)


def test_the_logarithmic_interval_is_students_of_the_logarithm():
    found = log_interval(10.0, 0.2, 3)
    half = 3.182446 * 0.2
    assert (found.low, found.high) == pytest.approx((10 * np.exp(-half), 10 * np.exp(half)))
    assert log_interval(0.0, 0.2, 3) == Interval(0.0, 0.0)


def test_equal_weights_give_the_student_interval():
    x = np.array([3.0, 4.0, 6.0, 9.0])
    plain, weighted = mean_interval(x), mean_interval(x, np.full(4, 7.0))
    half = 3.182446 * x.std(ddof=1) / 2
    assert (plain.low, plain.high) == pytest.approx((5.5 - half, 5.5 + half), rel=1e-6)
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high))


def test_thickness_adds_in_quadrature():
    found = widened(100.0, Interval(70.0, 140.0), 0.0744)
    error = 100 * 1.959964 * 0.0744
    assert found.low == pytest.approx(100 - np.hypot(30, error))
    assert found.high == pytest.approx(100 + np.hypot(40, error))
    assert widened(100.0, Interval(70.0, 140.0), 0.0) == Interval(70.0, 140.0)
    assert widened(100.0, Interval(10.0, 140.0), 3.0).low == 0
    assert widened(0.0, Interval(0.0, 3.0), 0.1).high > 3


def test_draws_are_seeded_and_keep_the_number_of_tiles():
    draws = resampled(16, 50, seed=4)
    assert draws.shape == (50, 16)
    assert (draws.sum(axis=1) == 16).all()
    np.testing.assert_array_equal(draws, resampled(16, 50, seed=4))
    assert (draws != resampled(16, 50, seed=5)).any()
