"""What a study tries next: samplers that remember nothing, and the offspring of its best trials.

Everything follows from the study's seed, the index of the trial and the trials before it. An Optuna
sampler is asked once, on a study in memory that is built from that history, and thrown away; so a
study that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import cmaes
import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from defectops.errors import SettingsRefused
from defectops.experiments.pruning import has_risen

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from defectops.experiments.search_space import Space, Value

Direction = Literal["maximize", "minimize"]
SamplerName = Literal["random", "tpe", "gp", "cmaes"]
Points = npt.NDArray[np.float64]
State = Literal["waiting", "running", "complete", "pruned", "failed"]

# Trials that are drawn at random before a model of them is worth anything.
STARTUP_TRIALS = 8
# Edge of the box around a parent, as a share of each dimension.
BOX_WIDTH = 0.5

_STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "running": TrialState.RUNNING,
    "waiting": TrialState.RUNNING,
    # Optuna overlooks a failed trial. One that is pruned without a value counts as the worst, so
    # that the place where training diverges is avoided.
    "failed": TrialState.PRUNED,
}


class Past(NamedTuple):
    """What a sampler may know of a trial: the curve is the value by epoch, for pruned trials."""

    params: Mapping[str, Value]
    values: Sequence[float]
    curve: Mapping[int, float]
    state: State


class Tried(Protocol):
    """What is needed of a trial of a study to choose parents."""

    @property
    def index(self) -> int:
        """Number of the logical trial."""

    @property
    def state(self) -> str:
        """One of `State`."""

    @property
    def params(self) -> Mapping[str, Value]:
        """Its parameter set."""

    @property
    def values(self) -> Sequence[float]:
        """One a direction; empty unless complete."""

    @property
    def curve(self) -> Mapping[int, float]:
        """Value by epoch."""

    @property
    def parent(self) -> int | None:
        """Whose weights it started from; None for a cold trial."""


class Search(Protocol):
    """What decides how a study searches; its plan."""

    @property
    def space(self) -> Space:
        """Where."""

    @property
    def sampler(self) -> SamplerName:
        """By whom."""

    @property
    def seed(self) -> int:
        """Of the study."""

    @property
    def directions(self) -> Sequence[Direction]:
        """One an objective."""

    @property
    def seed_from(self) -> int:
        """How many of the best trials seed a generation."""

    @property
    def offspring(self) -> int:
        """How many trials a later generation has."""


class Offspring(NamedTuple):
    """A trial of the next generation: whose weights it starts from, and with which parameters."""

    parent: int
    params: dict[str, Value]


def trial_seed(study_seed: int, index: int) -> int:
    """Return the seed of a logical trial, 0 to 2**32 - 1; a retry has the same."""
    return int(np.random.SeedSequence([study_seed, index]).generate_state(1)[0])


def check_sampler(name: str, space: Space, directions: Sequence[Direction]) -> None:
    """Refuse a sampler that cannot search this space for these objectives.

    Raises
    ------
    SettingsRefused
    """
    if name not in get_args(SamplerName):
        allowed = ", ".join(get_args(SamplerName))
        raise SettingsRefused("sampler", "E_CONFIG", f"must be one of {allowed}, got {name!r}")
    if name == "cmaes" and len(directions) > 1:
        raise SettingsRefused(
            "sampler", "E_CONFIG", "cmaes searches for one objective; take tpe, gp or random"
        )
    numbers = [d for d in space.dimensions if d.kind != "choice" and d.low < d.high]
    if name == "cmaes" and len(numbers) < 2:
        raise SettingsRefused(
            "sampler", "E_CONFIG", "cmaes needs two dimensions of numbers; take tpe, gp or random"
        )


def propose(
    space: Space,
    sampler: str,
    seed: int,
    history: Sequence[Past],
    directions: Sequence[Direction],
    around: Mapping[str, Value] | None = None,
) -> dict[str, Value]:
    """Return the parameter set that a sampler would try next.

    Parameters
    ----------
    space : Space
    sampler : {"random", "tpe", "gp", "cmaes"}
        TPE and GP draw at random until there are `STARTUP_TRIALS` trials that they learn from: TPE
        from pruned ones too, GP and CMA-ES from complete ones alone.
    seed : int
        Of this trial, see `trial_seed`. The same seed and history give the same parameters.
    history : sequence of Past
        Trials that can be compared with each other; those outside the box are left out.
    directions : sequence of {"maximize", "minimize"}
        One an objective.
    around : mapping, optional
        A parent's parameters: the proposal lies in the box around them.

    Raises
    ------
    SettingsRefused
        The sampler cannot do this; see `check_sampler`.
    """
    check_sampler(sampler, space, directions)
    box = space if around is None else space.around(around, BOX_WIDTH)
    distributions = box.distributions()
    known = [_frozen(p, distributions, directions) for p in history if box.holds(p.params)]
    with warnings.catch_warnings():
        # Samplers announce that they are experimental, or how they treat a choice.
        warnings.simplefilter("ignore")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            sampler=_sampler(sampler, seed, known), directions=list(directions)
        )
        study.add_trials(known)
        found = study.ask(distributions).params
    if sampler == "cmaes":
        found |= _from_cma_es(box, seed, known, directions[0])
    return {name: found[name] for name in space.names}


def select_parents(trials: Sequence[Tried], k: int, directions: Sequence[Direction]) -> list[int]:
    """Return the indices of the best complete trials of all generations, best first.

    Parameters
    ----------
    trials : sequence of Tried
        Of the whole study.
    k : int
        At most so many.
    directions : sequence of {"maximize", "minimize"}
        With several, trials are ordered by Pareto front, then by how alone they stand in it.

    Notes
    -----
    The ancestors of a trial that is taken are passed over: what they learned lives on in it. A
    cold trial that has learned nothing (`pruning.has_risen`) comes after all that have.
    """
    parents = {t.index: t.parent for t in trials}
    chosen: list[int] = []
    passed: set[int] = set()
    ranked = _best_first([t for t in trials if t.state == "complete"], directions)
    for trial in sorted(ranked, key=_learned_nothing):
        if trial.index in passed:
            continue
        chosen.append(trial.index)
        above = trial.parent
        while above is not None:
            passed.add(above)
            above = parents[above]
    return chosen[:k]


def offspring(search: Search, trials: Sequence[Tried]) -> list[Offspring]:
    """Return the next generation: who starts from whom, with which parameters.

    The best trials share the places as evenly as can be, the best first. The first child of the
    best goes on with its parameters as they are; all others are proposed in the box around
    their parent's, from what was gained there so far.

    Parameters
    ----------
    search : Search
        The plan of the study.
    trials : sequence of Tried
        Of the whole study, by index; the new ones have the indices after the last.

    Returns
    -------
    list of Offspring
        Empty if no trial is complete.
    """
    chosen = select_parents(trials, search.seed_from, search.directions)
    by_index = {t.index: t for t in trials}
    history = _gains(trials)
    made: list[Offspring] = []
    for place in range(search.offspring if chosen else 0):
        parent = by_index[chosen[place % len(chosen)]]
        params = dict(parent.params)
        if place:
            seed = trial_seed(search.seed, len(trials) + place)
            params = propose(
                search.space, search.sampler, seed, history, search.directions, parent.params
            )
        made.append(Offspring(parent.index, params))
        history.append(Past(params, (), {}, "running"))
    return made


def _learned_nothing(trial: Tried) -> bool:
    return trial.parent is None and not has_risen([trial.curve[e] for e in sorted(trial.curve)])


def _gains(trials: Sequence[Tried]) -> list[Past]:
    """Return warm trials by what each gained on its parent: a later one is not better by that."""
    by_index = {t.index: t for t in trials}
    found = []
    for trial in trials:
        if trial.parent is None:
            continue
        before = by_index[trial.parent].values
        gained = tuple(a - b for a, b in zip(trial.values, before, strict=False))
        state: State = "complete" if trial.state == "complete" else "failed"
        found.append(Past(trial.params, gained, {}, state))
    return found


def _best_first(trials: Sequence[Tried], directions: Sequence[Direction]) -> list[Tried]:
    signs = np.array([1.0 if d == "maximize" else -1.0 for d in directions])
    points = (
        np.array([t.values for t in trials], dtype=float).reshape(len(trials), len(signs)) * signs
    )
    if len(signs) == 1:
        return sorted(trials, key=lambda t: (-signs[0] * t.values[0], t.index))
    ordered: list[Tried] = []
    left = list(range(len(trials)))
    while left:
        front = [i for i in left if not _beaten(points[i], points[left])]
        alone = dict(zip(front, _solitude(points[front]), strict=True))
        ordered += [trials[i] for i in sorted(front, key=lambda i: (-alone[i], trials[i].index))]
        left = [i for i in left if i not in front]
    return ordered


def _beaten(point: Points, others: Points) -> bool:
    """Whether another is at least as good in every way and better in one."""
    return bool(((others >= point).all(axis=1) & (others > point).any(axis=1)).any())


def _solitude(front: Points) -> Points:
    """Return how far the neighbours of each point of a front are; infinite at its ends.

    The crowding distance of NSGA-II, Deb et al. 2002, DOI 10.1109/4235.996017.
    """
    distance = np.zeros(len(front))
    for values in front.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance


def _sampler(name: str, seed: int, known: Sequence[FrozenTrial]) -> BaseSampler:
    """Return a sampler with every argument that Optuna 4 and 5 set differently."""
    usable = {TrialState.COMPLETE} if name == "gp" else {TrialState.COMPLETE, TrialState.PRUNED}
    if name in {"random", "cmaes"} or sum(t.state in usable for t in known) < STARTUP_TRIALS:
        return RandomSampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS, deterministic_objective=False)
    return TPESampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        n_ei_candidates=24,
        multivariate=True,
        group=False,
        constant_liar=True,
    )


def _from_cma_es(
    box: Space, seed: int, known: Sequence[FrozenTrial], direction: Direction
) -> dict[str, Value]:
    """Return the numbers that CMA-ES asks for, after it was told of the past in its order.

    Optuna's own sampler keeps its state in pickles inside the study, so a study that was read
    from elsewhere would begin anew. Told again it needs no state. Choices are not its business.
    Hansen and Ostermeier 2001, DOI 10.1162/106365601750190398.
    """
    numbers = [d for d in box.dimensions if d.kind != "choice" and d.low < d.high]
    bounds = np.tile([0.0, 1.0], (len(numbers), 1))
    search = cmaes.CMA(mean=bounds.mean(axis=1), sigma=0.25, bounds=bounds, seed=seed)
    sign = -1.0 if direction == "maximize" else 1.0
    told = [
        (np.array([d.share(t.params[d.name]) for d in numbers]), sign * t.values[0])
        for t in known
        if t.state == TrialState.COMPLETE
    ]
    size = search.population_size
    for start in range(0, len(told) - size + 1, size):
        search.tell(told[start : start + size])
    return {d.name: d.at(float(v)) for d, v in zip(numbers, search.ask(), strict=True)}


def _frozen(
    past: Past, distributions: Mapping[str, BaseDistribution], directions: Sequence[Direction]
) -> FrozenTrial:
    state = _STATES[past.state]
    complete = state == TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        params=dict(past.params),
        distributions=dict(distributions),
        values=list(past.values) if complete else None,
        # Higher is better in a curve; Optuna reads it in the direction of the objective.
        intermediate_values=dict(past.curve) if tuple(directions) == ("maximize",) else {},
    )
