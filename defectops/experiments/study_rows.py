"""What the rows of an Optuna study say: attempts, and the logical trials they carry out."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from defectops.experiments.study_trials import DeadAttempt, Param, Plan, State, StudyState, Trial

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Task:
    """A logical trial as it is written when it comes into being.

    `epochs` is for how long it is to train. `kin_epochs` and `kin_seconds` are those of the line of
    ancestors at its start: trials are of one kind if they agree in generation and `kin_epochs`.
    """

    index: int
    generation: int
    params: Mapping[str, Param]
    seed: int
    epochs: int
    parent: int | None = None
    parent_sha256: str = ""
    kin_epochs: int = 0
    kin_seconds: float = 0.0

    def attrs(self) -> dict[str, Any]:
        """Return the task, without its parameters, as attributes of a row."""
        return {key: value for key, value in vars(self).items() if key != "params"}


@dataclass(frozen=True)
class Attempt:
    """One row: one attempt at a task.

    `owner` holds the tags of the process and the token of its worker; `beat` changes while
    that lives. `dead`: closed by others, or stopped; not a result.
    """

    row: int
    task: Task
    number: int
    state: State
    dead: bool
    died: bool
    owner: Mapping[str, str]
    beat: int
    run_id: str
    reason: str
    seconds: float
    checkpoint_sha256: str
    facts: Mapping[str, float | str]
    curve: Mapping[int, float]
    values: tuple[float, ...]


def attempt_of(row: FrozenTrial) -> Attempt | None:
    """Return what a row says; None for one that nobody finished writing or another tool made."""
    attrs = row.user_attrs
    keys = [key for key in Task.__dataclass_fields__ if key != "params"]
    if any(key not in attrs for key in keys):
        return None
    state = _STATES[row.state]
    return Attempt(
        row=row._trial_id,
        task=Task(params=dict(row.params), **{key: attrs[key] for key in keys}),
        number=attrs.get("attempt", 1),
        state=state,
        dead=state == "failed" and bool(attrs.get("dead", False)),
        died=bool(attrs.get("died", False)),
        owner=attrs.get("owner", {}),
        beat=attrs.get("beat", 0),
        run_id=attrs.get("run_id", ""),
        reason=attrs.get("reason", ""),
        seconds=attrs.get("seconds", 0.0),
        checkpoint_sha256=attrs.get("checkpoint_sha256", ""),
        facts=attrs.get("facts", {}),
        curve=dict(sorted(row.intermediate_values.items())),
        values=tuple(row.values or ()),
    )


def new_row(plan: Plan, task: Task, state: TrialState, attrs: Mapping[str, Any]) -> FrozenTrial:
    """Return the row that a task begins as, to be stored in one transaction."""
    distributions = plan.space.distributions()
    return FrozenTrial(
        number=-1,
        state=state,
        value=None,
        datetime_start=None if state == TrialState.WAITING else datetime.datetime.now(),
        datetime_complete=None,
        params=dict(task.params),
        distributions={name: distributions[name] for name in task.params},
        user_attrs={**task.attrs(), **attrs},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def attempts_by_index(rows: Iterable[FrozenTrial]) -> dict[int, list[Attempt]]:
    """Return the attempts at each logical trial, oldest first."""
    attempts = [attempt for row in rows if (attempt := attempt_of(row)) is not None]
    attempts.sort(key=lambda a: (a.task.index, a.row))
    by_index = itertools.groupby(attempts, key=lambda a: a.task.index)
    return {index: list(group) for index, group in by_index}


def trial_of(attempts: Sequence[Attempt]) -> Trial:
    """Return the logical trial that these attempts carry out.

    The last attempt speaks for it, unless that is dead: then the trial waits for the next one.
    """
    last = attempts[-1]
    task = last.task
    state: State = "waiting" if last.dead else last.state
    epochs = len(last.curve)
    pruned = state == "pruned"
    return Trial(
        index=task.index,
        generation=task.generation,
        state=state,
        params=task.params,
        values=last.values if state == "complete" else (),
        curve=last.curve,
        epochs=epochs,
        cumulative_epochs=task.kin_epochs + epochs,
        planned_epochs=task.epochs,
        pruned_at=max(last.curve) if pruned else None,
        parent=task.parent,
        parent_sha256=task.parent_sha256,
        checkpoint_sha256=last.checkpoint_sha256 if state == "complete" else "",
        reason="" if last.dead else last.reason,
        seconds=last.seconds,
        cumulative_seconds=task.kin_seconds + last.seconds,
        run_id=last.run_id,
        facts=last.facts,
        attempts=tuple(
            DeadAttempt(a.number, a.reason, len(a.curve), a.run_id) for a in attempts if a.dead
        ),
    )


def trials_of(rows: Iterable[FrozenTrial]) -> list[Trial]:
    """Return the logical trials of a study by index."""
    return [trial_of(attempts) for attempts in attempts_by_index(rows).values()]


def state_from(name: str, plan: Plan, rows: Iterable[FrozenTrial], done: str) -> StudyState:
    """Return a study's state with its best trials."""
    trials = trials_of(rows)
    pareto = pareto_front(trials, plan)
    best = min(
        (t for t in trials if t.state == "complete"),
        key=lambda t: (-merits(t, plan)[0], t.index),
        default=None,
    )
    return StudyState(name, trials, done, best, pareto)


def merits(trial: Trial, plan: Plan) -> tuple[float, ...]:
    """Return a trial's values with their signs set so that more is better."""
    signs = (1.0 if d == "maximize" else -1.0 for d in plan.directions)
    return tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))


def pareto_front(trials: Iterable[Trial], plan: Plan) -> list[Trial]:
    """Return the complete trials that no other beats; the earlier of equals."""
    complete = [t for t in trials if t.state == "complete"]
    front: list[Trial] = []
    for trial in complete:
        mine = merits(trial, plan)
        beaten = any(
            _beats(merits(other, plan), mine, other.index < trial.index)
            for other in complete
            if other is not trial
        )
        if not beaten:
            front.append(replace(trial))
    return front


def gain(before: Sequence[Trial], now: Sequence[Trial], plan: Plan) -> float:
    """Return by how much a generation is better than all before it.

    For one value: best now minus best before. For several: how far the earlier Pareto set would
    have to be moved, in all values alike, to beat each new trial (the additive epsilon indicator,
    Zitzler et al. 2003, DOI 10.1109/TEVC.2003.810758).

    Returns
    -------
    float
        In the unit of the values; -inf if nothing is complete now, inf if nothing was before.
    """
    front = [merits(t, plan) for t in pareto_front(before, plan)]
    new = [merits(t, plan) for t in now if t.state == "complete"]
    if not new:
        return float("-inf")
    return max(
        min((max(a - b for a, b in zip(n, f, strict=True)) for f in front), default=float("inf"))
        for n in new
    )


def _beats(one: Sequence[float], other: Sequence[float], earlier: bool) -> bool:
    if tuple(one) == tuple(other):
        return earlier
    return all(a >= b for a, b in zip(one, other, strict=True))
