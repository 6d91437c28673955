"""From a project's settings to the plan of a study."""

from dataclasses import replace

import pytest
from drawing import LINES, VOIDS, discs, field

from defectops.errors import InputRefused, SettingsRefused
from defectops.experiments.studies import StudyHandle
from defectops.imaging.conditioning import ConditioningOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.workflows.study_plan import make_plan, require_same_ground
from defectops.workflows.trials import Ground, trial_settings
from defectops.workflows.tune_settings import TuneOptions

SIDE = [field(discs((32, 32), (16, 16)))]


def ground(given=None, **changes):
    found = Ground(
        VOIDS, given or {}, ConditioningOptions(), MeasureOptions(), SIDE, SIDE, "d" * 64
    )
    return replace(found, **changes)


def test_the_projects_own_settings_are_the_first_trial():
    plan = make_plan(ground({"learning_rate": 0.02, "seed": 7}), TuneOptions(trials=5), 2)
    assert plan.first[0]["learning_rate"] == 0.02
    assert plan.first[0].keys() == set(plan.space.names)
    assert plan.space.holds(plan.first[0])
    assert (plan.trials, plan.threads, plan.data_sha256) == (5, 2, "d" * 64)
    assert plan.facts["preset"] == "quick"
    assert {"version.torch", "version.optuna", "settings_sha256"} <= plan.facts.keys()


def test_a_trial_has_the_choices_parameters_and_the_studys_length():
    given = ground({"width": 0.5, "seed": 7}).given
    plan = make_plan(ground(given), TuneOptions(epochs=10), 2)
    chosen = trial_settings(given, plan, {"dropout": 0.25, "learning_rate": 0.001}, 99, 10)
    assert (chosen.network.dropout, chosen.network.width) == (0.25, 0.5)
    assert chosen.training.learning_rate == 0.001
    assert (chosen.training.epochs, chosen.training.final_decay_epochs) == (10, 6)
    assert (chosen.training.seed, chosen.threads) == (99, 2)
    assert chosen.training.warm_up_steps == 20


@pytest.mark.parametrize(
    ("own", "expected"),
    [({"preset": "paper"}, 0), ({"final_decay_epochs": 20}, 10), ({"final_decay_epochs": 99}, 10)],
)
def test_the_last_fall_of_the_rate_keeps_its_share(own, expected):
    plan = make_plan(ground(own), TuneOptions(epochs=10), 1)
    assert trial_settings(own, plan, {}, 0, 10).training.final_decay_epochs == expected


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"dropout": {"high": 0.95}}, "dropout must be 0 to 0.9"),
        ({"learning_rate": {"high": 3.0}}, "learning_rate"),
        ({"architecture": ["unet", "resnet"]}, "resnet"),
        ({"loss": ["dice", "hinge"]}, "hinge"),
        ({"plateau_epochs": {"low": 0}}, "plateau_epochs"),
    ],
)
def test_a_space_that_reaches_too_far_is_refused_before_the_first_trial(space, match):
    with pytest.raises(SettingsRefused, match=match):
        make_plan(ground(), TuneOptions(space=space), 1)


def test_trials_that_would_be_too_long_are_refused_before_the_first():
    lengths = {"epochs": 2000, "stretch": 64}
    assert make_plan(ground(), TuneOptions(generations=2, **lengths), 1).stretch == 64
    with pytest.raises(SettingsRefused, match=r"epochs: .*100000, got 128000"):
        make_plan(ground(), TuneOptions(generations=3, **lengths), 1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data_sha256": "e" * 64}, "other data than"),
        ({"given": {"width": 0.5}}, "other settings_sha256 than"),
        ({"given": {"preset": "paper"}}, "preset"),
        ({"conditioning": ConditioningOptions(background_sigma_px=50.0)}, "settings_sha256"),
        ({"measure": MeasureOptions(border="all")}, "settings_sha256"),
        ({"defect": LINES}, "settings_sha256"),
    ],
)
def test_who_joins_has_the_same_ground(tmp_path, changes, named):
    plan = make_plan(ground(), TuneOptions(), 1)
    study = StudyHandle(None, 0, "voids", plan, tmp_path)
    require_same_ground(study, ground())
    require_same_ground(study, ground({"seed": 5, "threads": 1}))  # a study has its own
    with pytest.raises(InputRefused, match=named):
        require_same_ground(study, ground(**changes))
