"""Folded layers are the plain layers, in value and in gradient."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from defectops.learning import folding
from defectops.learning.inference import predict
from defectops.learning.networks import NetworkSpec, build


def plain(network, image):
    """The same graph with PyTorch's own layers and the same weights, nothing folded."""
    maps = [image]
    for node, layer in zip(network.graph, network.layers, strict=True):
        given = torch.cat([maps[i] for i in node.inputs], 1)
        if node.op == "pool":
            maps.append(functional.max_pool2d(given, 2))
            continue
        parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
        weight, bias = parts[0].weight, parts[0].bias
        if node.op == "up":
            out = functional.conv_transpose2d(given, weight, bias, stride=2)
        else:
            out = functional.conv2d(given, weight, bias, padding=1)
        for part in parts[1:]:
            if isinstance(part, nn.BatchNorm2d):
                out = functional.batch_norm(
                    out, None, None, part.weight, part.bias, training=True, eps=part.eps
                )
            else:
                out = functional.relu(out)
        maps.append(out)
    return maps[-1]


def gradients(network, out):
    network.zero_grad()
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return {n: p.grad.clone() for n, p in network.named_parameters()}


@pytest.mark.parametrize("architecture", ["defectsegnet", "unet", "fcdensenet"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_folded_network_is_the_plain_one_in_value_and_gradient(architecture, batch_norm):
    network = build(NetworkSpec(architecture, width=0.3, batch_norm=batch_norm), 1).double()
    for name, weight in network.named_parameters():
        if weight.ndim == 1:  # biases and norms begin at 0 and 1, where mistakes hide
            torch.nn.init.uniform_(weight, 0.5, 1.5)
        assert weight.requires_grad, name
    image = torch.randn(2, 1, 24, 40, dtype=torch.float64)
    folded, straight = network(image), plain(network, image)
    torch.testing.assert_close(folded, straight, atol=1e-8, rtol=1e-5)
    given, wanted = gradients(network, folded), gradients(network, straight)
    for name in wanted:
        torch.testing.assert_close(given[name], wanted[name], atol=1e-8, rtol=1e-5)


def test_fold_and_unfold_are_inverse():
    image = torch.randn(2, 3, 4, 6)
    assert folding.fold(image).shape == (2, 12, 2, 3)
    assert torch.equal(folding.unfold(folding.fold(image)), image)
    assert torch.equal(folding.fold(image)[:, 4 * 2 + 3], image[:, 2, 1::2, 1::2])


def test_folded_convolution_is_the_convolution():
    layer = folding.FoldedConv(3, 5, 3, padding=1)
    image = torch.randn(2, 3, 6, 10)
    wanted = functional.conv2d(image, layer.weight, layer.bias, padding=1)
    found = folding.unfold(layer(folding.fold(image)))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_shuffled_transposed_convolution_is_the_transposed_convolution():
    layer, folded = folding.ShuffledUp(3, 5, 2, stride=2), folding.FoldedUp(3, 5, 2, stride=2)
    folded.load_state_dict(layer.state_dict())
    image = torch.randn(2, 3, 6, 10)
    wanted = functional.conv_transpose2d(image, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(layer(image), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folding.unfold(folded(image)), wanted, atol=1e-5, rtol=1e-5)


def test_folded_norm_keeps_the_running_statistics_of_the_plain_one():
    plain_norm, folded_norm = nn.BatchNorm2d(3), folding.FoldedNorm(3)
    image = torch.randn(2, 3, 6, 10) * 3 + 1
    found = folding.unfold(folded_norm(folding.fold(image)))
    torch.testing.assert_close(found, plain_norm(image), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(folded_norm.running_mean, plain_norm.running_mean)
    torch.testing.assert_close(folded_norm.running_var, plain_norm.running_var)


def test_folded_pool_is_the_pool():
    image = torch.randn(2, 3, 6, 10)
    assert torch.equal(folding.FoldedPool()(folding.fold(image)), functional.max_pool2d(image, 2))


def test_training_works_after_a_prediction_in_the_same_process():
    """The table of places is built once; built under inference mode it could not be trained."""
    folding._places.cache_clear()
    network = build(NetworkSpec(width=0.1), 0).eval()
    predict(network, np.zeros((16, 16), np.float32))
    network.train()
    network(torch.randn(1, 1, 16, 16)).sum().backward()
    assert network.layers[0][0].weight.grad.abs().sum() > 0
