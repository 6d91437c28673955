"""Conditioning: what it must not depend on, what it brings out, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import MicrographRefused, SettingsRefused
from defectops.imaging.conditioning import ConditioningOptions, condition

SMALL = ConditioningOptions(background_sigma_px=4, variance_sigma_px=8)


def picture(shape=(60, 90), seed=0):
    """Noise, a slope and a bright disc."""
    rows, columns = np.indices(shape)
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 16
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    return 100 + 0.2 * columns + noise + 6 * disc


@settings(deadline=None)
@given(
    st.floats(1e-3, 1e6),
    st.floats(-1e6, 1e6),
    st.sampled_from([0.0, 4.0]),
    st.sampled_from([0.0, 8.0]),
)
def test_gain_and_offset_of_the_detector_do_not_matter(gain, offset, background, variance):
    options = ConditioningOptions(background, variance)
    plain = condition(picture(), "bright", options)
    other = condition(gain * picture() + offset, "bright", options)
    np.testing.assert_allclose(other, plain, atol=2e-3)


def test_a_large_offset_does_not_swallow_the_contrast():
    """Counts of a 32-bit detector: float32 holds only every 64th number there."""
    plain = condition(picture(), "bright", SMALL)
    np.testing.assert_allclose(condition(picture() + 1e9, "bright", SMALL), plain, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_any_real_dtype_is_taken_and_left_alone(dtype):
    pixels = picture().astype(dtype)
    before = pixels.copy()
    found = condition(pixels, "dark", SMALL)
    assert found.dtype == np.float32
    assert found.shape == pixels.shape
    np.testing.assert_array_equal(pixels, before)


def test_dark_is_minus_bright():
    bright, dark = (condition(picture(), p, SMALL) for p in ("bright", "dark"))
    np.testing.assert_array_equal(dark, -bright)
    assert bright[30, 40] > 1.5


def test_a_dark_defect_comes_out_as_the_same_defect_bright():
    bright = condition(picture(), "bright", SMALL)
    np.testing.assert_allclose(condition(-picture(), "dark", SMALL), bright, atol=1e-4)


def test_mean_is_near_zero_and_deviation_near_one():
    found = condition(picture((300, 200)), "bright", SMALL)
    assert abs(found.mean()) < 0.05
    assert found.std() == pytest.approx(1, abs=0.1)
    blocks = found[:280, :200].reshape(7, 40, 5, 40).std(axis=(1, 3))
    np.testing.assert_allclose(blocks, 1, atol=0.25)  # everywhere, not only on the whole


def test_a_slope_is_taken_away():
    slope = np.linspace(0, 1000, 300) + picture((80, 300))
    found = condition(slope, "bright", SMALL)[:, 30:-30]
    assert abs(found.mean()) < 0.05


@pytest.mark.parametrize("sigma_px", [1, 2, 4, 7.3, 8])
def test_a_turned_picture_is_conditioned_as_the_picture_turned(sigma_px):
    """Windows lie in the middle of what they judge, at every width."""
    options = ConditioningOptions(sigma_px, 2 * sigma_px)
    upright = condition(picture(), "bright", options)
    for turns in range(1, 4):
        turned = condition(np.rot90(picture(), turns), "bright", options)
        np.testing.assert_allclose(turned, np.rot90(upright, turns), atol=1e-4)


def test_variance_is_evened_out():
    noise = np.random.default_rng(0).normal(0, 1, (80, 400))
    noise[:, 200:] *= 4
    found = condition(noise, "bright", SMALL)
    assert found[:, 60:140].std() == pytest.approx(found[:, 260:340].std(), rel=0.1)


def test_a_change_far_away_changes_nothing():
    """So that no side of a split sees another through the conditioning."""
    pixels = picture((60, 400))
    changed = pixels.copy()
    changed[:, 300:] = 600 - 2 * changed[::-1, 300:]  # a rim of a hundred deviations
    before, after = (condition(p, "bright", SMALL) for p in (pixels, changed))
    reach = 3 * (4 + 8) + 4
    np.testing.assert_allclose(after[:, : 300 - reach], before[:, : 300 - reach], atol=1e-4)
    assert np.abs(after[:, 300 - 6 : 300] - before[:, 300 - 6 : 300]).max() > 0.1


def test_a_hole_without_variance_gives_zeros_and_no_nan():
    pixels = picture((200, 240))
    pixels[40:160, 60:180] = 5.0
    found = condition(pixels, "bright", SMALL)
    assert np.isfinite(found).all()
    assert np.abs(found[90:110, 110:130]).max() < 1e-3


def test_a_picture_that_is_mostly_empty_shows_no_rounding_as_contrast():
    pixels = np.full((200, 240), 7.3)
    pixels[:30] = picture((30, 240))
    found = condition(pixels, "bright", SMALL)
    assert np.isfinite(found).all()
    assert np.abs(found[100:]).max() < 1e-3


def test_the_noise_of_a_hole_is_not_blown_up_to_a_defect():
    pixels = picture((200, 240))
    hole = pixels[40:160, 60:180]
    hole[:] = 5 + 1e-3 * np.random.default_rng(1).normal(0, 1, hole.shape)
    assert np.abs(condition(pixels, "bright", SMALL)[90:110, 110:130]).max() < 0.05


def test_hot_pixels_are_cut_off():
    pixels = picture()
    pixels[10, 10] = 1e6
    found = condition(pixels, "bright", replace(SMALL, clip_sd=5.0))
    assert found.max() == found[10, 10] == 5.0


def test_windows_of_zero_take_the_whole_picture():
    pixels = picture()
    found = condition(pixels, "bright", ConditioningOptions(0, 0, clip_sd=100))
    np.testing.assert_allclose(found, (pixels - pixels.mean()) / pixels.std(), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 7), (5, 1), (3, 200), (33, 47)])
def test_pictures_smaller_than_the_windows(shape):
    found = condition(np.random.default_rng(0).normal(0, 1, shape), "bright", ConditioningOptions())
    assert found.shape == shape
    assert np.isfinite(found).all()


@pytest.mark.parametrize("value", [0, 7, 0.1, 1e30])
def test_a_constant_picture_is_refused(value):
    with pytest.raises(MicrographRefused, match="E_CONSTANT"):
        condition(np.full((101, 103), value), "bright", SMALL)


def test_a_background_that_takes_everything_is_refused_by_name():
    with pytest.raises(MicrographRefused, match=r"E_CONSTANT: .* background_sigma_px = 0\.3"):
        condition(picture(), "bright", ConditioningOptions(background_sigma_px=0.3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_pixels_that_are_no_numbers_are_refused_as_such(value):
    pixels = picture()
    pixels[3, 4] = value
    with pytest.raises(MicrographRefused, match="E_NONFINITE"):
        condition(pixels, "bright", SMALL)


@pytest.mark.parametrize("shape", [(9,), (3, 9, 9), ()])
def test_what_is_not_one_plane_is_refused(shape):
    with pytest.raises(MicrographRefused, match="E_CHANNELS"):
        condition(np.zeros(shape), "bright", SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"background_sigma_px": -1},
        {"variance_sigma_px": 1e9},
        {"background_sigma_px": np.nan},
        {"clip_sd": 0},
        {"clip_sd": np.nan},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        ConditioningOptions(**wrong)
