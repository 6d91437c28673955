"""Does a bundle answer as it did when it was made? Its own test, on any machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from defectops.errors import IntegrityFault, ModelRefused
from defectops.learning.bundle import Bundle, Frozen
from defectops.learning.networks import multiple_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from defectops.micrograph import Array, Field

# Sums of float32 come out differently in their last bits on another processor, and probabilities
# then differ by 1e-6 to 1e-5. This is far above that, and far below what another model answers.
FROZEN_TOLERANCE = 1e-3
FROZEN_PX = 96


def freeze(bundle: Bundle, fields: Sequence[Field]) -> Bundle:
    """Return the bundle with a test in it: a piece of its training data, and its answer.

    Parameters
    ----------
    bundle : Bundle
    fields : sequence of Field
        Training fields, at least one.

    Returns
    -------
    Bundle
    """
    patch = torch.from_numpy(frozen_patch(fields))
    return replace(bundle, frozen=Frozen(patch, _answer(bundle, patch)))


def frozen_patch(fields: Sequence[Field]) -> Array:
    """Return the piece of the first field that shows most of the defect.

    Parameters
    ----------
    fields : sequence of Field
        At least one.

    Returns
    -------
    ndarray of float32, shape (96, 96)
        The first of the whole squares with the most labelled pixels; a smaller field is extended
        by mirroring.
    """
    field = fields[0]
    height, width = field.label.shape
    corners = [
        (top, left)
        for top in range(0, max(height - FROZEN_PX, 0) + 1, FROZEN_PX)
        for left in range(0, max(width - FROZEN_PX, 0) + 1, FROZEN_PX)
    ]
    counts = field.label & ~field.ignore
    top, left = max(corners, key=lambda c: int(_square(counts, *c).sum()))
    piece = _square(field.intensity, top, left)
    missing = [(0, FROZEN_PX - side) for side in piece.shape]
    return np.ascontiguousarray(np.pad(piece, missing, mode="symmetric"), np.float32)


def frozen_difference(bundle: Bundle, subject: str = "model") -> float:
    """Return how far the bundle's answer to its own test is from the one that was recorded.

    Returns
    -------
    float
        Largest difference of a pixel's probability, computed in float32 on the CPU.

    Raises
    ------
    ModelRefused
        ``E_MODEL_FROZEN``: there is no test in it, or its sides do not suit the network.
    """
    frozen = bundle.frozen
    if frozen is None:
        raise ModelRefused(subject, "E_MODEL_FROZEN", "missing its frozen test tensor")
    edge = multiple_px(bundle.spec)
    if any(side % edge for side in frozen.input.shape):
        raise ModelRefused(
            subject,
            "E_MODEL_FROZEN",
            f"invalid frozen test of {tuple(frozen.input.shape)} px: its sides must be multiples "
            f"of {edge}",
        )
    return float((_answer(bundle, frozen.input) - frozen.output).abs().max())


def require_frozen_answer(bundle: Bundle, subject: str) -> float:
    """Return `frozen_difference`; raise unless it is within `FROZEN_TOLERANCE`.

    Raises
    ------
    ModelRefused
        ``E_MODEL_FROZEN``: no test, or one that cannot be carried out.
    IntegrityFault
        ``E_FROZEN``: the model answers otherwise than when it was made.
    """
    difference = frozen_difference(bundle, subject)
    if not difference <= FROZEN_TOLERANCE:
        raise IntegrityFault(
            subject,
            "E_FROZEN",
            f"answers its own test otherwise than when it was made: probabilities differ by "
            f"{difference:.2g}, {FROZEN_TOLERANCE:g} is allowed; the weights were changed, or "
            "this installation of PyTorch computes wrongly",
        )
    return difference


def _square(plane: Array, top: int, left: int) -> Array:
    return plane[top : top + FROZEN_PX, left : left + FROZEN_PX]


def _answer(bundle: Bundle, patch: Tensor) -> Tensor:
    """Return the probabilities (H, W) of one patch (H, W): float32, CPU, no autocast."""
    with torch.inference_mode():
        chance = torch.sigmoid(bundle.network().float()(patch[None, None]))
    return chance[0, 0].clone()
