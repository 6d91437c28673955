"""What a study does next: another trial, another generation from the best ones, or stop and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from defectops.experiments.sampling import Offspring, Past, offspring, propose, trial_seed
from defectops.experiments.study_rows import Task, gain
from defectops.experiments.trial_lengths import epochs_of

if TYPE_CHECKING:
    from defectops.experiments.study_trials import Param, Plan, Trial


@dataclass(frozen=True)
class Stop:
    """Nothing is left to do."""

    reason: str


def next_tasks(plan: Plan, trials: Sequence[Trial]) -> list[Task] | Stop:
    """Return the trials that are to come into being now, or that the study is over.

    It follows from the plan and the trials alone, so whoever asks gets the same answer, also after
    a process died that had written a part of a generation.

    Parameters
    ----------
    plan : Plan
    trials : sequence of Trial
        All that there are, by index, without gaps.

    Returns
    -------
    list of Task or Stop
        One task of generation 0, or what is missing of a later one. Empty: wait for those that
        run.
    """
    generation = trials[-1].generation if trials else 0
    present = sum(t.generation == generation for t in trials)
    if generation == 0 and present < plan.trials:
        return [_first_generation(plan, trials)]
    if generation and present < plan.offspring:
        return _seeded(plan, trials, generation)[present:]
    if not all(t.finished for t in trials):
        return []
    reason = why_stop(plan, trials, generation)
    return Stop(reason) if reason else _seeded(plan, trials, generation + 1)


def why_stop(plan: Plan, trials: Sequence[Trial], generation: int) -> str:
    """Say why no generation follows the one that has just ended; empty if one does."""
    if not any(t.state == "complete" for t in trials):
        return f"no trial came to an end: {len(trials)} of {len(trials)} failed or were pruned"
    gains = [_gain_of(plan, trials, g) for g in range(1, generation + 1)]
    idle = gains[-plan.patience :]
    if len(idle) == plan.patience and all(g <= plan.tolerance for g in idle):
        return f"generation {generation} {_in_words(idle[-1])}, {_allowed(plan)}"
    if generation == plan.generations:
        return (
            "generation 0 is done" if not generation else f"all {generation} generations are done"
        )
    return ""


def _first_generation(plan: Plan, trials: Sequence[Trial]) -> Task:
    index = len(trials)
    seed = trial_seed(plan.seed, index)
    history = [Past(t.params, t.values, t.curve, t.state) for t in trials]
    given: Mapping[str, Param] = plan.first[index] if index < len(plan.first) else {}
    params = dict(given)
    if set(params) != set(plan.space.names):
        drawn = propose(plan.space, plan.sampler, seed, history, plan.directions)
        params = {**drawn, **params}
    return Task(index, 0, params, seed, plan.epochs)


def _seeded(plan: Plan, trials: Sequence[Trial], generation: int) -> list[Task]:
    """Return a whole later generation; what there is of it already does not matter."""
    before = [t for t in trials if t.generation < generation]
    epochs = epochs_of(generation, plan.epochs, plan.stretch)
    return [
        _child(plan, before, generation, len(before) + place, epochs, born)
        for place, born in enumerate(offspring(plan, before))
    ]


def _child(
    plan: Plan, before: Sequence[Trial], generation: int, index: int, epochs: int, born: Offspring
) -> Task:
    parent = before[born.parent]
    return Task(
        index=index,
        generation=generation,
        params=born.params,
        seed=trial_seed(plan.seed, index),
        epochs=epochs,
        parent=parent.index,
        parent_sha256=parent.checkpoint_sha256,
        kin_epochs=parent.cumulative_epochs,
        kin_seconds=parent.cumulative_seconds,
    )


def _gain_of(plan: Plan, trials: Sequence[Trial], generation: int) -> float:
    before = [t for t in trials if t.generation < generation]
    return gain(before, [t for t in trials if t.generation == generation], plan)


def _in_words(gained: float) -> str:
    if gained == float("-inf"):
        return "has no complete trial"
    return f"gained {gained:.4f}"


def _allowed(plan: Plan) -> str:
    times = "" if plan.patience == 1 else f", {plan.patience} times in a row"
    return f"not more than {plan.tolerance:g}{times}"
