"""Weights halfway between those a training began with and those it came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def halfway(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of two states of one network.

    A training that starts from good weights at a high learning rate ends somewhere around a
    minimum, not in it; the mean of start and end is often nearer (Izmailov et al. 2018,
    arXiv:1803.05407; Wortsman et al. 2022, arXiv:2109.01903). Of states that were not trained one
    from the other it is worthless.

    Parameters
    ----------
    before, after : mapping of str to Tensor
        Same names and shapes. Integers (counts of batches) are taken from `after`.

    Returns
    -------
    dict of str to Tensor
        Statistics of batch normalisation are averaged like weights.
    """
    return {
        name: (before[name] + tensor) / 2 if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }
