"""What is shown of a study while it runs: a function of the events that its workers tell."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from defectops.experiments.trial_lengths import epochs_of

if TYPE_CHECKING:
    from defectops.experiments.study_trials import Plan, StudyState, Trial
    from defectops.workflows.tune_settings import TuneOptions

COLUMNS = ("trial", "gen", "state", "epoch", "dev IoU", "best", "from", "remark")
_RECENT_EPOCHS = 20
_WIDTH_WITH_REMARKS = 72


@dataclass
class Row:
    """One trial as far as it was heard of.

    Parameters
    ----------
    index, generation : int
    state : str
        running, complete, pruned, failed, waiting; stopped or lost wait for another attempt.
    epoch : int
        Epochs done.
    value, peak : float or None
        Dev IoU of the last epoch, and the highest so far.
    result : float or None
        What the study asks for first; None unless complete.
    parent : int or None
    before : int
        Epochs of the weights it started from.
    remark : str
    here : bool
        Whether one of this machine's workers tells of it.
    """

    index: int
    generation: int
    state: str = "running"
    epoch: int = 0
    value: float | None = None
    peak: float | None = None
    result: float | None = None
    parent: int | None = None
    before: int = 0
    planned: int = 0
    remark: str = ""
    here: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in {"complete", "pruned", "failed"}


class View(NamedTuple):
    """What a terminal shows now: a line above, rows of cells, which one is the best."""

    title: str
    rows: list[tuple[str, ...]]
    best: int | None


@dataclass
class Progress:
    """A study as its workers tell it.

    Parameters
    ----------
    name : str
    trials, generations, offspring, epochs : int
        Of the plan: trials of generation 0, later generations, trials of each, epochs of a
        trial of generation 0.
    stretch : int
        Generations train longer and longer, at most so many times `epochs`.
    workers : int
        Of this machine, that is as many trials as go on at once.
    objective : {"iou", "density", "pareto"}
    """

    name: str
    trials: int
    generations: int
    offspring: int
    epochs: int
    stretch: int = 1
    workers: int = 1
    objective: str = "iou"
    rows: dict[int, Row] = field(default_factory=dict)
    done: str = ""
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_EPOCHS))

    @classmethod
    def of(cls, defect: str, options: TuneOptions, workers: int = 1) -> Progress:
        """Return the progress of a study that is begun with these options."""
        return cls(
            defect,
            options.trials,
            options.generations,
            options.offspring,
            options.epochs,
            options.stretch,
            workers=workers,
            objective=options.objective,
        )

    def heard(self, event: Mapping[str, Any]) -> str:
        """Take an event in and return it as one line; empty for one that is not worth a line.

        Events of a kind that is not known are passed over: a worker may be newer.
        """
        tell: Callable[[Mapping[str, Any]], str] | None = {
            "ready": self._ready,
            "began": self._began,
            "stepped": self._stepped,
            "ended": self._ended,
            "done": self._done,
            "line": _line,
        }.get(str(event.get("event")))
        return tell(event) if tell else ""

    @property
    def best(self) -> Row | None:
        """The best complete trial; of equals the first."""
        sign = -1 if self.objective == "density" else 1
        complete = [r for _, r in sorted(self.rows.items()) if r.result is not None]
        return max(complete, key=lambda r: sign * _number(r.result), default=None)

    def seconds_left(self) -> float | None:
        """Return how long the study may still take at most; None before the first epoch.

        As if no trial were pruned and no generation left out. The pace is that of the last epochs.
        """
        if not self._seconds:
            return None
        known = Counter(r.generation for r in self.rows.values())
        left = sum(self._left(r) for r in self.rows.values())
        left += self.epochs * max(self.trials - known[0], 0)
        for generation in range(1, self.generations + 1):
            epochs = epochs_of(generation, self.epochs, self.stretch)
            left += epochs * max(self.offspring - known[generation], 0)
        pace = sum(self._seconds) / len(self._seconds) / self.workers
        return 0.0 if self.done else left * pace

    def view(self, height: int, budget_left: float | None = None) -> View:
        """Return what a terminal with room for so many rows shows.

        Parameters
        ----------
        height : int
            Where there are more trials, the running ones stay, the best, and the last finished.
        budget_left : float or None
            Seconds until the budget is used up.
        """
        best = self.best
        shown = self._chosen(max(height, 1))
        rows = [self._cells(row) for row in shown]
        marked = None
        if best is not None:
            marked = next((i for i, r in enumerate(shown) if r.index == best.index), None)
        return View(self._title(budget_left), rows, marked)

    def _title(self, budget_left: float | None) -> str:
        parts = [f"{self.name}: {sum(r.finished for r in self.rows.values())} trials done"]
        known = [s for s in (self.seconds_left(), budget_left) if s is not None]
        if self.done:
            parts.append("ended")
        elif known:
            parts.append(f"at most {duration(min(known))} left")
        best = self.best
        if best is not None:
            parts.append(f"best {self._measure} {_number(best.result):.3f} (trial {best.index})")
        return ", ".join(parts)

    @property
    def _measure(self) -> str:
        return "error" if self.objective == "density" else "dev IoU"

    def _chosen(self, height: int) -> list[Row]:
        rows = [row for _, row in sorted(self.rows.items())]
        if len(rows) <= height:
            return rows
        best = self.best
        first = [r for r in rows if not r.finished]
        first += [r for r in rows if r.finished and r is best]
        first += [r for r in reversed(rows) if r.finished and r is not best]
        return sorted(first[:height], key=lambda r: r.index)

    def _cells(self, row: Row) -> tuple[str, ...]:
        peak = row.peak if row.peak is not None else row.result
        return (
            str(row.index),
            str(row.generation),
            row.state,
            f"{row.epoch}/{self._planned(row)}",
            _three(row.value),
            _three(peak),
            "" if row.parent is None else f"#{row.parent}, {row.before} ep",
            row.remark,
        )

    def _planned(self, row: Row) -> int:
        return row.planned or self.epochs

    def _left(self, row: Row) -> int:
        return 0 if row.finished else max(self._planned(row) - row.epoch, 0)

    def adopt(self, state: StudyState, plan: Plan) -> None:
        """Take over a study as its store knows it: what was there before, and others' trials.

        What this machine's own workers carry out is known better from their events.
        """
        self.name, self.objective, self.epochs = state.name, plan.objective, plan.epochs
        self.trials, self.generations = plan.trials, plan.generations
        self.offspring, self.stretch = plan.offspring, plan.stretch
        for trial in state.trials:
            ours = self.rows.get(trial.index)
            if ours is None or (trial.finished and not ours.finished and not ours.here):
                self.rows[trial.index] = _known(trial)

    def _ready(self, event: Mapping[str, Any]) -> str:
        self.name = str(event["study"])
        threads = f"{event['threads']} thread" + "s" * (event["threads"] != 1)
        return f"{self.name}: worker {event.get('worker', 0)} is ready, {threads}"

    def _began(self, event: Mapping[str, Any]) -> str:
        row = Row(event["index"], event["generation"], parent=event["parent"], here=True)
        row.before = int(event.get("kin_epochs") or 0)
        row.planned = int(event.get("epochs") or 0)
        self.rows[row.index] = row
        again = f", attempt {event['attempt']}" if event.get("attempt", 1) > 1 else ""
        start = "" if row.parent is None else f" from trial {row.parent} ({row.before} epochs)"
        return f"{self._of(row)} begins{again}{start}"

    def _stepped(self, event: Mapping[str, Any]) -> str:
        row = self._row(event)
        row.epoch, row.value = event["epoch"] + 1, event["value"]
        row.peak = row.value if row.peak is None else max(row.peak, _number(row.value))
        self._seconds.append(float(event["seconds"]))
        best = self.best
        so_far = "" if best is None else f", best so far {_number(best.result):.3f}"
        epoch = f"epoch {row.epoch}/{self._planned(row)}"
        return f"{self._of(row)} {epoch} dev IoU {row.value:.3f}{so_far}"

    def _ended(self, event: Mapping[str, Any]) -> str:
        row = self._row(event)
        row.state, row.remark = str(event["ending"]), str(event.get("reason") or "")
        row.here = row.finished  # one that was stopped may go on elsewhere
        if row.state == "complete" and event.get("values"):
            row.result = float(event["values"][0])
            return f"{self._of(row)} complete: {self._measure} {row.result:.3f}"
        return f"{self._of(row)} {row.state}: {row.remark}".removesuffix(": ")

    def _done(self, event: Mapping[str, Any]) -> str:
        first = not self.done
        self.done = str(event["reason"])
        return f"{self.name}: {self.done}" if first else ""  # every worker tells it

    def _row(self, event: Mapping[str, Any]) -> Row:
        return self.rows.setdefault(event["index"], Row(event["index"], 0))

    def _of(self, row: Row) -> str:
        return f"{self.name} trial {row.index}"


def duration(seconds: float) -> str:
    """Return a length of time in words, rounded up to what one wants to know while waiting.

    >>> [duration(s) for s in (0, 41.2, 61, 3600, 9000)]
    ['0 s', '42 s', '2 min', '1 h 0 min', '2 h 30 min']
    """
    if seconds <= 60:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _line(event: Mapping[str, Any]) -> str:
    return str(event["text"])


def _known(trial: Trial) -> Row:
    """Return the row of a trial that this machine's workers have not told of."""
    values = list(trial.curve.values())
    return Row(
        trial.index,
        trial.generation,
        trial.state,
        epoch=trial.epochs,
        value=values[-1] if values else None,
        peak=max(values, default=None),
        result=trial.values[0] if trial.values else None,
        parent=trial.parent,
        before=trial.cumulative_epochs - trial.epochs,
        planned=trial.planned_epochs,
        remark=trial.reason,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def columns_for(width: int) -> Sequence[str]:
    """Return the columns that a terminal of so many characters has room for."""
    return COLUMNS if width >= _WIDTH_WITH_REMARKS else COLUMNS[:-1]
