"""Which way lines run: their density by direction, as a rose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from defectops.reporting import figures

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from defectops.defects import DefectType


def save_rose(table: pd.DataFrame, defect: DefectType, path: Path) -> None:
    """Draw line density by direction with the interval of each bin.

    A line has no sense, so each bin is drawn twice, half a turn apart. Directions are those of the
    picture: 0 along its rows, 90 degrees down its columns.

    Parameters
    ----------
    table : DataFrame
        Columns ``from_deg, to_deg, density_per_<unit>, low, high``, over 0 to 180 degrees.
    defect : DefectType
    path : Path
        PNG or SVG.
    """
    unit = "nm" if "density_per_nm" in table else "px"
    density = table[f"density_per_{unit}"].to_numpy()
    width = np.radians((table["to_deg"] - table["from_deg"]).to_numpy())
    middle = np.radians(table["from_deg"].to_numpy()) + width / 2
    below, above = density - table["low"].to_numpy(), table["high"].to_numpy() - density
    with figures.style("rose"):
        figure = Figure(figsize=(3.6, 3.9), layout="constrained")
        axes = figure.add_subplot(projection="polar")
        axes.set_theta_direction(-1)  # type: ignore[attr-defined] # rows are counted downwards
        for turn in (0.0, np.pi):
            axes.bar(
                middle + turn, density, width, color=figures.on_white(defect.colour), alpha=0.45
            )
            axes.errorbar(
                middle + turn,
                density,
                [below, above],
                fmt="none",
                ecolor=figures.INK,
                elinewidth=0.8,
            )
        axes.set_ylim(bottom=0)
        axes.grid(color=figures.FAINT, linewidth=0.6)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(f"Projected line density by direction / {unit}⁻¹", fontsize=9, pad=14)
        figures.save(figure, path)
