"""Who was initialised from whom, as a drawn tree: generations from left to right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from defectops.experiments.lineage import Branch, Member, forest
from defectops.reporting import figures, study_marks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

_DIGEST = 7
_ROW_INCHES = 0.44


@dataclass(frozen=True)
class Node:
    """One trial of the tree.

    Parameters
    ----------
    member : Member
    row : float
        From the top; a parent stands halfway between its first and last child.
    parent : Node or None
        Its parent's node.
    in_line : bool
        Whether the trial that is asked for is this one or descends from it.
    """

    member: Member
    row: float
    parent: Node | None
    in_line: bool


@dataclass(frozen=True)
class LineageTree:
    """What the figure shows.

    Parameters
    ----------
    nodes : tuple of Node
        Parents before children.
    rows : int
    alone : int
        Trials without parent and child, which are left out.
    label : str
        What a value is, for example ``dev IoU``.
    """

    nodes: tuple[Node, ...]
    rows: int
    alone: int
    label: str


def lineage_tree(
    trees: Sequence[Branch], line: Sequence[int] = (), label: str = "dev IoU"
) -> LineageTree:
    """Return the data of the figure.

    Parameters
    ----------
    trees : sequence of Branch
        Those of one trial only are counted, not drawn, unless that trial is in `line`.
    line : sequence of int
        Indices of the trial that is asked for and of its ancestors.
    label : str
    """
    drawn = [t for t in trees if t.children or t.member.index in line]
    nodes: list[Node] = []
    row = 0.0
    for tree in drawn:
        rows = _rows(tree, row)
        row += sum(1 for _, branch in tree.walk() if not branch.children)
        nodes += _nodes(tree, rows, set(line))
    return LineageTree(tuple(nodes), round(row), len(trees) - len(drawn), label)


def draw_lineage(tree: LineageTree, path: Path) -> None:
    """Draw the tree into a PNG or SVG, the same bytes for the same tree."""
    with figures.style("study-lineage"):
        figures.save(_figure(tree), path)


def study_lineage(members: Sequence[Member], line: Sequence[int], label: str) -> LineageTree:
    """Return the tree of a whole study, see `lineage_tree`."""
    return lineage_tree(forest(members), line, label)


def _rows(tree: Branch, first: float) -> dict[int, float]:
    """Return the row of each trial: leaves one below the other, parents amid their children."""
    inside = [branch for _, branch in tree.walk()]
    leaves = [branch.member.index for branch in inside if not branch.children]
    rows = {index: first + at for at, index in enumerate(leaves)}
    for branch in reversed(inside):
        if branch.children:
            ends = [rows[c.member.index] for c in (branch.children[0], branch.children[-1])]
            rows[branch.member.index] = sum(ends) / 2
    return rows


def _nodes(tree: Branch, rows: dict[int, float], line: set[int]) -> list[Node]:
    made: dict[int, Node] = {}
    for _, branch in tree.walk():
        m = branch.member
        above = None if m.parent is None else made.get(m.parent)
        made[m.index] = Node(m, rows[m.index], above, m.index in line)
    return list(made.values())


def _figure(tree: LineageTree) -> Figure:
    generations = sorted({n.member.generation for n in tree.nodes})
    columns = {g: place for place, g in enumerate(generations)}
    size = (max(1.72 * len(columns) + 0.3, 5.2), 0.9 + _ROW_INCHES * max(tree.rows, 2))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.12, max(len(columns), 2) - 0.05)
    axes.set_ylim(max(tree.rows, 2) - 0.4, -0.6)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_xticks(list(columns.values()), [f"generation {g}" for g in columns], ha="left")
    if not tree.nodes:
        figures.empty(axes, "no trial started from another")
        return figure
    values = [n.member.value for n in tree.nodes if n.member.value is not None]
    ends = (min(values, default=0.0), max(values, default=1.0))
    for node in tree.nodes:
        _draw_link(axes, node, columns)
    for node in tree.nodes:
        _draw_node(axes, node, columns, ends)
    axes.set_xlabel(_legend(tree), color=figures.SOFT, fontsize=8, loc="left")
    return figure


def _legend(tree: LineageTree) -> str:
    said = f"trial, {tree.label}; cumulative epochs, first digits of the weights' SHA-256"
    return said + (f"\n{tree.alone} trials without kin not drawn" if tree.alone else "")


def _draw_link(axes: Axes, node: Node, columns: dict[int, int]) -> None:
    if node.parent is None:
        return
    x0, x1 = columns[node.parent.member.generation], columns[node.member.generation]
    # It turns in front of the next generation: in its own row a link passes nobody.
    turn = x0 + 0.87
    look = {"color": figures.INK, "linewidth": 2.0} if node.in_line else {"color": "#a8a8a8"}
    axes.plot(
        [x0, turn, turn, x1],
        [node.parent.row, node.parent.row, node.row, node.row],
        zorder=1 + node.in_line,
        **({"linewidth": 1.1} | look),
    )


def _draw_node(axes: Axes, node: Node, columns: dict[int, int], ends: tuple[float, float]) -> None:
    m = node.member
    colour = figures.SOFT if m.value is None else study_marks.value_colour(m.value, *ends)
    look = study_marks.mark(m.state, colour, 9.0)
    x = columns[m.generation]
    axes.plot([x], [node.row], zorder=3, **look)
    value = m.state if m.value is None else f"{m.value:.3f}"
    weight = "bold" if node.in_line else "normal"
    below = f"{m.cumulative_epochs} ep  {m.checkpoint_sha256[:_DIGEST]}".rstrip()
    for text, up, size, colour in (
        (f"#{m.index}  {value}", 2, 9, figures.INK),
        (below, -2, 7, figures.SOFT),
    ):
        axes.annotate(
            text,
            (x, node.row),
            xytext=(8, up),
            textcoords="offset points",
            va="bottom" if up > 0 else "top",
            fontsize=size,
            fontweight=weight if up > 0 else "normal",
            color=colour,
            zorder=4,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
        )
