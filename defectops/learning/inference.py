"""From a conditioned micrograph to the probability of a defect at each pixel, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from defectops.imaging.tiling import TilingOptions, process
from defectops.learning.bundle import Bundle, load_bundle
from defectops.learning.machine import Precision, autocast, device
from defectops.learning.networks import multiple_px

if TYPE_CHECKING:
    from defectops.micrograph import Array

# A pixel depends on at most 51 px to each side, so what a window knows too little about is left
# to its neighbours.
WINDOWS = TilingOptions(window_px=1024, overlap_px=128, margin_px=56)


def predict(
    network: nn.Module,
    plane: Array,
    *,
    multiple_px: int = 8,
    tiling: TilingOptions | None = None,
    precision: Precision = "auto",
) -> Array:
    """Return the probability of a defect at each pixel.

    Parameters
    ----------
    network : Module
        In evaluation mode, on any device.
    plane : ndarray of float32, shape (H, W)
        Conditioned micrograph of any size; it is extended by mirroring, downwards and to the
        right, to a multiple of `multiple_px`.
    multiple_px : int
        What the network needs, see `defectops.learning.networks.multiple_px`.
    tiling : TilingOptions, optional
        `WINDOWS` if not given. Lengths are taken down to multiples of `multiple_px`, so that
        each window sees the pooling grid that the whole plane has.
    precision : {"auto", "float32", "bfloat16"}

    Returns
    -------
    ndarray of float32, shape (H, W)
        In [0, 1].
    """
    on = next(network.parameters()).device
    height, width = plane.shape

    def window(part: Array) -> Array:
        image = torch.from_numpy(np.ascontiguousarray(part, np.float32))[None, None].to(on)
        with torch.inference_mode(), autocast(precision, on):
            logits = network(image).float()
        return torch.sigmoid(logits)[0, 0].cpu().numpy()

    extended = np.pad(
        plane, ((0, -height % multiple_px), (0, -width % multiple_px)), mode="reflect"
    )
    chance = process(extended, window, _aligned(tiling or WINDOWS, multiple_px))
    return np.ascontiguousarray(chance[:height, :width])


def _aligned(tiling: TilingOptions, multiple_px: int) -> TilingOptions:
    window = max(1, tiling.window_px // multiple_px) * multiple_px
    overlap = min(tiling.overlap_px // multiple_px * multiple_px, window - multiple_px)
    return TilingOptions(window, overlap, min(tiling.margin_px, overlap // 2))


def to_device(network: nn.Module) -> nn.Module:
    """Return the network on the best device there is."""
    return network.to(device())


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A bundle with its network on the best device."""

    bundle: Bundle
    network: nn.Module

    def probability(self, conditioned: Array) -> Array:
        """Return the probability of the defect at each pixel of a conditioned plane (H, W)."""
        edge = multiple_px(self.bundle.spec)
        return predict(self.network, conditioned, multiple_px=edge)


def load_model(path: Path, sha256: str | None = None) -> LoadedModel:
    """Load a bundle for use; see `defectops.learning.bundle.load_bundle` for what is refused."""
    return as_model(load_bundle(path, sha256))


def as_model(bundle: Bundle) -> LoadedModel:
    """Return a bundle ready for use."""
    return LoadedModel(bundle, to_device(bundle.network()))
