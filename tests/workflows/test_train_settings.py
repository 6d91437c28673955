"""Train settings: presets, overrides, and parameters of one defect on top of the defaults."""

from dataclasses import fields

import pytest

from defectops.dataset.patches import PatchOptions
from defectops.errors import SettingsRefused
from defectops.learning.networks import NetworkSpec
from defectops.learning.training import TrainingOptions
from defectops.workflows.parameters import load_parameters
from defectops.workflows.train_settings import PRESETS, read_train_settings


def test_the_paper_preset_is_the_papers_protocol():
    found = read_train_settings({"preset": "paper"}, "here")
    assert found.network == NetworkSpec("defectsegnet", width=1.0, dropout=0.2)
    assert (found.patches.batch, found.patches.patch_px) == (16, 512)
    assert found.patches.augmentation == "exact"
    rules = found.training
    assert (rules.epochs, rules.plateau_epochs, rules.max_decays) == (100, 10, 6)
    assert rules.loss == "weighted_cross_entropy"
    assert rules.positive_weight_decay < 1
    assert rules.final_decay_epochs == rules.warm_up_steps == 0


def test_quick_is_the_default_and_every_preset_is_valid():
    assert read_train_settings({}, "here") == read_train_settings({"preset": "quick"}, "here")
    for preset in PRESETS:
        assert read_train_settings({"preset": preset}, "here").preset == preset


def test_no_two_owners_share_a_name():
    names = [
        f.name for owner in (NetworkSpec, TrainingOptions, PatchOptions) for f in fields(owner)
    ]
    assert len(names) == len(set(names))
    assert not {"preset", "threads"} & set(names)


def test_what_is_given_overrides_the_preset_and_comes_back_flat():
    given = {"preset": "paper", "batch": 2, "width": 0.5, "epochs": 3, "threads": 1}
    flat = read_train_settings(given, "here").flat()
    assert given.items() <= flat.items()
    assert flat["patch_px"] == 512
    assert read_train_settings(flat, "here").flat() == flat


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"preset": "fast"}, "preset must be one of quick, paper, got 'fast'"),
        ({"preset": ["quick"]}, "preset must be one of"),
        ({"preset": None}, "preset must be one of"),
        ({"threads": -1}, "threads must be 0 to 1024"),
        ({"threads": True}, "threads must be 0 to 1024"),
        ({"threads": 1.0}, "threads must be 0 to 1024"),
        ({"learning_rat": 1}, r"unknown key 'learning_rat' \(did you mean 'learning_rate'"),
        ({"thread": 1}, "did you mean 'threads'"),
        ({1: 2}, "unknown key '1'"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch": "8"}, "batch"),
        ({"seed": -1}, "seed"),
        ({"loss": "hinge"}, "loss"),
        ({"precision": "float16"}, "precision"),
        ({"architecture": "resnet"}, "architecture"),
        ({"augmentation": "none"}, "augmentation"),
        ({"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong, says):
    with pytest.raises(SettingsRefused, match=says):
        read_train_settings(wrong, "params.yaml: train.voids")


PARAMS = """
defects: {voids: , gamma: {shape: particle, polarity: dark}}
train:
  default: {preset: quick, epochs: 7}
  gamma: {epochs: 9}
"""


def parameters(tmp_path, text=PARAMS):
    (tmp_path / "params.yaml").write_text(text)
    return load_parameters(tmp_path)


def test_one_defects_section_overrides_the_default(tmp_path):
    found = parameters(tmp_path)
    assert list(found.defects) == ["voids", "gamma"]
    assert found.merged("train", "voids") == {"preset": "quick", "epochs": 7}
    assert found.merged("train", "gamma") == {"preset": "quick", "epochs": 9}
    assert found.merged("absent", "voids") == {}
    assert found.options("prepare", "voids", NetworkSpec) == NetworkSpec()
    assert found.defect("gamma").polarity == "dark"


def test_unknown_defects_and_sections_for_them_are_refused(tmp_path):
    with pytest.raises(SettingsRefused, match="did you mean 'voids'"):
        parameters(tmp_path).defect("void")
    broken = parameters(tmp_path, PARAMS + "  viods: {epochs: 1}\n")
    with pytest.raises(SettingsRefused, match=r"train: E_CONFIG: unknown key 'viods' .*'voids'"):
        broken.merged("train", "voids")


@pytest.mark.parametrize(
    "text",
    ["defects: [a]", "defects: {voids: 5}", "defects: {1: {}}", "defects: {x: {shape: line}}"],
)
def test_defects_that_are_no_mapping_of_types_are_refused(text, tmp_path):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        parameters(tmp_path, text)


@pytest.mark.parametrize("text", ["train: [1]", "train: {default: 5}", "train: {voids: x}"])
def test_sections_that_are_no_mappings_are_refused(text, tmp_path):
    found = parameters(tmp_path, "defects: {voids: }\n" + text)
    with pytest.raises(SettingsRefused, match="must be a mapping"):
        found.merged("train", "voids")
