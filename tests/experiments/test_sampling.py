"""Samplers without memory: the same past gives the same proposal; offspring stay near parents."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import SettingsRefused
from defectops.experiments import sampling
from defectops.experiments.sampling import (
    BOX_WIDTH,
    Past,
    check_sampler,
    offspring,
    propose,
    select_parents,
    trial_seed,
)
from defectops.experiments.search_space import Dimension, Space

SPACE = Space.default(["defectsegnet", "unet"], ["dice", "focal"])
SAMPLERS = ("random", "tpe", "gp", "cmaes")
UP = ("maximize",)
BOTH = ("maximize", "minimize")


@dataclass
class Trial:
    index: int
    values: tuple = ()
    parent: int | None = None
    state: str = "complete"
    params: dict = field(default_factory=dict)
    curve: dict = field(default_factory=dict)


@dataclass
class Plan:
    space: Space = SPACE
    sampler: str = "tpe"
    seed: int = 7
    directions: tuple = UP
    seed_from: int = 2
    offspring: int = 3


def closeness(params):
    """Highest at a learning rate of 1e-3 and no dropout."""
    return 1 - 0.3 * abs(math.log10(params["learning_rate"]) + 3) - params["dropout"]


def past(count, directions=UP, states=("complete", "complete", "pruned", "failed")):
    """A random history with some of everything."""
    rows = []
    for index in range(count):
        params = propose(SPACE, "random", trial_seed(3, index), [], UP)
        state = states[index % len(states)]
        value = closeness(params)
        values = (value, params["dropout"])[: len(directions)] if state == "complete" else ()
        rows.append(Past(params, values, {0: value / 2, 1: value}, state))
    return rows


HISTORY = past(20)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_past_and_seed_give_the_same_proposal_inside_the_space(sampler):
    first = propose(SPACE, sampler, 11, HISTORY, UP)
    assert first == propose(SPACE, sampler, 11, HISTORY, UP)
    assert first != propose(SPACE, sampler, 12, HISTORY, UP)
    assert SPACE.holds(first)
    assert list(first) == list(SPACE.names)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_around_a_parent_lies_in_its_box(sampler):
    parent = {**HISTORY[0].params, "architecture": "unet"}
    box = SPACE.around(parent, BOX_WIDTH)
    near = [propose(box, "random", seed, [], UP) for seed in range(12)]
    known = [Past(p, (closeness(p),), {}, "complete") for p in near]
    for seed in range(1 if sampler == "gp" else 4):  # a GP takes its time
        child = propose(SPACE, sampler, seed, [*HISTORY, *known], UP, parent)
        assert box.holds(child)
        assert child["architecture"] == "unet"


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_several_objectives(sampler):
    history = past(20, BOTH)
    found = propose(SPACE, sampler, 5, history, BOTH)
    assert SPACE.holds(found)
    assert found == propose(SPACE, sampler, 5, history, BOTH)


def test_what_cma_es_cannot_do_is_refused_in_words():
    with pytest.raises(SettingsRefused, match="cmaes searches for one objective; take tpe"):
        check_sampler("cmaes", SPACE, BOTH)
    one = Space((Dimension("x", "float"), Dimension("y", "choice", choices=("a", "b"))))
    with pytest.raises(SettingsRefused, match="cmaes needs two dimensions of numbers"):
        check_sampler("cmaes", one, UP)
    with pytest.raises(SettingsRefused, match="must be one of random, tpe, gp, cmaes, got 'sobol'"):
        propose(SPACE, "sobol", 0, [], UP)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_learns_from_the_past(sampler):
    """After forty trials its proposals are better than blind ones."""
    history = past(40, states=("complete",))
    count = 3 if sampler == "gp" else 12
    found = [closeness(propose(SPACE, sampler, s, history, UP)) for s in range(count)]
    blind = [closeness(propose(SPACE, "random", s, [], UP)) for s in range(100)]
    assert np.mean(found) > np.mean(blind) + 0.1


def test_random_is_blind_to_the_past():
    assert propose(SPACE, "random", 4, HISTORY, UP) == propose(SPACE, "random", 4, [], UP)


def test_where_training_diverges_tpe_goes_less():
    """Failed trials count as the worst: Optuna alone would forget them."""
    lr = Space((Dimension("learning_rate", "float", 1e-5, 1e-2, log=True),))
    grid = np.geomspace(1e-5, 1e-2, 24)
    rows = [
        Past({"learning_rate": float(v)}, () if v > 1e-3 else (0.5,), {}, s)
        for v in grid
        for s in ["failed" if v > 1e-3 else "complete"]
    ]
    drawn = [propose(lr, "tpe", s, rows, UP)["learning_rate"] for s in range(30)]
    assert np.mean(np.array(drawn) > 1e-3) < 0.15  # a third of the space


def test_one_draw_does_not_depend_on_who_drew_before():
    script = (
        "import json, sys; from defectops.experiments.sampling import propose;"
        "from defectops.experiments.search_space import Space;"
        "print(json.dumps(propose(Space.default(), 'tpe', 9, [], ('maximize',))))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    assert json.loads(said.stdout) == propose(Space.default(), "tpe", 9, [], UP)
    assert said.stderr == ""


@given(st.integers(0, 2**40), st.integers(0, 10_000))
def test_a_trials_seed_is_a_seed_for_everything(study_seed, index):
    seed = trial_seed(study_seed, index)
    assert 0 <= seed < 2**32
    assert seed == trial_seed(study_seed, index)
    assert seed != trial_seed(study_seed, index + 1)


def test_the_best_of_all_generations_are_parents():
    trials = [Trial(0, (0.5,)), Trial(1, (0.7,)), Trial(2, (0.6,)), Trial(3, (0.65,), parent=2)]
    assert select_parents(trials, 2, UP) == [1, 3]
    assert select_parents(trials, 9, UP) == [1, 3, 0]  # 2 lives on in 3


def test_a_parent_whose_children_are_worse_stays():
    trials = [Trial(0, (0.5,)), Trial(1, (0.4,), parent=0), Trial(2, (0.45,), parent=1)]
    assert select_parents(trials, 3, UP) == [0, 2]  # 1 lives on in 2


def test_only_complete_trials_are_parents():
    trials = [Trial(i, state=s) for i, s in enumerate(["pruned", "failed", "running", "waiting"])]
    assert select_parents([*trials, Trial(4, (0.1,))], 3, UP) == [4]
    assert select_parents(trials, 3, UP) == []
    assert offspring(Plan(), trials) == []


def test_equal_trials_are_taken_in_the_order_of_their_index():
    assert select_parents([Trial(i, (0.5,)) for i in range(4)], 2, UP) == [0, 1]


def test_a_cold_trial_that_learned_nothing_is_nobodys_parent_while_others_learned():
    flat, rising = {0: 0.4, 1: 0.4, 2: 0.3}, {0: 0.1, 1: 0.2, 2: 0.3}
    trials = [Trial(0, (0.4,), curve=flat), Trial(1, (0.3,), curve=rising)]
    assert select_parents(trials, 2, UP) == [1, 0]
    assert select_parents(trials[:1], 2, UP) == [0]
    # A warm trial may be best at once: it has learned before.
    warm = Trial(2, (0.35,), parent=1, curve=flat)
    assert select_parents([*trials, warm], 2, UP) == [2, 0]


def test_a_minimised_objective_is_minimised():
    assert select_parents(
        [Trial(i, (v,)) for i, v in enumerate((3.0, 1.0, 2.0))], 2, ("minimize",)
    ) == [1, 2]


def test_with_two_objectives_the_front_comes_first_and_its_ends_before_its_middle():
    #          up, down: 0, 2, 3, 5 are beaten by none; 1 and 4 are
    points = [(0.9, 0.9), (0.5, 0.9), (0.7, 0.5), (0.68, 0.45), (0.6, 0.6), (0.1, 0.1)]
    trials = [Trial(i, p) for i, p in enumerate(points)]
    assert select_parents(trials, 9, BOTH) == [0, 5, 3, 2, 4, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_nobody_is_before_one_who_beats_him(points):
    order = select_parents([Trial(i, p) for i, p in enumerate(points)], len(points), BOTH)
    assert sorted(order) == list(range(len(points)))
    for place, i in enumerate(order):
        for j in order[place + 1 :]:
            (a, b), (c, d) = points[i], points[j]
            assert not (c >= a and d <= b and (c, d) != (a, b))


def family():
    """Four cold trials, and three warm ones from the two best."""
    cold = [
        Trial(i, (v,), params=dict(HISTORY[i].params)) for i, v in enumerate((0.5, 0.7, 0.6, 0.4))
    ]
    warm = [
        Trial(4, (0.75,), 1, params=dict(HISTORY[1].params)),
        Trial(5, (0.72,), 1, params=propose(SPACE, "random", 1, [], UP, HISTORY[1].params)),
        Trial(6, (), 2, "pruned", propose(SPACE, "random", 2, [], UP, HISTORY[2].params)),
    ]
    return [*cold, *warm]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_offspring_share_the_places_and_stay_near_their_parents(sampler):
    trials = family()
    plan = Plan(sampler=sampler, seed_from=2, offspring=5)
    made = offspring(plan, trials)
    assert [o.parent for o in made] == [4, 5, 4, 5, 4]
    assert made[0].params == trials[4].params
    for child in made:
        assert SPACE.around(trials[child.parent].params, BOX_WIDTH).holds(child.params)
        assert child.params["architecture"] == trials[child.parent].params["architecture"]
    assert len({json.dumps(o.params) for o in made}) == 5
    assert made == offspring(plan, trials)


def test_another_seed_or_generation_has_other_offspring():
    trials = family()
    first = offspring(Plan(), trials)[1:]
    assert first != offspring(Plan(seed=8), trials)[1:]
    assert first != offspring(Plan(), [*trials, Trial(7, state="failed", parent=4)])[1:]


def test_warm_trials_teach_by_what_they_gained(monkeypatch):
    seen = []

    def spy(space, sampler, seed, history, directions, around):
        seen.append(list(history))
        return dict(around)

    monkeypatch.setattr(sampling, "propose", spy)
    offspring(Plan(offspring=2), family())
    gained = [(p.state, tuple(round(v, 6) for v in p.values)) for p in seen[0]]
    assert gained == [("complete", (0.05,)), ("complete", (0.02,)), ("failed", ()), ("running", ())]
