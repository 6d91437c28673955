"""What measured quantities mean for the material: strength gained, volume gained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from defectops.measurement.particle_statistics import swelling
from defectops.measurement.strength import Material, hardening

if TYPE_CHECKING:
    from defectops.measurement.quantities import Quantity

_EMPTY = ("voids", "bubbles", "cavities")  # types without matter inside


def consequences(quantities: Sequence[Quantity], defect: str, material: Material) -> list[Quantity]:
    """Return what follows from the quantities of one type of defect.

    Parameters
    ----------
    quantities : sequence of Quantity
        As `pooling.pool` returns them.
    defect : str
        Key of the type.
    material : Material

    Returns
    -------
    list of Quantity
        ``barrier_hardening`` or ``taylor_hardening`` (see `strength.hardening`), and ``swelling``
        for voids, bubbles and cavities. Empty without a foil thickness.
    """
    gained = swelling(quantities) if defect in _EMPTY else []
    return [*gained, *hardening(quantities, defect, material)]
