"""How sizes are distributed: histogram of the label against that of the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from defectops.reporting import figures

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from defectops.defects import DefectType

SOURCES = ("label", "prediction", "truth")


@dataclass(frozen=True)
class Histogram:
    """Counts of objects of one source over bins of size.

    Parameters
    ----------
    edges : tuple of float, length n + 1
        In the unit of length of the table.
    counts : tuple of float, length n
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> int:
        """How many objects were counted."""
        return round(sum(self.counts))


def histograms(table: pd.DataFrame) -> dict[str, Histogram]:
    """Return one histogram a source, in the order label, prediction, truth.

    Parameters
    ----------
    table : DataFrame
        Columns ``source``, ``bin_low_nm``, ``bin_high_nm`` (``_px`` if uncalibrated), ``count``;
        bins of a source join without gaps. May be empty. A source without an object is left out.
    """
    found = {}
    unit = length_unit(table)
    for source in SOURCES:
        rows = table[table["source"] == source] if len(table) else table
        if len(rows) and rows["count"].sum() > 0:
            rows = rows.sort_values(f"bin_low_{unit}")
            last = float(rows[f"bin_high_{unit}"].iloc[-1])
            edges = (*rows[f"bin_low_{unit}"].astype(float), last)
            found[source] = Histogram(edges, tuple(rows["count"].astype(float)))
    return found


def length_unit(table: pd.DataFrame) -> str:
    """Return the unit of a histogram's bins; see `histograms`."""
    return "px" if "bin_low_px" in table else "nm"


def size_name(defect: DefectType) -> str:
    """Return what is meant by the size of one object of this type."""
    return "Segment length" if defect.shape == "line" else "Equivalent-circle diameter"


def histograms_summary(data: Mapping[str, Histogram]) -> str:
    """Return the figure in one sentence, for those who cannot see it."""
    if not data:
        return "No object was counted."
    return (
        "Histogram of sizes; objects counted: "
        + ", ".join(f"{source} {rows.total}" for source, rows in data.items())
        + "."
    )


def histograms_svg(
    data: Mapping[str, Histogram], defect: DefectType, length_unit: str, salt: str
) -> str:
    """Return the figure as an element for the page; `salt` is unique on the page."""
    with figures.style(salt):
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=f"{size_name(defect)} / {length_unit}", ylabel="Count")
        if data:
            _draw(axes, data, figures.on_white(defect.colour))
            figure.legend(loc="outside upper left", ncols=2, handlelength=1.2, columnspacing=1.0)
        else:
            figures.empty(axes, "no object counted")
        return figures.inline_svg(figure)


def save_counts(table: pd.DataFrame, defect: DefectType, path: Path) -> None:
    """Draw one histogram with the interval of each count.

    Parameters
    ----------
    table : DataFrame
        Columns ``bin_low_<unit>, bin_high_<unit>, n, count, low, high``; may be empty.
    defect : DefectType
    path : Path
        PNG or SVG.
    """
    unit = length_unit(table)
    with figures.style("sizes"):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=f"{size_name(defect)} / {unit}", ylabel="Count")
        if len(table):
            lower, upper = (table[f"bin_{end}_{unit}"].to_numpy() for end in ("low", "high"))
            count = table["count"].to_numpy()
            colour = figures.on_white(defect.colour)
            axes.bar(lower, count, upper - lower, align="edge", color=colour, alpha=0.45)
            ends = [count - table["low"].to_numpy(), table["high"].to_numpy() - count]
            axes.errorbar(
                (lower + upper) / 2, count, ends, fmt="none", ecolor=figures.INK, elinewidth=0.9
            )
            axes.set_ylim(bottom=0)
            axes.set_title(f"n = {int(table['n'].sum())}, with intervals", loc="left", fontsize=9)
        else:
            figures.empty(axes, "no object counted")
        figures.save(figure, path)


def _draw(axes: Axes, data: Mapping[str, Histogram], colour: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        "label": {"fill": True, "facecolor": figures.FAINT, "edgecolor": "#9a9a9a"},
        "prediction": {"edgecolor": colour, "linewidth": 2.0},
        "truth": {"edgecolor": figures.INK, "linewidth": 1.0, "linestyle": (0, (3, 2))},
    }
    for source, rows in data.items():
        name = f"{source} (n = {rows.total})"
        axes.stairs(rows.counts, rows.edges, label=name, **looks[source])
    axes.set_ylim(bottom=0)
