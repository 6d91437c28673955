"""The file that a study leaves under git, and what --apply writes into params.yaml."""

import json

import pytest
from ruamel.yaml import YAML

from defectops.errors import InputRefused
from defectops.experiments.search_space import Space
from defectops.experiments.studies import Plan, StudyState, Trial
from defectops.workflows.study_results import (
    apply,
    best_trials,
    lineage,
    settings_of,
    write_result,
)

PARAMS = """\
# What it is about.
defects:
  voids: {}
  loops: {shape: line, polarity: dark}

train:
  default:
    preset: quick   # two cores
  # Holes.
  voids:
    # Found by hand.
    positive_weight: 2.0
    width: 0.5  # small ones
  loops: {}

quantify:
  default: {level: 0.9}
"""


def plan(**changes):
    given = {
        "defect": "voids",
        "seed": 1,
        "space": Space.default(),
        "trials": 2,
        "generations": 1,
        "epochs": 5,
        "seed_from": 2,
        "offspring": 2,
        "facts": {"final_decay_share": "0.6"},
    }
    return Plan(**{**given, **changes})


def trial(index, value=None, parent=None, epochs=5, before=0, **more):
    values = () if value is None else value if isinstance(value, tuple) else (value,)
    return Trial(
        index,
        0 if parent is None else 1,
        "complete" if values else "failed",
        {"learning_rate": 0.001 * (index + 1), "positive_weight": 4.0 + index},
        values,
        epochs=epochs,
        cumulative_epochs=before + epochs,
        parent=parent,
        checkpoint_sha256=f"{index:064x}",
        **more,
    )


def study(*trials, pareto=(), best=None):
    return StudyState("voids", list(trials), "done", best, list(pareto))


@pytest.fixture
def warm():
    trials = [trial(0, 0.5), trial(1, 0.7), trial(2, 0.8, 1, before=5), trial(3, 0.75, 0, before=5)]
    return study(*trials, best=trials[2])


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    return tmp_path


def test_the_line_begins_with_the_first_ancestor(warm):
    assert [t.index for t in lineage(warm.best, warm.trials)] == [1, 2]
    assert [t.index for t in lineage(warm.trials[0], warm.trials)] == [0]


def test_applied_are_the_first_ancestors_parameters_and_the_epochs_of_the_line(warm):
    assert settings_of(warm.best, warm, plan()) == {
        "learning_rate": 0.002,
        "positive_weight": 5.0,
        "epochs": 10,
        "final_decay_epochs": 6,
    }


def test_where_the_rate_does_not_fall_in_the_end_nothing_is_said_of_it(warm):
    assert "final_decay_epochs" not in settings_of(
        warm.best, warm, plan(facts={"final_decay_share": "0.0"})
    )


def test_apply_changes_its_own_keys_and_keeps_every_other_character(root, warm):
    written = apply(root, warm, plan())
    after = (root / "params.yaml").read_text()
    expected = PARAMS.replace(
        "    positive_weight: 2.0\n    width: 0.5  # small ones\n",
        "    positive_weight: 5.0\n    width: 0.5  # small ones\n    learning_rate: 0.002\n"
        "    epochs: 10\n    final_decay_epochs: 6\n",
    )
    assert after == expected
    assert written == settings_of(warm.best, warm, plan())
    apply(root, warm, plan())
    assert (root / "params.yaml").read_text() == after


def test_apply_to_a_type_that_says_nothing_yet(root, warm):
    apply(root, warm, plan(defect="loops"))
    data = YAML(typ="safe").load(root / "params.yaml")
    assert data["train"]["loops"] == settings_of(warm.best, warm, plan())
    assert data["train"]["voids"] == {"positive_weight": 2.0, "width": 0.5}
    text = (root / "params.yaml").read_text()
    assert "  loops:\n    learning_rate: 0.002\n" in text
    assert text.startswith(PARAMS.partition("  loops: {}\n")[0])


@pytest.mark.parametrize("number", [1e-5, 0.1 + 0.2, 1.0, 123456789.123])
def test_applied_numbers_are_read_back_exactly(root, number):
    found = trial(0, 0.5)
    found.params["learning_rate"] = number
    apply(root, study(found, best=found), plan())
    data = YAML(typ="safe").load(root / "params.yaml")
    assert data["train"]["voids"]["learning_rate"] == number


def test_apply_a_trial_of_ones_own_choice(root, warm):
    assert apply(root, warm, plan(), 3)["learning_rate"] == 0.001


@pytest.mark.parametrize("index", [None, 0, 7])
def test_what_did_not_come_to_an_end_cannot_be_applied(root, index):
    with pytest.raises(InputRefused, match="E_STUDY"):
        apply(root, study(trial(0)), plan(), index)
    assert (root / "params.yaml").read_text() == PARAMS


def test_the_best_are_as_many_as_seed_a_generation_and_at_least_three(warm):
    assert [t.index for t in best_trials(warm, plan(seed_from=1))] == [2, 3, 1]
    assert [t.index for t in best_trials(warm, plan(seed_from=9))] == [2, 3, 1, 0]
    assert [t.index for t in best_trials(warm, plan(objective="density"))] == [0, 1, 3]
    assert best_trials(study(trial(0)), plan()) == []


def test_of_two_objectives_it_is_the_whole_set():
    trials = [trial(0, (0.5, 0.1)), trial(1, (0.7, 0.3)), trial(2, (0.4, 0.4))]
    found = best_trials(study(*trials, pareto=trials[:2]), plan(objective="pareto", seed_from=1))
    assert [t.index for t in found] == [1, 0]


def test_the_result_is_the_same_bytes_and_says_who_came_from_whom(root, warm):
    path = write_result(root, warm, plan())
    assert path == root / "studies/voids.json"
    before = path.read_bytes()
    assert write_result(root, warm, plan()).read_bytes() == before
    content = json.loads(before)
    assert (content["defect"], content["best"], content["stopped"]) == ("voids", 2, "done")
    assert [t["parent"] for t in content["trials"]] == [None, None, 1, 0]
    assert before.endswith(b"}\n")
