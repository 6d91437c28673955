"""``defectops doctor``: what is wrong with runs, promotions and champions, and their repair."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.experiments.health import Trouble
    from defectops.experiments.registry import Registry
    from defectops.experiments.tracking import Tracker

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example:  defectops doctor --fix")
def doctor(
    fix: bool = typer.Option(False, "--fix", help="Put right what can be put right."),
    json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> int:
    """Find runs without a process, interrupted promotions and champions that disagree.

    Of each champion: its file, bundle, journal, evidence, ledger of the test side, DVC's record
    and the registry. With --fix the registry follows the files, never the other way. Runs of
    processes that live, and runs of other machines, are never touched. Ends with the highest exit
    code of what was found and not put right.
    """
    from defectops.experiments.health import examine

    root = Path()
    tracker, registry = _stores(root)
    found = [*examine(root, tracker, registry, fix), *_left_undone(root, fix)]
    if json:
        output.as_json([asdict(trouble) for trouble in found])
    else:
        for trouble in found:
            mended = " (put right)" if trouble.mended else ""
            output.line(f"{trouble.subject}: {trouble.code}: {trouble.message}{mended}")
        if not found:
            output.line("nothing is wrong with runs, promotions and champions")
    return max((trouble.exit_code for trouble in found), default=0)


def _left_undone(root: Path, fix: bool) -> list[Trouble]:
    """Return what was not done after a champion moved; nothing outside a project."""
    from defectops.settings import PARAMS
    from defectops.workflows.after_promotion import hook_of
    from defectops.workflows.doctoring import left_undone
    from defectops.workflows.parameters import load_parameters

    if not (root / PARAMS).is_file():
        return []
    parameters = load_parameters(root)
    return [
        trouble
        for kind in parameters.defects.values()
        for trouble in left_undone(root, kind, hook_of(parameters, kind), fix)
    ]


def _stores(root: Path) -> tuple[Tracker, Registry]:
    """Return the project's stores; empty ones where nothing was recorded, and none is made."""
    from defectops.experiments.mlflow_store import database_of
    from defectops.experiments.registry import RecordingRegistry
    from defectops.experiments.tracking import RecordingTracker
    from defectops.settings import tracking_uri
    from defectops.workflows.stores import open_stores

    database = database_of(tracking_uri(root))
    if database is not None and not database.exists():
        return RecordingTracker(), RecordingRegistry()
    return open_stores(root)
