"""Each rule judges an interval: whole inside passes, whole outside fails, else inconclusive."""

import math
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from defectops.experiments.gate_rules import Evidence, judge
from defectops.experiments.promotion import PromotionOptions

DENSITY = "number_density_error_percent"


def found(estimate, half=0.01, n=32, one_object=0.0):
    low, high = estimate - half, estimate + half
    return SimpleNamespace(
        estimate=estimate, low=low, high=high, n=n, over="tiles", one_object=one_object
    )


def only(options, images=4, **evidence):
    """Return the one finding of a verdict."""
    given = {"scores": {}, "images": images} | evidence
    (finding,) = judge(options, Evidence(**given)).findings
    return finding


NO_MARGINS = {"margins": {}}
FLOOR = PromotionOptions(floors={"iou": 0.3}, **NO_MARGINS)
CEILING = PromotionOptions(ceilings={DENSITY: 10.0}, **NO_MARGINS)


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (0.32, 0.01, "pass"),
        (0.3, 0.0, "pass"),
        (0.28, 0.01, "fail"),
        (0.32, 0.05, "inconclusive"),
        (0.28, 0.05, "inconclusive"),
        (math.nan, 0.1, "inconclusive"),
        (0.9, math.nan, "inconclusive"),
    ],
)
def test_a_floor(value, half, outcome):
    assert only(FLOOR, scores={"iou": found(value, half)}).outcome == outcome


@pytest.mark.parametrize(
    ("value", "half", "outcome"),
    [
        (5.0, 4.0, "pass"),
        (10.0, 0.0, "pass"),
        (12.0, 1.0, "fail"),
        (9.0, 2.0, "inconclusive"),
        (math.nan, 1.0, "inconclusive"),
    ],
)
def test_a_ceiling(value, half, outcome):
    assert only(CEILING, scores={DENSITY: found(value, half)}).outcome == outcome


def test_a_rule_for_what_a_type_does_not_have_asks_nothing():
    verdict = judge(PromotionOptions(floors={"object_f1": 0.9}), Evidence({"iou": found(0.5)}, 2))
    assert verdict.passed
    assert "no rule is set" in verdict.reason


MARGIN = PromotionOptions(margins={"iou": 0.02, DENSITY: 5.0})


def test_without_a_champion_margins_ask_nothing():
    assert "no rule" in judge(MARGIN, Evidence({"iou": found(0.5)}, 2)).reason


@example(change=0.0, half=2.2250738585072014e-308, margin=2.225073858507203e-309)
@example(change=0.0, half=5e-324, margin=0.0)
@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_not_worse_is_judged_by_the_whole_interval(change, half, margin):
    options = PromotionOptions(margins={"iou": margin})
    finding = only(options, change={"iou": found(change, half)})
    if change - half >= -margin:
        assert finding.outcome == "pass"
    elif change + half < -margin:
        assert finding.outcome == "fail"
    else:
        assert finding.outcome == "inconclusive"


@pytest.mark.parametrize(
    ("name", "change", "outcome", "said"),
    [
        ("iou", 0.05, "pass", "better"),
        ("iou", -0.015, "inconclusive", "worse than"),
        ("iou", 0.0, "pass", "no difference"),
        ("iou", -0.05, "fail", "worse than"),
        # A larger error is worse, so is a positive change of it.
        (DENSITY, -3.0, "pass", "better"),
        (DENSITY, 3.0, "pass", "worse than"),
        (DENSITY, 0.005, "pass", "no difference"),
        (DENSITY, 7.0, "fail", "worse than"),
    ],
)
def test_a_change_says_what_it_tells_of_both_models(name, change, outcome, said):
    finding = only(MARGIN, change={name: found(change)})
    assert finding.outcome == outcome
    assert said in finding.message


def test_inconclusive_says_how_many_more_images_would_settle_it():
    # Half as wide again as it may be: 1.5 ** 2 = 2.25 times as many images, 5 more to 4.
    finding = only(FLOOR, scores={"iou": found(0.4, 0.15)})
    assert (finding.outcome, finding.needed) == ("inconclusive", 5)
    assert "32 tiles; about 5 more images of this size would settle it" in finding.message
    assert only(FLOOR, scores={"iou": found(0.4, 0.05)}).needed is None
    # Below the floor it is the other end that decides.
    lopsided = found(0.2, 0.15)
    lopsided.low = 0.19
    assert only(FLOOR, scores={"iou": lopsided}).needed == 5


def test_what_hangs_on_single_objects_is_settled_sooner():
    # No scatter, one object is 0.05: a half of 2.96 * 0.05 = 0.148. The estimate is 0.037 away,
    # a quarter of it, and what one object changes goes as 1/n: four times as many images.
    finding = only(FLOOR, scores={"iou": found(0.337, 0.05 * 2.959964, one_object=0.05)})
    assert finding.needed == 12
    assert only(FLOOR, scores={"iou": found(0.337, 0.05 * 2.959964)}).needed == 60


@pytest.mark.parametrize("estimate", [0.3, 0.3001])
def test_an_estimate_at_the_limit_is_not_settled_by_images(estimate):
    finding = only(FLOOR, scores={"iou": found(estimate, 0.1)})
    assert finding.needed is None
    assert "more images alone will hardly settle it" in finding.message


def test_a_finding_holds_all_that_was_asked_for():
    finding = only(PromotionOptions(floors={"iou": 0.3}, seed=7), scores={"iou": found(0.5)})
    assert (finding.n, finding.seed, finding.limit) == (32, 7, 0.3)
    assert (finding.low, finding.high) == (0.49, 0.51)
    assert finding.message == "iou 0.5 [0.49, 0.51] is at least 0.3"


PANEL = PromotionOptions(panel="panel.csv", **NO_MARGINS)


@pytest.mark.parametrize(
    ("more", "outcome"), [(-5.0, "pass"), (5.0, "fail"), (0.005, "inconclusive")]
)
def test_experts(more, outcome):
    assert only(PANEL, experts={DENSITY: found(more)}).outcome == outcome
    assert "experts" in only(PANEL, experts={DENSITY: found(more)}).rule


def test_a_panel_of_other_quantities_is_inconclusive():
    assert only(PANEL).outcome == "inconclusive"


def test_costs_are_asked_only_where_a_limit_is_set():
    size = {"size_mb": found(8.0, 0.0, 1)}
    assert "no rule" in judge(PromotionOptions(), Evidence({}, 2, costs=size)).reason
    for most, outcome in ((10.0, "pass"), (8.0, "pass"), (7.9, "fail")):
        options = PromotionOptions(max_size_mb=most)
        assert only(options, costs=size).outcome == outcome
    slow = PromotionOptions(max_seconds_per_megapixel=1.0)
    assert only(slow, costs=size).outcome == "inconclusive"


def test_rules_stand_in_the_order_of_their_kinds_and_names():
    options = PromotionOptions(
        floors={"recall": 0.5, "iou": 0.5}, ceilings={DENSITY: 10.0}, margins={"iou": 0.02}
    )
    scores = {"iou": found(1.0), "recall": found(1.0), DENSITY: found(1.0)}
    verdict = judge(options, Evidence(scores, 2, change={"iou": found(0.0)}))
    assert [f.rule for f in verdict.findings] == [
        "floor iou",
        "floor recall",
        f"ceiling {DENSITY}",
        "not worse iou",
    ]
