"""``defectops models``: which versions there are, what is in them, who was champion when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.registry import Registry
    from defectops.measurement.quantities import MeasureOptions

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    epilog="Example:  defectops models list --defect voids",
)


@app.callback()
def models() -> None:
    """List, show, compare, check and hand on models; the history of champions."""


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
    from defectops.workflows.listing_models import champion_history, test_side_accesses
    from defectops.workflows.parameters import load_parameters

    root = Path()
    kind = load_parameters(root).defect(defect)
    rows = champion_history(root, kind)
    opened = test_side_accesses(root, kind, rows)
    if json:
        output.as_json(rows)
        return
    columns = ("at", "who", "from", "to", "verdict", "reason", "to_sha256")
    for row in rows:
        if "branch" in row:  # a line of another branch that a git merge brought
            row["verdict"] = f"{row['verdict']} ({row['branch']})"
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


_NAME = "A version (voids/7, voids@champion, models:/defectops-voids/7), a bundle or a folder."


@app.command(
    epilog="\b\nExamples:\n  defectops models show voids@champion\n"
    "  defectops models show voids/7 --card"
)
def show(
    name: str = typer.Argument(help=_NAME),
    card: bool = typer.Option(False, "--card", help="Print its model card, Markdown."),
    json: bool = typer.Option(False, "--json", help="Print all of it as JSON."),
) -> None:
    """Tell what is known of a model: network, threshold, data, scores, range, lineage."""
    from tempfile import TemporaryDirectory

    from defectops.cli import model_tables
    from defectops.workflows.describing_models import described
    from defectops.workflows.exporting_models import card_of
    from defectops.workflows.model_finding import find_model

    with TemporaryDirectory(prefix="defectops-") as scratch:
        found = find_model(name, _store, Path(scratch))
        facts, text = described(found), card_of(found)
    if json:
        output.as_json({**facts, "card": text})
    elif card:
        for line in text.splitlines():
            output.line(line)
    else:
        model_tables.show_facts(facts)


@app.command(
    epilog="\b\nExamples:\n  defectops models diff voids@champion voids/7\n"
    "  defectops models diff voids/6 voids/7 --json"
)
def diff(
    one: str = typer.Argument(help=_NAME),
    two: str = typer.Argument(help="Likewise; changes are this one minus the first."),
    everything: bool = typer.Option(False, "--all", help="Also list what is the same."),
    json: bool = typer.Option(False, "--json", help="Print all of it as JSON."),
) -> None:
    """Set two models side by side: parameters, data, scores and quantities with intervals.

    Both segment the gate pack, if there is one here and neither was trained on it; the intervals
    of the change are paired. Nothing is judged: that does `promote --dry-run`.
    """
    from tempfile import TemporaryDirectory

    from defectops.cli import model_tables
    from defectops.workflows.comparing_models import as_mapping, compare
    from defectops.workflows.describing_models import described, differences
    from defectops.workflows.model_finding import find_model

    with TemporaryDirectory(prefix="defectops-") as scratch:
        a, b = (find_model(name, _store, Path(scratch)) for name in (one, two))
        rows = differences(described(a), described(b), everything)
        compared = compare(Path(), a, b, _measuring(a.defect.key))
    if json:
        named = {"a": a.name, "b": b.name, "differences": rows}
        output.as_json({**named, "gate": as_mapping(compared)})
        return
    model_tables.show_differences(rows, a.name, b.name)
    model_tables.show_comparison(compared, a.name, b.name)


@app.command(
    epilog="\b\nExamples:\n  defectops models verify voids@champion\n"
    "  defectops models verify model.safetensors --sha256 1f0c..."
)
def verify(
    name: str = typer.Argument(help=_NAME),
    sha256: str | None = typer.Option(None, "--sha256", help="Digest a file must have."),
    json: bool = typer.Option(False, "--json", help="Print what was checked as JSON."),
) -> None:
    """Check that a model is what it was and answers as it did; nothing in it is run.

    Digest, form and weights of the bundle, its answer to its own test, the folder around it, and
    of a version its tags and the champion file. Ends with 2 when the model is refused, with 5 when
    it is not what was recorded. A file or folder can be checked on any machine.
    """
    from dataclasses import asdict

    from defectops.cli import model_tables
    from defectops.workflows.verifying_models import verify_path, verify_version
    from defectops.workflows.version_names import parse, resolve

    meant = parse(name)
    if isinstance(meant, Path):
        found = verify_path(meant, sha256)
    else:
        defects, registry = _store()
        kind, version = resolve(meant, defects, registry)
        found = verify_version(Path(), kind, version, registry)
    if json:
        output.as_json(asdict(found))
    else:
        model_tables.show_verified(found)


@app.command(
    epilog="\b\nExamples:\n  defectops models export voids@champion --out voids-model\n"
    "  defectops models export voids/7 --out voids-model --force"
)
def export(
    name: str = typer.Argument(help=_NAME),
    out: Path = typer.Option(..., "--out", help="Folder to write; it must not be there yet."),
    force: bool = typer.Option(False, "--force", help="Replace an earlier export."),
    json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Write a model as a folder to hand on: bundle, model card, what MLflow needs to load it."""
    from tempfile import TemporaryDirectory

    from defectops.workflows.exporting_models import export_model
    from defectops.workflows.model_finding import find_model

    with TemporaryDirectory(prefix="defectops-") as scratch:
        found = find_model(name, _store, Path(scratch))
        export_model(found, out, force)
    files = sorted(p.name for p in out.iterdir())
    if json:
        output.as_json({"name": found.name, "sha256": found.sha256, "files": files})
    else:
        output.line(f"{found.name}: written to {out} ({', '.join(files)})")


def _store() -> tuple[Mapping[str, DefectType], Registry]:
    from defectops.cli.promotions import opened

    parameters, registry = opened(Path())
    return parameters.defects, registry


def _measuring(defect: str) -> MeasureOptions:
    """Return the project's options of the stage ``quantify``; the defaults where it has none."""
    from defectops.measurement.quantities import MeasureOptions
    from defectops.settings import PARAMS
    from defectops.workflows.parameters import load_parameters

    if not Path(PARAMS).is_file():
        return MeasureOptions()
    parameters = load_parameters(Path())
    if defect not in parameters.defects:
        return MeasureOptions()
    return parameters.options("quantify", defect, MeasureOptions)


def _cell(value: object, column: str) -> object:
    if column.endswith("sha256"):
        return str(value)[:12]
    return f"{value:.4f}" if isinstance(value, float) else value
