"""The budget as a figure: how large the uncertainty of each number is, and what makes it up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from defectops.reporting import figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

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
            axes.text(left, at, f" {bar.percent:.1f}", va="center", color=figures.SOFT)
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
        figures.save(figure, path)
