"""The trials between which only taste decides: no other is better in both values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from defectops.reporting import figures, study_marks

if TYPE_CHECKING:
    from pathlib import Path

    from defectops.experiments.study_trials import Plan, StudyState


@dataclass(frozen=True)
class Spot:
    """One complete trial by its two values; `front`: no other beats it in both."""

    index: int
    generation: int
    x: float
    y: float
    front: bool


def spots(state: StudyState) -> tuple[Spot, ...]:
    """Return the data of the figure: complete trials with two values, by the first value."""
    front = {t.index for t in state.pareto}
    found = [
        Spot(t.index, t.generation, t.values[0], t.values[1], t.index in front)
        for t in state.trials
        if len(t.values) == 2
    ]
    return tuple(sorted(found, key=lambda s: (s.x, s.index)))


def draw_pareto(state: StudyState, plan: Plan, path: Path) -> None:
    """Draw the two values of each complete trial into a PNG or SVG, the same bytes every time."""
    with figures.style("study-pareto"):
        figures.save(_figure(spots(state), plan), path)


def _figure(shown: tuple[Spot, ...], plan: Plan) -> Figure:
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.set(
        xlabel=f"{study_marks.objective_label(plan)} (higher is better)",
        ylabel=f"{study_marks.error_label(plan)} (lower is better)",
    )
    axes.margins(0.09)
    if not shown:
        figures.empty(axes, "no trial is complete")
        return figure
    front = [s for s in shown if s.front]
    axes.step([s.x for s in front], [s.y for s in front], where="pre", color=figures.INK, lw=1.0)
    colours = study_marks.generation_colours(1 + max(s.generation for s in shown))
    for spot in shown:
        look = study_marks.mark("complete", colours[spot.generation], 8.0 if spot.front else 5.5)
        alpha = 1.0 if spot.front else 0.45
        axes.plot([spot.x], [spot.y], alpha=alpha, **look)
        if spot.front:
            axes.annotate(
                f"#{spot.index}",
                (spot.x, spot.y),
                xytext=(6, -3),
                textcoords="offset points",
                ha="left",
                va="top",
            )
    generations = sorted({s.generation for s in shown})
    marks = {f"gen. {g}": study_marks.mark("complete", colours[g]) for g in generations}
    handles = [Line2D([], [], label=name, **look) for name, look in marks.items()]
    handles.append(Line2D([], [], color=figures.INK, linewidth=1.0, label="Pareto set"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
