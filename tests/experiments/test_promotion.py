"""What the gate may be asked, and what follows from what it found."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import GateFailed, GateInconclusive, SettingsRefused
from defectops.experiments.promotion import (
    Finding,
    PromotionOptions,
    Verdict,
    conclude,
    may_move,
    require_pass,
)


def finding(outcome, message="why"):
    return Finding("a rule", outcome, None, None, message)


def test_no_rule_passes_and_says_so():
    verdict = conclude([])
    assert verdict.passed
    assert "no rule is set" in verdict.reason


@given(st.lists(st.sampled_from(["pass", "fail", "inconclusive"]), min_size=1))
def test_the_worst_finding_decides(outcomes):
    rank = {"pass": 0, "inconclusive": 1, "fail": 2}
    verdict = conclude(finding(o) for o in outcomes)
    assert rank[verdict.outcome] == max(rank[o] for o in outcomes)


def test_a_reason_is_told_by_those_that_decided():
    verdict = conclude([finding("pass", "good"), finding("fail", "bad"), finding("fail", "worse")])
    assert verdict.reason == "bad; worse"
    assert verdict.as_mapping()["findings"][1]["needed"] is None


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
    options = PromotionOptions(on_repro=on_repro)
    assert may_move(options, Verdict("pass", ()), has_champion) == moves
    assert not may_move(options, Verdict("inconclusive", ()), has_champion)


def test_asked_directly_a_verdict_is_an_exit_code():
    require_pass(conclude([finding("pass")]), "voids")
    with pytest.raises(GateFailed, match=r"voids: E_GATE: too low; the champion stays") as failed:
        require_pass(conclude([finding("fail", "too low")]), "voids")
    with pytest.raises(GateInconclusive) as undecided:
        require_pass(conclude([finding("inconclusive")]), "voids")
    assert (failed.value.exit_code, undecided.value.exit_code) == (6, 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"floors": {"iuo": 0.3}}, "did you mean 'iou'"),
        ({"floors": {"number_density_error_percent": 5.0}}, "nobody measures"),
        ({"ceilings": {"iou": 0.5}}, "nobody measures"),
        ({"margins": {"mean_diameter_error_percents": 5.0}}, "did you mean"),
        ({"margins": {"iou": -0.1}}, "zero or more"),
        ({"ceilings": {"sd_diameter_error_percent": math.inf}}, "zero or more"),
        ({"resamples": 10}, "resamples"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_rule_that_nobody_can_answer_is_refused(given, said):
    with pytest.raises(SettingsRefused, match=said):
        PromotionOptions(**given)
