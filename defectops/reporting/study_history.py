"""How a study came to its best trial: value by trial, and all learning curves in one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from defectops.reporting import figures, study_marks

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from defectops.experiments.study_trials import Plan, StudyState


@dataclass(frozen=True)
class Dot:
    """One trial: what it came to (None: nothing) and the best of the study so far (None: none)."""

    index: int
    generation: int
    state: str
    value: float | None
    best: float | None


@dataclass(frozen=True)
class History:
    """What the figure of the history shows.

    Parameters
    ----------
    label : str
        Of the value.
    dots : tuple of Dot
        By index; trials that nobody has begun are left out.
    best : int or None
        Index of the best trial.
    own : float or None
        Value of the project's own settings, if they were tried and came to one.
    """

    label: str
    dots: tuple[Dot, ...]
    best: int | None
    own: float | None

    @property
    def summary(self) -> str:
        """The figure in one sentence, for those who cannot see it."""
        if not self.dots:
            return "No trial has begun."
        states = [d.state for d in self.dots]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
        generations = 1 + max(d.generation for d in self.dots)
        said = f"{len(states)} trials in {generations} generation(s): {counts}"
        if self.best is None:
            return f"{said}."
        value = next(d.value for d in self.dots if d.index == self.best)
        own = "" if self.own is None else f", the project's own settings {self.own:.3f}"
        return f"{said}; the best is trial {self.best} with {value:.3f}{own}."


@dataclass(frozen=True)
class Curve:
    """The learning curve of one trial.

    Parameters
    ----------
    index, generation : int
    state : str
    epochs : tuple of int
        Cumulative: those of the weights it started from come before.
    values : tuple of float
    start : (int, float) or None
        Where its parent's best weights stand on the parent's curve.
    in_best_line : bool
        Whether it is the best trial or an ancestor of it.
    """

    index: int
    generation: int
    state: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    start: tuple[int, float] | None
    in_best_line: bool


def history(state: StudyState, plan: Plan) -> History:
    """Return the data of the figure: each trial's value and the best of the study so far."""
    dots, best = [], None
    for trial in state.trials:
        if trial.state == "waiting":
            continue
        value = study_marks.score(trial, plan)
        if (
            trial.state == "complete"
            and value is not None
            and (best is None or study_marks.better(value, best, plan))
        ):
            best = value
        dots.append(Dot(trial.index, trial.generation, trial.state, value, best))
    own = study_marks.own_settings(state, plan)
    return History(
        study_marks.objective_label(plan),
        tuple(dots),
        None if state.best is None else state.best.index,
        next((d.value for d in dots if d.index == own and d.state == "complete"), None),
    )


def learning_curves(state: StudyState) -> tuple[Curve, ...]:
    """Return the data of the figure: what each trial reported, warm ones after their parents.

    A trial that reported nothing finite is left out.
    """
    drawn: dict[int, Curve] = {}
    line = _best_line(state)
    for trial in state.trials:
        points = sorted((e, v) for e, v in trial.curve.items() if math.isfinite(v))
        if not points:
            continue
        before = trial.cumulative_epochs - trial.epochs
        parent = None if trial.parent is None else drawn.get(trial.parent)
        drawn[trial.index] = Curve(
            index=trial.index,
            generation=trial.generation,
            state=trial.state,
            epochs=tuple(before + epoch + 1 for epoch, _ in points),
            values=tuple(value for _, value in points),
            start=None if parent is None else _peak(parent),
            in_best_line=trial.index in line,
        )
    return tuple(drawn.values())


def draw_history(state: StudyState, plan: Plan, path: Path) -> None:
    """Draw value by trial into a PNG or SVG, the same bytes for the same study."""
    with figures.style("study-history"):
        figures.save(_history_figure(history(state, plan)), path)


def draw_learning_curves(state: StudyState, path: Path) -> None:
    """Draw all learning curves into a PNG or SVG, the same bytes for the same study."""
    with figures.style("study-curves"):
        figures.save(_curves_figure(learning_curves(state)), path)


def _best_line(state: StudyState) -> set[int]:
    parents = {t.index: t.parent for t in state.trials}
    at: int | None = None if state.best is None else state.best.index
    line: set[int] = set()
    while at is not None and at not in line:
        line.add(at)
        at = parents.get(at)
    return line


def _peak(curve: Curve) -> tuple[int, float]:
    at = max(range(len(curve.values)), key=lambda i: curve.values[i])
    return curve.epochs[at], curve.values[at]


def _history_figure(data: History) -> Figure:
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="Trial", ylabel=data.label)
    axes.xaxis.set_major_locator(_whole_numbers())
    if not data.dots:
        figures.empty(axes, "no trial has begun")
        return figure
    last = data.dots[-1].index
    axes.set_xlim(-0.7, last + 0.7)
    colours = study_marks.generation_colours(1 + max(d.generation for d in data.dots))
    _shade_generations(axes, data)
    _draw_best_so_far(axes, data)
    if data.own is not None:
        _draw_own(axes, data.own)
    for dot in data.dots:
        if dot.value is not None:
            axes.plot(
                [dot.index], [dot.value], **study_marks.mark(dot.state, colours[dot.generation])
            )
    _draw_valueless(axes, data)
    _ring_the_best(axes, data)
    handles = study_marks.legend_handles([d.state for d in data.dots])
    handles.append(Line2D([], [], color=figures.INK, linewidth=1.0, label="best so far"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def _shade_generations(axes: Axes, data: History) -> None:
    for generation, group in groupby(data.dots, key=lambda d: d.generation):
        inside = [d.index for d in group]
        low, high = inside[0] - 0.5, inside[-1] + 0.5
        if generation % 2:
            axes.axvspan(low, high, color="#f2f2f2", linewidth=0, zorder=0)
        name = f"generation {generation}" if high - low > 0.14 * len(data.dots) else str(generation)
        axes.text(
            (low + high) / 2,
            1.01,
            name,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            color=figures.SOFT,
        )


def _draw_best_so_far(axes: Axes, data: History) -> None:
    points = [(d.index, d.best) for d in data.dots if d.best is not None]
    if points:
        x, y = zip(*points, strict=True)
        axes.step(x, y, where="post", color=figures.INK, linewidth=1.0, zorder=1.5)


def _draw_own(axes: Axes, value: float) -> None:
    axes.axhline(value, color=figures.SOFT, linewidth=1.0, linestyle=(0, (2, 3)), zorder=1)
    axes.annotate(
        f"own settings {value:.3f}",
        (1.0, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-3, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        color=figures.SOFT,
    )


def _draw_valueless(axes: Axes, data: History) -> None:
    # Trials without a value stand on the axis, so that nobody counts one too few.
    axes.margins(y=0.1)
    for dot in data.dots:
        if dot.value is None:
            look = study_marks.mark(dot.state, figures.SOFT)
            axes.plot(
                [dot.index],
                [0],
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=3,
                **look,
            )


def _ring_the_best(axes: Axes, data: History) -> None:
    for dot in data.dots:
        if dot.index == data.best and dot.value is not None:
            at = (dot.index, dot.value)
            axes.plot(*at, "o", markersize=12, color="none", markeredgecolor=figures.INK)
            axes.annotate(
                f"{dot.value:.3f}",
                at,
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontweight="bold",
            )


def _curves_figure(curves: tuple[Curve, ...]) -> Figure:
    figure = Figure(figsize=(7.2, 4.1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="Cumulative epochs", ylabel="Development IoU")
    axes.xaxis.set_major_locator(_whole_numbers())
    if not curves:
        figures.empty(axes, "no epoch reported")
        return figure
    axes.grid(axis="y", color=figures.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    generations = sorted({c.generation for c in curves})
    colours = study_marks.generation_colours(1 + generations[-1])
    axes.set_xlim(0, 1.02 * max(c.epochs[-1] for c in curves))
    for curve in sorted(curves, key=lambda c: c.in_best_line):
        _draw_curve(axes, curve, colours[curve.generation])
    figure.legend(
        handles=[
            *(Line2D([], [], color=colours[g], label=f"generation {g}") for g in generations),
            Line2D([], [], color=figures.INK, linewidth=2.6, label="line of the best"),
            Line2D([], [], color=figures.SOFT, linestyle=":", label="starts from"),
            *study_marks.legend_handles([c.state for c in curves if c.state != "complete"]),
        ],
        loc="outside lower center",
        ncols=5,
    )
    return figure


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    width, alpha = (2.6, 1.0) if curve.in_best_line else (1.1, 0.75)
    if curve.start is not None:
        axes.plot(
            [curve.start[0], curve.epochs[0]],
            [curve.start[1], curve.values[0]],
            color=colour,
            linestyle=":",
            linewidth=1.1,
            alpha=alpha,
        )
    marker = "o" if len(curve.epochs) == 1 else ""
    axes.plot(curve.epochs, curve.values, color=colour, linewidth=width, alpha=alpha, marker=marker)
    if curve.state != "complete":
        look = study_marks.mark(curve.state, colour, 5.0)
        axes.plot(curve.epochs[-1:], curve.values[-1:], **look)
