"""Centre lines and outlines at known distances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.outline_agreement import boundary_agreement, line_agreement


def test_lines_within_and_beyond_the_tolerance(draw):
    label = draw.line((80, 160), (20, 10), (20, 150)) | draw.line((80, 160), (60, 10), (60, 150))
    prediction = draw.line((80, 160), (22, 10), (22, 150), 7)
    found = line_agreement(prediction, label, tolerance=3)
    assert found.correctness == 1
    assert found.completeness == pytest.approx(0.5, abs=0.01)
    assert line_agreement(prediction, label, tolerance=1).correctness < 0.05


def test_lines_missing_on_one_side(draw):
    nothing = np.zeros((60, 90), dtype=bool)
    label = draw.line((60, 90), (20, 10), (20, 80))
    assert line_agreement(nothing, label).completeness == 0
    assert line_agreement(nothing, label).correctness is None
    assert line_agreement(nothing, nothing).completeness is None


def test_a_tolerance_in_nm(draw):
    label = draw.line((80, 160), (20, 10), (20, 150))
    prediction = draw.line((80, 160), (22, 10), (22, 150))
    assert line_agreement(prediction, label, tolerance=1.1, spacing=0.5).completeness == 1
    assert line_agreement(prediction, label, tolerance=0.9, spacing=0.5).completeness < 0.05
    with pytest.raises(LabelRefused, match="E_CONFIG"):
        line_agreement(prediction, label, tolerance=-1.0)


def test_centre_line_dice_by_hand(draw):
    one = draw.line((80, 160), (20, 10), (20, 150))
    other = draw.line((80, 160), (60, 10), (60, 150))
    assert line_agreement(one, one).centre_line_dice == 1
    # Half of the label is found, all of the prediction is right: 2 (0.5)(1) / 1.5.
    assert line_agreement(one, one | other).centre_line_dice == pytest.approx(2 / 3, abs=0.01)
    assert line_agreement(one, other).centre_line_dice == 0
    assert line_agreement(one, np.zeros_like(one)).centre_line_dice is None


def test_boundaries_of_shifted_squares():
    label = np.zeros((40, 60), dtype=bool)
    label[10:20, 10:30] = True
    shifted = np.roll(label, 4, axis=1)
    found = boundary_agreement(shifted, label, spacing=0.5)
    # The short sides lie 4 px apart, the long ones on each other but for 4 px at their ends.
    assert found.hausdorff_95 == pytest.approx(2.0)
    assert 0 < found.mean < 1
    assert boundary_agreement(label, label).mean == 0
    assert found.n_label == found.n_prediction == 2 * (10 + 20) - 4


def test_a_concentric_square_is_everywhere_as_far():
    label = np.zeros((50, 70), dtype=bool)
    label[10:40, 20:50] = True
    wider = np.zeros_like(label)
    wider[7:43, 17:53] = True
    found = boundary_agreement(label, wider)
    assert found.mean == pytest.approx(3, abs=0.1)


def test_no_boundary_no_distance():
    label = np.zeros((20, 30), dtype=bool)
    label[5:9, 5:9] = True
    found = boundary_agreement(np.zeros_like(label), label)
    assert (found.mean, found.hausdorff_95, found.n_prediction, found.n_label) == (
        None,
        None,
        0,
        12,
    )
    # The picture's edge is no outline: a full plane has none.
    assert boundary_agreement(np.ones_like(label), label).mean is None
    ignored = boundary_agreement(label, label, np.ones_like(label))
    assert (ignored.mean, ignored.n_label) == (None, 0)


masks = hnp.arrays(bool, (7, 11))


@given(one=masks, other=masks)
def test_distances_do_not_care_who_is_who(one, other):
    there, back = boundary_agreement(one, other), boundary_agreement(other, one)
    assert there.mean == pytest.approx(back.mean) if there.mean is not None else back.mean is None
    assert there.hausdorff_95 == back.hausdorff_95
