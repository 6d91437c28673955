"""What a trial is judged by, on drawings whose errors are known."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import LINES, VOIDS, discs, field

from defectops.errors import SettingsRefused
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration
from defectops.workflows.trial_objectives import objective_values, quantity_errors
from defectops.workflows.trial_pictures import dev_picture

OPTIONS = MeasureOptions(border="all", foil="t")


def model(defect=VOIDS):
    """A model whose probability is the intensity."""
    bundle = SimpleNamespace(threshold=0.5, defect={"shape": defect.shape})
    return SimpleNamespace(bundle=bundle, probability=lambda plane: plane)


def seen(label, prediction):
    return [field(label, prediction)]


FOUR = discs((60, 80), (15, 15), (15, 55), (45, 15), (45, 55))


def test_a_perfect_model_has_no_error():
    values, facts = objective_values("pareto", 1.0, model(), seen(FOUR, FOUR), OPTIONS)
    assert values == (1.0, 0.0)
    assert facts == {"error.number_density": 0.0, "error.mean_diameter": 0.0}


def test_one_of_four_missed_is_a_quarter_and_sizes_are_right():
    three = discs((60, 80), (15, 15), (15, 55), (45, 15))
    values, _ = objective_values("density", 0.7, model(), seen(FOUR, three), OPTIONS)
    assert values == pytest.approx((0.25,))
    values, _ = objective_values("pareto", 0.7, model(), seen(FOUR, three), OPTIONS)
    assert values == pytest.approx((0.7, 0.125))


def test_too_much_counts_as_too_little_does():
    three = discs((60, 80), (15, 15), (15, 55), (45, 15))
    values, _ = objective_values("density", 0.7, model(), seen(three, FOUR), OPTIONS)
    assert values == pytest.approx((1 / 3,))


def test_finding_nothing_is_an_error_of_one_in_both():
    nothing = np.zeros_like(FOUR)
    assert quantity_errors(model(), seen(FOUR, nothing), OPTIONS) == {
        "number_density": 1.0,
        "mean_diameter": 1.0,
    }


def test_a_label_without_the_defect_has_no_error_to_speak_of():
    with pytest.raises(SettingsRefused, match=r"number_density on dev is 0.*choose the obj"):
        quantity_errors(model(), seen(np.zeros_like(FOUR), FOUR), OPTIONS)


def test_without_a_thickness_it_is_the_areal_density():
    plain = [replace(f, calibration=Calibration(0.5, "manifest")) for f in seen(FOUR, FOUR)]
    assert list(quantity_errors(model(), plain, OPTIONS)) == ["areal_density", "mean_diameter"]


def test_lines_are_judged_by_their_length():
    whole, half = np.zeros((64, 80), bool), np.zeros((64, 80), bool)
    whole[30:33, 8:72] = half[30:33, 8:40] = True
    errors = quantity_errors(model(LINES), seen(whole, half), MeasureOptions())
    assert list(errors) == ["dislocation_density_skeleton"]
    assert errors["dislocation_density_skeleton"] == pytest.approx(0.5, abs=0.05)
    values, _ = objective_values("pareto", 0.5, model(LINES), seen(whole, half), MeasureOptions())
    assert values == (0.5, errors["dislocation_density_skeleton"])


def test_iou_alone_measures_nothing():
    def unasked(plane):
        raise AssertionError

    blind = SimpleNamespace(bundle=None, probability=unasked)
    assert objective_values("iou", 0.6, blind, seen(FOUR, FOUR), OPTIONS) == ((0.6,), {})


def test_fields_are_pooled_before_they_are_compared():
    # One void too many in one field, one missed in the other: together the density is right.
    more, less = discs((60, 80), (15, 15), (45, 15)), discs((60, 80), (15, 15))
    fields = seen(less, more) + seen(more, less)
    assert quantity_errors(model(), fields, OPTIONS)["number_density"] == pytest.approx(0.0)


# Pictures ------------------------------------------------------------------------------------


def test_the_picture_shows_the_piece_with_most_of_the_defect():
    label = np.zeros((100, 150), bool)
    label[70:95, 100:140] = True
    empty = np.zeros((100, 150), bool)
    asked = []

    def probability(plane):
        asked.append(plane.shape)
        return plane

    shown = SimpleNamespace(bundle=SimpleNamespace(threshold=0.5), probability=probability)
    picture = dev_picture(shown, [field(empty), field(label)], edge_px=50)
    assert picture.shape == (50, 100, 3)
    assert picture.dtype == np.uint8
    assert asked == [(50, 50)]
    turquoise = (picture[:, 50:] == (64, 224, 208)).all(axis=2)
    assert turquoise.sum() == 25 * 40  # the whole of it lies in one piece


def test_a_small_field_is_shown_whole():
    label = discs((30, 40), (10, 10))
    shown = SimpleNamespace(bundle=SimpleNamespace(threshold=0.5), probability=lambda plane: plane)
    picture = dev_picture(shown, [field(label)])
    assert picture.shape == (30, 80, 3)
    assert math.isclose((picture[:, 40:] == (64, 224, 208)).all(axis=2).sum(), label.sum())
