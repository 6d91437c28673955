"""Data of the waterfall, and a figure that is the same on every run."""

import math

from defectops.measurement.error_budget import ErrorBudget
from defectops.reporting.error_budget import (
    Bar,
    save_waterfalls,
    waterfall,
    waterfall_summary,
    waterfall_svg,
)

BUDGET = ErrorBudget(
    "number_density", "m^-3", 10e20, 9e20, {"invented": 1e20, "merged": 0.0, "missed": -2e20}
)
NAN = math.nan
UNDEFINED = ErrorBudget("mean_diameter", "nm", 10.0, NAN, {"missed": NAN})


def test_bars_lead_from_label_to_prediction():
    assert waterfall(BUDGET) == [
        Bar("label", 0.0, 10e20),
        Bar("invented", 10e20, 11e20),
        Bar("missed", 11e20, 9e20),
        Bar("prediction", 0.0, 9e20),
    ]


def test_undefined_has_no_bars():
    assert waterfall(UNDEFINED) == []
    assert waterfall_summary(UNDEFINED) == "Label or prediction is undefined."


def test_the_summary_says_the_parts():
    assert waterfall_summary(BUDGET) == (
        "Percent of the label's value: invented +10.0, missed −20.0; together −10.0."
    )
    same = ErrorBudget("number_density", "m^-3", 1.0, 1.0, {"missed": 0.0})
    assert "no cause; together 0.0" in waterfall_summary(same)


def test_the_figure_is_the_same_bytes(tmp_path):
    for name in ("a.svg", "b.svg"):
        save_waterfalls([BUDGET, UNDEFINED], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = waterfall_svg([BUDGET, UNDEFINED], "one")
    assert "undefined for label or prediction" in text
    assert "−0.20" in text
    assert "+0.10" in text


def test_no_budget_says_so():
    assert "nothing measured" in waterfall_svg([], "salt")
