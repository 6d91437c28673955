"""The budget as a figure: how large the uncertainty of each number is, and what makes it up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from defectops.reporting import figures
from defectops.reporting.numbers import Scale, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from defectops.reporting.quantities import Comparison

# Told apart by readers who see few colours: lightness differs as well as hue (Okabe and Ito).
_COLOURS = {
    "counting": "#0072b2",
    "fields": "#56b4e9",
    "pixel size": "#e69f00",
    "thickness": "#d55e00",
    "segmentation": "#009e73",
    "mirrored views": "#f0e442",
    "estimator": "#cc79a7",
    "constants": "#999999",
}
MEANINGS = {
    "counting": "other fields would show other objects, more or fewer",
    "fields": "fields differ by more than counting explains; 0 where they do not",
    "pixel size": "how well the scale of the micrograph is known",
    "thickness": "how well the thickness of the foil is known",
    "segmentation": "another threshold would have been as good",
    "mirrored views": "the same model reads a mirrored micrograph differently",
    "estimator": "another way to count or to measure would have been as good",
    "constants": "how well the constants of the formula are known",
}
_PRINTED = Scale(0, 1)
_WIDE = 7  # so many names do not fit beside each other: two rows


@dataclass(frozen=True)
class Bar:
    """The bar of one quantity.

    Parameters
    ----------
    quantity : str
    percent : float
        Combined relative standard uncertainty: the length of the bar.
    shares : mapping of str to float
        Share of each component in the variance, summing to 1.
    """

    quantity: str
    percent: float
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """One line of the printed budget: a component, what it means, and a number a quantity."""

    component: str
    meaning: str
    cells: tuple[str, ...]


def of_predictions(table: pd.DataFrame, shown: Sequence[Comparison]) -> pd.DataFrame:
    """Return the budgets of the predictions that a page shows, one after the other.

    Parameters
    ----------
    table : DataFrame
        Columns ``image, region, source, quantity, component, relative_sd_percent``. May be empty.
    shown : sequence of Comparison
        Of one defect type.

    Returns
    -------
    DataFrame
        Columns ``quantity`` (in words), ``place`` (region and images), ``component`` and
        ``relative_sd_percent``; no row where no prediction has a budget.
    """
    columns = ["quantity", "place", "component", "relative_sd_percent"]
    if table.empty or not shown:
        return pd.DataFrame(columns=columns)
    keys = [table[column].astype(str) for column in ("source", "quantity", "region", "image")]
    parts = []
    for c in shown:
        wanted = ("prediction", c.quantity, c.region, c.image)
        own = pd.concat([key == one for key, one in zip(keys, wanted, strict=True)], axis=1)
        parts.append(table[own.all(axis=1)].assign(quantity=c.name, place=c.place)[columns])
    return pd.concat(parts, ignore_index=True)


def lines(rows: pd.DataFrame) -> list[Line]:
    """Return the printed lines of the quantities of `of_predictions`, the combined one last.

    A quantity with an undefined component has no combined uncertainty.
    """
    names = list(rows["quantity"].unique())
    keys = zip(rows["quantity"], rows["component"], strict=True)
    given = dict(zip(keys, rows["relative_sd_percent"].astype(float), strict=True))
    found = [
        Line(c, meaning, tuple(number(given.get((q, c)), _PRINTED) for q in names))
        for c, meaning in MEANINGS.items()
        if any((q, c) in given for q in names)
    ]
    total = {bar.quantity: bar.percent for bar in complete_bars(rows)}
    cells = tuple(number(total.get(q), _PRINTED) for q in names)
    return [*found, Line("combined", "root of the sum of the squares", cells)]


def complete_bars(rows: pd.DataFrame) -> list[Bar]:
    """Return the bars of the quantities of which every component is defined."""
    undefined = set(rows.loc[rows["relative_sd_percent"].isna(), "quantity"])
    return bars(rows[~rows["quantity"].isin(undefined)])


def bars(table: pd.DataFrame) -> list[Bar]:
    """Return a bar for each quantity of one image.

    Parameters
    ----------
    table : DataFrame
        Columns ``quantity, component, relative_sd_percent``. May be empty. Undefined components
        are left out, and quantities without any.
    """
    if table.empty:
        return []
    given = table[table["relative_sd_percent"] > 0]
    found = []
    for name, rows in given.groupby("quantity", sort=False):
        squares = rows.groupby("component", sort=False)["relative_sd_percent"].agg(
            lambda sd: float((sd**2).sum())
        )
        total = float(squares.sum())
        shares = {str(c): float(v) / total for c, v in squares.items()}
        found.append(Bar(str(name), math.sqrt(total), shares))
    return found


def save_bars(data: Sequence[Bar], path: Path) -> None:
    """Draw the bars; their parts are in proportion to the variances, which add up."""
    with figures.style("budget"):
        figures.save(_figure(data), path)


def bars_svg(data: Sequence[Bar], salt: str) -> str:
    """Return the same figure as an element for the page."""
    with figures.style(salt):
        return figures.inline_svg(_figure(data))


def _figure(data: Sequence[Bar]) -> Figure:
    figure = Figure(figsize=(7.6, 1.1 + 0.34 * max(len(data), 1)), layout="constrained")
    axes = figure.subplots()
    seen: set[str] = set()
    for at, bar in enumerate(data):
        left = 0.0
        for component, colour in _COLOURS.items():
            width = bar.percent * bar.shares.get(component, 0.0)
            if width > 0:
                label = None if component in seen else component
                axes.barh(at, width, left=left, height=0.62, color=colour, label=label)
                seen.add(component)
                left += width
        axes.annotate(
            f"{bar.percent:.1f}",
            (left, at),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=figures.SOFT,
        )
    if data:
        axes.set_yticks(range(len(data)), [b.quantity for b in data])
        axes.set_ylim(len(data) - 0.5, -0.5)
        axes.set_xlim(0, 1.1 * max(b.percent for b in data))
        columns = len(seen) if len(seen) < _WIDE else -(-len(seen) // 2)
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.2)
    else:
        axes.set_yticks([])
        figures.empty(axes, "nothing counted, so no relative uncertainty")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Relative standard uncertainty / %, divided as the variances are")
    return figure
