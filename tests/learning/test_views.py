"""Mirrored views: lie where the plain answer lies, and differ only where the model does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from defectops.learning.inference import predict
from defectops.learning.views import VIEWS, ViewOptions, mirrored

PLANES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-4, 4, width=32),
)
EACH_VIEW = pytest.mark.parametrize("view", VIEWS)


def blurred(plane):
    """Return what a model with a symmetric view of its surroundings says."""
    wide = np.pad(plane, 1, mode="edge")
    beside = (wide[:-2, 1:-1] + wide[2:, 1:-1]) + (wide[1:-1, :-2] + wide[1:-1, 2:])
    return plane + beside / 4


@EACH_VIEW
@settings(max_examples=30)
@given(plane=PLANES)
def test_of_a_symmetric_model_every_view_is_the_plain_answer(view, plane):
    np.testing.assert_array_equal(mirrored(blurred, plane, view), blurred(plane))


@EACH_VIEW
def test_a_view_lies_where_the_plain_answer_lies(view):
    plane = np.zeros((4, 7), np.float32)
    plane[1, 5] = 1.0
    np.testing.assert_array_equal(mirrored(lambda p: p, plane, view), plane)


def test_of_a_model_with_a_side_the_other_side_is_seen():
    rows, columns = np.indices((3, 5))
    plane = np.zeros((3, 5), np.float32)
    found = {view: mirrored(lambda p: p + 10 * rows + columns, plane, view) for view in VIEWS}
    np.testing.assert_array_equal(found["left-right"], 10 * rows + 4 - columns)
    np.testing.assert_array_equal(found["top-bottom"], 10 * (2 - rows) + columns)
    np.testing.assert_array_equal(found["turned"], 10 * (2 - rows) + 4 - columns)


@EACH_VIEW
def test_windows_and_odd_sides_keep_a_view_in_its_place(view):
    # A network of one pixel's reach: what is left to see is where inference puts its answers.
    network = torch.nn.Conv2d(1, 1, 1).eval()
    plane = np.random.default_rng(0).normal(0, 1, (37, 53)).astype(np.float32)

    def probability(given):
        return predict(network, given, precision="float32")

    found = mirrored(probability, plane, view)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, probability(plane), atol=1e-6)


def test_the_order_is_fixed_and_can_be_none():
    assert ViewOptions().names == tuple(VIEWS) == ("left-right", "top-bottom", "turned")
    assert ViewOptions(mirrored=False).names == ()
