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
    from defectops.experiments.accesses import read_accesses, summed
    from defectops.workflows.champions import places_of
    from defectops.workflows.listing_models import champion_history
    from defectops.workflows.parameters import load_parameters

    root = Path()
    kind = load_parameters(root).defect(defect)
    rows = champion_history(root, kind)
    known = max((int(row.get("test_accesses", 0)) for row in rows), default=0)
    opened = summed(read_accesses(places_of(root, kind), known))
    if json:
        output.as_json(rows)
        return
    columns = ("at", "who", "from", "to", "verdict", "reason", "to_sha256")
    output.table(columns, ([_cell(row.get(c), c) for c in columns] for row in rows))
    output.note(f"the test side was opened {opened.times} times, by {opened.models} models")


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops models repair --defect voids --keep ours\n"
    "  defectops models repair --defect voids --keep theirs --reason 'the newer detector'"
)
def repair(
    defect: str = typer.Option(..., "--defect", help="Type whose journal git merged."),
    keep: str = typer.Option(..., "--keep", help="Whose champion stays: ours or theirs."),
    reason: str = typer.Option("", "--reason", help="Why; the journal keeps it."),
) -> None:
    """Make one history of two after a git merge of branches that both promoted.

    One side's champion stays champion; the lines of both sides are kept, in journal and ledger of
    the test side. Ours and theirs are git's words. Ends with 2 when there is nothing to repair,
    with 5 when lines were edited or are missing.
    """
    from defectops.cli.promotions import after_move, opened
    from defectops.workflows.repairing import repair_history

    root = Path()
    parameters, registry = opened(root)
    kind = parameters.defect(defect)
    done = repair_history(root, kind, registry, keep, reason)
    champion = done.champion
    output.line(
        f"{champion.model}: version {champion.version} (sha256 {str(champion.sha256)[:12]}) stays "
        f"champion; {done.merged} lines of the other side are kept in line "
        f"{champion.journal_length} of the journal"
    )
    if not done.bundle:
        output.note(f"its bundle is not here: `dvc checkout champions/{defect}` or `dvc pull`")
    after_move(root, parameters, kind)


def _cell(value: object, column: str) -> object:
    if column.endswith("sha256"):
        return str(value)[:12]
    return f"{value:.4f}" if isinstance(value, float) else value
