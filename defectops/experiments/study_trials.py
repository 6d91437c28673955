"""What a study is made of: its plan, its trials, and what passes between engine and evaluator."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from defectops.errors import SettingsRefused
from defectops.experiments.search_space import Space

Param = float | int | str
Sampler = Literal["random", "tpe", "gp", "cmaes"]
Pruner = Literal["median", "hyperband", "patient", "none"]
Objective = Literal["iou", "density", "pareto"]
Direction = Literal["maximize", "minimize"]
State = Literal["waiting", "running", "complete", "pruned", "failed"]
Ending = Literal["complete", "pruned", "failed", "stopped", "lost"]

_DIRECTIONS: dict[Objective, tuple[Direction, ...]] = {
    "iou": ("maximize",),
    "density": ("minimize",),
    "pareto": ("maximize", "minimize"),
}


@dataclass(frozen=True)
class Parent:
    """The trial that a warm-started one takes its first weights from.

    Parameters
    ----------
    index : int
    checkpoint_sha256 : str
        Digest of the parent's best weights.
    epochs : int
        Epochs in those weights' whole line of ancestors, the parent's own included.
    seconds : float
        What those epochs took.
    run_id : str
        The parent's run, from which another machine fetches the weights; may be empty.
    """

    index: int
    checkpoint_sha256: str
    epochs: int
    seconds: float
    run_id: str


@dataclass(frozen=True)
class Choice:
    """One attempt at a trial, as its evaluator sees it.

    Parameters
    ----------
    study : str
    index, generation : int
        The logical trial; it keeps its index however often it is attempted.
    attempt : int
        From 1; above 1 an earlier attempt's process died or was stopped.
    params : mapping
        One value a dimension of the search space.
    seed : int
        Derived from the study's seed and the index, so that it is the same in each attempt.
    epochs : int
        For how long it is to train.
    parent : Parent or None
    folder : Path
        For this attempt's files; holds what earlier attempts left there. It is renamed when the
        trial passes to another attempt and deleted when the trial has ended.
    predecessor_run : str or None
        ``run_id`` of the attempt before, to be closed as superseded.
    """

    study: str
    index: int
    generation: int
    attempt: int
    params: Mapping[str, Param]
    seed: int
    epochs: int
    parent: Parent | None
    folder: Path
    predecessor_run: str | None = None


class Step(NamedTuple):
    """One epoch of a trial.

    `epoch` counts from 0, `value` is what is pruned on (higher is better), `seconds` what the
    epoch took when it was trained, also when it is told again after a restart.
    """

    epoch: int
    value: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Parameters
    ----------
    values : tuple of float
        One a direction of the study.
    checkpoint_sha256 : str
        Digest of the best weights.
    facts : mapping
        Whatever else is worth keeping, such as the threshold.
    """

    values: tuple[float, ...]
    checkpoint_sha256: str
    facts: Mapping[str, float | str] = field(default_factory=dict)


#: Runs one attempt. It yields **every** epoch from 0, also those it takes from its own checkpoint
#: in ``choice.folder``, and saves that checkpoint before it yields; it returns the outcome.
Evaluate = Callable[[Choice], Generator[Step, None, Outcome]]


class Listener:
    """Is told what a worker does; overwrite what you want to hear. All calls come in the worker."""

    def began(self, choice: Choice) -> str | None:
        """Hear that an attempt begins; return the id of its run, if any, to be kept with it."""
        return None

    def stepped(self, choice: Choice, step: Step) -> None:
        """Hear of an epoch that is over and stored."""

    def ended(self, choice: Choice, ending: Ending, reason: str, outcome: Outcome | None) -> None:
        """Hear that the attempt is over; after ``stopped`` and ``lost`` another one goes on."""

    def study_done(self, study: str, reason: str) -> None:
        """Hear that nothing is left to do in this study, and why."""


@dataclass(frozen=True)
class Plan:
    """All that decides a study; two plans that are equal give the same study with one worker.

    Parameters
    ----------
    defect : str
    seed : int
    space : Space
    trials : int
        Of generation 0.
    generations : int
        Warm-started ones, beyond 0; at most so many.
    epochs : int
        Of one trial of generation 0; of later ones see `trial_lengths.epochs_of`.
    seed_from : int
        How many of the best trials seed the next generation.
    offspring : int
        Trials of each later generation.
    sampler : {"random", "tpe", "gp", "cmaes"}
    pruner : {"median", "hyperband", "patient", "none"}
    objective : {"iou", "density", "pareto"}
        IoU is maximised, the error of the material quantity minimised, ``pareto`` does both.
    first : tuple of mapping
        Parameters tried first, in this order; what they leave out is drawn.
    tolerance : float
        A generation gains if its best value is better by more than this.
    patience : int
        The study stops after so many generations in a row without a gain.
    stretch : int
        Each generation trains four times as long as the one before, at most so many times
        `epochs`; 1: always `epochs`.
    threads : int
        Of PyTorch; the last bits depend on it.
    data_sha256 : str
        Digest of what is trained on and chosen by.
    facts : mapping of str to str
        Versions, preset and whatever else a result depends on.
    """

    defect: str
    seed: int
    space: Space
    trials: int
    generations: int
    epochs: int
    seed_from: int
    offspring: int
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    objective: Objective = "iou"
    first: tuple[Mapping[str, Param], ...] = ()
    tolerance: float = 0.002
    patience: int = 1
    stretch: int = 1
    threads: int = 1
    data_sha256: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"trials": 1, "epochs": 1, "threads": 1, "patience": 1, "seed_from": 1}
        least |= {"seed": 0, "generations": 0, "offspring": 1, "stretch": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise SettingsRefused(
                    f"tune.{name}", "E_CONFIG", f"must be {low} or more, got {getattr(self, name)}"
                )
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise SettingsRefused(
                "tune.tolerance", "E_CONFIG", f"must be 0 or more, got {self.tolerance}"
            )
        for params in self.first:
            self._require_searched(params)

    def _require_searched(self, params: Mapping[str, Param]) -> None:
        """Refuse what is to be tried first and cannot be stored; outside the bounds it can."""
        known = self.space.distributions()
        for name, value in params.items():
            if name not in known:
                raise SettingsRefused(
                    f"tune.{name}", "E_CONFIG", f"is to be tried first ({value}), but not searched"
                )
            try:
                known[name].to_internal_repr(value)
            except ValueError as error:
                raise SettingsRefused(
                    f"tune.{name}", "E_CONFIG", f"cannot be tried first: {error}"
                ) from error

    @property
    def directions(self) -> tuple[Direction, ...]:
        """What is better, for each value of a trial."""
        return _DIRECTIONS[self.objective]

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain values; `from_json` is the inverse."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["space"] = self.space.as_json()
        content["first"] = [dict(params) for params in self.first]
        content["facts"] = dict(self.facts)
        plain: dict[str, Any] = json.loads(json.dumps(content, sort_keys=True))
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """Return the plan that `as_json` wrote."""
        plain = {f.name: content[f.name] for f in fields(cls)}
        plain["space"] = Space.from_json(content["space"])
        plain["first"] = tuple(content["first"])
        return cls(**plain)


@dataclass(frozen=True)
class DeadAttempt:
    """An attempt that was cut short; the trial went on in another one."""

    attempt: int
    reason: str
    epochs: int
    run_id: str


@dataclass(frozen=True)
class Trial:
    """A logical trial as it is now.

    Parameters
    ----------
    index, generation : int
    state : {"waiting", "running", "complete", "pruned", "failed"}
    params : mapping
    values : tuple of float
        One a direction; empty unless complete.
    curve : mapping of int to float
        What was reported, by epoch from 0.
    epochs, cumulative_epochs : int
        Its own, and with those of the line of ancestors that its weights come from.
    planned_epochs : int
        For how long it was to train.
    pruned_at : int or None
        Epoch after which it was given up.
    parent : int or None
    parent_sha256 : str
    checkpoint_sha256 : str
        Digest of its best weights; empty unless complete.
    reason : str
        Why it was pruned or failed.
    seconds, cumulative_seconds : float
        As `epochs`; what dead attempts lost is not in it.
    run_id : str
    facts : mapping
        What the evaluator gave with the outcome.
    attempts : tuple of DeadAttempt
    """

    index: int
    generation: int
    state: State
    params: Mapping[str, Param]
    values: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict)
    epochs: int = 0
    cumulative_epochs: int = 0
    planned_epochs: int = 0
    pruned_at: int | None = None
    parent: int | None = None
    parent_sha256: str = ""
    checkpoint_sha256: str = ""
    reason: str = ""
    seconds: float = 0.0
    cumulative_seconds: float = 0.0
    run_id: str = ""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    attempts: tuple[DeadAttempt, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in {"complete", "pruned", "failed"}


@dataclass(frozen=True)
class StudyState:
    """A study as it is now.

    Parameters
    ----------
    name : str
    trials : list of Trial
        By index; those of generation 0 that nobody has begun are not in it.
    done : str
        Why the study stopped; empty while it goes on.
    best : Trial or None
        Best first value; the earlier one of two equals. None while no trial is complete.
    pareto : list of Trial
        Complete trials that no other beats in every value, by index; with one value the best.
    """

    name: str
    trials: list[Trial]
    done: str
    best: Trial | None
    pareto: list[Trial]


def exported(state: StudyState, plan: Plan) -> dict[str, Any]:
    """Return what is kept of a study in git: plain values, the same for the same study.

    Times, runs and dead attempts are left out, since they differ from run to run.
    """
    return {
        "defect": plan.defect,
        "seed": plan.seed,
        "threads": plan.threads,
        "data_sha256": plan.data_sha256,
        "versions": dict(sorted(plan.facts.items())),
        "best": None if state.best is None else state.best.index,
        "pareto": [trial.index for trial in state.pareto],
        "stopped": state.done,
        "plan": {k: v for k, v in plan.as_json().items() if k not in _SAID_ABOVE},
        "trials": [_exported_trial(trial) for trial in state.trials],
    }


_SAID_ABOVE = {"defect", "seed", "threads", "data_sha256", "facts"}


def _exported_trial(trial: Trial) -> dict[str, Any]:
    return {
        "index": trial.index,
        "generation": trial.generation,
        "state": trial.state,
        "params": dict(sorted(trial.params.items())),
        "value": trial.values[0] if trial.values else None,
        "values": list(trial.values),
        "epochs": trial.epochs,
        "cumulative_epochs": trial.cumulative_epochs,
        "pruned_at": trial.pruned_at,
        "parent": trial.parent,
        "parent_sha256": trial.parent_sha256,
        "checkpoint_sha256": trial.checkpoint_sha256,
        "reason": trial.reason,
        "facts": dict(sorted(trial.facts.items())),
    }
