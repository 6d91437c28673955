"""Segmentation networks from their specification: one channel in, one channel of logits out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from defectops.errors import SettingsRefused
from defectops.learning.folding import (
    FoldedConv,
    FoldedNorm,
    FoldedPool,
    FoldedUp,
    ShuffledUp,
    fold,
    unfold,
)

Architecture = Literal["defectsegnet", "unet", "fcdensenet", "fcn"]


@dataclass(frozen=True)
class NetworkSpec:
    """What is needed to build a network again.

    Parameters
    ----------
    architecture : {"defectsegnet", "unet", "fcdensenet", "fcn"}
    width : float
        Factor on the number of channels of every hidden layer.
    dropout : float
        Probability, in [0, 0.9], of dropping a channel after each block.
    batch_norm : bool
        Batch normalisation after each convolution.
    released : bool
        Activation before normalisation and symmetric borders (the outermost pixel is repeated),
        as in the authors' released code of DefectSegNet. The output stays logits.
    """

    architecture: Architecture = "defectsegnet"
    width: float = 1.0
    dropout: float = 0.0
    batch_norm: bool = True
    released: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in get_args(Architecture):
            allowed = ", ".join(get_args(Architecture))
            raise SettingsRefused(
                "network",
                "E_CONFIG",
                f"unknown architecture {self.architecture!r}; allowed: {allowed}",
            )
        if not 0.05 <= self.width <= 8:
            raise SettingsRefused(
                "network", "E_CONFIG", f"width must be 0.05 to 8, got {self.width}"
            )
        if not 0 <= self.dropout <= 0.9:
            raise SettingsRefused(
                "network", "E_CONFIG", f"dropout must be 0 to 0.9, got {self.dropout}"
            )


@dataclass(frozen=True)
class Node:
    """One operation of a network graph.

    Parameters
    ----------
    op : {"conv", "pool", "up", "logits"}
        3x3 convolution, 2x2 maximum pooling, 2x2 transposed convolution of stride 2, and the last
        3x3 convolution, which has no activation.
    inputs : tuple of int
        Nodes whose maps are concatenated; 0 is the image.
    channels : int
        Output channels at width 1; 0 for pooling, which keeps them.
    """

    op: Literal["conv", "pool", "up", "logits"]
    inputs: tuple[int, ...]
    channels: int = 0


# DefectSegNet node by node (1 to 20), after the authors' published architecture table;
# Roberts et al. 2019, DOI 10.1038/s41598-019-49105-0.
DEFECTSEGNET = (
    Node("conv", (0,), 4),
    Node("conv", (0, 1), 4),
    Node("pool", (0, 1, 2)),
    Node("conv", (3,), 16),
    Node("conv", (3, 4), 16),
    Node("pool", (3, 4, 5)),
    Node("conv", (6,), 32),
    Node("conv", (6, 7), 32),
    Node("pool", (6, 7, 8)),
    Node("conv", (9,), 64),
    Node("conv", (9, 10), 64),
    Node("up", (9, 10, 11), 32),
    Node("conv", (6, 7, 8, 12), 32),
    Node("conv", (6, 7, 8, 12, 13), 32),
    Node("up", (6, 7, 8, 12, 13, 14), 16),
    Node("conv", (3, 4, 5, 15), 16),
    Node("conv", (3, 4, 5, 15, 16), 16),
    Node("up", (3, 4, 5, 15, 16, 17), 8),
    Node("conv", (0, 1, 2, 18), 4),
    Node("logits", (0, 1, 2, 18, 19), 1),
)

# U-Net (Ronneberger et al. 2015, DOI 10.1007/978-3-319-24574-4_28): only the last map of a level
# crosses over. Channels as above, so that the two differ in their edges.
UNET = (
    Node("conv", (0,), 8),
    Node("conv", (1,), 8),
    Node("pool", (2,)),
    Node("conv", (3,), 16),
    Node("conv", (4,), 16),
    Node("pool", (5,)),
    Node("conv", (6,), 32),
    Node("conv", (7,), 32),
    Node("pool", (8,)),
    Node("conv", (9,), 64),
    Node("conv", (10,), 64),
    Node("up", (11,), 32),
    Node("conv", (8, 12), 32),
    Node("conv", (13,), 32),
    Node("up", (14,), 16),
    Node("conv", (5, 15), 16),
    Node("conv", (16,), 16),
    Node("up", (17,), 8),
    Node("conv", (2, 18), 8),
    Node("logits", (19,), 1),
)

# FC-DenseNet (Jegou et al. 2017, DOI 10.1109/CVPRW.2017.156): dense blocks and long skips, but
# an up-sampling takes only the maps that its own block made.
FCDENSENET = (
    Node("conv", (0,), 4),
    Node("conv", (0, 1), 4),
    Node("pool", (0, 1, 2)),
    Node("conv", (3,), 16),
    Node("conv", (3, 4), 16),
    Node("pool", (3, 4, 5)),
    Node("conv", (6,), 32),
    Node("conv", (6, 7), 32),
    Node("pool", (6, 7, 8)),
    Node("conv", (9,), 64),
    Node("conv", (9, 10), 64),
    Node("up", (10, 11), 32),
    Node("conv", (6, 7, 8, 12), 32),
    Node("conv", (6, 7, 8, 12, 13), 32),
    Node("up", (13, 14), 16),
    Node("conv", (3, 4, 5, 15), 16),
    Node("conv", (3, 4, 5, 15, 16), 16),
    Node("up", (16, 17), 8),
    Node("conv", (0, 1, 2, 18), 4),
    Node("logits", (0, 1, 2, 18, 19), 1),
)

GRAPHS = {"defectsegnet": DEFECTSEGNET, "unet": UNET, "fcdensenet": FCDENSENET}


def build(spec: NetworkSpec, seed: int | None = None) -> nn.Module:
    """Return a freshly initialised network; the same seed gives the same weights.

    Its ``forward`` takes float tensors of shape (N, 1, H, W), H and W multiples of
    `multiple_px`, and returns logits of the same shape.
    """
    if seed is not None:
        torch.manual_seed(seed)
    if spec.architecture == "fcn":
        return FullyConvolutional(spec)
    return GraphNetwork(GRAPHS[spec.architecture], spec)


def multiple_px(spec: NetworkSpec) -> int:
    """Return the number that the edges of an input must be a multiple of, in pixels."""
    return 8 if spec.architecture != "fcn" else FullyConvolutional.LEVELS_PX


def receptive_field_px(spec: NetworkSpec) -> int:
    """Return how wide a square of the input one output pixel depends on, in pixels.

    Found by following every path through the graph, as a mean over the places a pixel can have in
    the pooling grid: 96 px for DefectSegNet (92 or 100).
    """
    graph = FullyConvolutional.GRAPH if spec.architecture == "fcn" else GRAPHS[spec.architecture]
    reach = {0: (0, 1)}  # node: (pixels seen to one side, pixel step), grown outwards
    for number, node in enumerate(graph, 1):
        side = max(reach[i][0] for i in node.inputs)
        step = reach[node.inputs[0]][1]
        if node.op == "pool":
            reach[number] = (side + step, step * 2)  # 2 x 2: one step to one side
        elif node.op == "up":
            reach[number] = (side, step // 2)
        else:
            reach[number] = (side + 2 * step, step)
    width = reach[len(graph)][0] + 1
    # Bilinear up-sampling looks at one coarse neighbour more, at each of three levels.
    return width + (8 + 4 + 2 if spec.architecture == "fcn" else 0)


def weight_count(network: nn.Module, *, with_batch_norm: bool = False) -> int:
    """Return the number of trainable weights; batch normalisation is left out unless asked for."""
    count = 0
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not with_batch_norm:
            continue
        count += sum(p.numel() for p in module.parameters(recurse=False))
    return count


class GraphNetwork(nn.Module):
    """A network wired as a tuple of nodes says; the outermost level is computed folded."""

    def __init__(self, graph: tuple[Node, ...], spec: NetworkSpec) -> None:
        super().__init__()
        self.graph = graph
        self.folds = not spec.released  # symmetric borders do not fold
        channels, level = {0: 1}, {0: 0}
        self.layers = nn.ModuleList()
        for number, node in enumerate(graph, 1):
            given = sum(channels[i] for i in node.inputs)
            made = given if node.op == "pool" else _scaled(node, spec)
            level[number] = level[node.inputs[0]] + {"pool": 1, "up": -1}.get(node.op, 0)
            outermost = self.folds and min(level[number], level[node.inputs[0]]) == 0
            self.layers.append(_layer(node.op, given, made, spec, folded=outermost))
            channels[number] = made
        # A map is dropped as soon as no later node needs it: half the memory at inference.
        self.last_use = {i: n for n, node in enumerate(graph, 1) for i in node.inputs}

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of shape (N, 1, H, W)."""
        image = _in_autocast_dtype(image)
        out = fold(image) if self.folds else image
        maps = {0: out}
        for number, (node, layer) in enumerate(zip(self.graph, self.layers, strict=True), 1):
            given = [maps[i] for i in node.inputs]
            out = layer(given[0] if len(given) == 1 else torch.cat(given, 1))
            maps[number] = out
            for i in node.inputs:
                if self.last_use[i] == number:
                    del maps[i]
        return unfold(out) if self.folds else out


class FullyConvolutional(nn.Module):
    """FCN: scores of three scales, summed after bilinear up-sampling.

    Long et al. 2015, DOI 10.1109/CVPR.2015.7298965.
    """

    LEVELS_PX = 8
    GRAPH = (
        Node("conv", (0,), 8),
        Node("conv", (1,), 8),
        Node("pool", (2,)),
        Node("conv", (3,), 16),
        Node("conv", (4,), 16),
        Node("pool", (5,)),
        Node("conv", (6,), 32),
        Node("conv", (7,), 32),
        Node("pool", (8,)),
        Node("conv", (9,), 64),
        Node("conv", (10,), 64),
    )

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        given = 1
        for node in self.GRAPH:
            made = given if node.op == "pool" else _scaled(node, spec)
            self.layers.append(_layer(node.op, given, made, spec, folded=False))
            given = made
        kept = {n: _scaled(self.GRAPH[n - 1], spec) for n in (2, 5, 8, 11)}
        self.scores = nn.ModuleDict({str(n): nn.Conv2d(c, 1, 1) for n, c in kept.items()})

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of shape (N, 1, H, W)."""
        out, kept = image, {}
        for number, layer in enumerate(self.layers, 1):
            out = layer(out)
            if str(number) in self.scores:
                kept[number] = self.scores[str(number)](out)
        fused: Tensor = kept[11]
        for number in (8, 5, 2):
            fused = kept[number] + functional.interpolate(
                fused, scale_factor=2, mode="bilinear", align_corners=False
            )
        return fused


def _scaled(node: Node, spec: NetworkSpec) -> int:
    return 1 if node.op == "logits" else max(1, round(node.channels * spec.width))


def _layer(op: str, given: int, made: int, spec: NetworkSpec, *, folded: bool) -> nn.Module:
    if op == "pool":
        steps: list[nn.Module] = [FoldedPool() if folded else nn.MaxPool2d(2)]
        if spec.released and spec.batch_norm:
            steps.append(nn.BatchNorm2d(given))
        if spec.dropout:
            steps.append(nn.Dropout2d(spec.dropout))
        return nn.Sequential(*steps)
    convolution = _convolution(op, given, made, spec, folded=folded)
    if op == "logits":
        return convolution
    norm: list[nn.Module] = []
    if spec.batch_norm:
        norm = [FoldedNorm(made) if folded else nn.BatchNorm2d(made)]
    if spec.released:
        active = [] if op == "up" else [nn.ReLU()]
        return nn.Sequential(convolution, *active, *norm)
    return nn.Sequential(convolution, *norm, nn.ReLU())


def _convolution(op: str, given: int, made: int, spec: NetworkSpec, *, folded: bool) -> nn.Module:
    if op == "up":
        return (FoldedUp if folded else ShuffledUp)(given, made, 2, stride=2)
    if folded:
        return FoldedConv(given, made, 3, padding=1)
    # One pixel of symmetric border is the edge pixel again: "replicate", not "reflect".
    mode: Literal["zeros", "replicate"] = "replicate" if spec.released else "zeros"
    return nn.Conv2d(given, made, 3, padding=1, padding_mode=mode)


def _in_autocast_dtype(image: Tensor) -> Tensor:
    """Cast the image first: concatenated with it, every other map would become float32 again."""
    if torch.is_autocast_enabled(image.device.type):
        return image.to(torch.get_autocast_dtype(image.device.type))
    return image
