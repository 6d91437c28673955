"""The arithmetic of the paper's Tables 1 to 4, from the reference data in the package."""

import math

import numpy as np
import pandas as pd
import pytest

from defectops.errors import InputRefused
from defectops.measurement.agreement import overall
from defectops.measurement.panel import (
    average_times,
    compare,
    compare_table,
    published_scores,
    reference,
)


def printed(name):
    """Return (computed, printed) for each cell of the last and the machine's row."""
    table = reference(name)
    human, machine = [], []
    for column, found in compare_table(table).items():
        human.append((found.mean_of_errors, float(table.at["avg_human_percent_error", column])))
        machine.append((found.machine_error, float(table.at["machine_percent_error", column])))
    return human, machine


@pytest.fixture
def cells():
    human, machine = [], []
    for name in ("table2_density", "table3_diameter_nm"):
        h, m = printed(name)
        human += h
        machine += m
    return human, machine


def test_fourteen_of_fourteen_human_cells(cells):
    human, _ = cells
    assert len(human) == 14
    assert [round(computed, 2) for computed, _ in human] == [value for _, value in human]


def test_thirteen_of_fourteen_machine_cells_and_the_one_that_differs(cells):
    _, machine = cells
    differ = [(round(c, 2), p) for c, p in machine if round(c, 2) != p]
    assert len(machine) == 14
    assert differ == [(0.04, 0.05)]
    found = compare_table(reference("table2_density"))["dislocations_2"]
    assert found.machine_error == pytest.approx(0.0446, abs=5e-5)


def test_other_definitions_give_other_headlines():
    found = compare_table(reference("table2_density"))
    assert round(found["precipitates_1"].mean_of_errors, 2) == 0.58
    assert round(found["precipitates_1"].error_of_mean, 2) == 0.31
    assert found["precipitates_1"].error_of_median == pytest.approx(0.070, abs=5e-4)
    assert found["dislocations_2"].error_of_median == pytest.approx(0.018, abs=5e-4)
    assert found["voids_1"].error_of_median == 0


def test_ranks_and_errors_of_the_machine():
    expected = reference("derived_machine_rank").reset_index()
    density = compare_table(reference("table2_density"))
    diameter = compare_table(reference("table3_diameter_nm"))
    first = 0
    for row in expected.itertuples():
        defect, what = row.quantity.split("_", 1)
        plural = f"{defect}s_{row.set}"
        if what == "density":
            found = density[plural]
        else:
            found = diameter[plural + ("_sd" if what.endswith("sd") else "_d")]
        assert (found.rank, found.of) == (row.rank, row.of), row
        errors = (found.machine_error, found.best_expert, found.median_expert)
        printed_errors = (row.machine_abs_error, row.best_expert, row.median_expert)
        assert errors == pytest.approx(printed_errors, abs=5.1e-4), row
        first += found.rank == 1
    assert (len(expected), first) == (14, 8)


def test_six_time_averages_and_totals():
    times = reference("table4_time")
    average = average_times(times)
    expected = times.loc["expert_average"].drop("unit").astype(float)
    assert len(average) == 6
    pd.testing.assert_series_equal(average.round(1), expected, check_names=False)
    total = times.loc[["segmentation", "matlab_quantification"]].drop(columns="unit").sum()
    assert total.round(3).tolist() == [1.715, 1.947, 3.757, 4.686, 1.000, 1.035]


def test_overall_row_of_table_1():
    table = published_scores()
    rows = [table[d] for d in ("dislocations", "precipitates", "voids")]
    mean = overall(rows)
    agree = {
        (name, part)
        for name in mean
        for part in ("mean", "sd")
        if abs(getattr(mean[name], part) - getattr(table["overall"][name], part)) < 0.5001e-4
    }
    # The printed precision row and the sd of the accuracy do not follow from the printed rows.
    assert agree == {
        ("pixel_accuracy", "mean"),
        ("recall", "mean"),
        ("recall", "sd"),
        ("iou", "mean"),
        ("iou", "sd"),
    }
    assert mean["precision"].mean == pytest.approx(0.7220, abs=5e-5)


def test_counts_are_whole_multiples_of_the_printed_densities():
    counts = reference("derived_counts")
    density = reference("table2_density")
    for column in counts.columns:
        volume = counts.at["volume_m3", column]
        for row in ("ground_truth", "prediction"):
            assert density.at[row, column] * volume == pytest.approx(
                counts.at[row, column], rel=0.005
            )


def test_experts_without_a_value_are_left_out():
    found = compare(10.0, 11.0, {"a": 12.0, "b": math.nan})
    assert found.of == 2
    assert found.rank == 1
    assert found.mean_of_errors == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("truth", "experts"), [(0.0, {"a": 1.0}), (np.nan, {"a": 1.0}), (1.0, {"a": np.nan})]
)
def test_nothing_to_compare_with_is_refused(truth, experts):
    with pytest.raises(InputRefused, match="E_PANEL"):
        compare(truth, 1.0, experts)
