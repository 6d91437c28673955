"""``defectops promote``: a registered version before the gate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.workflows.direct_promotion import Decision

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops promote --defect voids --dry-run\n"
    "  defectops promote --defect voids --version 7 --expect-champion 4\n"
    "  defectops promote --defect voids --version 7 --force --reason 'new detector, see log 12'"
)
def promote(
    defect: str = typer.Option(..., "--defect", help="Type whose champion may move."),
    version: int | None = typer.Option(None, "--version", min=1, help="Registered version."),
    run: str | None = typer.Option(None, "--run", help="Instead: the run that trained it."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Judge, move nothing."),
    expect_champion: int | None = typer.Option(
        None, "--expect-champion", min=0, help="Move only if this is champion now; 0: nobody."
    ),
    force: bool = typer.Option(False, "--force", help="Promote against the verdict."),
    reason: str = typer.Option("", "--reason", help="Why; the journal keeps it."),
    json: bool = typer.Option(False, "--json", help="Print the decision as JSON."),
) -> int:
    """Judge a registered version on the gate pack; make it champion if it passes.

    Without --version and --run the present candidate is judged. Ends with 6 when the gate says
    fail, 7 when it cannot decide, 3 when somebody else moved the champion.
    """
    from defectops.cli.promotions import (
        FINDINGS,
        after_move,
        finding_row,
        opened,
        shown,
        verdict_code,
    )
    from defectops.errors import InputRefused
    from defectops.experiments.promotion import PromotionOptions
    from defectops.experiments.succession import ANY
    from defectops.measurement.quantities import MeasureOptions
    from defectops.workflows.direct_promotion import PromotionRequest, promote_version

    if version is not None and run is not None:
        raise InputRefused("--version, --run", "E_USAGE", "both were given; give one of them")
    root = Path()
    parameters, registry = opened(root)
    expect = ANY if expect_champion is None else expect_champion or None
    request = PromotionRequest(version, run, dry_run, expect, reason, force)
    kind = parameters.defect(defect)
    options = parameters.options("promotion", defect, PromotionOptions)
    measuring = parameters.options("quantify", defect, MeasureOptions)
    decision = promote_version(root, kind, options, registry, request, measuring)
    if json:
        output.as_json(shown(decision))
    else:
        output.table(FINDINGS, map(finding_row, decision.verdict.findings))
        for finding in decision.verdict.findings:
            if finding.outcome != "pass" or finding.estimate is None:
                output.line(f"{finding.outcome}: {finding.message}")
        output.line(_outcome(decision.version.model, decision, dry_run))
    if not dry_run:
        after_move(root, parameters, kind)
    return verdict_code(decision.verdict) if dry_run else 0


def _outcome(model: str, decision: Decision, dry_run: bool) -> str:
    number = decision.version.number
    if dry_run:
        return f"{model} version {number}: {decision.verdict.outcome}; dry run, nothing moved"
    if not decision.moved:
        return f"{model} version {number} is champion already"
    before = decision.before.version or "none"
    return f"{model}: champion {before} -> {number}; `dvc repro` brings the numbers up to date"
