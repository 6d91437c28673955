"""Figures of a panel: every rater's number as a bar, and Bland and Altman's differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from defectops.measurement.panel_comparison import difference_table, limits_table
from defectops.measurement.panel_table import EXPERT, MACHINE, TRUTH
from defectops.reporting import figures, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from defectops.measurement.panel_table import Panel

_COLUMNS = 4
_MACHINE_COLOUR = "#e4572e"
_TRUTH_COLOUR = figures.INK
_EXPERT_COLOUR = "#b5b5b5"
_ORDER = {TRUTH: 0, MACHINE: 1, EXPERT: 2}


@dataclass(frozen=True)
class Bars:
    """One axes of the bar figure: one quantity, images side by side, a bar a rater.

    Parameters
    ----------
    defect, quantity, unit : str
    images : tuple of str
    raters, kinds : tuple of str
        Truth first, then machines, then experts.
    values : tuple of tuple of float
        One row an image, one value a rater; NaN where the rater did not measure it.
    """

    defect: str
    quantity: str
    unit: str
    images: tuple[str, ...]
    raters: tuple[str, ...]
    kinds: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def title(self) -> str:
        """Defect and quantity as a reader wants them."""
        words = self.quantity.replace("_", " ")
        return (f"{self.defect}: {words}" if self.defect else words).capitalize()


@dataclass(frozen=True)
class Differences:
    """One axes of Bland and Altman's figure: one quantity.

    Parameters
    ----------
    quantity, unit : str
    mean, percent_difference : tuple of float
        One point a number: mean of it and its reference, and their difference over that mean.
    kinds : tuple of str
        ``expert`` or ``machine``.
    limits : dict of str to tuple of float
        By machine: bias, lower and upper limit, each with the ends of its interval (NaN where
        undefined): ``(bias, low, high, lower, low, high, upper, low, high)``.
    """

    quantity: str
    unit: str
    mean: tuple[float, ...]
    percent_difference: tuple[float, ...]
    kinds: tuple[str, ...]
    limits: dict[str, tuple[float, ...]]


def bars(panel: Panel) -> list[Bars]:
    """Return the data of the bar figure, one axes a quantity of a defect type."""
    found = []
    for (defect, quantity), part in panel.values.groupby(["defect", "quantity"], sort=False):
        raters = part[["rater", "kind"]].drop_duplicates()
        raters = raters.sort_values("kind", key=lambda k: k.map(_ORDER), kind="stable")
        images = [str(i) for i in part["image"].unique()]
        table = part.pivot_table(index="image", columns="rater", values="value", sort=False)
        table = table.reindex(index=images, columns=raters["rater"])
        found.append(
            Bars(
                defect=str(defect),
                quantity=str(quantity),
                unit=str(part["unit"].iloc[0]),
                images=tuple(images),
                raters=tuple(raters["rater"]),
                kinds=tuple(raters["kind"]),
                values=tuple(tuple(row) for row in table.to_numpy(dtype=np.float64).tolist()),
            )
        )
    return found


def differences(panel: Panel) -> list[Differences]:
    """Return the data of Bland and Altman's figure, one axes a quantity with a reference."""
    table, limits = difference_table(panel), limits_table(panel)
    names = ["bias_percent", "bias_low", "bias_high", "lower", "lower_low", "lower_high"]
    names += ["upper", "upper_low", "upper_high"]
    found = []
    for quantity, part in table.groupby("quantity", sort=False):
        of_machines = limits[(limits["quantity"] == quantity) & (limits["kind"] == MACHINE)]
        found.append(
            Differences(
                quantity=str(quantity),
                unit=str(part["unit"].iloc[0]),
                mean=tuple(part["mean"].astype(float)),
                percent_difference=tuple(part["percent_difference"].astype(float)),
                kinds=tuple(part["kind"]),
                limits={
                    str(row["rater"]): tuple(float(row[n]) for n in names)
                    for row in of_machines.to_dict("records")
                },
            )
        )
    return found


def save_bars(data: Sequence[Bars], path: Path) -> None:
    """Draw each quantity's bars, as the paper's Fig. 7 does, into a PNG or SVG file."""
    with figures.style("panel-bars"):
        figure, axes = _axes(len(data), height=2.5)
        for one, each in zip(axes, data, strict=False):
            _draw_bars(one, each)
        handles = [
            axes[0].bar([0], [0], color=colour, label=kind)
            for kind, colour in (
                ("ground truth", _TRUTH_COLOUR),
                ("machine", _MACHINE_COLOUR),
                ("experts", _EXPERT_COLOUR),
            )
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        figures.save(figure, path)


def save_differences(data: Sequence[Differences], path: Path) -> None:
    """Draw percent differences against the mean of both, with each machine's limits."""
    with figures.style("panel-differences"):
        figure, axes = _axes(max(len(data), 1), height=2.7)
        for one, each in zip(axes, data, strict=False):
            _draw_differences(one, each)
        if not data:
            figures.empty(axes[0], "nothing to compare with")
        handles = [
            axes[0].plot([], [], mark, color=colour, label=label)[0]
            for label, mark, colour in (
                ("machine", "o", _MACHINE_COLOUR),
                ("its bias and limits, their intervals at the right", "-", _MACHINE_COLOUR),
                ("experts", "o", _EXPERT_COLOUR),
            )
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        figures.save(figure, path)


def _axes(count: int, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.7 * columns + 0.2, height * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes


def _draw_bars(axes: Axes, data: Bars) -> None:
    colours = {TRUTH: _TRUTH_COLOUR, MACHINE: _MACHINE_COLOUR, EXPERT: _EXPERT_COLOUR}
    scale = numbers.common_scale(v for row in data.values for v in row)
    step = len(data.raters) + 1.5
    for at, row in enumerate(data.values):
        for place, (value, kind) in enumerate(zip(row, data.kinds, strict=True)):
            if math.isfinite(value):
                height = value / 10.0**scale.exponent
                axes.bar(at * step + place, height, width=0.85, color=colours[kind])
    middle = (len(data.raters) - 1) / 2
    axes.set_xticks([at * step + middle for at in range(len(data.images))], list(data.images))
    axes.tick_params(axis="x", length=0)
    axes.set_title(data.title, loc="left", fontsize=9)
    axes.set_ylabel(numbers.column_unit(data.unit, scale))


def _draw_differences(axes: Axes, data: Differences) -> None:
    scale = numbers.common_scale(data.mean)
    for limits in data.limits.values():
        for at, line in enumerate(("-", "--", "--")):
            centre, low, high = limits[3 * at : 3 * at + 3]
            if math.isfinite(centre):
                axes.axhline(centre, color=_MACHINE_COLOUR, linewidth=1.0, linestyle=line)
            # Intervals stand at the right margin: as bands across the axes they would overlap.
            margin, across = [1.02 + 0.02 * at] * 2, axes.get_yaxis_transform()
            axes.plot(margin, [low, high], color=_MACHINE_COLOUR, transform=across, clip_on=False)
    axes.axhline(0, color=figures.SOFT, linewidth=0.8)
    for kind, colour in ((EXPERT, _EXPERT_COLOUR), (MACHINE, _MACHINE_COLOUR)):
        points = [
            (m / 10.0**scale.exponent, d)
            for m, d, k in zip(data.mean, data.percent_difference, data.kinds, strict=True)
            if k == kind
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=5)
    ends = [v for limits in data.limits.values() for v in limits if math.isfinite(v)]
    top = 1.1 * max(map(abs, [*data.percent_difference, *ends, 1.0]))
    axes.set_ylim(-top, top)
    axes.set_title(data.quantity.replace("_", " ").capitalize(), loc="left", fontsize=9)
    axes.set_xlabel(f"Mean of both / {numbers.column_unit(data.unit, scale) or '1'}")
    axes.set_ylabel("Difference / %")
