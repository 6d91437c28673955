"""The check-me list: what is doubted, what it would change, in which order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import LabelRefused
from defectops.measurement.doubt_rows import COLUMNS
from defectops.measurement.doubts import find_doubts
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.objects import ObjectOptions, label_particles
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

UNCALIBRATED = Calibration(None, "uncalibrated")
HALF = 0.5


def discs(*rows, shape=(90, 140)):
    """Draw (row, column, radius, probability) on zero."""
    plane = np.zeros(shape)
    r, c = np.indices(shape)
    for row, column, radius, value in rows:
        plane[np.hypot(r - row, c - column) <= radius] = value
    return plane


def line(row, left, right, value, plane):
    plane[row - 1 : row + 2, left:right] = value
    return plane


SURE = ((20, 20, 8, 1.0), (20, 70, 8, 1.0), (65, 30, 8, 1.0), (65, 110, 8, 1.0))


def test_a_faint_blob_is_missed_with_its_effect():
    found = find_doubts(discs(*SURE, (65, 70, 8, 0.4)), HALF, "particle")
    (row,) = found.to_dict("records")
    assert row["kind"] == "missed"
    assert [row[c] for c in COLUMNS[1:5]] == [57, 74, 62, 79]
    assert row["chance"] == pytest.approx(0.16)
    assert row["objects"] == 1
    assert row["density_percent"] == pytest.approx(25)
    assert row["diameter_percent"] == pytest.approx(0)
    assert row["score"] == pytest.approx(0.16 * 25)
    assert (row["label"], row["over"]) == (0, "")


def test_the_papers_two_missed_voids_are_a_fifth_of_the_count():
    """Eight of ten found: each of the two would add an eighth of what is reported."""
    sure = [(20 + 45 * (i // 4), 20 + 40 * (i % 4), 8, 1.0) for i in range(8)]
    plane = discs(*sure, (43, 40, 5, 0.4), (43, 120, 5, 0.4), shape=(90, 170))
    found = find_doubts(plane, HALF, "particle")
    assert found["kind"].tolist() == ["missed", "missed"]
    assert found["density_percent"].sum() == pytest.approx(25)
    assert (found["diameter_percent"] < 0).all()


def test_a_faint_particle_may_be_invented():
    (row,) = find_doubts(discs(*SURE, (43, 70, 6, 0.6)), HALF, "particle").to_dict("records")
    assert row["kind"] == "invented"
    assert row["chance"] == pytest.approx(0.8)
    assert (row["objects"], row["density_percent"]) == (-1, pytest.approx(-20))
    assert row["label"] == 3


def test_two_halves_with_a_likely_bridge_are_one():
    plane = discs((40, 60, 14, 1.0), (15, 120, 8, 1.0))
    plane[26:55, 58:62] *= 0.45
    (row,) = find_doubts(plane, HALF, "particle").to_dict("records")
    assert row["kind"] == "split"
    assert 0.2 < row["chance"] <= 0.45
    assert row["objects"] == -1
    assert sorted((row["label"], row["other_label"])) == [2, 3]


def test_a_waist_may_be_two():
    plane = discs((40, 50, 14, 1.0), (40, 70, 14, 1.0), (15, 120, 8, 1.0))
    options = MeasureOptions(objects=ObjectOptions(separation_px=30))
    (row,) = find_doubts(plane, HALF, "particle", options).to_dict("records")
    assert row["kind"] == "merged"
    assert row["objects"] == 1
    area = (label_particles(plane > 0, options.objects) == row["label"]).sum()
    assert row["chance"] == pytest.approx(1 - np.exp(-2 * area / plane.size))


def test_an_uncertain_rim_moves_the_diameter_only():
    plane = np.maximum(discs((52, 70, 14, 0.3)), discs(*SURE, (52, 70, 10, 1.0)))
    (row,) = find_doubts(plane, HALF, "particle").to_dict("records")
    assert row["kind"] == "widened"
    assert row["chance"] == pytest.approx(0.09)
    assert (row["objects"], row["density_percent"]) == (0, 0)
    assert row["diameter_percent"] > 0


def test_a_particle_sure_only_in_its_core_may_be_smaller():
    plane = np.maximum(discs((43, 70, 12, 0.55)), discs(*SURE, (43, 70, 10, 1.0)))
    row = find_doubts(plane, HALF, "particle").query("kind == 'widened'").iloc[0]
    assert row["chance"] == pytest.approx(0.45)
    assert row["diameter_percent"] < 0


def test_a_blob_over_another_type_is_covered():
    plane = discs(*SURE, (65, 70, 8, 0.4))
    others = {"precipitates": discs((65, 76, 8, 1.0)) > 0, "loops": np.zeros(plane.shape, bool)}
    (row,) = find_doubts(plane, HALF, "particle", others=others).to_dict("records")
    assert (row["kind"], row["over"], row["objects"]) == ("covered", "precipitates", 1)
    plain = find_doubts(plane, HALF, "particle", others={"loops": others["loops"]})
    assert plain["kind"].tolist() == ["missed"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["particle", "line"]))
def test_probabilities_of_0_and_1_leave_no_doubt(seed, shape):
    random = np.random.default_rng(seed)
    if shape == "line":
        plane = np.zeros((60, 90))
        for row in random.choice(np.arange(5, 60, 10), 3, replace=False):
            line(int(row), 4, int(random.integers(20, 80)), 1.0, plane)
    else:
        radii = random.uniform(2, 9, 6)
        at = [(20 + 25 * (i // 3), 20 + 30 * (i % 3)) for i in range(6)]
        plane = discs(*((*p, r, 1.0) for p, r in zip(at, radii, strict=True)), shape=(70, 100))
    assert find_doubts(plane, HALF, shape).empty


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_twice_as_many_pixels_give_the_same_list(seed):
    random = np.random.default_rng(seed)
    at = [(20 + 25 * (i // 3), 20 + 30 * (i % 3)) for i in range(6)]
    values = random.choice([0.2, 0.4, 0.6, 0.8, 1.0], 6)
    plane = discs(*((*p, 7, v) for p, v in zip(at, values, strict=True)), shape=(70, 100))
    once = find_doubts(plane, HALF, "particle", MeasureOptions(border="all"))
    large = np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1)
    objects = ObjectOptions(min_area_px=48, max_hole_px=48, separation_px=1.5)
    twice = find_doubts(large, HALF, "particle", MeasureOptions(objects=objects, border="all"))
    same = ["kind", "label", "chance", "objects", "density_percent", "diameter_percent", "score"]
    pd.testing.assert_frame_equal(once[same], twice[same])
    assert (2 * once[list(COLUMNS[1:5])] == twice[list(COLUMNS[1:5])]).all(axis=None)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["gundersen", "weighted", "all", "exclude"]))
def test_the_effect_is_what_measuring_the_other_reading_gives(seed, border):
    random = np.random.default_rng(seed)
    at = [(4 + 30 * (i // 4), 14 + 30 * (i % 4)) for i in range(12)]  # the first row is cut
    rows = [(*p, float(random.uniform(4, 9)), float(random.choice([0.3, 0.6, 1.0]))) for p in at]
    plane = discs(*rows, (95, 55, 6, 1.0), shape=(110, 120))
    options = MeasureOptions(border=border)
    instances = label_particles(plane >= HALF, options.objects)
    found = find_doubts(plane, HALF, "particle", options, instances=instances)
    before = observe_particles(plane >= HALF, UNCALIBRATED, options)
    for row in found[found["kind"].isin(["missed", "invented"])].to_dict("records"):
        box = np.s_[row["top_px"] : row["bottom_px"], row["left_px"] : row["right_px"]]
        other = (plane >= HALF).copy()
        other[box] = row["kind"] == "missed" and plane[box] > 0
        after = observe_particles(other, UNCALIBRATED, options)
        number = [m.objects["counts_in_number"].sum() for m in (before, after)]
        assert number[1] - number[0] == pytest.approx(row["objects"])
        assert 100 * (number[1] / number[0] - 1) == pytest.approx(row["density_percent"])
        size = [
            np.average(m.objects["equivalent_diameter_px"], weights=m.objects["counts_in_size"])
            for m in (before, after)
            if m.objects["counts_in_size"].sum() > 0
        ]
        if len(size) == 2:
            assert 100 * (size[1] / size[0] - 1) == pytest.approx(row["diameter_percent"])


def test_all_particles_invented_is_the_whole_density():
    plane = discs(*((r, c, radius, 0.6) for r, c, radius, _ in SURE))
    found = find_doubts(plane, HALF, "particle")
    assert found["density_percent"].sum() == pytest.approx(-100)


def test_something_where_nothing_was_found_is_all_there_is():
    (row,) = find_doubts(discs((43, 70, 8, 0.4)), HALF, "particle").to_dict("records")
    assert (row["objects"], row["density_percent"], row["diameter_percent"]) == (1, 100, 0)


def test_ignored_pixels_are_not_doubted():
    plane = discs(*SURE, (65, 70, 8, 0.4), (43, 70, 6, 0.6))
    ignore = np.zeros(plane.shape, dtype=bool)
    ignore[35:, 55:90] = True
    assert len(find_doubts(plane, HALF, "particle")) == 2
    assert find_doubts(plane, HALF, "particle", ignore=ignore).empty


def test_lines_missed_and_invented_by_length():
    plane = np.zeros((60, 150))
    line(10, 10, 110, 1.0, plane)
    line(30, 10, 60, 0.3, plane)
    line(50, 10, 90, 0.7, plane)
    found = find_doubts(plane, HALF, "line")
    assert found["kind"].tolist() == ["invented", "missed"]
    invented, missed = found.to_dict("records")
    whole = observe_lines(plane >= HALF, UNCALIBRATED).lengths.sum()
    assert invented["length_px"] == pytest.approx(-79, abs=3)
    assert missed["length_px"] == pytest.approx(49, abs=3)
    assert invented["chance"] == pytest.approx(0.6)
    assert missed["chance"] == pytest.approx(0.09)
    assert missed["density_percent"] == pytest.approx(100 * 49 / whole, rel=0.05)


def test_the_width_of_a_line_is_no_doubt():
    plane = np.zeros((40, 100))
    plane[17:24, 10:90] = 0.4
    line(20, 10, 90, 1.0, plane)
    assert find_doubts(plane, HALF, "line").empty


def test_the_list_does_not_depend_on_the_threshold_once_it_is_one_half():
    """Odds relative to the threshold count, so a model that overstates gives the same list."""
    plane = discs(*SURE, (65, 70, 8, 0.4), (43, 70, 6, 0.6))
    odds = plane / np.maximum(1 - plane, 1e-9) / 4
    moved = odds / (1 + odds)
    pd.testing.assert_frame_equal(
        find_doubts(plane, HALF, "particle"), find_doubts(moved, 0.2, "particle")
    )


def test_nothing_anywhere_is_no_doubt():
    for shape in ("line", "particle"):
        found = find_doubts(np.zeros((20, 30)), HALF, shape)
        assert found.empty
        assert list(found.columns) == list(COLUMNS)


@pytest.mark.parametrize(
    ("plane", "ignore", "code"),
    [
        (np.full((8, 9), 1.5), None, "E_LABEL"),
        (np.full((8, 9), np.nan), None, "E_LABEL"),
        (np.zeros((2, 8, 9)), None, "E_LABEL"),
        (np.zeros((8, 9)), np.zeros((9, 8), bool), "E_SHAPE"),
        (np.zeros((8, 9)), np.ones((8, 9), bool), "E_EMPTY"),
    ],
)
def test_what_is_no_field_is_refused(plane, ignore, code):
    with pytest.raises(LabelRefused) as caught:
        find_doubts(plane, HALF, "particle", ignore=ignore)
    assert caught.value.code == code
