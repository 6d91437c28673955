"""``defectops panel``: machine against human experts on the same images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.workflows.panel_comparing import PanelComparison

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops panel compare --published",
)


@app.callback()
def panel() -> None:
    """Compare a machine with a panel of human experts."""


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops panel compare panel.csv --out panel\n"
    "  defectops panel compare --published"
)
def compare(
    table: Path | None = typer.Argument(
        None, help="CSV: image, rater, kind, quantity, value, unit [, defect, minutes]."
    ),
    published: bool = typer.Option(
        False, "--published", help="The published Tables 2 to 4 instead, checked cell by cell."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Folder for the tables as CSV and the figures."
    ),
    json: bool = typer.Option(False, "--json", help="Print all tables as JSON."),
) -> None:
    """Show errors, bias, spread, agreement, ranks and times of a machine and its experts.

    kind is expert, machine or truth. Errors are fractions of the truth, under three definitions
    side by side; without a truth, raters are judged against the median of the other experts.
    """
    from defectops.errors import InputRefused
    from defectops.workflows.panel_comparing import compare_panel

    if (table is None) != published:
        raise InputRefused("panel compare", "E_USAGE", "give a CSV or --published, one of the two")
    found = compare_panel(table, out)
    if json:
        output.as_json({**found.as_json(), "remarks": found.remarks()})
    else:
        _show(found)


def _show(found: PanelComparison) -> None:
    _table(
        "Machine and experts",
        found.cells,
        "defect image quantity truth machine_value machine_error human_mean_of_errors "
        "human_error_of_mean human_error_of_median expert_bias expert_cv rank of "
        "machine_from_consensus",
    )
    _table(
        "Bland-Altman, percent differences",
        found.limits[found.limits["quantity"] == "all"],
        "rater n bias_percent bias_low bias_high lower lower_low lower_high "
        "upper upper_low upper_high",
    )
    _table("ICC(2,1)", found.correlations, "defect quantity raters icc low high n_images n_raters")
    if len(found.times):
        _table(
            "Times",
            found.times,
            "defect image n_experts expert_mean_min expert_fastest_min machine_s times_faster",
        )
    for remark in found.remarks():
        output.line(remark)


def _table(title: str, rows: Any, columns: str) -> None:
    names = columns.split()
    output.table(names, [[_cell(v) for v in row] for row in rows[names].to_numpy()], title)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3g}"
    return str(value)
