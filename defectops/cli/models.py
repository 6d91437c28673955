"""``defectops models``: which versions there are, and who was champion when."""

from __future__ import annotations

from pathlib import Path

import typer

from defectops.cli import output

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops models list --defect voids",
)


@app.callback()
def models() -> None:
    """List registered versions and the history of champions."""


@app.command(
    name="list",
    epilog="\b\nExamples:\n  defectops models list\n  defectops models list --defect voids --json",
)
def list_(
    defect: list[str] = typer.Option([], "--defect", help="Only this type; repeatable."),
    json: bool = typer.Option(False, "--json", help="Print the versions as JSON."),
) -> None:
    """List the registered versions of each defect type with their scores on the gate pack."""
    from defectops.cli.promotions import opened
    from defectops.workflows.listing_models import listed_versions

    parameters, registry = opened(Path())
    chosen = [parameters.defect(key) for key in defect or parameters.defects]
    rows = [row for kind in chosen for row in listed_versions(registry, kind)]
    if json:
        output.as_json(rows)
        return
    # What fits 80 columns; --json has all.
    columns = ("defect", "version", "aliases", "iou", "threshold", "sha256")
    output.table(columns, ([_cell(row[c], c) for c in columns] for row in rows))


@app.command(epilog="Example:  defectops models history --defect voids")
def history(
    defect: str = typer.Option(..., "--defect", help="Type whose champions are listed."),
    json: bool = typer.Option(False, "--json", help="Print the journal as JSON."),
) -> None:
    """Tell who moved which model to champion, when and why; the chain of digests is checked."""
    from defectops.workflows.listing_models import champion_history
    from defectops.workflows.parameters import load_parameters

    root = Path()
    rows = champion_history(root, load_parameters(root).defect(defect))
    if json:
        output.as_json(rows)
        return
    columns = ("at", "who", "from", "to", "verdict", "reason", "to_sha256")
    output.table(columns, ([_cell(row.get(c), c) for c in columns] for row in rows))


def _cell(value: object, column: str) -> object:
    if column.endswith("sha256"):
        return str(value)[:12]
    return f"{value:.4f}" if isinstance(value, float) else value
