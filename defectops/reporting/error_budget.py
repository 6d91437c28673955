"""The waterfall of an error budget: from the label's value to the prediction's, cause by cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from defectops.reporting import figures, numbers
from defectops.reporting.quantities import main_quantities

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from defectops.defects import DefectType
    from defectops.measurement.error_budget import ErrorBudget

_MORE, _LESS = "#2e86ab", "#e4572e"


@dataclass(frozen=True)
class Bar:
    """One bar of a waterfall.

    Parameters
    ----------
    name : str
        ``label``, a cause, or ``prediction``.
    start, stop : float
        Ends in the unit of the quantity; a cause begins where the one before ended.
    """

    name: str
    start: float
    stop: float


def leading(budgets: Sequence[ErrorBudget], defect: DefectType) -> list[ErrorBudget]:
    """Return the budgets of the main quantities: the density, of particles the diameter too."""
    named = {budget.quantity: budget for budget in budgets}
    first = (next((q for q in group if q in named), None) for group in main_quantities(defect))
    return [named[quantity] for quantity in first if quantity is not None]


def waterfall(budget: ErrorBudget) -> list[Bar]:
    """Return the bars from label to prediction.

    Causes without a part (beyond rounding) are left out. The last cause ends at the prediction's
    value, because the parts of a budget sum to its total. Empty where the budget is undefined.
    """
    if not math.isfinite(budget.total):
        return []
    bars, at = [Bar("label", 0.0, budget.label)], budget.label
    for cause, part in _felt(budget).items():
        bars.append(Bar(cause, at, at + part))
        at += part
    return [*bars, Bar("prediction", 0.0, budget.prediction)]


def waterfall_summary(budget: ErrorBudget) -> str:
    """Return the figure in one sentence, for those who cannot see it."""
    if not math.isfinite(budget.total):
        return "Label or prediction is undefined."
    base = budget.label or math.nan
    parts = [
        f"{cause} {numbers.signed_percent(part / base)}" for cause, part in _felt(budget).items()
    ]
    total = numbers.signed_percent(budget.total / base)
    return f"Percent of the label's value: {', '.join(parts) or 'no cause'}; together {total}."


def waterfall_svg(budgets: Sequence[ErrorBudget], salt: str) -> str:
    """Return the figure, one axes a budget, as an element for the page."""
    with figures.style(salt):
        return figures.inline_svg(_figure(budgets))


def save_waterfalls(budgets: Sequence[ErrorBudget], path: Path) -> None:
    """Draw the figure, one axes a budget, into a PNG or SVG file."""
    with figures.style("error-budget"):
        figures.save(_figure(budgets), path)


def _felt(budget: ErrorBudget) -> dict[str, float]:
    least = 1e-9 * max(abs(budget.label), abs(budget.prediction))
    return {cause: part for cause, part in budget.parts.items() if abs(part) > least}


def _figure(budgets: Sequence[ErrorBudget]) -> Figure:
    count = max(len(budgets), 1)
    figure = Figure(figsize=(3.4 * count, 2.8), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    if not budgets:
        figures.empty(axes[0], "nothing measured")
    for one, budget in zip(axes, budgets, strict=False):
        _draw(one, budget)
    return figure


def _draw(axes: Axes, budget: ErrorBudget) -> None:
    axes.set_title(budget.quantity.replace("_", " ").capitalize(), loc="left", fontsize=9)
    bars = waterfall(budget)
    if not bars:
        figures.empty(axes, "undefined for label or prediction")
        return
    scale = numbers.common_scale(v for bar in bars for v in (bar.start, bar.stop))
    ten = 10.0**scale.exponent
    for at, bar in enumerate(bars):
        end = bar.name in ("label", "prediction")
        colour = figures.FAINT if end else (_MORE if bar.stop > bar.start else _LESS)
        axes.bar(at, (bar.stop - bar.start) / ten, bottom=bar.start / ten, width=0.7, color=colour)
        if at + 1 < len(bars):
            axes.plot([at, at + 1], [bar.stop / ten] * 2, color=figures.SOFT, linewidth=0.8)
        value = bar.stop if end else bar.stop - bar.start
        text = numbers.number(value / ten, numbers.Scale(0, scale.decimals))
        top = max(bar.start, bar.stop) / ten
        axes.annotate(
            text if end or value < 0 else f"+{text}",
            (at, top),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.set_xticks(range(len(bars)), [bar.name for bar in bars], rotation=40, ha="right")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(numbers.column_unit(budget.unit, scale) or "1")
    axes.set_ylim(0, 1.15 * max(max(bar.start, bar.stop) for bar in bars) / ten or 1.0)
