"""From a conditioned micrograph to the probability of a defect at each pixel, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from defectops.imaging.tiling import TilingOptions, process
from defectops.learning.bundle import Bundle, load_bundle
from defectops.learning.machine import Precision, autocast, device

if TYPE_CHECKING:
    from defectops.micrograph import Array
from defectops.learning.networks import multiple_px


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
        Conditioned micrograph of any size; edges are extended by mirroring to a multiple of
        `multiple_px`.
    multiple_px : int
        What the network needs, see `defectops.learning.networks.multiple_px`.
    tiling : TilingOptions, optional
    precision : {"auto", "float32", "bfloat16"}

    Returns
    -------
    ndarray of float32, shape (H, W)
        In [0, 1].
    """
    on = next(network.parameters()).device

    def window(part: Array) -> Array:
        image = torch.from_numpy(np.ascontiguousarray(part, np.float32))[None, None].to(on)
        logits = padded_forward(network, image, multiple_px, precision)
        return torch.sigmoid(logits)[0, 0].cpu().numpy()

    return process(plane, window, tiling or TilingOptions())


def padded_forward(
    network: nn.Module, image: Tensor, multiple_px: int, precision: Precision
) -> Tensor:
    """Return float32 logits of images (N, 1, H, W) of any size, without gradients."""
    height, width = image.shape[-2:]
    down, right = -height % multiple_px, -width % multiple_px
    mode = "reflect" if down < height and right < width else "replicate"
    image = functional.pad(image, (0, right, 0, down), mode=mode)
    with torch.inference_mode(), autocast(precision, image.device):
        return network(image)[..., :height, :width].float()  # type: ignore[no-any-return]


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
