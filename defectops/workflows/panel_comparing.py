"""Compare a machine with a panel of experts: every table, the published check, the figures."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.atomic import write_text
from defectops.measurement.panel_comparison import (
    cell_table,
    correlation_table,
    difference_table,
    limits_table,
    published_check,
    rater_table,
    time_table,
)
from defectops.measurement.panel_table import Panel, published_panel, read_panel
from defectops.reporting.panel import bars, differences, save_bars, save_differences

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class PanelComparison:
    """The tables of one panel; see `measurement.panel_comparison` for their columns.

    Parameters
    ----------
    cells, raters, correlations, limits, differences, times : DataFrame
    published : DataFrame or None
        What follows from the published tables against what they print; None for other panels.
    """

    cells: pd.DataFrame
    raters: pd.DataFrame
    correlations: pd.DataFrame
    limits: pd.DataFrame
    differences: pd.DataFrame
    times: pd.DataFrame
    published: pd.DataFrame | None = None

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that there are, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: table for name, table in named.items() if table is not None}

    def as_json(self) -> dict[str, list[dict[Any, Any]]]:
        """Return the tables as lists of rows; what is undefined is None."""
        return {
            name: table.astype(object).where(table.notna(), None).to_dict("records")
            for name, table in self.tables().items()
        }

    def remarks(self) -> list[str]:
        """Say in sentences which printed cells follow from the published values."""
        if self.published is None:
            return []
        lines = []
        for what, part in self.published.groupby("what", sort=False):
            lines.append(f"published: {what}: {part['agrees'].sum()} of {len(part)} cells agree")
            lines += [
                f"published: {what} of {row['cell']} follows from the printed values as "
                f"{row['rounded']:g} ({row['computed']:.4f}) and is printed as {row['printed']:g}"
                for row in part[~part["agrees"]].to_dict("records")
            ]
        return lines


def compare_panel(table: Path | None, out: Path | None = None) -> PanelComparison:
    """Compare machines with experts.

    Parameters
    ----------
    table : Path or None
        CSV, see `measurement.panel_table.read_panel`; None takes the published tables.
    out : Path, optional
        Folder for ``<table>.csv``, ``bars.png`` (the paper's Fig. 7) and ``bland_altman.png``.

    Raises
    ------
    InputRefused
        The table cannot be used.
    """
    panel = published_panel() if table is None else read_panel(table)
    found = _compared(panel)
    if table is None:
        check = published_check(found.cells, found.times)
        found = PanelComparison(**{**vars(found), "published": check})
    if out is not None:
        for name, rows in found.tables().items():
            write_text(out / f"{name}.csv", rows.to_csv(index=False))
        save_bars(bars(panel), out / "bars.png")
        save_differences(differences(panel), out / "bland_altman.png")
    return found


def _compared(panel: Panel) -> PanelComparison:
    return PanelComparison(
        cells=cell_table(panel),
        raters=rater_table(panel),
        correlations=correlation_table(panel),
        limits=limits_table(panel),
        differences=difference_table(panel),
        times=time_table(panel),
    )
