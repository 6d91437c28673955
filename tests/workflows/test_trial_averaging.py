"""What a warm trial hands on: weights halfway to its parent's where they are better on dev."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from drawing import VOIDS, discs, field

from defectops.learning.bundle import Bundle
from defectops.learning.inference import as_model
from defectops.learning.networks import NetworkSpec, build, multiple_px
from defectops.learning.training import evaluate_dev
from defectops.learning.verifying import FROZEN_TOLERANCE, frozen_difference
from defectops.workflows.trial_averaging import better_half

TINY = NetworkSpec(width=0.1)


@pytest.fixture(scope="module")
def dev():
    label = discs((40, 48), (12, 12), (30, 34))
    noise = np.random.default_rng(0).normal(0, 0.4, label.shape)
    return [field(label, 2.0 * label + noise)]


@pytest.fixture(scope="module")
def pair(dev):
    """Two states as far apart as their mean is from each, and the IoU of all three on dev."""
    middle = build(TINY, 3).state_dict()
    generator = torch.Generator().manual_seed(5)
    step = {n: 0.3 * torch.randn(t.shape, generator=generator) for n, t in middle.items()}
    states = [_moved(middle, step, sign) for sign in (-1, 1, 0)]
    return states, [_iou(state, dev) for state in states]


def _moved(state, step, sign):
    return {
        n: t + sign * step[n] if t.is_floating_point() and "running" not in n else t
        for n, t in state.items()
    }


def _iou(state, dev):
    network = build(TINY)
    network.load_state_dict(state)
    return evaluate_dev(network, dev, multiple_px(TINY), "float32").iou


def bundle_of(state, dev_iou):
    training = {"metrics": {"dev_iou": dev_iou, "threshold": 0.5, "best_epoch": 4}}
    return Bundle(TINY, state, asdict(VOIDS), {}, 0.5, {}, training)


def test_the_better_of_the_two_is_handed_on(dev, pair):
    (before, after, middle), (_, _, best) = pair
    parent = bundle_of(before, 0.1)
    worse = as_model(bundle_of(after, 0.0)), best - 0.01
    found, iou = better_half(worse, parent, dev, dev, "float32")
    assert iou == best
    for name, tensor in middle.items():
        torch.testing.assert_close(found.bundle.weights[name], tensor)
    told = found.bundle.training["metrics"]
    assert told["dev_iou"] == round(best, 6)
    assert (told["halfway"], told["best_epoch"]) == (1, 4)
    assert found.bundle.threshold == told["threshold"]
    assert frozen_difference(found.bundle) < FROZEN_TOLERANCE
    torch.testing.assert_close(
        torch.from_numpy(found.probability(dev[0].intensity)),
        torch.from_numpy(as_model(found.bundle).probability(dev[0].intensity)),
    )


def test_a_trial_that_is_as_good_keeps_its_own(dev, pair):
    (before, after, _), (_, _, best) = pair
    good = as_model(bundle_of(after, 0.0)), best
    assert better_half(good, bundle_of(before, 0.1), dev, dev, "float32") is good
