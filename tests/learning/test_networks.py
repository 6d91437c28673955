"""Networks: the published table edge by edge, how far they see, what they take and give."""

import pytest
import torch
from torch import nn

from defectops.errors import SettingsRefused
from defectops.learning.networks import (
    DEFECTSEGNET,
    FCDENSENET,
    UNET,
    NetworkSpec,
    build,
    multiple_px,
    receptive_field_px,
    weight_count,
)

ARCHITECTURES = ("defectsegnet", "unet", "fcdensenet", "fcn")

# Roberts et al. 2019 as the authors published it: operation, inputs (0 = image), channels in and
# out, weights. Typed here once more, by hand, so that the graph is compared with the table.
TABLE = """
conv    0               1   4      40
conv    0,1             5   4     184
pool    0,1,2           9   9       0
conv    3               9  16    1312
conv    3,4            25  16    3616
pool    3,4,5          41  41       0
conv    6              41  32   11840
conv    6,7            73  32   21056
pool    6,7,8         105 105       0
conv    9             105  64   60544
conv    9,10          169  64   97408
up      9,10,11       233  32   29856
conv    6,7,8,12      137  32   39488
conv    6,7,8,12,13   169  32   48704
up      6,7,8,12,13,14 201 16   12880
conv    3,4,5,15       57  16    8224
conv    3,4,5,15,16    73  16   10528
up      3,4,5,15,16,17 89   8    2856
conv    0,1,2,18       17   4     616
logits  0,1,2,18,19    21   1     190
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


def test_defectsegnet_is_the_published_table_node_for_node():
    assert len(DEFECTSEGNET) == 20
    network = build(NetworkSpec(batch_norm=False))
    for node, layer, row in zip(DEFECTSEGNET, network.layers, ROWS, strict=True):
        op, inputs, given, made, weights = row
        assert (node.op, node.inputs) == (op, tuple(int(i) for i in inputs.split(",")))
        assert sum(p.numel() for p in layer.parameters()) == int(weights)
        for part in layer.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                assert (part.in_channels, part.out_channels) == (int(given), int(made))
    assert weight_count(network) == sum(int(r[4]) for r in ROWS) == 349_342


def test_batch_norm_adds_two_weights_a_channel_after_each_convolution():
    network = build(NetworkSpec())
    channels = sum(int(r[3]) for r in ROWS if r[0] in ("conv", "up"))
    assert weight_count(network) == 349_342
    assert weight_count(network, with_batch_norm=True) == 349_342 + 2 * channels


def test_released_order_activates_before_it_normalises():
    network = build(NetworkSpec(released=True))
    assert [type(m) for m in network.layers[0]] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert [type(m) for m in network.layers[2]] == [nn.MaxPool2d, nn.BatchNorm2d]
    assert nn.ReLU not in [type(m) for m in network.layers[11]]
    assert weight_count(network) == 349_342


def test_released_borders_repeat_the_outermost_pixel():
    """`SYMMETRIC` of one pixel: a constant image has no border at all."""
    network = build(NetworkSpec(released=True, width=0.25, batch_norm=False), 1).eval()
    edge = torch.arange(16.0).repeat(16, 1)[None, None]
    first = network.layers[0][0]
    padded = torch.cat([edge[..., :1], edge, edge[..., -1:]], 3)
    padded = torch.cat([padded[:, :, :1], padded, padded[:, :, -1:]], 2)
    wanted = nn.functional.conv2d(padded, first.weight, first.bias)
    torch.testing.assert_close(first(edge), wanted)


def test_the_other_networks_differ_from_defectsegnet_in_their_edges():
    assert UNET[12].inputs == (8, 12)  # the last map of a level only
    assert UNET[15].inputs == (5, 15)
    assert UNET[18].inputs == (2, 18)
    ups = [(n.inputs, d.inputs) for n, d in zip(FCDENSENET, DEFECTSEGNET, strict=True) if n != d]
    assert ups == [
        ((10, 11), (9, 10, 11)),
        ((13, 14), (6, 7, 8, 12, 13, 14)),
        ((16, 17), (3, 4, 5, 15, 16, 17)),
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", [0.05, 0.3])
@pytest.mark.parametrize("released", [False, True])
def test_logits_have_the_size_of_the_input_at_any_width(architecture, width, released):
    spec = NetworkSpec(architecture, width=width, dropout=0.2, released=released)
    edge = multiple_px(spec)
    assert edge == 8
    out = build(spec, 0)(torch.randn(2, 1, edge * 2, edge * 3))
    assert out.shape == (2, 1, 16, 24)
    assert out.min() < 0 or out.max() > 1  # logits, not probabilities


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_are_logits_of_both_signs(architecture):
    out = build(NetworkSpec(architecture, width=0.3), 4)(torch.randn(2, 1, 32, 32) * 3)
    assert out.min() < 0
    assert (out < 0).any() or (out > 1).any()


def test_the_same_seed_gives_the_same_weights():
    spec = NetworkSpec(width=0.1)
    one, same, other = (build(spec, s).state_dict() for s in (7, 7, 8))
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert not all(torch.equal(one[n], other[n]) for n in one)


def seen(architecture):
    """Columns that an output pixel depends on, at each of the eight places in the pooling grid.

    All weights are positive and the image is positive, so nothing cancels: each column in turn
    is made huge, and whoever changes has seen it.
    """
    network = build(NetworkSpec(architecture, width=0.25, batch_norm=False)).double()
    width = 240
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                part.weight.fill_(1 / part.weight[0].numel())
                part.bias.zero_()
        plain = torch.ones(1, 1, 8, width, dtype=torch.float64)
        images = plain.repeat(width, 1, 1, 1)
        for column in range(width):
            images[column, ..., column] += 1e60
        changed = (network(images)[:, 0, 4] - network(plain)[:, 0, 4]).abs() > 1e-3
    return changed[:, 112:120].sum(0).tolist()


@pytest.mark.parametrize(
    ("architecture", "mean"), [("defectsegnet", 96), ("unet", 96), ("fcdensenet", 96), ("fcn", 82)]
)
def test_receptive_field_is_what_an_output_pixel_depends_on(architecture, mean):
    widths = seen(architecture)
    assert sum(widths) / 8 == mean == receptive_field_px(NetworkSpec(architecture))
    if architecture != "fcn":
        assert set(widths) == {92, 100}


def test_gradients_stay_within_the_receptive_field():
    network = build(NetworkSpec(width=0.5), 2).double().eval()
    image = torch.randn(1, 1, 8, 240, dtype=torch.float64, requires_grad=True)
    network(image)[0, 0, 4, 115].backward()
    columns = torch.nonzero(image.grad[0, 0].abs().sum(0)).flatten()
    assert 40 < int(columns[-1] - columns[0]) + 1 <= 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "resnet"},
        {"architecture": ["unet"]},
        {"width": 0.01},
        {"width": 9},
        {"width": float("nan")},
        {"dropout": -0.1},
        {"dropout": 0.95},
        {"dropout": float("nan")},
    ],
)
def test_a_spec_out_of_range_is_refused(wrong):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        NetworkSpec(**wrong)


def test_dropout_is_active_in_training_and_off_in_evaluation():
    network = build(NetworkSpec(width=0.5, dropout=0.5, batch_norm=False), 0)
    image = torch.randn(1, 1, 32, 32)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_no_dropout_is_no_dropout():
    network = build(NetworkSpec(width=0.5, dropout=0.0, batch_norm=False), 0)
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(network(image), network(image))
