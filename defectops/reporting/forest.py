"""Prediction and truth as multiples of the label, with intervals: the headline at one glance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from defectops.reporting import figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from defectops.reporting.quantities import Comparison

_KIND = "material"
Bar = tuple[float, float]


@dataclass(frozen=True)
class Ratio:
    """One row of the figure: everything divided by the label's value.

    Parameters
    ----------
    name, colour : str
    prediction : float
    prediction_bar, label_bar : (float, float) or None
        Material intervals.
    truth : float or None
        None for real micrographs.
    """

    name: str
    colour: str
    prediction: float
    prediction_bar: Bar | None
    label_bar: Bar | None
    truth: float | None


def ratio(comparison: Comparison, name: str, colour: str) -> Ratio | None:
    """Return the data of a row; None where label or prediction is undefined or the label is 0."""
    label, prediction = (comparison.values.get(s) for s in ("label", "prediction"))
    if label is None or prediction is None or not label.value or prediction.value is None:
        return None
    truth = comparison.values.get("truth")
    return Ratio(
        name=name,
        colour=figures.on_white(colour),
        prediction=prediction.value / label.value,
        prediction_bar=_over(prediction.interval(_KIND), label.value),
        label_bar=_over(label.interval(_KIND), label.value),
        truth=None if truth is None or truth.value is None else truth.value / label.value,
    )


def forest_svg(rows: Sequence[Ratio], salt: str) -> str:
    """Return the figure as an element for the page; `rows` holds at least one."""
    with figures.style(salt):
        figure = Figure(figsize=(7.6, 0.7 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for at, row in enumerate(rows):
            _draw(axes, at, row)
        axes.axvline(1.0, color=figures.SOFT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Multiple of the label's value")
        return figures.inline_svg(figure)


def _over(bar: Bar | None, value: float) -> Bar | None:
    return None if bar is None else (bar[0] / value, bar[1] / value)


def _draw(axes: Axes, at: int, row: Ratio) -> None:
    if row.label_bar is not None:
        low, high = row.label_bar
        axes.barh(at, high - low, left=low, height=0.5, color="#e8e8e8", zorder=0)
    axes.plot([1, 1], [at - 0.25, at + 0.25], color=figures.SOFT, linewidth=1.2)
    if row.prediction_bar is not None:
        axes.plot(row.prediction_bar, [at, at], color=row.colour, linewidth=2.2)
    axes.plot(row.prediction, at, "o", color=row.colour, markersize=7, markeredgecolor="white")
    if row.truth is not None:
        axes.plot(
            row.truth, at, "D", markersize=5, markerfacecolor="white", markeredgecolor=figures.INK
        )
