"""Distances piece by piece against the transform of the whole plane."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from defectops.measurement import distances
from defectops.measurement.distances import edge_distance, local_maxima


@given(
    mask=arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 40))),
    cost=st.sampled_from([0, 600]),
)
def test_the_same_numbers_as_scipy(mask, cost):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "_PIXELS_PER_PIECE", cost)
        found = edge_distance(mask)
    if mask.all():
        return  # nothing is outside: SciPy leaves that distance open
    np.testing.assert_array_equal(found, ndimage.distance_transform_edt(mask))


def test_a_few_discs_far_apart(draw):
    mask = draw.disc((300, 200), (40, 30), 31) | draw.disc((300, 200), (299, 120), 50)
    np.testing.assert_array_equal(edge_distance(mask), ndimage.distance_transform_edt(mask))


def test_nothing_is_near_nothing():
    assert not edge_distance(np.zeros((20, 30), bool)).any()


@given(
    heights=arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 40)), elements=st.integers(0, 3)
    ),
    band=st.sampled_from([1, 100, 1 << 17]),
)
def test_the_same_maxima_as_scipy_whatever_the_bands(heights, band):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "_BAND_PX", band)
        found = local_maxima(heights)
    np.testing.assert_array_equal(found, heights == ndimage.maximum_filter(heights, size=3))
