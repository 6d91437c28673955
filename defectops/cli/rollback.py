"""``defectops rollback``: the champion before this one, again."""

from __future__ import annotations

from pathlib import Path

import typer

from defectops.cli import output

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example:  defectops rollback --defect voids --reason 'doubles grain edges'")
def rollback(
    defect: str = typer.Option(..., "--defect", help="Type whose champion goes back."),
    reason: str = typer.Option("", "--reason", help="Why; the journal keeps it."),
) -> None:
    """Make the champion before the present one champion again: weights and threshold.

    A second rollback goes one further back. The bundle comes from the registry, else from DVC's
    cache. Ends with 2 when there is no earlier champion, with 5 when its bundle is damaged or gone.
    """
    from defectops.cli.promotions import after_move, opened
    from defectops.workflows.direct_promotion import roll_back

    root = Path()
    parameters, registry = opened(root)
    kind = parameters.defect(defect)
    champion = roll_back(root, kind, registry, reason)
    output.line(
        f"{champion.model}: version {champion.version} is champion again (sha256 "
        f"{str(champion.sha256)[:12]}); `dvc repro` brings the numbers up to date"
    )
    after_move(root, parameters, kind)
