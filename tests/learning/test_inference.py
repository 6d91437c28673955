"""Inference: any size, and the same answer however the plane is cut into windows."""

import numpy as np
import pytest
import torch

from defectops.imaging.tiling import TilingOptions
from defectops.learning.bundle import save_bundle
from defectops.learning.inference import WINDOWS, as_model, load_model, predict
from defectops.learning.networks import NetworkSpec, build

ARCHITECTURES = ("defectsegnet", "unet", "fcdensenet", "fcn")
REACH_PX = 51


def alive(architecture="defectsegnet", seed=0):
    """A network whose norms know the data, so that far pixels matter to its answers."""
    network = build(NetworkSpec(architecture, width=0.3), seed)
    for _ in range(10):
        network(torch.randn(2, 1, 64, 64))
    last = network.scores.values() if architecture == "fcn" else [network.layers[-1]]
    with torch.no_grad():
        for layer in last:
            layer.weight *= 20  # decided answers: probabilities spread over (0, 1)
    return network.eval()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "tiling",
    [
        TilingOptions(160, 112, 52),
        TilingOptions(165, 117, 52),  # not multiples of 8: the pooling grid must not shift
    ],
)
def test_windows_give_what_the_whole_plane_gives(architecture, tiling):
    network, plane = alive(architecture), noise(202, 331)
    whole = predict(network, plane, tiling=TilingOptions(1024, 0), precision="float32")
    cut = predict(network, plane, tiling=tiling, precision="float32")
    assert whole.std() > 0.05
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_the_default_margin_covers_the_reach_of_every_network():
    assert REACH_PX <= WINDOWS.margin_px <= WINDOWS.overlap_px // 2


@pytest.mark.parametrize("shape", [(33, 47), (1, 1), (7, 50), (8, 8), (64, 3)])
def test_any_size_of_plane(shape):
    chance = predict(alive(), noise(*shape))
    assert chance.shape == shape
    assert chance.dtype == np.float32
    assert ((chance >= 0) & (chance <= 1)).all()
    assert chance.flags["C_CONTIGUOUS"]


def test_a_ragged_plane_is_answered_as_the_same_plane_in_a_larger_one():
    """What mirroring adds at the lower and right edge does not reach the upper left part."""
    network, plane = alive(), noise(160, 200)
    ragged = predict(network, plane[:155, :197], precision="float32")
    whole = predict(network, plane, precision="float32")
    np.testing.assert_allclose(ragged[:96, :136], whole[:96, :136], atol=1e-5)


def test_integer_planes_and_strided_views_are_taken():
    network, plane = alive(), (noise(40, 64) * 3).astype(np.int16)
    wanted = predict(network, plane.astype(np.float32))
    np.testing.assert_array_equal(predict(network, plane), wanted)
    strided = np.asfortranarray(plane.astype(np.float32))
    np.testing.assert_array_equal(predict(network, strided), wanted)


def test_prediction_leaves_no_trace_on_the_network():
    network = alive()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    predict(network, noise(32, 32))
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert not network.training


def test_a_loaded_model_answers_as_its_network(bundle, tmp_path):
    save_bundle(tmp_path / "m.safetensors", bundle)
    model = load_model(tmp_path / "m.safetensors")
    plane = noise(33, 47)
    wanted = predict(bundle.network(), plane)
    np.testing.assert_array_equal(model.probability(plane), wanted)
    np.testing.assert_array_equal(as_model(bundle).probability(plane), wanted)
    assert model.bundle.threshold == bundle.threshold


def test_bfloat16_is_near_float32():
    network, plane = alive(), noise(48, 64)
    exact = predict(network, plane, precision="float32")
    rough = predict(network, plane, precision="bfloat16")
    assert 0 < np.abs(exact - rough).max() < 0.1
