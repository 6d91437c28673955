"""What each hyperparameter was worth: found where it is there, not claimed where it is chance."""

import math

import numpy as np
import pytest

from defectops.experiments.importance import LEAST_TRIALS, importance
from defectops.experiments.search_space import Dimension, Space
from defectops.experiments.study_trials import Plan, StudyState, Trial

pytestmark = pytest.mark.slow  # seconds in all, and the quick part stays under a minute

SPACE = Space(
    (
        Dimension("rate", "float", 1e-5, 1e-2, log=True),
        Dimension("dropout", "float", 0.0, 0.5),
        Dimension("loss", "choice", choices=("dice", "cross_entropy")),
    )
)


def plan(**changes):
    given = {"defect": "voids", "seed": 3, "space": SPACE, "trials": 12, "generations": 1}
    given |= {"epochs": 4, "seed_from": 2, "offspring": 2}
    return Plan(**given | changes)


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        {
            "rate": float(10 ** random.uniform(-5, -2)),
            "dropout": float(random.uniform(0, 0.5)),
            "loss": str(random.choice(["dice", "cross_entropy"])),
        }
        for _ in range(count)
    ]


def by_rate(params):
    return -abs(math.log10(params["rate"]) + 3)


def state(trials):
    return StudyState("voids", trials, "", None, [])


def complete(index, params, value, **more):
    return Trial(index, more.pop("generation", 0), "complete", params, (value,), **more)


def study(count, value=by_rate, seed=0):
    return state([complete(i, p, value(p)) for i, p in enumerate(drawn(count, seed))])


def test_the_one_that_decides_has_nearly_all_and_is_told_from_chance():
    found = importance(study(40), plan())
    first = found.worths[0]
    assert first.name == "rate"
    assert first.share > 0.6
    assert first.chance == 0.01
    assert sum(w.share for w in found.worths) == pytest.approx(1)
    assert [w.share for w in found.worths] == sorted((w.share for w in found.worths), reverse=True)
    assert found.trials == 40
    assert found.note == ""


def test_a_choice_that_decides_is_found_too():
    found = importance(study(40, lambda p: p["loss"] == "dice"), plan())
    assert found.worths[0].name == "loss"
    assert found.worths[0].clear


def test_the_same_twice():
    assert importance(study(20), plan()) == importance(study(20), plan())


@pytest.mark.slow
def test_pure_chance_is_seldom_taken_for_importance():
    random = np.random.default_rng(9)
    clear = 0
    for seed in range(10):
        found = importance(study(12, lambda _: random.normal(), seed), plan())
        clear += sum(w.clear for w in found.worths)
    assert clear <= 5  # of 30, where 1.5 are to be expected


def test_chance_is_said_in_the_note():
    random = np.random.default_rng(1)
    found = importance(study(9, lambda _: random.normal()), plan())
    assert not any(w.clear for w in found.worths)
    assert found.note == "9 trials cannot tell any of them from chance"


@pytest.mark.parametrize("count", [0, 1, LEAST_TRIALS - 1])
def test_few_trials_say_so(count):
    found = importance(study(count), plan())
    assert found.worths == ()
    assert found.trials == count
    assert found.note == f"needs 8 trials of generation 0 with a value, has {count}"


def test_equal_values_say_nothing():
    found = importance(study(12, lambda _: 0.5), plan())
    assert found.worths == ()
    assert found.note == "all trials of generation 0 came to the same value"


def test_later_generations_failed_trials_and_foreign_parameters_do_not_count():
    trials = study(10).trials
    outside = dict(trials[0].params, dropout=0.9)
    trials += [
        complete(10, drawn(1)[0], 9.0, generation=1, parent=0),
        Trial(11, 0, "failed", drawn(1)[0], curve={0: 5.0}),
        Trial(12, 0, "running", drawn(1)[0], curve={0: 5.0}),
        complete(13, outside, 9.0),
    ]
    assert importance(state(trials), plan()) == importance(study(10), plan())


def test_a_pruned_trial_counts_with_the_best_it_reported():
    params = drawn(12)
    trials = study(12).trials
    trials[4] = Trial(4, 0, "pruned", params[4], curve={0: -9.0, 1: by_rate(params[4]), 2: -9.0})
    assert importance(state(trials), plan()) == importance(study(12), plan())
    trials[4] = Trial(4, 0, "pruned", params[4])
    assert importance(state(trials), plan()).trials == 11


def test_an_error_is_better_when_lower_and_pruned_trials_have_none():
    errors = study(20, lambda p: -by_rate(p))
    assert importance(errors, plan(objective="density")) == importance(study(20), plan())
    errors.trials[4] = Trial(4, 0, "pruned", drawn(20)[4], curve={0: 0.3})
    assert importance(errors, plan(objective="density")).trials == 19
