"""Spheres seen through a foil, and their true sizes and number from that."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.measurement.foil import cap_moment, sphere_scores, unfolded_weights
from defectops.measurement.lognormal import fit_lognormal
from defectops.measurement.sizes import Sizes

LEVEL = 0.95
SIZES = [
    lambda r: np.full(200_000, 21.0),
    lambda r: np.clip(r.normal(22, 8, 200_000), 3, 60),
    lambda r: r.lognormal(np.log(10), 0.4, 200_000),
]


def seen_in_foil(random, thickness, diameters):
    """Apparent diameters of spheres at random depths, those not cut by the foil left out."""
    depth = random.uniform(-70, thickness + 70, diameters.size)
    outside = np.maximum(np.maximum(-depth, depth - thickness), 0)
    there = outside < diameters / 2
    return 2 * np.sqrt(diameters[there] ** 2 / 4 - outside[there] ** 2)


def sizes_of(seen, thickness, smallest=0.0):
    return Sizes(seen, np.ones(seen.size), thickness, smallest, LEVEL)


def test_moments_of_caps_are_those_of_a_circle():
    u = (np.arange(100_000) + 0.5) / 100_000
    for power in range(9):
        assert cap_moment(power) == pytest.approx(np.mean((1 - u**2) ** (power / 2)), abs=1e-6)


@pytest.mark.parametrize("thickness", [60.0, 136.0])
@pytest.mark.parametrize("draw_sizes", SIZES)
def test_true_diameters_from_what_a_foil_shows(thickness, draw_sizes):
    random = np.random.default_rng(11)
    true = draw_sizes(random)
    seen = seen_in_foil(random, thickness, true)
    sizes = sizes_of(seen, thickness)
    assert sizes.mean == pytest.approx(true.mean(), rel=0.005)
    assert sizes.sd == pytest.approx(true.std(), rel=0.01, abs=0.4)
    assert sizes.moment(3) == pytest.approx((true**3).mean(), rel=0.01)
    # N / (A (t + d)) is the density of centres, N / (A t) is not.
    centres = true.size / (thickness + 140)
    assert sizes.layer == pytest.approx(thickness + true.mean(), rel=0.005)
    assert seen.size / sizes.layer == pytest.approx(centres, rel=0.01)


def test_equal_spheres_read_as_small_as_the_formula_says():
    random = np.random.default_rng(2)
    for d, percent in ((10.6, -1.5), (21.0, -2.9)):
        seen = seen_in_foil(random, 136.0, np.full(400_000, d))
        assert 100 * (seen.mean() / d - 1) == pytest.approx(percent, abs=0.1)


def test_caps_too_small_to_be_seen_are_put_back():
    random = np.random.default_rng(3)
    true = random.lognormal(np.log(20), 0.2, 400_000)
    seen = seen_in_foil(random, 120.0, true)
    cut = seen[seen >= 6]
    corrected, plain = sizes_of(cut, 120.0, 6.0), sizes_of(cut, 120.0)
    assert plain.sd == pytest.approx(true.std() * 0.94, rel=0.01)
    assert corrected.sd == pytest.approx(true.std(), rel=0.01)
    assert cut.size / corrected.layer == pytest.approx(true.size / 260, rel=0.005)


@given(st.floats(1, 40), st.floats(50, 300), st.floats(0.1, 10))
def test_scores_scale_with_the_unit_of_length(d, t, factor):
    one = sphere_scores(np.array([d]), t, 1.0)[:, 0]
    other = sphere_scores(np.array([d * factor]), t * factor, factor)[:, 0]
    np.testing.assert_allclose(other, one * factor ** (np.arange(4) - 1.0), rtol=1e-9)


def test_without_thickness_the_seen_diameters_count():
    seen = np.array([3.0, 4.0, 8.0])
    sizes = sizes_of(seen, None)
    assert sizes.mean == pytest.approx(5)
    assert sizes.sd == pytest.approx(seen.std(ddof=1))
    assert sizes.percentile(50)[0] == pytest.approx(4)
    assert math.isnan(sizes.layer)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_particles_have_no_intervals_but_what_they_can_bound(n):
    sizes = sizes_of(np.arange(1.0, n + 1), 100.0)
    assert math.isnan(sizes.mean) == (n == 0)
    assert math.isnan(sizes.mean_interval().low) == (n < 2)
    assert math.isnan(sizes.sd) == (n < 2)
    assert math.isnan(sizes.sd_interval().low)
    assert math.isnan(sizes.percentile(50)[1].low)
    assert math.isnan(fit_lognormal(sizes).median)


def test_equal_particles_have_no_spread():
    sizes = sizes_of(np.full(9, 5.0), None)
    assert sizes.sd == 0
    assert math.isnan(sizes.sd_interval().high)
    assert math.isnan(fit_lognormal(sizes).sigma)


def test_percentiles_are_those_of_the_spheres():
    random = np.random.default_rng(5)
    true = random.lognormal(np.log(20), 0.35, 30_000)
    seen = seen_in_foil(random, 100.0, true)
    sizes = sizes_of(seen, 100.0)
    for percent, rel in ((10, 0.02), (50, 0.01), (90, 0.01)):
        value, interval = sizes.percentile(percent)
        assert value == pytest.approx(np.percentile(true, percent), rel=rel)
        assert interval.low < value < interval.high
    # As seen the tenth percentile reads small: most of what is below it are caps.
    assert np.percentile(seen, 10) < 0.95 * np.percentile(true, 10)


def test_unfolded_weights_sum_to_the_centres_inside():
    random = np.random.default_rng(6)
    true = random.uniform(10, 30, 20_000)
    seen = seen_in_foil(random, 100.0, true)
    weights = unfolded_weights(seen, np.ones(seen.size), 100.0)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(true.size * 100 / 240, rel=0.02)
    assert unfolded_weights(np.zeros(0), np.zeros(0), 100.0).size == 0


def test_a_lognormal_fit_finds_what_was_drawn_and_only_accepts_that():
    random = np.random.default_rng(7)
    fit = fit_lognormal(sizes_of(seen_in_foil(random, 80.0, random.lognormal(3, 0.4, 4000)), 80.0))
    assert fit.median == pytest.approx(math.exp(3), rel=0.03)
    assert fit.sigma == pytest.approx(0.4, rel=0.05)
    assert fit.median_interval.low < math.exp(3) < fit.median_interval.high
    assert fit.sigma_interval.low < 0.4 < fit.sigma_interval.high
    assert fit.p_value > 0.05
    other = random.choice([10.0, 30.0], 4000) * random.normal(1, 0.02, 4000)
    assert fit_lognormal(sizes_of(seen_in_foil(random, 80.0, other), 80.0)).p_value < 1e-6


def test_without_a_foil_the_fit_is_that_of_the_logarithms():
    seen = np.random.default_rng(8).lognormal(2, 0.3, 50)
    fit = fit_lognormal(sizes_of(seen, None))
    assert fit.median == pytest.approx(np.exp(np.log(seen).mean()), rel=1e-4)
    assert fit.sigma == pytest.approx(np.log(seen).std(ddof=1), rel=1e-3)


@pytest.mark.slow
def test_the_test_of_lognormal_sizes_rejects_as_often_as_it_says():
    random = np.random.default_rng(9)
    p = np.array(
        [
            fit_lognormal(
                sizes_of(seen_in_foil(random, 100.0, random.lognormal(3, 0.3, 150)), 100.0)
            ).p_value
            for _ in range(600)
        ]
    )
    # Three standard errors of 600 tries.
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.027)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.062)
