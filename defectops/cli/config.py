"""``defectops config``: settings files checked before anything runs on them."""

from __future__ import annotations

from pathlib import Path

import typer

from defectops.cli import output

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops config check params.yaml",
)


@app.callback()
def config() -> None:
    """Check params.yaml or a study file."""


@app.command(epilog="Example:  defectops config check params.yaml")
def check(
    file: Path = typer.Argument(..., help="params.yaml, or a study file with a section `study`."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Check a settings file: every key known, every value of its kind."""
    from defectops.workflows.checking import check_settings

    sections = check_settings(file)
    if json:
        output.as_json({"path": str(file), "sections": sections})
    else:
        output.line(f"{file}: good; sections {', '.join(sections) or 'none'}")
