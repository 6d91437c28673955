"""What a study is told, and the space that it makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import SettingsRefused
from defectops.experiments.search_space import Space
from defectops.workflows.tune_settings import (
    TuneOptions,
    changed,
    including,
    read_tune_options,
)

OWN = {
    "learning_rate": 3e-3,
    "positive_weight": 3.0,
    "positive_weight_decay": 0.9,
    "l2": 1e-5,
    "dropout": 0.0,
    "learning_rate_factor": 0.5,
}


def read(**given):
    return read_tune_options(given, "params.yaml: tune.voids")


def test_without_a_word_it_is_the_papers_space():
    assert read().as_space() == Space.default()
    assert read() == TuneOptions()


def test_ranges_choices_and_what_is_left_out():
    space = {
        "learning_rate": {"low": 1e-4},
        "architecture": ["unet", "fcn"],
        "plateau_epochs": {"high": 5},
        "dropout": None,
        "l2": None,
    }
    options = read(space=space)
    by_name = {d.name: d for d in options.as_space().dimensions}
    assert list(by_name) == [
        "learning_rate",
        "positive_weight",
        "positive_weight_decay",
        "learning_rate_factor",
        "architecture",
        "plateau_epochs",
    ]
    rate = by_name["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True)
    assert by_name["architecture"].choices == ("unet", "fcn")
    assert by_name["architecture"].structural
    assert (by_name["plateau_epochs"].kind, by_name["plateau_epochs"].high) == ("int", 5)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"lerning_rate": {}}, "did you mean 'learning_rate'"),
        ({"patch_px": {"low": 32}}, "unknown key"),  # would change what an epoch costs
        ({"l2": {"lo": 1}}, "did you mean 'low'"),
        ({"l2": {"low": True}}, "low cannot be True"),
        ({"l2": {"log": 3}}, "log cannot be 3"),
        ({"l2": {"low": 2.0}}, "low <= high"),
        ({"l2": [1, 2]}, "give low and high"),
        ({"l2": 1e-5}, "give low and high"),
        ({"loss": {"low": 1}}, "list of names"),
        ({"loss": []}, "list of names"),
        ({"loss": [1]}, "list of names"),
        (dict.fromkeys(OWN), "nothing is left"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space, expected):
    with pytest.raises(SettingsRefused, match=expected) as caught:
        read(space=space)
    assert caught.value.code == "E_CONFIG"


@given(st.floats(0.01, 5.0), st.floats(0.0, 2.0))
def test_the_projects_own_settings_are_always_inside(rate, dropout):
    own = {**OWN, "learning_rate": rate, "dropout": dropout}
    space, first = including(Space.default(), own)
    assert first == own
    assert space.holds(first)
    assert all(
        wide.low <= narrow.low and narrow.high <= wide.high
        for wide, narrow in zip(space.dimensions, Space.default().dimensions, strict=True)
    )


def test_zero_on_a_scale_of_factors_is_left_to_be_drawn():
    space, first = including(Space.default(), {**OWN, "l2": 0.0})
    assert space == Space.default()
    assert first.keys() == OWN.keys() - {"l2"}


def test_the_projects_own_name_joins_the_choices():
    space, first = including(read(space={"loss": ["dice"]}).as_space(), {**OWN, "loss": "focal"})
    assert space.dimensions[-1].choices == ("dice", "focal")
    assert first["loss"] == "focal"


def test_the_command_line_stands_above():
    options = changed(read(trials=3, seed=1), {"trials": 7, "seed": None, "workers": 2})
    assert (options.trials, options.seed) == (7, 1)
    with pytest.raises(SettingsRefused, match=r"tune\.trials: E_CONFIG: must be 1"):
        changed(options, {"trials": 0})
