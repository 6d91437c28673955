"""Machine against human experts on the same fields, and the paper's Tables 1 to 4 as reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd

from defectops.errors import InputRefused
from defectops.measurement.agreement import Summary

Reference = Literal[
    "table1_segmentation",
    "table2_density",
    "table3_diameter_nm",
    "table4_time",
    "derived_counts",
    "derived_machine_rank",
]

_PER_CENT = 100.0
_TABLE_1 = {
    "pixel_accuracy": "pixel_accuracy",
    "precision": "precision",
    "recall": "recall",
    "iou": "iu",
}


@dataclass(frozen=True)
class Comparison:
    """One quantity of one field: errors of machine and experts against the ground truth.

    All errors are absolute and relative to the ground truth (0.2 is 20 %).

    Parameters
    ----------
    machine_error : float
        ``|machine - truth| / truth``.
    expert_errors : dict of str to float
        The same for each expert who measured it.
    mean_of_errors : float
        Mean of `expert_errors`: the paper's "average human percent error".
    error_of_mean, error_of_median : float
        Error of the mean and of the median expert. Experts who err to both sides cancel here; the
        definition decides the headline, so print all three.
    rank, of : int
        Place of the machine by error among machine and experts (1 is best) and how many they are.
    """

    machine_error: float
    expert_errors: dict[str, float]
    mean_of_errors: float
    error_of_mean: float
    error_of_median: float
    rank: int
    of: int

    @property
    def best_expert(self) -> float:
        """Smallest error of an expert."""
        return min(self.expert_errors.values())

    @property
    def median_expert(self) -> float:
        """Median of the experts' errors."""
        return float(np.median(list(self.expert_errors.values())))


def reference(name: Reference) -> pd.DataFrame:
    """Return a table of the paper, or one that follows from it, as numbers.

    The files beside this module name their source: Roberts, G. et al., Sci. Rep. 9, 12744 (2019),
    doi:10.1038/s41598-019-49105-0. The first column is the index.
    """
    file = resources.files("defectops.measurement").joinpath("reference", f"{name}.csv")
    with file.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, comment="#", index_col=0)


def compare(truth: float, machine: float, experts: Mapping[str, float]) -> Comparison:
    """Compare machine and experts on one quantity.

    Parameters
    ----------
    truth : float
        Positive.
    machine : float
    experts : mapping of str to float
        NaN for an expert who did not measure it: left out everywhere.

    Raises
    ------
    InputRefused
        No expert measured it, or the ground truth is not a positive number.
    """
    given = {name: float(x) for name, x in experts.items() if not np.isnan(x)}
    if not (np.isfinite(truth) and truth > 0) or not given:
        raise InputRefused(
            "panel",
            "E_PANEL",
            f"needs a positive ground truth and at least one expert; got {truth} and {len(given)}",
        )
    errors = {name: abs(x - truth) / truth for name, x in given.items()}
    values = list(given.values())
    of_machine = abs(machine - truth) / truth
    return Comparison(
        machine_error=of_machine,
        expert_errors=errors,
        mean_of_errors=float(np.mean(list(errors.values()))),
        error_of_mean=abs(float(np.mean(values)) - truth) / truth,
        error_of_median=abs(float(np.median(values)) - truth) / truth,
        rank=1 + sum(e < of_machine for e in errors.values()),
        of=1 + len(errors),
    )


def compare_table(table: pd.DataFrame) -> dict[str, Comparison]:
    """Compare machine and experts in each column of a table such as the paper's.

    Parameters
    ----------
    table : DataFrame
        Rows ``ground_truth``, ``prediction`` and ``expert_...``; other rows are left alone.

    Returns
    -------
    dict of str to Comparison
        By column.
    """
    columns = {
        str(name): {str(row): float(value) for row, value in column.items()}
        for name, column in table.items()
    }
    return {
        name: compare(
            column["ground_truth"],
            column["prediction"],
            {row: value for row, value in column.items() if row.startswith("expert_")},
        )
        for name, column in columns.items()
    }


def average_times(times: pd.DataFrame) -> pd.Series:
    """Mean time of the experts for each image, in the table's unit.

    Parameters
    ----------
    times : DataFrame
        Rows ``expert_1``, ``expert_2``, ... with a column ``unit``, as in the paper's Table 4;
        experts without a time are left out.
    """
    rows = times.index.str.fullmatch(r"expert_\d+")
    return times.loc[rows].drop(columns="unit").astype(float).mean()


def published_scores() -> dict[str, dict[str, Summary]]:
    """Return the paper's Table 1 as fractions: defect type (and ``overall``) to score to summary.

    The paper's test images are two a defect type, so ``n`` is 2; for ``overall`` it is the three
    rows it averages. Printed beside our own results it stands for other data.
    """
    table = reference("table1_segmentation")
    return {
        str(defect): {
            ours: Summary(
                mean=float(row[theirs]) / _PER_CENT,
                sd=float(row[f"{theirs}_sd"]) / _PER_CENT,
                n=3 if defect == "overall" else 2,
                undefined=0,
            )
            for ours, theirs in _TABLE_1.items()
        }
        for defect, row in table.iterrows()
    }
