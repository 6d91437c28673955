"""Masks to objects: separation, cleaning, thinning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import thin

from defectops.errors import LabelRefused
from defectops.measurement.lines import as_traced, steps, trace
from defectops.measurement.objects import (
    ObjectOptions,
    as_instances,
    label_particles,
    thin_lines,
    thinned,
)

SHAPE = (90, 130)


def length(centre):
    lines = trace(centre)
    return steps(lines, as_traced(lines)).length_px.sum()


def test_an_empty_mask_has_no_objects():
    empty = np.zeros(SHAPE, dtype=bool)
    assert not label_particles(empty).any()
    assert not thin_lines(empty).any()


def test_specks_go_and_pinholes_are_filled(draw):
    mask = draw.disc(SHAPE, (40, 40), 30)
    mask[40, 40] = False
    mask[5, 5:8] = True
    found = label_particles(mask)
    assert found.max() == 1
    assert found[40, 40] == 1
    assert found[5, 6] == 0


def test_a_ring_keeps_its_hole(draw):
    ring = draw.disc(SHAPE, (45, 60), 60) & ~draw.disc(SHAPE, (45, 60), 30)
    found = label_particles(ring)
    assert not found[45, 60]
    np.testing.assert_array_equal(found > 0, ring)


@pytest.mark.parametrize("distance", [20, 24, 28])
def test_touching_discs_are_two(draw, distance):
    mask = draw.disc(SHAPE, (40, 40), 28) | draw.disc(SHAPE, (44, 40 + distance), 28)
    found = label_particles(mask)
    assert found.max() == 2
    assert found[40, 35] != found[44, 45 + distance]
    assert (found[mask] > 0).all()
    assert (found > 0).sum() <= mask.sum() + 3  # a slit between them counts as a pinhole


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0])
def test_one_ellipse_is_one(ratio):
    rows, columns = np.indices(SHAPE)
    ellipse = ((rows - 44) * ratio) ** 2 + (columns - 60.5) ** 2 <= 38**2
    assert label_particles(ellipse).max() == 1


@pytest.mark.parametrize("seed", range(8))
def test_one_ragged_particle_is_one(seed):
    random = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE) - np.array([44.5, 60.5])[:, None, None]
    angle = np.arctan2(rows, columns * 1.3)
    wobble = sum(
        random.normal() / k * np.cos(k * angle + random.uniform(0, 6.28)) for k in range(2, 7)
    )
    particle = np.hypot(rows, columns * 1.3) <= 24 * (1 + 0.12 * wobble)
    assert label_particles(particle).max() == 1


def test_numbers_have_no_gaps(draw):
    found = label_particles(draw.discs(SHAPE, 0.004, lambda r, n: r.uniform(6, 16, n), 3) > 0)
    assert found.max() > 10
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))


def test_instances_stay_as_they_were_numbered():
    given_labels = np.zeros(SHAPE, dtype=np.uint16)
    given_labels[3:5, 3:5] = 7
    given_labels[3:5, 5:9] = 900
    np.testing.assert_array_equal(as_instances(given_labels), given_labels)


def test_a_mask_of_0_and_255_is_a_mask(draw):
    mask = draw.disc(SHAPE, (20, 20), 16) | draw.disc(SHAPE, (60, 90), 16)
    found = as_instances(mask.astype(np.uint8) * 255)
    np.testing.assert_array_equal(found, as_instances(mask))
    assert found.max() == 2


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), float), np.zeros((4, 4, 3), bool)])
def test_what_is_no_plane_of_numbers_is_refused(wrong):
    with pytest.raises(LabelRefused, match="E_LABEL"):
        as_instances(wrong)


def test_negative_and_infinite_options_are_refused():
    with pytest.raises(LabelRefused, match="min_area_px"):
        ObjectOptions(min_area_px=-1)
    with pytest.raises(LabelRefused, match="max_spur_px"):
        ObjectOptions(max_spur_px=float("nan"))


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(0, 180),
    row=st.floats(60, 90),
    column=st.floats(70, 110),
    width=st.integers(2, 7),
    wider=st.integers(1, 2),
)
def test_widening_the_mask_does_not_change_the_length(draw, angle, row, column, width, wider):
    """The paper: the density must not depend on how wide a line was drawn."""
    mask, _ = draw.through((150, 180), angle, np.array([row, column]), width)
    wide = ndimage.binary_dilation(mask, iterations=wider)
    assert length(thin_lines(wide)) == pytest.approx(length(thin_lines(mask)), rel=0.02)


def test_widening_a_field_of_lines_with_ends(draw):
    mask = np.zeros((300, 340), dtype=bool)
    for i, angle in enumerate(np.radians(np.arange(5, 180, 35))):
        start = np.array([30 + 50 * i, 40])
        mask |= draw.line(mask.shape, start, start + 60 * np.array([np.sin(angle), 0.0]) + [0, 220])
    once = length(thin_lines(mask))
    for iterations in (1, 2):
        wide = ndimage.binary_dilation(mask, iterations=iterations)
        assert length(thin_lines(wide)) == pytest.approx(once, rel=0.01)


def test_short_side_branches_are_pruned_and_long_ones_stay(draw):
    spine = draw.line(SHAPE, (45, 10), (45, 120))
    bump = spine | draw.line(SHAPE, (45, 60), (49, 60))
    branch = spine | draw.line(SHAPE, (45, 60), (75, 60))
    assert trace(thin_lines(bump)).n_paths == 1
    assert trace(thin_lines(branch)).n_paths == 3
    assert length(thin_lines(branch)) == pytest.approx(length(thin_lines(spine)) + 30, abs=2.5)


def test_short_lines_are_dropped(draw):
    mask = draw.line(SHAPE, (20, 10), (20, 100)) | draw.line(SHAPE, (60, 50), (60, 56))
    found = thin_lines(mask)
    assert not found[50:].any()
    assert found[:30].any()
    assert thin_lines(mask, ObjectOptions(min_line_px=0))[50:].any()


def test_a_line_that_leaves_the_picture_reaches_its_border(draw):
    mask, _ = draw.through(SHAPE, 30, np.array([44.0, 61.0]), 7)
    ends = np.argwhere(thin_lines(mask))
    assert ends[:, 1].min() == 0
    assert ends[:, 1].max() == SHAPE[1] - 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), smooth=st.sampled_from([0.0, 1.0, 2.0]))
def test_thinning_is_that_of_guo_and_hall(seed, smooth):
    noise = np.random.default_rng(seed).normal(size=(40, 57))
    mask = ndimage.gaussian_filter(noise, smooth) > 0
    np.testing.assert_array_equal(thinned(mask), thin(mask))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("angle", [44.0, 44.8, 45.0, 45.3, 135.4])
def test_lines_near_a_diagonal_are_not_eaten(draw, width, angle):
    """Zhang and Suen's thinning removes up to the whole of such a line."""
    along = 60 * np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    mask = draw.line(
        (150, 170), np.array([75.3, 85.1]) - along, np.array([75.3, 85.1]) + along, width
    )
    assert length(thin_lines(mask)) == pytest.approx(120, abs=3)
