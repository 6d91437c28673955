"""The same micrograph mirrored: a network should not notice, so what changes is its own doing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from defectops.micrograph import Array

# The axes that are reversed. A quarter turn would be of another shape; these three are not.
VIEWS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"left-right": (1,), "top-bottom": (0,), "turned": (0, 1)}
)


@dataclass(frozen=True)
class ViewOptions:
    """Section ``views``: whether micrographs are segmented mirrored as well.

    Parameters
    ----------
    mirrored : bool
        Three more inferences and measurements each, for the item ``mirrored views`` of the budget.
    """

    mirrored: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Which of `VIEWS` are wanted, in their order."""
        return tuple(VIEWS) if self.mirrored else ()


def mirrored(probability: Callable[[Array], Array], plane: Array, view: str) -> Array:
    """Return what a model says of a plane that it is shown mirrored, mirrored back.

    Parameters
    ----------
    probability : callable
        From a conditioned plane to the probability at each pixel, of the same shape.
    plane : ndarray of float32, shape (H, W)
        Conditioned micrograph.
    view : str
        One of `VIEWS`.

    Returns
    -------
    ndarray of float32, shape (H, W)
        A view of what `probability` returned. Of a model that does not care how a micrograph lies,
        what it says of the plane as it is. Two things besides the weights differ: windows lie
        elsewhere, and a side that is no multiple of what the network needs is extended at its
        other end. Both are as arbitrary as the orientation.

    References
    ----------
    Wang, G. et al., Neurocomputing 338, 34 (2019), doi:10.1016/j.neucom.2019.01.103: the spread
    over transformed pictures, which they found to tell more than that over dropout.
    """
    axes = VIEWS[view]
    return np.flip(probability(np.flip(plane, axes)), axes)
