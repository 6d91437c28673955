"""A model beside the experts: whose errors are larger, and how sure that is."""

import math

import pytest

from defectops.measurement.expert_errors import beyond_experts
from defectops.measurement.model_comparison import Change
from defectops.measurement.panel_table import read_panel

COUNT, SIZE = "number_density_error_percent", "mean_diameter_error_percent"
HEAD = "image,rater,kind,quantity,value,unit,defect\n"


def panel(tmp_path, rows):
    path = tmp_path / "panel.csv"
    path.write_text(HEAD + "\n".join(rows) + "\n")
    return read_panel(path)


def counts(image, values, defect="voids", quantity="number_density"):
    rows = [f"{image},truth,truth,{quantity},100,m^-3,{defect}"]
    return rows + [
        f"{image},e{i},expert,{quantity},{v},m^-3,{defect}" for i, v in enumerate(values)
    ]


def error(estimate, half=1.0):
    return Change(estimate, estimate - half, estimate + half, 32, "%", "tiles")


def test_each_experts_mean_over_images_counts_once(tmp_path):
    # e0: 10 and 30 % off, e1: 10 and 10 %. Mean of the experts' means: 15 %.
    found = panel(tmp_path, counts("a.png", [110, 90]) + counts("b.png", [70, 110]))
    gap = beyond_experts({COUNT: error(-12.0)}, found, "voids")[COUNT]
    assert gap.estimate == pytest.approx(12.0 - 15.0)
    # Two experts, 20 and 10: Student's half width is 12.7 standard errors of 5.
    assert gap.high == pytest.approx(-3 + math.hypot(1.0, 12.7062 * 5), rel=1e-4)
    assert gap.low == pytest.approx(-3 - math.hypot(1.0, 12.7062 * 5), rel=1e-4)
    assert (gap.n, gap.over) == (32, "tiles, 2 experts")


def test_images_of_the_gate_pack_are_preferred(tmp_path):
    found = panel(tmp_path, counts("a.png", [110, 90]) + counts("b.png", [150, 150]))
    errors = {COUNT: error(0.0)}
    assert beyond_experts(errors, found, "voids", ["a.png"])[COUNT].estimate == pytest.approx(-10)
    assert beyond_experts(errors, found, "voids", ["c.png"])[COUNT].estimate == pytest.approx(-30)


def test_a_machine_in_the_table_is_no_expert(tmp_path):
    rows = [*counts("a.png", [110, 90]), "a.png,us,machine,number_density,300,m^-3,voids"]
    gap = beyond_experts({COUNT: error(0.0)}, panel(tmp_path, rows), "voids")[COUNT]
    assert gap.estimate == pytest.approx(-10)


def test_only_what_both_have_is_compared(tmp_path):
    found = panel(tmp_path, counts("a.png", [110, 90]))
    assert beyond_experts({SIZE: error(1.0), "iou": error(0.5)}, found, "voids") == {}
    assert beyond_experts({COUNT: error(1.0)}, found, "precipitates") == {}


def test_numbers_without_a_truth_are_left_out(tmp_path):
    rows = counts("a.png", [110, 90]) + counts("b.png", [500, 500])[1:]
    gap = beyond_experts({COUNT: error(0.0)}, panel(tmp_path, rows), "voids")[COUNT]
    assert gap.estimate == pytest.approx(-10)


def test_one_expert_has_no_spread(tmp_path):
    found = panel(tmp_path, counts("a.png", [110]))
    gap = beyond_experts({COUNT: error(0.0)}, found, "voids")[COUNT]
    assert gap.estimate == pytest.approx(-10)
    assert math.isnan(gap.low)
    assert math.isnan(gap.high)
