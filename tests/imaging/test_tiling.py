"""Tiling: windows cover a plane, their weights sum to one, and no seam shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import SettingsRefused
from defectops.imaging.tiling import TilingOptions, process, weighted_windows, windows


@st.composite
def tilings(draw):
    window = draw(st.integers(1, 20))
    overlap = draw(st.integers(0, window - 1))
    return TilingOptions(window, overlap, draw(st.integers(0, overlap // 2)))


SHAPES = st.tuples(st.integers(1, 50), st.integers(1, 50))


@settings(deadline=None)
@given(SHAPES, tilings())
def test_weights_sum_to_one_everywhere(shape, tiling):
    total = np.zeros(shape)
    for region, weight in weighted_windows(shape, tiling):
        assert weight.shape == region.shape
        assert (weight >= 0).all()
        total[region.slices] += weight
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(deadline=None)
@given(SHAPES, tilings())
def test_the_margin_of_a_window_weighs_nothing_but_at_the_planes_own_edge(shape, tiling):
    margin = tiling.margin_px
    for region, weight in weighted_windows(shape, tiling):
        if region.top > 0:
            assert (weight[:margin] == 0).all()
        if region.right < shape[1]:
            assert (weight[:, weight.shape[1] - margin :] == 0).all()


@settings(deadline=None)
@given(SHAPES, tilings())
def test_identity_is_identity(shape, tiling):
    plane = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    np.testing.assert_allclose(process(plane, lambda w: w, tiling), plane, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(SHAPES, tilings())
def test_windows_lie_inside_and_are_as_large_as_asked(shape, tiling):
    edge = tiling.window_px
    for w in windows(shape, tiling):
        assert 0 <= w.top < w.bottom <= shape[0]
        assert 0 <= w.left < w.right <= shape[1]
        assert w.shape == (min(edge, shape[0]), min(edge, shape[1]))


def test_a_plane_in_one_window_is_handed_over_as_it_is():
    plane, seen = np.arange(12.0).reshape(3, 4), []
    found = process(plane, lambda w: seen.append(w.copy()) or w * 2, TilingOptions(10, 2))
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], plane)
    np.testing.assert_array_equal(found, plane * 2)
    assert found.dtype == np.float32


def test_an_overlap_is_blended_in_a_line():
    """Two windows that answer 0 and 1: the overlap of four climbs by fifths."""
    answers = iter([0.0, 1.0])
    plane = np.zeros((1, 12), np.float32)
    found = process(plane, lambda w: np.full(w.shape, next(answers)), TilingOptions(8, 4))
    np.testing.assert_allclose(found[0], [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1], atol=1e-6)


def test_with_a_margin_of_half_the_overlap_windows_meet_in_a_cut():
    answers = iter([0.0, 1.0])
    plane = np.zeros((1, 12), np.float32)
    found = process(plane, lambda w: np.full(w.shape, next(answers)), TilingOptions(8, 4, 2))
    np.testing.assert_array_equal(found[0], [0] * 6 + [1] * 6)


@pytest.mark.parametrize(
    "wrong", [(0, 0), (8, 8), (8, -1), (8, 4, 3), (8, 4, -1), (-1, -2), (8, 0, 1)]
)
def test_impossible_tilings_are_refused(wrong):
    with pytest.raises(SettingsRefused, match=r"tiling: E_CONFIG: .* must be 0 to"):
        TilingOptions(*wrong)
