"""IoU of train and dev over the epochs: the curves that show over-fitting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from defectops.reporting import figures

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

_LABEL_GAP = 0.055


@dataclass(frozen=True)
class IouCurves:
    """What the figure shows.

    Parameters
    ----------
    epochs : tuple of int
        In increasing order; empty when nothing was recorded.
    train, dev : tuple of float
        IoU of the training patches and of the development side, NaN where undefined.
    best : int or None
        Index of the first epoch with the highest dev IoU; None if there is none.
    """

    epochs: tuple[int, ...]
    train: tuple[float, ...]
    dev: tuple[float, ...]
    best: int | None

    @property
    def summary(self) -> str:
        """The figure in one sentence, for those who cannot see it."""
        if self.best is None:
            return "No epoch with a defined development IoU was recorded."
        return (
            f"{len(self.epochs)} epochs; the development IoU is highest at epoch "
            f"{self.epochs[self.best]} with {self.dev[self.best]:.3f}, the training IoU there is "
            f"{self.train[self.best]:.3f}; at the end they are {self.dev[-1]:.3f} and "
            f"{self.train[-1]:.3f}."
        )


def iou_curves(curves: pd.DataFrame) -> IouCurves:
    """Return the data of the figure.

    Parameters
    ----------
    curves : DataFrame
        Columns ``epoch``, ``train_iou``, ``dev_iou``; others are ignored. May be empty.
    """
    if curves.empty:
        return IouCurves((), (), (), None)
    rows = curves.sort_values("epoch", kind="stable")
    dev = rows["dev_iou"].to_numpy(dtype=float)
    return IouCurves(
        epochs=tuple(rows["epoch"].astype(int)),
        train=tuple(rows["train_iou"].astype(float)),
        dev=tuple(dev.tolist()),
        best=int(np.nanargmax(dev)) if np.isfinite(dev).any() else None,
    )


def draw_iou_curves(curves: pd.DataFrame, path: Path, colour: str = "#2e86ab") -> None:
    """Draw the curves into a PNG or SVG file, the same bytes for the same curves.

    Parameters
    ----------
    curves : DataFrame
        As in `iou_curves`. Without a row the figure says that no epoch was recorded.
    path : Path
        Ends in ``.png`` or ``.svg``.
    colour : str
        Of the dev curve, ``#rrggbb``.
    """
    with figures.style("iou-curves"):
        figures.save(_figure(iou_curves(curves), figures.on_white(colour)), path)


def iou_curves_svg(data: IouCurves, colour: str, salt: str) -> str:
    """Return the figure as an element for the page; `salt` is unique on the page."""
    with figures.style(salt):
        return figures.inline_svg(_figure(data, figures.on_white(colour)))


def _figure(data: IouCurves, colour: str) -> Figure:
    figure = Figure(figsize=(3.6, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="Epoch", ylabel="IoU", ylim=(0, 1))
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.grid(axis="y", color=figures.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if not data.epochs:
        figures.empty(axes, "no epoch recorded")
        return figure
    marker = "o" if len(data.epochs) == 1 else ""
    axes.margins(x=0.02)
    axes.plot(data.epochs, data.train, color=figures.SOFT, linewidth=1.2, marker=marker)
    axes.plot(data.epochs, data.dev, color=colour, linewidth=2.0, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _name_the_ends(axes, data, colour)
    _mark_the_best(axes, data, colour)
    return figure


def _name_the_ends(axes: Axes, data: IouCurves, colour: str) -> None:
    # Names at the ends of the lines need no legend; they are kept apart where the lines meet.
    low, high = sorted(((data.train[-1], "train"), (data.dev[-1], "dev")))
    middle, half = (low[0] + high[0]) / 2, max(high[0] - low[0], _LABEL_GAP) / 2
    for (_, name), at in ((low, middle - half), (high, middle + half)):
        axes.annotate(
            name,
            (data.epochs[-1], at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour if name == "dev" else figures.SOFT,
            annotation_clip=False,
        )


def _mark_the_best(axes: Axes, data: IouCurves, colour: str) -> None:
    if data.best is None:
        return
    at = (data.epochs[data.best], data.dev[data.best])
    above = data.dev[data.best] >= data.train[data.best]  # away from the other line
    axes.plot(*at, marker="o", markersize=6, color=colour, markeredgecolor="white")
    axes.annotate(
        f"{at[1]:.3f}",
        at,
        xytext=(0, 8 if above else -8),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        color=colour,
        fontweight="bold",
    )
