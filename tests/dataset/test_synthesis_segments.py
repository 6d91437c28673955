"""Segments scattered over a foil have the density that was asked for."""

import numpy as np
import pytest

from defectops.dataset.synthesis_segments import SegmentOptions, capsules, draw_segments
from defectops.errors import SettingsRefused


def fields(options, count, seed=0):
    return [draw_segments(r, options) for r in np.random.default_rng(seed).spawn(count)]


@pytest.mark.parametrize("texture", [0.0, 0.7])
def test_length_in_foil_and_in_projection_is_that_of_the_density(texture):
    options = SegmentOptions(
        4e14, 60.0, 120.0, texture, 30.0, shape=(120, 160), pixel_size_nm=1.0, width_px=1.0
    )
    drawn = fields(options, 120)
    volume = 120 * 160 * 60.0
    lengths = np.array([f.length_nm.sum() for f in drawn])
    error = lengths.std() / np.sqrt(lengths.size)
    assert abs(lengths.mean() - 4e-4 * volume) < 4 * error
    projected = np.array([f.projected_nm.sum() for f in drawn])
    off = projected - np.pi / 4 * lengths
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(off.size)


def test_segments_stay_inside_foil_and_field():
    options = SegmentOptions(6e14, shape=(90, 130))
    field = draw_segments(np.random.default_rng(3), options)
    extent = np.array([90 * 0.365, 130 * 0.365, 136.0])
    for ends in (field.start_nm, field.stop_nm):
        assert (ends >= -1e-6).all()
        assert (ends <= extent + 1e-6).all()
    assert field.mask.shape == (90, 130)


def test_texture_turns_segments():
    options = SegmentOptions(6e14, texture=1.0, texture_deg=40.0, shape=(400, 300))
    field = draw_segments(np.random.default_rng(0), options)
    along = field.stop_nm - field.start_nm
    turn = 2 * np.arctan2(along[:, 0], along[:, 1])
    mean = np.degrees(np.angle(np.exp(1j * turn).mean())) / 2
    assert mean == pytest.approx(40, abs=8)


def test_the_same_seed_draws_the_same_field():
    one, other = (
        draw_segments(np.random.default_rng(5), SegmentOptions(3e14, shape=(80, 90)))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.mask, other.mask)


def test_no_density_no_lines():
    field = draw_segments(np.random.default_rng(0), SegmentOptions(0.0, shape=(40, 50)))
    assert not field.mask.any()
    assert field.projected_nm.size == 0


@pytest.mark.parametrize("width", [1.0, 3.0, 4.5])
def test_a_capsule_is_all_pixels_near_a_segment(width):
    start, stop = np.array([[10.3, 8.1]]), np.array([[31.0, 52.7]])
    mask = capsules(start, stop, width, (48, 40))
    centre = np.stack(np.indices((48, 40)), axis=-1) + 0.5
    along = (stop - start)[0]
    part = np.clip((centre - start[0]) @ along / (along @ along), 0, 1)
    away = np.linalg.norm(centre - start[0] - part[..., None] * along, axis=-1)
    np.testing.assert_array_equal(mask, away <= width / 2)


@pytest.mark.parametrize(
    "given", [{"density_m2": -1.0}, {"density_m2": 1e14, "texture": 1.5}, {"density_m2": np.nan}]
)
def test_impossible_segments_are_refused(given):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        SegmentOptions(**given)


def test_lengths_must_be_positive():
    with pytest.raises(SettingsRefused, match="must be positive"):
        SegmentOptions(1e14, thickness_nm=0.0)
