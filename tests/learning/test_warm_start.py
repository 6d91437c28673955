"""A warm start takes all of a parent's weights, the right ones, or none."""

from dataclasses import replace

import pytest
import torch

from defectops.errors import ModelRefused
from defectops.learning.bundle import file_sha256, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.warm_start import start_from


@pytest.fixture
def parent(bundle, tmp_path):
    path = tmp_path / "parent.safetensors"
    save_bundle(path, bundle)
    return path


def weights_of(network):
    return {n: t.clone() for n, t in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def test_all_weights_come_from_the_parent(bundle, parent):
    spec = replace(bundle.spec, dropout=0.3)
    network = build(spec, 5)
    assert not same(weights_of(network), bundle.weights)
    start_from(network, spec, parent, file_sha256(parent))
    assert same(weights_of(network), bundle.weights)


def gone(path, bundle):
    path.unlink()


def truncated(path, bundle):
    path.write_bytes(path.read_bytes()[:-40])


def not_finite(path, bundle):
    name = next(n for n, t in bundle.weights.items() if t.is_floating_point())
    broken = bundle.weights[name].clone()
    broken.view(-1)[0] = float("nan")
    save_bundle(path, replace(bundle, weights={**bundle.weights, name: broken}))


def wider(path, bundle):
    spec = replace(bundle.spec, width=bundle.spec.width * 2)
    save_bundle(path, replace(bundle, spec=spec, weights=build(spec, 1).state_dict()))


def half(path, bundle):
    weights = {n: t.half() if t.is_floating_point() else t for n, t in bundle.weights.items()}
    save_bundle(path, replace(bundle, weights=weights))


def incomplete(path, bundle):
    save_bundle(path, replace(bundle, weights=dict(list(bundle.weights.items())[1:])))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (gone, "E_NO_BUNDLE"),
        (truncated, "E_MODEL_CORRUPT"),
        (not_finite, "E_MODEL_NONFINITE"),
        (wider, "E_MODEL_ARCH"),
        (half, "E_MODEL_ARCH"),
        (incomplete, "E_MODEL_ARCH"),
    ],
)
def test_a_parent_that_does_not_do_is_refused_and_nothing_is_loaded(bundle, parent, damage, code):
    damage(parent, bundle)
    recorded = file_sha256(parent) if parent.exists() else "0" * 64
    network = build(bundle.spec, 5)
    before = weights_of(network)
    with pytest.raises(ModelRefused) as caught:
        start_from(network, bundle.spec, parent, recorded)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert same(weights_of(network), before)


def test_other_weights_than_were_recorded_are_refused(bundle, parent):
    recorded = file_sha256(parent)
    save_bundle(parent, replace(bundle, weights=build(bundle.spec, 9).state_dict()))
    network = build(bundle.spec, 5)
    before = weights_of(network)
    with pytest.raises(ModelRefused, match="E_MODEL_HASH"):
        start_from(network, bundle.spec, parent, recorded)
    assert same(weights_of(network), before)


def test_another_architecture_of_the_same_parent_is_named(bundle, parent):
    spec = NetworkSpec("unet", width=bundle.spec.width)
    with pytest.raises(ModelRefused, match="architecture defectsegnet"):
        start_from(build(spec, 5), spec, parent, file_sha256(parent))
