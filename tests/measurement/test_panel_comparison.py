"""The published tables reproduced cell by cell; panels without truth, machine or times."""

import io
import math

import pandas as pd
import pytest

from defectops.errors import InputRefused
from defectops.measurement.panel_comparison import (
    cell_table,
    correlation_table,
    difference_table,
    limits_table,
    published_check,
    rater_table,
    time_table,
)
from defectops.measurement.panel_table import Panel, published_panel


@pytest.fixture(scope="module")
def published():
    return published_panel()


def panel(text):
    columns = ["defect", "image", "quantity", "unit", "rater", "kind", "value"]
    values = pd.read_csv(io.StringIO(text.strip()), names=columns, keep_default_na=False)
    return Panel(values, pd.DataFrame(columns=["defect", "image", "rater", "kind", "minutes"]))


def test_the_published_cells(published):
    found = published_check(cell_table(published), time_table(published))
    agree = found.groupby("what")["agrees"].agg(["sum", "count"])
    assert {what: tuple(row) for what, row in agree.iterrows()} == {
        "human error": (14, 14),
        "machine error": (13, 14),
        "machine rank": (14, 14),
        "mean time": (6, 6),
    }
    (other,) = found[~found["agrees"]].to_dict("records")
    assert (other["cell"], other["rounded"], other["printed"]) == ("dislocations_2", 0.04, 0.05)


def test_the_definition_decides_the_headline(published):
    cells = cell_table(published).set_index(["defect", "image", "quantity"])
    row = cells.loc[("precipitates", "set 1", "number_density")]
    errors = [row[f"human_{n}"] for n in ("mean_of_errors", "error_of_mean", "error_of_median")]
    assert errors == pytest.approx([0.583, 0.315, 0.070], abs=5e-4)
    assert row["expert_bias"] == pytest.approx(+0.315, abs=5e-4)
    assert row["expert_cv"] == pytest.approx(0.80, abs=5e-3)


def test_ranks_agree_with_those_of_every_rater(published):
    cells, raters = cell_table(published), rater_table(published)
    machine = raters[raters["kind"] == "machine"]
    assert machine["rank"].tolist() == cells["rank"].tolist()
    assert machine["of"].tolist() == cells["of"].tolist()


def test_nobody_is_judged_by_his_own_number():
    found = rater_table(
        panel(
            "v,a,d,nm,one,expert,10\nv,a,d,nm,two,expert,12\nv,a,d,nm,three,expert,20\n"
            "v,a,d,nm,model,machine,12"
        )
    ).set_index("rater")
    assert found["consensus"].to_dict() == {"one": 16, "two": 15, "three": 11, "model": 12}
    assert found.at["one", "from_consensus"] == pytest.approx(-6 / 16)
    assert found["consensus_rank"].to_dict() == {"model": 1, "two": 2, "one": 3, "three": 4}
    # No truth: no error, and no rank by it.
    assert found["error"].isna().all()
    assert found["rank"].isna().all()


def test_without_a_truth_the_reference_is_the_consensus():
    found = difference_table(panel("v,a,d,nm,one,expert,10\nv,a,d,nm,model,machine,30"))
    # The one expert has nobody to be held against.
    assert found["reference"].tolist() == [10]
    assert found.set_index("rater").at["model", "percent_difference"] == pytest.approx(100)


def test_without_a_machine_the_experts_are_still_described():
    found = cell_table(panel("v,a,d,nm,gold,truth,10\nv,a,d,nm,one,expert,11"))
    assert found["machine"].tolist() == [""]
    assert found.at[0, "human_mean_of_errors"] == pytest.approx(0.1)
    assert math.isnan(found.at[0, "rank"])
    assert math.isnan(found.at[0, "expert_sd"])


def test_several_machines_have_a_row_each():
    found = cell_table(
        panel(
            "v,a,d,nm,gold,truth,10\nv,a,d,nm,one,expert,11\n"
            "v,a,d,nm,old,machine,13\nv,a,d,nm,new,machine,10"
        )
    ).set_index("machine")
    assert found["rank"].to_dict() == {"old": 2, "new": 1}
    assert found["of"].to_dict() == {"old": 2, "new": 2}


def test_a_machine_alone_has_an_error_and_no_rank():
    found = cell_table(panel("v,a,d,nm,gold,truth,10\nv,a,d,nm,model,machine,8"))
    assert found.at[0, "machine_error"] == pytest.approx(0.2)
    assert math.isnan(found.at[0, "rank"])
    assert found.at[0, "n_experts"] == 0


def test_raters_with_gaps_are_left_out_of_the_correlation():
    found = correlation_table(
        panel(
            "v,a,d,nm,one,expert,10\nv,a,d,nm,two,expert,12\nv,a,d,nm,three,expert,9\n"
            "v,b,d,nm,one,expert,20\nv,b,d,nm,two,expert,21"
        )
    )
    experts = found[found["raters"] == "experts"].iloc[0]
    assert (experts["n_images"], experts["n_raters"]) == (2, 2)


def test_limits_pool_images_and_defects(published):
    found = limits_table(published).set_index(["quantity", "rater"])
    assert found.at[("all", "prediction"), "n"] == 14
    assert found.at[("number_density", "prediction"), "n"] == 4
    assert found.at[("all", "prediction"), "bias_percent"] == pytest.approx(-0.64, abs=0.01)


def test_a_panel_of_truth_alone_is_refused():
    with pytest.raises(InputRefused, match="E_PANEL"):
        cell_table(panel("v,a,d,nm,gold,truth,10"))


def test_no_times_no_rows(published):
    assert len(time_table(panel("v,a,d,nm,one,expert,10"))) == 0
    found = time_table(published)
    assert found["times_faster"].round().tolist()[::3] == [1181, 527]
