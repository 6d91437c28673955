"""Copies and crops are found however they are turned; independent pictures are not."""

import numpy as np
import pytest

from defectops.dataset.twins import Twin, find_twins, shared, turned


@pytest.fixture
def noise():
    return np.random.default_rng(3).integers(0, 255, (96, 130)).astype(np.uint8)


def test_independent_pictures_have_no_twin(noise):
    other = np.random.default_rng(4).integers(0, 255, (80, 70)).astype(np.uint8)
    assert find_twins({"a": noise, "b": other, "c": np.full((50, 50), 7)}) == []


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_crop_is_found_where_it_was_cut(noise, turn):
    crop = noise[10:70, 20:110]
    cut = turned(crop, (4 - turn) % 4 if turn < 4 else turn)  # its own inverse when mirrored

    (twin,) = find_twins({"a": noise, "b": cut})

    assert (twin.one, twin.other) in {("a", "b"), ("b", "a")}
    first, second = (noise, cut) if twin.one == "a" else (cut, noise)
    a, b = shared(first, second, twin)
    assert (a == b).all()
    assert sorted(a.shape) == [60, 90]


def test_partial_overlap_is_found_at_its_offset(noise):
    assert find_twins({"a": noise[:60, :100], "b": noise[20:, 30:]}) == [Twin("a", "b", 0, 20, 30)]


def test_the_same_values_in_another_dtype_are_the_same_picture(noise):
    assert find_twins({"a": noise, "b": noise.astype(np.uint16)}) == [Twin("a", "b", 0, 0, 0)]


def test_pictures_smaller_than_a_segment_are_left_alone(noise):
    assert find_twins({"a": noise[:20, :10], "b": noise[:20, :10], "c": noise}) == []


def test_a_lattice_is_no_twin_of_a_shifted_lattice_with_a_difference():
    lattice = np.tile(np.arange(16, dtype=np.uint8) * 15, (64, 6))
    changed = lattice.copy()
    changed[::7] += 1
    assert find_twins({"a": lattice, "b": changed}) == []
