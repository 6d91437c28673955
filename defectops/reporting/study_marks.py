"""How a trial looks in every figure of a study: its colour, its mark, and what is said of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from defectops.reporting import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from defectops.experiments.study_trials import Plan, StudyState, Trial

FAILED = "#d55e00"  # Okabe and Ito's vermilion: apart from every colour of viridis for all eyes
_OBJECTIVES = {
    "iou": "Development IoU",
    "density": "Relative error of the quantity",
    "pareto": "Development IoU",
}
_MARKERS = {"complete": "o", "running": "o", "pruned": "v", "failed": "x"}


def objective_label(plan: Plan) -> str:
    """Return what the first value of a trial is, as an axis says it."""
    return _OBJECTIVES[plan.objective]


def error_label(plan: Plan) -> str:
    """Return what the second value of a trial is, as an axis says it."""
    return _OBJECTIVES["density"] if len(plan.directions) > 1 else ""


def score(trial: Trial, plan: Plan) -> float | None:
    """Return the first value of a trial; for one that has none, the best that it reported.

    None if it reported nothing finite, or if what it reported is not what the study asks for: a
    study of errors prunes by IoU.
    """
    if trial.values:
        return trial.values[0]
    reported = [v for v in trial.curve.values() if math.isfinite(v)]
    return max(reported, default=None) if plan.directions[0] == "maximize" else None


def better(a: float, b: float, plan: Plan) -> bool:
    """Return whether a first value beats another."""
    return a > b if plan.directions[0] == "maximize" else a < b


def own_settings(state: StudyState, plan: Plan) -> int | None:
    """Return the index of the trial that has the project's own settings, None if none was asked."""
    return 0 if plan.first and state.trials else None


def setting_name(name: str) -> str:
    """Return a key of ``params.yaml`` as words.

    >>> setting_name("positive_weight_decay"), setting_name("l2")
    ('positive weight decay', 'L2')
    """
    return "L2" if name == "l2" else name.replace("_", " ")


def generation_colours(count: int) -> list[str]:
    """Return one colour a generation, the first dark, the last light enough for white paper.

    >>> generation_colours(1)
    ['#472a7a']
    """
    shown = mpl.colormaps["viridis"]
    steps = max(count - 1, 1)
    return [figures.on_white(to_hex(shown(0.12 + 0.66 * i / steps))) for i in range(count)]


def value_colour(value: float, low: float, high: float) -> str:
    """Return the colour of a value between two: the higher, the darker."""
    share = 1.0 if high <= low else (value - low) / (high - low)
    return to_hex(mpl.colormaps["viridis"](0.78 * (1 - min(max(share, 0.0), 1.0))))


def mark(state: str, colour: str, size: float = 6.5) -> dict[str, Any]:
    """Return how matplotlib draws the mark of a trial in this state."""
    look: dict[str, Any] = {
        "marker": _MARKERS.get(state, "o"),
        "linestyle": "none",
        "markersize": size,
        "color": colour,
        "markeredgecolor": "white",
    }
    if state == "failed":
        return look | {"color": FAILED, "markeredgecolor": FAILED, "markeredgewidth": 1.8}
    if state != "complete":
        return look | {"markerfacecolor": "white", "markeredgecolor": colour}
    return look


def legend_handles(states: Sequence[str]) -> list[Line2D]:
    """Return entries that say what the marks mean, for the states that are there."""
    order = [s for s in ("complete", "running", "pruned", "failed") if s in states]
    return [Line2D([], [], label=s, **mark(s, figures.SOFT)) for s in order]
