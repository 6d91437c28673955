"""What each hyperparameter was worth: PED-ANOVA over the trials that started from nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator

if TYPE_CHECKING:
    from defectops.experiments.study_trials import Param, Plan, StudyState, Trial

LEAST_TRIALS = 8
_SHUFFLES = 99
_LEVEL = 0.05
# Optuna asks for at least five trials among the best; the best quarter is what the paper looks at.
_LEAST_BEST, _BEST_SHARE, _MOST_SHARE = 5, 0.25, 0.5


@dataclass(frozen=True)
class Worth:
    """What one hyperparameter was worth.

    Parameters
    ----------
    name : str
    share : float
        Of the whole importance, 0 to 1; all shares add up to 1.
    chance : float
        How often a shuffling of the values over the trials gives this parameter as much
        importance, 1/100 to 1.
    """

    name: str
    share: float
    chance: float

    @property
    def clear(self) -> bool:
        """Whether chance alone gives as much in at most one of twenty shufflings."""
        return self.chance <= _LEVEL


@dataclass(frozen=True)
class Importance:
    """What each hyperparameter was worth, highest first.

    Parameters
    ----------
    worths : tuple of Worth
        Empty where nothing can be said.
    trials : int
        How many trials of generation 0 it rests on.
    note : str
        Why nothing can be said, or how far it can be trusted; empty if without reserve.
    """

    worths: tuple[Worth, ...]
    trials: int
    note: str


def importance(state: StudyState, plan: Plan) -> Importance:
    """Return how much each hyperparameter decided whether a trial was among the best.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, https://doi.org/10.24963/ijcai.2023/488) over the
    complete and pruned trials of generation 0. Later generations are left out: their parameters
    were chosen around good ones, and their values come from their parents' weights as well. A
    pruned trial counts with the best value it reported, which ranks it where it was given up;
    where the study minimises an error that pruned trials do not have, only complete ones count.

    Parameters
    ----------
    state : StudyState
    plan : Plan

    Returns
    -------
    Importance
        Without a share when fewer than `LEAST_TRIALS` trials have a value, or all have the same.
    """
    scored = [
        (trial.params, value)
        for trial in state.trials
        if plan.space.holds(trial.params) and (value := _value(trial, plan)) is not None
    ]
    if len(scored) < LEAST_TRIALS:
        reason = f"needs {LEAST_TRIALS} trials of generation 0 with a value, has {len(scored)}"
        return Importance((), len(scored), reason)
    worths = _worths([params for params, _ in scored], [value for _, value in scored], plan)
    if not worths:
        return Importance((), len(scored), "all trials of generation 0 came to the same value")
    if not any(w.clear for w in worths):
        reason = f"{len(scored)} trials cannot tell any of them from chance"
        return Importance(worths, len(scored), reason)
    return Importance(worths, len(scored), "")


def _value(trial: Trial, plan: Plan) -> float | None:
    """Return what ranks a trial of generation 0, higher is better; None if nothing does."""
    if trial.generation or trial.state not in {"complete", "pruned"}:
        return None
    if trial.values:
        return trial.values[0] if plan.directions[0] == "maximize" else -trial.values[0]
    reported = [v for v in trial.curve.values() if math.isfinite(v)]
    return max(reported, default=None) if plan.directions[0] == "maximize" else None


def _worths(
    params: Sequence[Mapping[str, Param]], values: Sequence[float], plan: Plan
) -> tuple[Worth, ...]:
    """Return shares, and how often shuffled values do as well; empty if nothing differs."""
    trials = _Trials(params, plan)
    found = trials.divergences(values)
    total = sum(found.values())
    if len(set(values)) == 1 or total == 0:
        return ()
    random = np.random.default_rng(plan.seed)
    as_much = dict.fromkeys(found, 1)
    for _ in range(_SHUFFLES):
        for name, divergence in trials.divergences(random.permutation(values)).items():
            as_much[name] += divergence >= found[name]
    rows = [Worth(n, v / total, as_much[n] / (_SHUFFLES + 1)) for n, v in found.items()]
    return tuple(sorted(rows, key=lambda row: (-row.share, row.name)))


class _Trials:
    """Parameter sets as Optuna's evaluator wants them, to be given values."""

    def __init__(self, params: Sequence[Mapping[str, Param]], plan: Plan) -> None:
        share = min(_MOST_SHARE, max(_BEST_SHARE, _LEAST_BEST / len(params)))
        self.evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
        self.distributions = plan.space.distributions()
        self.params = params

    def divergences(self, values: Iterable[float]) -> dict[str, float]:
        """Return the divergence of each parameter between the best trials and all."""
        with warnings.catch_warnings():
            # Optuna speaks of few trials to its own users; `Importance.note` does so to ours.
            warnings.simplefilter("ignore")
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            study = optuna.create_study(direction="maximize")
            for params, value in zip(self.params, values, strict=True):
                study.add_trial(
                    optuna.trial.create_trial(
                        params=dict(params), distributions=self.distributions, value=float(value)
                    )
                )
            return self.evaluator.evaluate(study)
