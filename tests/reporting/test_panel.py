"""Data of the figures of a panel, and files that are the same on every run."""

import math

import pytest

from defectops.measurement.panel_table import published_panel
from defectops.reporting.panel import bars, differences, save_bars, save_differences


@pytest.fixture(scope="module")
def panel():
    return published_panel()


def test_bars_hold_the_tables(panel):
    found = bars(panel)
    assert len(found) == 7
    first = found[0]
    assert first.title == "Dislocations: dislocation density grid"
    assert first.kinds == ("truth", "machine", *("expert",) * 6)
    assert first.values[0][:3] == (8.91e14, 8.58e14, 9.96e14)
    assert first.images == ("set 1", "set 2")


def test_a_gap_is_a_gap(panel):
    one = panel.values[panel.values["quantity"] == "number_density"]
    short = type(panel)(one[~((one["rater"] == "expert_1") & (one["image"] == "set 2"))], None)
    found = bars(short)[0]
    assert math.isnan(found.values[1][found.raters.index("expert_1")])


def test_differences_hold_points_and_limits(panel):
    found = {d.quantity: d for d in differences(panel)}
    density = found["number_density"]
    assert density.kinds.count("machine") == 4
    bias, low, high, *_ = density.limits["prediction"]
    assert low < bias < high
    assert len(density.limits["prediction"]) == 9


@pytest.mark.slow
def test_figures_are_the_same_bytes(panel, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_bars(bars(panel), tmp_path / name / "bars.png")
        save_differences(differences(panel), tmp_path / name / "differences.svg")
        save_differences([], tmp_path / name / "empty.svg")
    for file in ("bars.png", "differences.svg", "empty.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert "nothing to compare with" in (tmp_path / "a" / "empty.svg").read_text("utf-8")
