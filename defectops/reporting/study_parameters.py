"""What the hyperparameters of a study did: their worth, one by one, and all together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from defectops.reporting import figures, study_marks

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from defectops.experiments.importance import Importance
    from defectops.experiments.search_space import Dimension
    from defectops.experiments.study_trials import Plan, StudyState

_COLUMNS = 3
_DASHES = (0, (4, 2))
_CLEAR, _UNCLEAR = "#31688e", "#b8b8b8"


@dataclass(frozen=True)
class Point:
    """One trial with what it came to, for figures over its parameters.

    Parameters
    ----------
    index, generation : int
    state : {"complete", "pruned"}
    params : mapping
        A value for each dimension of the space.
    value : float
    role : {"", "best", "own"}
        Whether it is the best trial, or has the project's own settings; the best comes first.
    """

    index: int
    generation: int
    state: str
    params: Mapping[str, Any]
    value: float
    role: str = ""


@dataclass(frozen=True)
class Axis:
    """One dimension as an axis from 0 to 1.

    Parameters
    ----------
    name : str
    dimension : Dimension
    """

    name: str
    dimension: Dimension

    def place(self, value: float | str) -> float:
        """Return where a value stands, 0 the low end, 1 the high end; outside is cut off.

        A dimension of one value has it in the middle.
        """
        d = self.dimension
        if d.kind == "choice":
            last = len(d.choices) - 1
            return d.choices.index(str(value)) / last if last else 0.5
        low, high, at = (math.log(v) if d.log else v for v in (d.low, d.high, float(value)))
        return 0.5 if low == high else min(max((at - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return (place, text) of what is written along the axis: all choices, or both ends."""
        d = self.dimension
        if d.kind == "choice":
            return [(self.place(c), study_marks.setting_name(c)) for c in d.choices]
        middle = math.sqrt(d.low * d.high) if d.log else (d.low + d.high) / 2
        values = [d.low] if d.low == d.high else [d.low, middle, d.high]
        return [(self.place(v), f"{v:.2g}".replace("e-0", "e-")) for v in values]


def points(state: StudyState, plan: Plan) -> tuple[Point, ...]:
    """Return the trials that can be shown over their parameters: complete or pruned, with a value.

    Trials with another set of parameters than the space's, or a choice outside of it, are left out.
    """
    own = study_marks.own_settings(state, plan)
    best = None if state.best is None else state.best.index
    found = []
    for trial in state.trials:
        value = study_marks.score(trial, plan)
        if trial.state not in {"complete", "pruned"} or value is None:
            continue
        if not _drawable(trial.params, plan):
            continue
        role = "best" if trial.index == best else "own" if trial.index == own else ""
        found.append(Point(trial.index, trial.generation, trial.state, trial.params, value, role))
    return tuple(found)


def draw_importance(found: Importance, path: Path) -> None:
    """Draw what each hyperparameter was worth into a PNG or SVG, the same bytes every time."""
    with figures.style("study-importance"):
        figures.save(_importance_figure(found), path)


def draw_slices(state: StudyState, plan: Plan, path: Path) -> None:
    """Draw value over each hyperparameter into a PNG or SVG, the same bytes every time."""
    with figures.style("study-slices"):
        figures.save(_slices_figure(points(state, plan), plan), path)


def draw_parallel(state: StudyState, plan: Plan, path: Path) -> None:
    """Draw each trial as a line across its hyperparameters to its value, into a PNG or SVG."""
    with figures.style("study-parallel"):
        figures.save(_parallel_figure(points(state, plan), plan), path)


def _drawable(params: Mapping[str, Any], plan: Plan) -> bool:
    return all(
        d.name in params and (d.kind != "choice" or params[d.name] in d.choices)
        for d in plan.space.dimensions
    )


def _importance_figure(found: Importance) -> Figure:
    rows = found.worths
    figure = Figure(figsize=(6.4, 1.3 + 0.33 * max(len(rows), 2)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=f"Share of the importance (PED-ANOVA, {found.trials} trials of generation 0)")
    if not rows:
        axes.set_yticks([])
        figures.empty(axes, found.note)
        return figure
    for at, row in enumerate(rows):
        axes.barh(at, row.share, 0.68, color=_CLEAR if row.clear else _UNCLEAR, linewidth=0)
        axes.annotate(
            f"{100 * row.share:.0f} %",
            (row.share, at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=figures.INK if row.clear else figures.SOFT,
        )
    axes.set_yticks(range(len(rows)), [study_marks.setting_name(r.name) for r in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(1.15 * rows[0].share, 0.5))
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:.0f} %")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    known = ((_CLEAR, True, "more than chance gives"), (_UNCLEAR, False, "as by chance"))
    there = {row.clear for row in rows}
    handles = [Patch(color=c, label=text) for c, clear, text in known if clear in there]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _slices_figure(shown: tuple[Point, ...], plan: Plan) -> Figure:
    dimensions = plan.space.dimensions
    lines = max(1, math.ceil(len(dimensions) / _COLUMNS))
    figure = Figure(figsize=(7.6, 0.6 + 2.05 * lines), layout="constrained")
    grid = figure.subplots(lines, _COLUMNS, sharey=True, squeeze=False)
    colours = study_marks.generation_colours(1 + max((p.generation for p in shown), default=0))
    for place, axes in enumerate(grid.flat):
        if place >= len(dimensions):
            axes.set_axis_off()
            continue
        axes.margins(y=0.12)
        _draw_slice(axes, dimensions[place], shown, colours)
        if not shown:
            figures.empty(axes, "no trial has a value")
    figure.supylabel(study_marks.objective_label(plan), fontsize=9)
    handles = _slice_handles(shown, colours)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(max(len(handles), 1), 5))
    return figure


def _draw_slice(
    axes: Axes, dimension: Dimension, shown: tuple[Point, ...], colours: list[str]
) -> None:
    axes.set_xlabel(study_marks.setting_name(dimension.name))
    _scale(axes, dimension)
    for point in sorted(shown, key=lambda p: (p.state == "complete", p.role)):
        value = point.params[dimension.name]
        x = dimension.choices.index(value) if dimension.kind == "choice" else value
        look = study_marks.mark(point.state, colours[point.generation], 5.5)
        axes.plot([x], [point.value], **look)
        if point.role:
            axes.plot([x], [point.value], **_ring(point.role))


def _scale(axes: Axes, dimension: Dimension) -> None:
    """Show the whole range that was searched, whether trials fell there or not."""
    if dimension.kind == "choice":
        names = [study_marks.setting_name(c) for c in dimension.choices]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    low, high = dimension.low, dimension.high
    if dimension.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.04 if high > low else 2.0
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.04 * (high - low) or 0.5
        axes.set_xlim(low - room, high + room)


def _ring(role: str) -> dict[str, Any]:
    return {
        "marker": "o" if role == "best" else "s",
        "linestyle": "none",
        "markersize": 10,
        "color": "none",
        "markeredgecolor": figures.INK,
    }


def _slice_handles(shown: tuple[Point, ...], colours: list[str]) -> list[Line2D]:
    generations = sorted({p.generation for p in shown})
    roles = {p.role for p in shown}
    names = {"best": "best", "own": "own settings"}
    return [
        *(
            Line2D([], [], label=f"gen. {g}", **study_marks.mark("complete", colours[g]))
            for g in generations
        ),
        *study_marks.legend_handles([p.state for p in shown if p.state == "pruned"]),
        *(Line2D([], [], label=names[r], **_ring(r)) for r in names if r in roles),
    ]


def _parallel_figure(shown: tuple[Point, ...], plan: Plan) -> Figure:
    axes_of = [Axis(d.name, d) for d in plan.space.dimensions]
    figure = Figure(figsize=(1.6 + 0.95 * (len(axes_of) + 1), 3.9), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.3, len(axes_of) + 0.3)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(axis="x", length=0, pad=6)
    names = [study_marks.setting_name(a.name).replace(" ", "\n") for a in axes_of]
    value_name = study_marks.objective_label(plan).replace(" ", "\n")
    axes.set_xticks(range(len(axes_of) + 1), [*names, value_name])
    if not shown:
        figures.empty(axes, "no trial has a value")
        return figure
    for at, axis in enumerate(axes_of):
        _draw_axis(axes, at, axis.ticks())
    values = [p.value for p in shown if p.state == "complete"]
    scale = _ValueScale(min(values, default=0.0), max(values, default=0.0), plan)
    _draw_axis(axes, len(axes_of), scale.ticks() if values else [])
    for point in sorted(shown, key=scale.rank):
        heights = [axis.place(point.params[axis.name]) for axis in axes_of]
        if point.state == "complete":  # a pruned one has no value in the end
            heights.append(scale.place(point.value))
        axes.plot(range(len(heights)), heights, **scale.look(point))
    figure.legend(handles=_line_handles(shown), loc="outside lower center", ncols=4)
    return figure


class _ValueScale:
    """The axis at which the lines end, and how each line looks by its place there."""

    def __init__(self, low: float, high: float, plan: Plan) -> None:
        self.low, self.high = low, high
        self.sign = 1 if plan.directions[0] == "maximize" else -1

    def place(self, value: float) -> float:
        return 0.5 if self.low == self.high else (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        return [(self.place(v), f"{v:.3f}") for v in dict.fromkeys((self.low, self.high))]

    def rank(self, point: Point) -> tuple[bool, bool, float]:
        # What is drawn last lies on top: the best, then the better ones.
        return point.role == "best", point.state == "complete", self.sign * point.value

    def look(self, point: Point) -> dict[str, Any]:
        if point.state == "pruned":
            return {"color": figures.FAINT, "linewidth": 0.9}
        place = self.place(point.value)
        colour = study_marks.value_colour(place if self.sign > 0 else 1 - place, 0.0, 1.0)
        if point.role == "own":
            return {"color": colour, "linewidth": 1.8, "linestyle": _DASHES}
        return {"color": colour, "linewidth": 3.2 if point.role == "best" else 1.3}


def _line_handles(shown: tuple[Point, ...]) -> list[Line2D]:
    dark, middle = study_marks.value_colour(1, 0, 1), study_marks.value_colour(0.5, 0, 1)
    names = {"own": "own settings", "complete": "complete: the darker, the better"}
    looks: dict[str, dict[str, Any]] = {
        "best": {"color": dark, "linewidth": 3.2},
        "own": {"color": middle, "linewidth": 1.8, "linestyle": _DASHES},
        "complete": {"color": middle, "linewidth": 1.3},
        "pruned": {"color": figures.FAINT},
    }
    there = {p.role for p in shown} | {p.state for p in shown}
    return [
        Line2D([], [], label=names.get(name, name), **look)
        for name, look in looks.items()
        if name in there
    ]


def _draw_axis(axes: Axes, at: int, ticks: list[tuple[float, str]]) -> None:
    axes.plot([at, at], [0, 1], color=figures.SOFT, linewidth=0.8, zorder=2.5)
    for height, text in ticks:
        axes.annotate(
            text,
            (at, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=figures.INK,
            zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},
        )
