"""Losses: values computed by hand, and each term proven to act."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from defectops.errors import SettingsRefused
from defectops.learning.losses import (
    LossName,
    centre_line_dice,
    dice,
    focal,
    l2_penalty,
    segmentation_loss,
    tversky,
    weighted_cross_entropy,
)
from defectops.learning.networks import NetworkSpec, build

LOSSES = get_args(LossName)
LN3, SURE = math.log(3), 100.0  # probabilities 3/4 and 1


def row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_weighted_cross_entropy_by_hand():
    # p = 1/2, 3/4 and 1/4; two positive pixels at weight 2, one negative.
    found = weighted_cross_entropy(row(0, LN3, -LN3), row(1, 1, 0), row(1, 1, 1), 2.0)
    wanted = (2 * math.log(2) + 2 * math.log(4 / 3) + math.log(4 / 3)) / 3
    assert float(found) == pytest.approx(wanted)


def test_ignored_pixels_leave_the_mean_too():
    found = weighted_cross_entropy(row(0, LN3, -5), row(1, 1, 1), row(1, 1, 0), 1.0)
    assert float(found) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_focal_by_hand():
    # Wrong by 1/4, squared, times the cross-entropy; a positive and a negative pixel.
    found = focal(row(LN3, -LN3), row(1, 0), row(1, 1), 3.0)
    assert float(found) == pytest.approx((3 + 1) / 2 * math.log(4 / 3) / 16)


def test_dice_by_hand():
    # One hit, one missed, one invented: (2 * 1 + 2) / (2 + 2 + 2) with one added above and below.
    found = dice(row(SURE, SURE, -SURE, -SURE), row(1, 0, 1, 0), row(1, 1, 1, 1))
    assert float(found) == pytest.approx(1 - 2 / 3)


def test_tversky_by_hand():
    logits = row(SURE, SURE, -SURE, -SURE, -SURE)
    found = tversky(logits, row(1, 0, 1, 1, 0), row(1, 1, 1, 1, 1))
    # One hit, one invented at 0.3, two missed at 0.7.
    assert float(found) == pytest.approx(1 - (1 + 1) / (1 + 0.3 + 1.4 + 1))


def test_tversky_charges_more_for_missed_than_for_invented():
    label, valid = row(1, 0), row(1, 1)
    missed = tversky(row(-SURE, -SURE), label, valid)
    invented = tversky(row(SURE, SURE), label, valid)
    assert missed > invented
    assert dice(row(-SURE, -SURE), label, valid) > dice(row(SURE, SURE), label, valid)


def test_perfect_answers_cost_nothing():
    label = (torch.arange(256).view(1, 1, 16, 16) % 5 == 0).double()
    logits, valid = (label * 2 - 1) * SURE, torch.ones_like(label)
    for name in LOSSES:
        assert float(segmentation_loss(name, logits, label, valid, 4.0)) == pytest.approx(0)


def test_centre_line_dice_prefers_an_unbroken_line_to_a_fatter_broken_one():
    label = torch.zeros(1, 1, 24, 40)
    label[..., 11:14, :] = 1
    unbroken, broken = torch.zeros_like(label), torch.zeros_like(label)
    unbroken[..., 12:13, :] = 1  # a third of the pixels, all of the line
    broken[..., 11:14, :] = 1
    broken[..., :, 15:25] = 0  # three quarters of both
    valid = torch.ones_like(label)

    def cost(loss, drawn):
        return float(loss((drawn * 2 - 1) * SURE, label, valid))

    assert cost(centre_line_dice, unbroken) < 0.05 < cost(centre_line_dice, broken)
    assert cost(dice, unbroken) > cost(dice, broken)  # which plain overlap sees the other way


def scene(seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 12, 20, generator=random, dtype=torch.float64) * 2
    label = (torch.rand(2, 1, 12, 20, generator=random) < 0.3).double()
    valid = (torch.rand(2, 1, 12, 20, generator=random) < 0.7).double()
    return logits.requires_grad_(), label, valid


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_gradient_and_no_say(name):
    logits, label, valid = scene()
    loss = segmentation_loss(name, logits, label, valid, 5.0)
    loss.backward()
    assert (logits.grad[valid == 0] == 0).all()
    assert (logits.grad[valid == 1] != 0).float().mean() > 0.9
    turned = torch.where(valid == 0, 1 - label, label)
    moved = torch.where(valid == 0, logits + 3, logits)
    torch.testing.assert_close(segmentation_loss(name, moved, turned, valid, 5.0), loss)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_valid_costs_nothing_and_moves_nothing(name):
    logits, label, valid = scene()
    loss = segmentation_loss(name, logits, label, torch.zeros_like(valid), 5.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0)
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_pushes_positive_pixels_up_and_negative_ones_down(name):
    # In a step down the gradient a positive pixel must rise: both terms count, unlike in the
    # released code, where negative pixels cost nothing.
    logits, label, valid = (torch.full((1, 1, 16, 16), v) for v in (0.0, 0.0, 1.0))
    label[..., 6:9, :] = 1
    logits.requires_grad_()
    segmentation_loss(name, logits, label, valid, 2.0).backward()
    assert (logits.grad[label == 1] < 0).all()
    assert (logits.grad[..., 0, :] > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_positive_weight_multiplies_the_entropy_of_positive_pixels_only(name):
    logits, label, valid = scene()
    steps = []
    for weight in (1.0, 2.0, 3.0):
        logits.grad = None
        segmentation_loss(name, logits, label, valid, weight).backward()
        steps.append(logits.grad.clone())
    counted = (label == 1) & (valid == 1)
    assert ((steps[1] - steps[0])[counted] < 0).all()
    assert (steps[1] == steps[0])[~counted].all()
    torch.testing.assert_close(steps[2] - steps[1], steps[1] - steps[0])


def test_l2_is_half_the_sum_of_squares_of_convolution_weights_only():
    network = build(NetworkSpec(width=0.1), 0)
    penalty = l2_penalty(network, 0.3)
    penalty.backward()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 17
    total = sum(float(m.weight.detach().square().sum()) for m in convolutions)
    assert float(penalty.detach()) == pytest.approx(0.15 * total, rel=1e-5)
    reached = {id(m.weight) for m in convolutions}
    for weight in network.parameters():
        if id(weight) in reached:
            torch.testing.assert_close(weight.grad, 0.3 * weight.detach())
        else:
            assert weight.grad is None


def test_unknown_loss_is_refused():
    logits, label, valid = scene()
    with pytest.raises(SettingsRefused, match=r"unknown loss 'hinge'; allowed: .*cldice"):
        segmentation_loss("hinge", logits, label, valid, 1.0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(name, seed):
    logits, label, valid = scene(seed)
    direction = torch.tensor(np.random.default_rng(seed).normal(size=logits.shape))
    segmentation_loss(name, logits, label, valid, 3.0).backward()
    with torch.no_grad():
        up, down = (
            float(segmentation_loss(name, logits + s * 1e-6 * direction, label, valid, 3.0))
            for s in (1, -1)
        )
    assert (up - down) / 2e-6 == pytest.approx(float((logits.grad * direction).sum()), rel=1e-3)
