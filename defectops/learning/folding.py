"""Full-resolution layers computed at half resolution with four times the channels.

A map (N, C, H, W) is folded to (N, 4C, H/2, W/2): channel ``4c + p`` holds the pixels of phase p of
channel c (``pixel_unshuffle``). A 3 x 3 convolution of a map is then a 3 x 3 convolution of the
folded map with the same weights in other places, so the result is the same function. It is
quicker because processors work on blocks of 16 channels, and the outermost maps have only 4.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional


def fold(image: Tensor) -> Tensor:
    """Return (N, 4C, H/2, W/2) of (N, C, H, W)."""
    return functional.pixel_unshuffle(image, 2)


def unfold(folded: Tensor) -> Tensor:
    """Return (N, C, H, W) of (N, 4C, H/2, W/2)."""
    return functional.pixel_shuffle(folded, 2)


class FoldedConv(nn.Conv2d):
    """A 3 x 3 convolution with zero borders, on folded maps."""

    def forward(self, folded: Tensor) -> Tensor:
        """Return the folded result; `folded` is (N, 4 * in_channels, H/2, W/2)."""
        weight = _folded_weight(self.weight)
        return functional.conv2d(folded, weight, _repeated(self.bias), padding=1)


class ShuffledUp(nn.ConvTranspose2d):
    """A 2 x 2 transposed convolution of stride 2, as a 1 x 1 convolution whose result is folded."""

    def forward(self, image: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (N, out_channels, 2H, 2W)."""
        return unfold(self.folded(image))

    def folded(self, image: Tensor) -> Tensor:
        """Return the result folded, (N, 4 * out_channels, H, W)."""
        given, made = self.weight.shape[:2]
        weight = self.weight.permute(1, 2, 3, 0).reshape(made * 4, given, 1, 1)
        return functional.conv2d(image, weight, _repeated(self.bias))


class FoldedUp(ShuffledUp):
    """A transposed convolution that stays folded."""

    def forward(self, image: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (N, 4 * out_channels, H, W)."""
        return self.folded(image)


class FoldedNorm(nn.BatchNorm2d):
    """Batch normalisation of folded maps: the four phases of a channel share their statistics."""

    def forward(self, folded: Tensor) -> Tensor:
        """Return the folded result."""
        count, channels, height, width = folded.shape
        together = folded.reshape(count, channels // 4, 4 * height, width)
        return super().forward(together).view(count, channels, height, width)


class FoldedPool(nn.Module):
    """2 x 2 maximum pooling of a folded map: the maximum over its phases."""

    def forward(self, folded: Tensor) -> Tensor:
        """Return (N, C, H/2, W/2) of (N, 4C, H/2, W/2)."""
        count, channels, height, width = folded.shape
        return folded.view(count, channels // 4, 4, height, width).amax(2)


def _repeated(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.repeat_interleave(4)


def _folded_weight(weight: Tensor) -> Tensor:
    made, given = weight.shape[:2]
    places = _places().to(weight.device, weight.dtype)
    spread = weight.reshape(made * given, 9) @ places.reshape(9, 144)
    return (
        spread.view(made, given, 4, 4, 3, 3)
        .permute(0, 2, 1, 3, 4, 5)
        .reshape(made * 4, given * 4, 3, 3)
    )


@cache
def _places() -> Tensor:
    """Return 0 or 1 for (tap, output phase, input phase, row, column) of the folded kernel."""
    with torch.inference_mode(False):  # kept for training too, whoever asks first
        places = torch.zeros(9, 4, 4, 3, 3)
    for tap in range(9):
        for phase in range(4):
            row = phase // 2 + tap // 3 - 1  # in full-resolution pixels from the block's corner
            column = phase % 2 + tap % 3 - 1
            source = (row % 2) * 2 + column % 2
            places[tap, phase, source, row // 2 + 1, column // 2 + 1] = 1
    return places
