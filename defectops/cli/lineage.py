"""``defectops lineage``: whose weights a trial or a version started from, as a tree."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from defectops.cli import output
from defectops.errors import IntegrityFault

if TYPE_CHECKING:
    from rich.tree import Tree

    from defectops.experiments.lineage import Branch, Member
    from defectops.experiments.registry import Registry
    from defectops.workflows.lineage import Lineage, Recorded

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_DIGEST = 12


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops lineage precipitates/7\n"
    "  defectops lineage defectops-precipitates/3 --figure lineage.png\n"
    "  defectops lineage precipitates --json"
)
def lineage(
    subject: str | None = typer.Argument(
        None, help="Trial (voids/7), version (defectops-voids/3), or a defect's whole study."
    ),
    trial: int | None = typer.Argument(None, min=0, help="Index of a trial, with --defect."),
    defect: str | None = typer.Option(None, "--defect", help="Instead of the name before the /."),
    figure: Path | None = typer.Option(None, "--figure", help="Also draw it: a .png or .svg."),
    storage: str = typer.Option("", "--storage", help="Study store, as given to `tune`."),
    json: bool = typer.Option(False, "--json", help="Print the trials as JSON."),
) -> None:
    """Show whose weights a trial started from, and who started from it.

    Each line has the trial, its generation, its value or how it ended, its epochs of those of its
    whole line of ancestors, seconds likewise where they are known here, and the digest of its
    weights.
    The family of the trial is shown, with the trial and its ancestors marked. Ends with 5 if a
    trial did not start from the weights that its parent left.
    """
    from defectops.workflows.lineage import Recorded, find_lineage

    if figure is not None and figure.suffix not in {".png", ".svg"}:
        raise typer.BadParameter(f"--figure must end in .png or .svg, got {figure.name!r}")
    found = find_lineage(Path(), _name(subject, trial, defect), _registry, storage)
    if isinstance(found, Recorded):
        _show_recorded(found, json=json)
        return
    if figure is not None:
        from defectops.reporting.study_lineage import draw_lineage, lineage_tree

        draw_lineage(lineage_tree(found.trees, found.line, _measure(found)), figure)
    if json:
        output.as_json(as_data(found))
    else:
        _show(found)
    if found.broken:
        raise IntegrityFault(found.study, "E_DIGEST", "; ".join(found.broken))


def _name(subject: str | None, trial: int | None, defect: str | None) -> str:
    """Return the one name that the words mean; see `find_lineage`."""
    if defect is None:
        if subject is None or trial is not None:
            raise typer.BadParameter("give a trial such as voids/7, or --defect voids 7")
        return subject
    if subject is None:
        return defect
    if trial is not None or not subject.isdecimal():
        raise typer.BadParameter(f"with --defect give the index of one trial, not {subject!r}")
    return f"{defect}/{subject}"


def _registry() -> Registry:
    from defectops.cli.promotions import opened

    return opened(Path())[1]


def _measure(found: Lineage) -> str:
    return "error" if found.objective == "density" else "dev IoU"


def as_data(found: Lineage) -> dict[str, Any]:
    """Return the lineage as plain values: the trials shown, the line of the one asked for."""
    return {
        "defect": found.defect,
        "study": found.study,
        "version": found.version or None,
        "trial": found.index,
        "line": list(found.line),
        "trials": [asdict(b.member) for tree in found.trees for _, b in tree.walk()],
        "broken": list(found.broken),
    }


def label(member: Member, measure: str) -> str:
    """Return what the tree says of one trial."""
    parts = [f"trial {member.index}", f"gen {member.generation}"]
    # A value says that the trial is complete.
    parts.append(member.state if member.value is None else f"{measure} {member.value:.3f}")
    parts.append(_of_all("epochs", member.epochs, member.cumulative_epochs))
    if member.seconds is not None and member.cumulative_seconds is not None:
        parts.append(_of_all("s", round(member.seconds), round(member.cumulative_seconds)))
    if member.checkpoint_sha256:
        parts.append(member.checkpoint_sha256[:_DIGEST])
    return ", ".join(parts)


def _of_all(unit: str, own: int, cumulative: int) -> str:
    return f"{own} {unit}" if own == cumulative else f"{own} of {cumulative} {unit}"


def tree_lines(tree: Branch, line: tuple[int, ...], measure: str) -> list[str]:
    """Return the tree as lines of plain text; ``*`` marks the trial asked for and its line."""
    return [
        "  " * depth
        + ("* " if branch.member.index in line else "- ")
        + label(branch.member, measure)
        for depth, branch in tree.walk()
    ]


def _show(found: Lineage) -> None:
    import sys

    title = f"study {found.study}" + (f", {found.version}" if found.version else "")
    if not sys.stdout.isatty():
        output.line(title)
        for tree in found.trees:
            for text in tree_lines(tree, found.line, _measure(found)):
                output.line(text)
        return
    from rich.console import Console

    Console().print(drawn(found, title))


def drawn(found: Lineage, title: str) -> Tree:
    """Return the lineage as Rich's tree."""
    from rich.text import Text
    from rich.tree import Tree

    top = Tree(Text(title, "bold"), guide_style="dim")
    for tree in found.trees:
        above = {-1: top}
        for depth, branch in tree.walk():
            style = "bold green" if branch.member.index in found.line else _style(branch.member)
            text = Text(label(branch.member, _measure(found)), style)
            above[depth] = above[depth - 1].add(text)
    return top


def _style(member: Member) -> str:
    return "" if member.state == "complete" else "dim"


def _show_recorded(found: Recorded, *, json: bool) -> None:
    version = found.version
    name = f"{version.model}/{version.number}"
    if json:
        output.as_json(
            {
                "version": name,
                "study": version.tags.get("study"),
                "sha256": version.sha256,
                "run_id": version.run_id,
                "line": [{"trial": index, "sha256": sha256} for index, sha256 in found.line],
            }
        )
        return
    run = f", run {version.run_id}" if version.run_id else ""
    if not found.line:
        output.line(f"{name}: trained from random weights, in no study; {version.sha256[:12]}{run}")
        return
    steps = " > ".join(f"trial {index} {sha256[:_DIGEST]}" for index, sha256 in found.line)
    study = version.tags["study"]
    output.line(f"{name}: of a study {study} that is not here; its line: {steps}{run}")
