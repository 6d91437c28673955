"""Parts that sum to the total, and drawings with one error each, whose cause is known."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import LabelRefused
from defectops.measurement.error_budget import (
    COLUMNS,
    ErrorBudget,
    error_budget,
    error_rows,
    read_error_rows,
)
from defectops.measurement.line_errors import LINE_CAUSES, compare_lines, switched_lines
from defectops.measurement.particle_errors import (
    PARTICLE_CAUSES,
    compare_particles,
    switched_particles,
)
from defectops.measurement.pooling import pool
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

SCALE = Calibration(0.5, "option", 100.0, 10.0)
ALL = MeasureOptions(border="all", foil="t")
SHAPE = (120, 180)


def squares(*corners, side=12, shape=SHAPE):
    plane = np.zeros(shape, dtype=np.int32)
    for name, (top, left) in enumerate(corners, start=1):
        plane[top : top + side, left : left + side] = name
    return plane


def budgets(*errors):
    return {b.quantity: b for b in error_budget(errors)}


def assert_sums(found):
    for budget in found.values():
        if math.isfinite(budget.total):
            size = max(abs(budget.label), abs(budget.prediction))
            assert math.fsum(budget.parts.values()) == pytest.approx(budget.total, abs=1e-12 * size)
        else:
            assert all(math.isnan(part) for part in budget.parts.values())


def only(budget, cause):
    """Return the part of a cause, and make sure that all others are nothing."""
    others = [part for name, part in budget.parts.items() if name != cause]
    assert others == pytest.approx([0] * len(others), abs=1e-9 * max(abs(budget.label), 1e-30))
    return budget.parts[cause]


LABEL = squares((10, 10), (10, 40), (10, 70), (60, 60))
FIELD_M2 = 120 * 180 * 0.25e-18


@pytest.mark.parametrize(
    ("prediction", "cause", "count"),
    [
        (squares((10, 10), (10, 40), (10, 70)), "missed", -1),
        (squares((10, 10), (10, 40), (10, 70), (60, 60), (90, 150)), "invented", 1),
    ],
)
def test_a_particle_missed_and_one_invented(prediction, cause, count):
    found = budgets(compare_particles(prediction, LABEL, SCALE, ALL))
    assert_sums(found)
    assert only(found["areal_density"], cause) == pytest.approx(count / FIELD_M2)
    assert only(found["number_density"], cause) == pytest.approx(count / FIELD_M2 / 100e-9)
    assert only(found["area_fraction"], cause) == pytest.approx(count * 144 / (120 * 180))
    assert only(found["mean_diameter"], cause) == pytest.approx(0)


def test_a_merge_and_a_split_by_hand():
    merged = LABEL.copy()
    merged[10:22, 10:52] = 1  # the first two and what is between them
    merged[merged == 2] = 0
    found = budgets(compare_particles(merged, LABEL, SCALE, ALL))
    assert_sums(found)
    assert only(found["areal_density"], "merged") == pytest.approx(-1 / FIELD_M2)
    assert only(found["area_fraction"], "merged") == pytest.approx(18 * 12 / (120 * 180))
    turned = budgets(compare_particles(LABEL, merged, SCALE, ALL))
    assert only(turned["areal_density"], "split") == pytest.approx(1 / FIELD_M2)


def test_particles_drawn_wider():
    wider = squares((9, 9), (9, 39), (9, 69), (59, 59), side=14)
    found = budgets(compare_particles(wider, LABEL, SCALE, ALL))
    assert_sums(found)
    assert only(found["number_density"], "widened") == 0
    difference = 0.5 * math.sqrt(4 / math.pi) * 2
    assert only(found["mean_diameter"], "widened") == pytest.approx(difference)


def test_size_moves_the_number_density_through_the_layer():
    # With t + d a larger particle is seen from further off: the count per volume falls.
    wider = squares((9, 9), (9, 39), (9, 69), (59, 59), side=14)
    options = replace(ALL, foil="t+d")
    found = budgets(compare_particles(wider, LABEL, SCALE, options))
    assert_sums(found)
    assert only(found["number_density"], "widened") < 0
    assert only(found["areal_density"], "widened") == 0


def test_a_particle_that_the_border_rule_stops_counting():
    label, found = squares((10, 1)), squares((10, 0))
    budget = budgets(compare_particles(found, label, SCALE, MeasureOptions(border="exclude")))
    assert_sums(budget)
    assert only(budget["areal_density"], "border") == pytest.approx(-1 / FIELD_M2)


def test_a_perfect_prediction_has_no_parts():
    found = budgets(compare_particles(LABEL, LABEL, SCALE))
    assert all(set(b.parts.values()) == {0.0} for b in found.values())
    assert tuple(next(iter(found.values())).parts) == PARTICLE_CAUSES


def test_nothing_labelled_or_nothing_found():
    nothing = np.zeros(SHAPE, dtype=np.int32)
    found = budgets(compare_particles(nothing, LABEL, SCALE, ALL))
    assert_sums(found)
    assert only(found["number_density"], "missed") == -found["number_density"].label
    assert math.isnan(found["mean_diameter"].parts["missed"])
    assert_sums(budgets(compare_particles(LABEL, nothing, SCALE, ALL)))
    assert_sums(budgets(compare_particles(nothing, nothing, SCALE, ALL)))


def test_ends_are_what_is_measured():
    prediction = squares((11, 9), (60, 61), (90, 150), side=13)
    ignore = np.zeros(SHAPE, dtype=bool)
    ignore[:, 66:80] = True
    errors = compare_particles(prediction, LABEL, SCALE, None, ignore)
    for causes, measured, end in (
        ((), errors.label, "label"),
        (PARTICLE_CAUSES, errors.prediction, "prediction"),
    ):
        switched = {q.quantity: q.value for q in pool([switched_particles(errors, causes)])}
        direct = {q.quantity: q.value for q in pool([measured])}
        for name, budget in budgets(errors).items():
            assert getattr(budget, end) == pytest.approx(direct[name], rel=1e-12)
            assert switched[name] == pytest.approx(direct[name], rel=1e-12)
    assert_sums(budgets(errors))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), border=st.sampled_from(["gundersen", "weighted", "all"]))
def test_parts_of_particles_sum_to_the_total(draw, seed, border):
    label = draw.discs((90, 130), 2e-3, lambda r, n: r.normal(14, 3, n).clip(5), seed)
    random = np.random.default_rng(seed)
    names = np.unique(label[label > 0])
    prediction = np.where(np.isin(label, random.permutation(names)[: names.size // 3]), 0, label)
    prediction = np.roll(prediction, random.integers(-3, 4, 2), (0, 1))
    extra = draw.discs((90, 130), 4e-4, lambda r, n: r.normal(14, 3, n).clip(5), seed + 1)
    prediction = np.where(extra > 0, extra + 1000, prediction)
    ignore = np.zeros(label.shape, dtype=bool)
    ignore[:20, :30] = True
    options = MeasureOptions(border=border)
    assert_sums(budgets(compare_particles(prediction, label, SCALE, options, ignore)))
    # Masks, whose touching particles are one until they are separated, too.
    errors = compare_particles(prediction > 0, label > 0, SCALE, options, ignore)
    assert_sums(budgets(errors, errors))


# Lines --------------------------------------------------------------------------------------

FAR = (160, 240)


def lines(draw, *ends, width=3.0):
    mask = np.zeros(FAR, dtype=bool)
    for start, stop in ends:
        mask |= draw.line(FAR, start, stop, width)
    return mask


ONE, OTHER = ((40, 20), (40, 220)), ((110, 20), (110, 220))


def parts(prediction, label):
    found = budgets(compare_lines(prediction, label, SCALE))
    assert_sums(found)
    return found["dislocation_density_skeleton"]


def shares(budget):
    return {name: part / budget.label for name, part in budget.parts.items()}


def test_a_line_missed_and_one_invented(draw):
    both, one = lines(draw, ONE, OTHER), lines(draw, ONE)
    assert shares(parts(one, both))["missed"] == pytest.approx(-0.5, abs=0.01)
    assert shares(parts(both, one))["invented"] == pytest.approx(1.0, abs=0.02)


def test_a_gap_is_broken_not_missed(draw):
    label = lines(draw, ONE)
    prediction = label.copy()
    prediction[:, 90:130] = False
    found = shares(parts(prediction, label))
    assert found["broken"] == pytest.approx(-0.2, abs=0.03)
    assert found["missed"] == 0
    # Within the tolerance of the two new ends, 3 px each, the line still counts as found.
    assert found["widened"] == pytest.approx(-6 / 200, abs=0.01)


def test_a_wider_line_changes_next_to_nothing(draw):
    label, prediction = lines(draw, ONE, OTHER), lines(draw, ONE, OTHER, width=7.0)
    found = parts(prediction, label)
    assert shares(found)["widened"] == pytest.approx(0, abs=0.03)
    assert {name for name, part in found.parts.items() if part} <= {"widened"}


def test_a_line_drawn_too_long_is_widened(draw):
    label, prediction = lines(draw, ((40, 20), (40, 160))), lines(draw, ((40, 20), (40, 200)))
    found = shares(parts(prediction, label))
    assert found["widened"] == pytest.approx(40 / 140, abs=0.03)
    assert found["invented"] == 0


def test_two_lines_painted_over_are_merged(draw):
    pair = ((40, 20), (40, 220)), ((50, 20), (50, 220))
    label = lines(draw, *pair)
    prediction = label.copy()
    prediction[40:51, 20:221] = True
    found = shares(parts(prediction, label))
    assert found["merged"] == pytest.approx(-0.5, abs=0.05)
    assert abs(found["missed"]) + abs(found["invented"]) < 0.02


def test_every_pixel_that_differs_has_a_cause(draw):
    label = lines(draw, ONE, ((20, 30), (140, 200)))
    prediction = np.roll(lines(draw, OTHER, ((20, 30), (140, 200)), width=5.0), 2, axis=0)
    errors = compare_lines(prediction, label, SCALE)
    assert ((errors.cause > 0) == (label != prediction)).all()
    perfect = compare_lines(label, label, SCALE)
    assert perfect.present == set()
    assert set(budgets(perfect)["projected_line_density"].parts) == set(LINE_CAUSES)
    end = switched_lines(errors, LINE_CAUSES)
    assert {q.quantity: q.value for q in pool([end])}["projected_line_density"] == pytest.approx(
        budgets(errors)["projected_line_density"].prediction
    )


def test_no_lines_at_all(draw):
    nothing, label = np.zeros(FAR, dtype=bool), lines(draw, ONE)
    missed = parts(nothing, label)
    assert only(missed, "missed") == -missed.label
    assert only(parts(label, nothing), "invented") > 0
    assert set(parts(nothing, nothing).parts.values()) == {0.0}


def test_what_cannot_be_budgeted_is_refused(draw):
    of_lines = compare_lines(lines(draw, ONE), lines(draw, ONE), SCALE)
    of_particles = compare_particles(LABEL, LABEL, SCALE)
    for fields in ([], [of_lines, of_particles]):
        with pytest.raises(LabelRefused, match="E_EMPTY"):
            error_budget(fields)
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        compare_particles(LABEL, LABEL.T, SCALE)
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        compare_lines(LABEL, LABEL.T, SCALE)


def test_rows_come_back_from_a_file_as_the_same_budgets(tmp_path):
    given = [
        ErrorBudget("number_density", "m^-3", 10e20, 9e20, {"invented": 1e20, "missed": -2e20}),
        ErrorBudget("area_fraction", "", 0.1, 0.3, {"invented": 0.2, "missed": 0.0}),
    ]
    rows = pd.DataFrame(error_rows(given, image="a.png", region="test"))
    assert tuple(rows.columns) == COLUMNS
    rows.to_csv(tmp_path / "rows.csv", index=False)
    assert read_error_rows(pd.read_csv(tmp_path / "rows.csv")) == given
    assert read_error_rows(pd.DataFrame()) == []
