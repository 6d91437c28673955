"""By how much a model's errors against the truth are larger than those of an expert panel."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from defectops.measurement.model_comparison import Change, size_of
from defectops.measurement.panel_comparison import rater_table
from defectops.measurement.panel_table import EXPERT, Panel
from defectops.measurement.uncertainty import LEVEL, mean_interval

if TYPE_CHECKING:
    import pandas as pd

    from defectops.measurement.model_comparison import Array

# Names in a panel's column `quantity`, by the error of a model that they stand beside.
_QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "number_density_error_percent": ("number_density", "areal_density"),
    "mean_diameter_error_percent": ("mean_diameter",),
    "sd_diameter_error_percent": ("sd_diameter",),
    "dislocation_density_error_percent": (
        "dislocation_density_grid",
        "dislocation_density_skeleton",
    ),
}


def beyond_experts(
    errors: Mapping[str, Change],
    panel: Panel,
    defect: str,
    images: Collection[str] = (),
    level: float = LEVEL,
) -> dict[str, Change]:
    """Return by how much a model's errors are larger than the experts'.

    Parameters
    ----------
    errors : mapping of str to Change
        Signed errors in percent, from `model_comparison.score_intervals`; other scores are left
        out.
    panel : Panel
        With truths; numbers of experts without one are left out.
    defect : str
        Rows of this defect, or of none.
    images : collection of str
        Those of the gate pack. Where the panel measured some of them it is judged on these, else
        on all of its images.
    level : float

    Returns
    -------
    dict of str to Change
        For each quantity of both: size of the model's error less the mean over experts of each
        one's mean absolute error (the paper's "average human percent error"), in percentage points;
        positive is worse. NaN with fewer than two experts: one has no spread.

    References
    ----------
    Zou, G. Y. and Donner, A., Statist. Med. 27, 1693 (2008), doi:10.1002/sim.3095 (an interval of a
    difference from those of both).
    """
    table = rater_table(panel)
    table = table[table["defect"].isin([defect, ""]) & table["error"].notna()]
    there = table[table["image"].isin(list(images))]
    experts = there if len(there) else table
    experts = experts[experts["kind"] == EXPERT]
    found = {}
    for name, among in _QUANTITIES.items():
        if name in errors:
            own = next((r for q in among if len(r := _mean_errors(experts, q))), None)
            if own is not None:
                found[name] = _gap(size_of(errors[name]), own, level)
    return found


def _mean_errors(experts: pd.DataFrame, quantity: str) -> Array:
    """Return each expert's mean absolute error in percent."""
    rows = experts[experts["quantity"] == quantity]
    return 100 * rows["error"].abs().groupby(rows["rater"]).mean().to_numpy()


def _gap(model: Change, experts: Array, level: float) -> Change:
    mean = float(experts.mean())
    interval = mean_interval(experts, level=level)
    estimate = model.estimate - mean
    low = estimate - math.hypot(model.estimate - model.low, interval.high - mean)
    high = estimate + math.hypot(model.high - model.estimate, mean - interval.low)
    over = f"{model.over}, {experts.size} experts"
    return replace(
        model, estimate=estimate, low=low, high=high, unit="percentage points", over=over
    )
