"""The tables of a panel: errors under three definitions, ranks, spread, agreement and times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import InputRefused
from defectops.measurement.panel import compare, reference
from defectops.measurement.panel_table import CELL, EXPERT, MACHINE, TRUTH, Panel
from defectops.measurement.rater_agreement import (
    intraclass_correlation,
    limits_of_agreement,
    percent_differences,
)
from defectops.measurement.uncertainty import LEVEL

Array = npt.NDArray[Any]

ALL = "all"
_NAN = float("nan")
_RANKED = {
    ("dislocations", "dislocation_density_grid"): "dislocation_density",
    ("precipitates", "number_density"): "precipitate_density",
    ("voids", "number_density"): "void_density",
    ("precipitates", "mean_diameter"): "precipitate_diameter",
    ("precipitates", "sd_diameter"): "precipitate_diameter_sd",
    ("voids", "mean_diameter"): "void_diameter",
    ("voids", "sd_diameter"): "void_diameter_sd",
}
_ERRORS = {
    "human_mean_of_errors": "mean_of_errors",
    "human_error_of_mean": "error_of_mean",
    "human_error_of_median": "error_of_median",
    "best_expert": "best_expert",
    "median_expert": "median_expert",
}
_ENDING = {"mean_diameter": "_d", "sd_diameter": "_sd"}


@dataclass(frozen=True, eq=False)
class _Cell:
    """One quantity of one image: the truth (NaN if none) and what each rater measured."""

    key: dict[str, str]
    truth: float
    raters: pd.DataFrame

    def values(self, kind: str) -> dict[str, float]:
        rows = self.raters[self.raters["kind"] == kind]
        return dict(zip(rows["rater"], rows["value"].astype(float), strict=True))

    def consensus(self, without: str) -> float:
        others = [v for name, v in self.values(EXPERT).items() if name != without]
        return float(np.median(others)) if others else _NAN


def cell_table(panel: Panel) -> pd.DataFrame:
    """Compare each machine with the experts on each quantity of each image.

    Parameters
    ----------
    panel : Panel

    Returns
    -------
    DataFrame
        One row a quantity of an image and machine (one row without a machine name if there is no
        machine): ``defect, image, quantity, unit, truth, n_experts``; of the experts' values
        ``expert_mean, expert_median, expert_sd, expert_cv`` and ``expert_bias`` = (mean - truth) /
        truth; ``human_mean_of_errors`` (the paper's "average human percent error"),
        ``human_error_of_mean, human_error_of_median, best_expert, median_expert``; ``machine,
        machine_value, machine_error, rank, of`` (1 is the smallest error among machine and
        experts), ``consensus`` (median expert), ``machine_from_consensus``. Errors are fractions of
        the truth, absolute but for the bias; NaN without a truth or without an expert.
    """
    return pd.DataFrame(
        [
            {**cell.key, **_experts(cell), **_machine(cell, name, value)}
            for cell in _cells(panel)
            for name, value in cell.values(MACHINE).items() or [("", _NAN)]
        ]
    )


def rater_table(panel: Panel) -> pd.DataFrame:
    """Judge every single number of the panel, the experts' like the machine's.

    Returns
    -------
    DataFrame
        One row a number: ``defect, image, quantity, unit, rater, kind, value, truth, error``
        (signed, over truth), ``rank, of`` by its absolute value; ``consensus``, the median of the
        *other* experts, ``from_consensus`` (signed, over consensus) and ``consensus_rank,
        consensus_of``. The consensus needs no truth: nobody is judged by his own number.

    Notes
    -----
    The median, since one expert of five who counts three times too many would move a mean by
    half. Equal errors share the better rank.
    """
    rows = []
    for cell in _cells(panel):
        judged = cell.raters.assign(
            truth=cell.truth, consensus=[cell.consensus(r) for r in cell.raters["rater"]]
        )
        for error, rank, of, against in (
            ("error", "rank", "of", "truth"),
            ("from_consensus", "consensus_rank", "consensus_of", "consensus"),
        ):
            positive = judged[against].where(judged[against] > 0)
            judged[error] = judged["value"] / positive - 1
            judged[rank] = judged[error].abs().rank(method="min")
            judged[of] = judged[error].notna().sum()
        rows.append(judged)
    columns = [*CELL, "unit", "rater", "kind", "value", "truth", "error", "rank", "of"]
    columns += ["consensus", "from_consensus", "consensus_rank", "consensus_of"]
    return pd.concat(rows, ignore_index=True)[columns]


def correlation_table(panel: Panel, level: float = LEVEL) -> pd.DataFrame:
    """Return ICC(2,1) of the experts, and of experts and machines, for each quantity.

    Returns
    -------
    DataFrame
        ``defect, quantity, raters`` (``experts`` or ``experts and machine``), ``icc, low, high,
        level, n_images, n_raters``. Raters who did not measure all images of a quantity are left
        out; NaN below two images or two raters. See `rater_agreement.intraclass_correlation`.
    """
    measured = panel.values[panel.values["kind"] != TRUTH]
    rows = []
    for (defect, quantity), part in measured.groupby(["defect", "quantity"], sort=False):
        for who, kinds in (("experts", [EXPERT]), ("experts and machine", [EXPERT, MACHINE])):
            table = part[part["kind"].isin(kinds)].pivot_table(
                index="image", columns="rater", values="value", sort=False
            )
            table = table.reindex(part["image"].unique()).dropna(axis="columns")
            found = intraclass_correlation(table.to_numpy(), level)
            rows.append(
                {
                    "defect": defect,
                    "quantity": quantity,
                    "raters": who,
                    "icc": found.value,
                    "low": found.interval.low,
                    "high": found.interval.high,
                    "level": level,
                    "n_images": found.n_images,
                    "n_raters": found.n_raters,
                }
            )
    return pd.DataFrame(rows)


def difference_table(panel: Panel) -> pd.DataFrame:
    """Return percent differences of every rater from the reference, for Bland and Altman's plot.

    Returns
    -------
    DataFrame
        ``defect, image, quantity, unit, rater, kind, reference, mean, percent_difference``. The
        reference is the truth; without one, the median of the other experts. Rows without a
        reference, or with zero for both, are left out.
    """
    judged = rater_table(panel)
    against = judged["truth"].fillna(judged["consensus"])
    rows = judged[[*CELL, "unit", "rater", "kind"]].assign(
        reference=against,
        mean=(judged["value"] + against) / 2,
        percent_difference=percent_differences(judged["value"].to_numpy(), against.to_numpy()),
    )
    return rows.dropna(subset="percent_difference").reset_index(drop=True)


def limits_table(panel: Panel, level: float = LEVEL) -> pd.DataFrame:
    """Return Bland and Altman's bias and limits of each rater, for each quantity and all together.

    Returns
    -------
    DataFrame
        ``quantity`` (pooled over images and defects; ``all`` pools everything), ``rater, kind, n,
        bias_percent, bias_low, bias_high, sd_percent, lower, lower_low, lower_high, upper,
        upper_low, upper_high, level``, in percent differences (see `difference_table`).
    """
    table = difference_table(panel)
    groups: list[tuple[str, pd.DataFrame]] = [(ALL, table)]
    groups += [(str(name), part) for name, part in table.groupby("quantity", sort=False)]
    rows = []
    for quantity, group in groups:
        for rater, part in group.groupby("rater", sort=False):
            found = limits_of_agreement(part["percent_difference"].to_numpy(), level)
            rows.append(
                {
                    "quantity": quantity,
                    "rater": rater,
                    "kind": part["kind"].iloc[0],
                    "n": found.n,
                    "bias_percent": found.bias,
                    "bias_low": found.bias_interval.low,
                    "bias_high": found.bias_interval.high,
                    "sd_percent": found.sd,
                    "lower": found.lower,
                    "lower_low": found.lower_interval.low,
                    "lower_high": found.lower_interval.high,
                    "upper": found.upper,
                    "upper_low": found.upper_interval.low,
                    "upper_high": found.upper_interval.high,
                    "level": level,
                }
            )
    return pd.DataFrame(rows)


def time_table(panel: Panel) -> pd.DataFrame:
    """Return how long experts and machines took for each image.

    Returns
    -------
    DataFrame
        ``defect, image, n_experts, expert_mean_min, expert_fastest_min, expert_slowest_min,
        machine, machine_s, times_faster, times_faster_than_fastest``. No rows if the table has no
        times; NaN where one side has none, or where the machine took no time at all.
    """
    rows = []
    for (defect, image), part in panel.minutes.groupby(["defect", "image"], sort=False):
        experts = part.loc[part["kind"] == EXPERT, "minutes"]
        machines = part[part["kind"] == MACHINE]
        named = list(zip(machines["rater"], machines["minutes"], strict=True)) or [("", _NAN)]
        for machine, spent in named:
            able = spent if spent > 0 else _NAN
            rows.append(
                {
                    "defect": defect,
                    "image": image,
                    "n_experts": len(experts),
                    "expert_mean_min": experts.mean(),
                    "expert_fastest_min": experts.min(),
                    "expert_slowest_min": experts.max(),
                    "machine": machine,
                    "machine_s": spent * 60,
                    "times_faster": experts.mean() / able,
                    "times_faster_than_fastest": experts.min() / able,
                }
            )
    return pd.DataFrame(rows)


def published_check(cells: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Hold what follows from the published tables against what they print.

    Parameters
    ----------
    cells, times : DataFrame
        From `cell_table` and `time_table` of `panel_table.published_panel`.

    Returns
    -------
    DataFrame
        ``what`` (human error, machine error, machine rank, mean time), ``cell, computed, rounded,
        printed, agrees``.
    """
    rows = [row for cell in cells.to_dict("records") for row in _printed_errors(cell)]
    printed = reference("table4_time")
    for row in times.to_dict("records"):
        column = f"{row['defect']}_{str(row['image']).removeprefix('set ')}"
        value = float(printed.at["expert_average", column])  # type: ignore[arg-type]
        rows.append(_checked("mean time", column, row["expert_mean_min"], 1, value))
    return pd.DataFrame(rows).sort_values("what", kind="stable", ignore_index=True)


def _printed_errors(cell: dict[Any, Any]) -> Iterator[dict[str, object]]:
    number = int(str(cell["image"]).removeprefix("set "))
    ending = _ENDING.get(cell["quantity"], "")
    column = f"{cell['defect']}_{number}{ending}"
    table = reference("table3_diameter_nm" if ending else "table2_density")[column]
    ranks = reference("derived_machine_rank").reset_index()
    name = _RANKED[cell["defect"], cell["quantity"]]
    rank = ranks[(ranks["quantity"] == name) & (ranks["set"] == number)]["rank"].iloc[0]
    yield _checked(
        "human error",
        column,
        cell["human_mean_of_errors"],
        2,
        float(table["avg_human_percent_error"]),
    )
    machine = float(table["machine_percent_error"])
    yield _checked("machine error", column, cell["machine_error"], 2, machine)
    yield _checked("machine rank", column, cell["rank"], 0, float(rank))


def _checked(
    what: str, cell: str, computed: float, digits: int, printed: float
) -> dict[str, object]:
    rounded = round(float(computed), digits)
    return {
        "what": what,
        "cell": cell,
        "computed": float(computed),
        "rounded": rounded,
        "printed": printed,
        "agrees": rounded == printed,
    }


def _cells(panel: Panel) -> list[_Cell]:
    """Return the cells in the order of the table; `InputRefused` if nobody measured anything."""
    if not (panel.values["kind"] != TRUTH).any():
        raise InputRefused("panel", "E_PANEL", "holds no number of an expert or machine")
    cells = []
    for (defect, image, quantity), part in panel.values.groupby(list(CELL), sort=False):
        truth = part.loc[part["kind"] == TRUTH, "value"]
        key = {"defect": str(defect), "image": str(image), "quantity": str(quantity)}
        measured = part[part["kind"] != TRUTH]
        if len(measured):
            cells.append(
                _Cell(
                    {**key, "unit": str(part["unit"].iloc[0])},
                    float(truth.iloc[0]) if len(truth) else _NAN,
                    measured,
                )
            )
    return cells


def _experts(cell: _Cell) -> dict[str, object]:
    values = list(cell.values(EXPERT).values())
    mean = float(np.mean(values)) if values else _NAN
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else _NAN
    row: dict[str, object] = {
        "truth": cell.truth,
        "n_experts": len(values),
        "expert_mean": mean,
        "expert_median": float(np.median(values)) if values else _NAN,
        "expert_sd": sd,
        "expert_cv": sd / mean if mean else _NAN,
        "expert_bias": mean / cell.truth - 1,
    }
    if math.isnan(cell.truth) or not values:
        return {**row, **dict.fromkeys(_ERRORS, _NAN)}
    found = compare(cell.truth, cell.truth, cell.values(EXPERT))
    return {**row, **{name: getattr(found, of) for name, of in _ERRORS.items()}}


def _machine(cell: _Cell, name: str, value: float) -> dict[str, object]:
    experts = cell.values(EXPERT)
    consensus = cell.consensus(name)
    row: dict[str, object] = {"machine": name, "machine_value": value}
    row |= {"machine_error": abs(value / cell.truth - 1), "rank": _NAN, "of": _NAN}
    if experts and not (math.isnan(cell.truth) or math.isnan(value)):
        found = compare(cell.truth, value, experts)
        row |= {"machine_error": found.machine_error, "rank": found.rank, "of": found.of}
    away = value / consensus - 1 if consensus else _NAN
    return {**row, "consensus": consensus, "machine_from_consensus": away}
