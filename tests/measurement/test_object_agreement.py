"""Objects found, missed, split and merged, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.object_agreement import matched_diameters, object_agreement


def squares(shape, *corners):
    plane = np.zeros(shape, dtype=np.int32)
    for name, (top, left) in enumerate(corners, start=1):
        plane[top : top + 4, left : left + 4] = name
    return plane


def test_objects_matched_by_hand():
    label = squares((20, 30), (2, 2), (2, 12), (12, 20))
    # One shifted by one pixel (IoU 12/20), one by two (8/24), one invented far off.
    prediction = squares((20, 30), (2, 3), (4, 12), (12, 2))
    found = object_agreement(prediction, label)
    assert (found.matched, found.invented, found.missed) == (1, 2, 2)
    assert found.pairs == ((1, 1, pytest.approx(12 / 20)),)
    assert found.precision == found.recall == found.f1 == pytest.approx(1 / 3)
    assert object_agreement(prediction, label, min_iou=0.3).matched == 2


def test_ignored_objects_are_not_asked_for():
    label = squares((20, 30), (2, 2), (2, 12))
    ignore = np.zeros((20, 30), dtype=bool)
    ignore[:, 11:] = True
    found = object_agreement(squares((20, 30), (2, 2)), label, ignore)
    assert (found.matched, found.invented, found.missed) == (1, 0, 0)


def test_no_objects_at_all():
    nothing = np.zeros((9, 9), dtype=np.int32)
    found = object_agreement(nothing, nothing)
    assert (found.precision, found.recall, found.f1) == (None, None, None)
    missed = object_agreement(nothing, squares((9, 9), (2, 2)))
    assert (missed.precision, missed.recall, missed.f1) == (None, 0, 0)


def test_panoptic_quality_by_hand():
    label = squares((20, 30), (2, 2), (2, 12), (12, 20))
    prediction = squares((20, 30), (2, 3), (4, 12), (12, 2))
    found = object_agreement(prediction, label)
    assert found.segmentation_quality == pytest.approx(12 / 20)
    assert found.panoptic_quality == pytest.approx(0.6 / (1 + (2 + 2) / 2))
    assert found.panoptic_quality == pytest.approx(found.f1 * found.segmentation_quality)


def test_no_object_has_no_quality():
    nothing = np.zeros((9, 9), dtype=np.int32)
    found = object_agreement(nothing, nothing)
    assert (found.panoptic_quality, found.segmentation_quality) == (None, None)
    assert (found.splits, found.merges) == (0, 0)
    missed = object_agreement(nothing, squares((9, 9), (2, 2)))
    assert (missed.panoptic_quality, missed.segmentation_quality) == (0, None)
    assert matched_diameters(missed).mean_difference is None


def test_a_split_and_a_merge_by_hand():
    label = np.zeros((20, 40), dtype=np.int32)
    label[2:8, 2:14] = 1  # split in two halves
    label[12:18, 2:8] = 2  # these two merged
    label[12:18, 9:15] = 3
    label[2:8, 20:26] = 4  # found as it is
    prediction = np.zeros_like(label)
    prediction[2:8, 2:8] = 1
    prediction[2:8, 8:14] = 2
    prediction[12:18, 2:15] = 3
    prediction[2:8, 20:26] = 4
    found = object_agreement(prediction, label)
    assert (found.splits, found.merges) == (1, 1)
    # At exactly 0.5 one half still matches its whole; the other is left over.
    assert (found.matched, found.invented, found.missed) == (2, 2, 2)
    turned = object_agreement(label, prediction)
    assert (turned.splits, turned.merges) == (1, 1)
    assert (turned.invented, turned.missed) == (2, 2)


def test_a_piece_that_only_touches_makes_no_split():
    label = squares((20, 30), (2, 2), (2, 6))
    prediction = np.zeros_like(label)
    prediction[2:6, 2:7] = 1  # one column into its neighbour
    prediction[2:6, 7:10] = 2
    found = object_agreement(prediction, label)
    assert (found.matched, found.splits, found.merges) == (2, 0, 0)


def test_the_assignment_takes_the_largest_sum():
    label = np.array([[1, 1, 1, 2, 2, 0, 0, 0]], dtype=np.int32)
    prediction = np.array([[2, 1, 1, 1, 0, 0, 0, 0]], dtype=np.int32)
    found = object_agreement(prediction, label, min_iou=0.2)
    # 1/3 + 1/4 is more than the 1/2 that the largest overlap alone would give.
    assert {pair[:2] for pair in found.pairs} == {(1, 2), (2, 1)}


def test_diameters_of_matches_by_hand(draw):
    label = draw.disc((60, 90), (30, 20), 20) | draw.disc((60, 90), (30, 60), 30)
    prediction = draw.disc((60, 90), (30, 20), 22) | draw.disc((60, 90), (30, 60), 30)
    found = matched_diameters(object_agreement(prediction, label), spacing=0.5)
    assert found.n == 2
    assert found.mean_difference == pytest.approx(0.5, abs=0.06)
    assert found.sd_difference == pytest.approx(found.mean_difference * np.sqrt(2))
    assert found.mean_relative == pytest.approx(0.05, abs=0.005)


instances = hnp.arrays(np.int32, (6, 9), elements={"min_value": 0, "max_value": 4})


@given(prediction=instances, label=instances)
def test_laws_of_matching(prediction, label):
    found, turned = object_agreement(prediction, label), object_agreement(label, prediction)
    n_label, n_found = (np.unique(x[x > 0]).size for x in (label, prediction))
    assert (found.matched + found.missed, found.matched + found.invented) == (n_label, n_found)
    assert (found.matched, found.missed) == (turned.matched, turned.invented)
    assert (found.splits, found.merges) == (turned.merges, turned.splits)
    assert len({p[0] for p in found.pairs}) == len({p[1] for p in found.pairs}) == found.matched
    perfect = object_agreement(label, label)
    assert perfect.panoptic_quality == (1 if n_label else None)
    assert (perfect.splits, perfect.merges) == (0, 0)


def test_thousands_of_objects_need_no_table_of_all_against_all():
    grid = np.zeros((600, 603), dtype=np.int32)
    for k in range(2):
        grid[k::3, 0::3] = grid[k::3, 1::3] = np.arange(200 * 201).reshape(200, 201) + 1
    found = object_agreement(grid, grid)
    assert found.matched == 200 * 201
    assert found.f1 == 1


def test_shapes_of_objects_must_agree():
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        object_agreement(np.zeros((3, 4), dtype=bool), np.zeros((4, 3), dtype=bool))
