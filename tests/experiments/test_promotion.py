"""Rules judge the numbers they are handed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import GateFailed, GateInconclusive
from defectops.experiments.promotion import (
    Finding,
    PromotionOptions,
    conclude,
    judge,
    judge_change,
    judge_floors,
    may_move,
    require_pass,
)

FLOOR = PromotionOptions(floors={"iou": 0.3})


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (0.31, "pass"),
        (0.3, "pass"),
        (0.29, "fail"),
        (None, "inconclusive"),
        (math.nan, "inconclusive"),
    ],
)
def test_a_floor(value, outcome):
    verdict = judge(FLOOR, {"iou": value}, None)
    assert verdict.outcome == outcome
    assert verdict.passed == (outcome == "pass")


def test_a_metric_that_nobody_measured_is_inconclusive():
    assert judge(FLOOR, {"precision": 0.9}, None).outcome == "inconclusive"


def test_reasons_name_numbers_and_limits():
    assert judge(FLOOR, {"iou": 0.2}, None).reason == "iou 0.2 is below the floor 0.3"
    change = judge(PromotionOptions(), {"iou": 0.5}, {"iou": 0.6})
    assert change.reason == (
        "iou 0.5 against the champion's 0.6: change -0.1, at least -0.02 asked"
    )


def test_no_rule_passes_and_says_so():
    verdict = judge(PromotionOptions(), {"iou": 0.0}, None)
    assert verdict.passed
    assert "no rule is set" in verdict.reason


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_not_worse_allows_exactly_the_margin(value, before, margin):
    (finding,) = judge_change({"iou": value}, {"iou": before}, {"iou": margin})
    assert (finding.outcome == "pass") == (value - before >= -margin)
    assert finding.estimate == value - before


def test_where_the_champion_is_undefined_nothing_is_worse():
    (finding,) = judge_change({"iou": 0.1}, {"iou": None}, {"iou": 0.0})
    assert finding.outcome == "pass"
    (finding,) = judge_change({"iou": None}, {"iou": 0.1}, {"iou": 0.0})
    assert finding.outcome == "inconclusive"


@given(st.lists(st.sampled_from(["pass", "fail", "inconclusive"]), min_size=1))
def test_the_worst_finding_decides(outcomes):
    rank = {"pass": 0, "inconclusive": 1, "fail": 2}
    verdict = conclude(Finding(str(i), o, None, None, o) for i, o in enumerate(outcomes))
    assert rank[verdict.outcome] == max(rank[o] for o in outcomes)


def test_a_worse_model_above_its_floor_is_stopped_by_the_champion():
    options = PromotionOptions(floors={"iou": 0.3})
    assert judge(options, {"iou": 0.5}, None).passed
    assert judge(options, {"iou": 0.5}, {"iou": 0.6}).outcome == "fail"


def test_rules_stand_in_the_order_of_their_names():
    findings = judge_floors({"recall": 1.0, "iou": 1.0}, {"recall": 0.5, "iou": 0.5})
    assert [f.rule for f in findings] == ["floor iou", "floor recall"]


@pytest.mark.parametrize(
    ("on_repro", "has_champion", "moves"),
    [
        ("gate", False, True),
        ("gate", True, True),
        ("first", False, True),
        ("first", True, False),
        ("never", False, False),
        ("never", True, False),
    ],
)
def test_what_repro_may_do(on_repro, has_champion, moves):
    options = PromotionOptions(floors={"iou": 0.3}, on_repro=on_repro)
    assert may_move(options, judge(options, {"iou": 0.9}, None), has_champion) == moves
    assert not may_move(options, judge(options, {"iou": 0.1}, None), has_champion)


def test_asked_directly_a_verdict_is_an_exit_code():
    require_pass(judge(FLOOR, {"iou": 0.9}, None), "voids")
    with pytest.raises(GateFailed, match=r"voids: E_GATE: iou 0\.1 is below") as failed:
        require_pass(judge(FLOOR, {"iou": 0.1}, None), "voids")
    with pytest.raises(GateInconclusive) as undecided:
        require_pass(judge(FLOOR, {}, None), "voids")
    assert (failed.value.exit_code, undecided.value.exit_code) == (6, 7)
