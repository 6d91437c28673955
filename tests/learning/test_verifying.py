"""The test in a bundle: made from training data, carried out anywhere, failed by other weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import TINY, blobs, field

from defectops.errors import IntegrityFault, ModelRefused
from defectops.learning.bundle import Frozen, load_bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.verifying import (
    FROZEN_TOLERANCE,
    freeze,
    frozen_difference,
    frozen_patch,
    require_frozen_answer,
)


def test_a_bundle_answers_its_own_test_after_its_travel(bundle, tmp_path):
    save_bundle(tmp_path / "m", freeze(bundle, [blobs((100, 120))]))
    back = load_bundle(tmp_path / "m")
    assert back.frozen.input.shape == back.frozen.output.shape == (96, 96)
    assert 0 <= back.frozen.output.min() < back.frozen.output.max() <= 1
    assert back.weights.keys() == bundle.weights.keys()
    assert frozen_difference(back) < 1e-6
    torch.set_num_threads(2)
    assert require_frozen_answer(back, "m") < 1e-5


@pytest.mark.parametrize("architecture", ["defectsegnet", "unet", "fcdensenet", "fcn"])
def test_every_network_takes_the_test(architecture, bundle):
    spec = NetworkSpec(architecture, width=0.1)
    other = replace(bundle, spec=spec, weights=build(spec, 0).state_dict())
    assert frozen_difference(freeze(other, [blobs()])) == 0.0


def test_one_changed_weight_is_noticed(bundle):
    frozen = freeze(bundle, [blobs()])
    weights = {n: t.clone() for n, t in frozen.weights.items()}
    weights["layers.0.0.weight"][0, 0, 0, 0] += 0.5
    changed = replace(frozen, weights=weights)
    assert frozen_difference(changed) > FROZEN_TOLERANCE
    with pytest.raises(IntegrityFault, match="voids/3: E_FROZEN: answers its own test otherwise"):
        require_frozen_answer(changed, "voids/3")


def test_an_answer_that_is_not_a_number_is_noticed(bundle):
    frozen = freeze(bundle, [blobs()]).frozen
    spoilt = Frozen(frozen.input, torch.full_like(frozen.output, torch.nan))
    with pytest.raises(IntegrityFault, match="E_FROZEN"):
        require_frozen_answer(replace(bundle, frozen=spoilt), "m")


@pytest.mark.parametrize("frozen", [None, Frozen(torch.zeros(12, 16), torch.zeros(12, 16))])
def test_a_missing_or_unfit_test_is_refused(frozen, bundle):
    with pytest.raises(ModelRefused, match="m: E_MODEL_FROZEN"):
        require_frozen_answer(replace(bundle, frozen=frozen), "m")


def test_the_patch_shows_most_of_the_defect():
    label = np.zeros((200, 300), bool)
    label[100:120, 200:230] = True  # in the square of row 96, column 192
    label[0:5, 0:5] = True
    ignore = np.zeros_like(label)
    plane = np.arange(60_000.0).reshape(label.shape)
    assert np.array_equal(frozen_patch([field(plane, label)]), plane[96:192, 192:288])
    ignore[96:] = True
    assert np.array_equal(frozen_patch([field(plane, label, ignore)]), plane[:96, :96])


def test_a_small_field_is_mirrored():
    plane = np.arange(40.0 * 56).reshape(40, 56)
    patch = frozen_patch([field(plane, plane < 0)])
    assert patch.shape == (96, 96)
    assert np.array_equal(patch[:40, :56], plane)
    assert np.array_equal(patch[40:80, :56], plane[::-1])


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (torch.zeros(8, 8), None),
        (torch.zeros(8, 8), torch.zeros(8, 16)),
        (torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)),
        (torch.zeros(8, 8).double(), torch.zeros(8, 8).double()),
        (torch.zeros(0, 0), torch.zeros(0, 0)),
        (torch.zeros(8, 1032), torch.zeros(8, 1032)),
    ],
)
def test_frozen_tensors_that_make_no_sense_are_refused(given, answer, bundle, tmp_path):
    extra = {"frozen.input": given} | ({} if answer is None else {"frozen.output": answer})
    save_bundle(tmp_path / "m", replace(bundle, weights=bundle.weights | extra))
    with pytest.raises(ModelRefused, match="E_MODEL_ARCH"):
        load_bundle(tmp_path / "m")


def test_a_bundle_without_a_test_is_a_bundle(bundle, tmp_path):
    assert bundle.spec == TINY
    save_bundle(tmp_path / "m", bundle)
    assert load_bundle(tmp_path / "m").frozen is None
