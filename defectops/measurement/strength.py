"""What defects do to the yield strength: as barriers, and as a forest of other dislocations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from defectops.errors import SettingsRefused
from defectops.measurement.quantities import MATERIAL, Quantity, material_quantity
from defectops.measurement.uncertainty import Interval

BARRIER, TAYLOR = "barrier_hardening", "taylor_hardening"

# Obstacle strength and its standard uncertainty for the built-in types. Strong obstacles that are
# bypassed have 1 (Orowan); values fitted to irradiated steels scatter as widely as said here:
# Lucas, J. Nucl. Mater. 206, 287 (1993), doi:10.1016/0022-3115(93)90129-M (voids and large
# precipitates up to 1); Tan and Busby, J. Nucl. Mater. 465, 724 (2015),
# doi:10.1016/j.jnucmat.2015.07.009 (smaller for small obstacles); Taylor, Proc. R. Soc. A 145, 362
# (1934), doi:10.1098/rspa.1934.0106 and later measurements (forest dislocations 0.2 to 0.4).
_ALPHA = {
    "voids": (0.8, 0.2),
    "precipitates": (0.6, 0.2),
    "dislocations": (0.3, 0.05),
}


@dataclass(frozen=True)
class Material:
    """Constants of the matrix; the defaults are for HT-9 at room temperature.

    Parameters
    ----------
    name : str
        Written into the method of what is computed with it.
    taylor_factor, taylor_factor_sd : float
        From resolved shear stress to uniaxial yield stress of a polycrystal without texture.
    shear_modulus_gpa, shear_modulus_sd_gpa : float
    burgers_vector_nm, burgers_vector_sd_nm : float
        Of 1/2<111> in bcc iron, ``sqrt(3)/2`` times 0.2866 nm.
    alpha, alpha_sd : float or None
        Strength of this type of defect as an obstacle, 0 to 1. None takes the built-in value of
        voids, precipitates or dislocations; another type then has no hardening, since a strength
        is never assumed.

    References
    ----------
    Stoller, R. E. and Zinkle, S. J., J. Nucl. Mater. 283-287, 349 (2000),
    doi:10.1016/S0022-3115(00)00378-0 (Taylor factor 3.06 for bcc as for fcc).
    """

    name: str = "HT-9"
    taylor_factor: float = 3.06
    taylor_factor_sd: float = 0.1
    shear_modulus_gpa: float = 80.0
    shear_modulus_sd_gpa: float = 3.0
    burgers_vector_nm: float = 0.248
    burgers_vector_sd_nm: float = 0.001
    alpha: float | None = None
    alpha_sd: float | None = None

    def __post_init__(self) -> None:
        for column in fields(self)[1:]:
            value = getattr(self, column.name)
            least = 0.0 if "_sd" in column.name else math.nextafter(0.0, 1.0)
            most = 1.0 if column.name == "alpha" else math.inf
            if value is not None and not (least <= value <= most and value < math.inf):
                raise SettingsRefused(
                    "material",
                    "E_CONFIG",
                    f"{column.name} must be positive{' and at most 1' if most == 1 else ''}, "
                    f"got {value!r}",
                )
        if self.alpha_sd is not None and self.alpha is None:
            raise SettingsRefused("material", "E_CONFIG", "alpha_sd without alpha; give both")

    def obstacle(self, defect: str) -> tuple[float, float] | None:
        """Return alpha and its standard uncertainty for a type of defect; None if unknown."""
        if self.alpha is not None:
            return self.alpha, self.alpha_sd or 0.0
        return _ALPHA.get(defect)


class Parent(NamedTuple):
    """A measured quantity that a derived one is proportional to, to some power."""

    quantity: str
    power: float


# Hardening is proportional to the square root of these.
PARENTS = {
    BARRIER: (Parent("number_density", 0.5), Parent("mean_diameter", 0.5)),
    TAYLOR: (Parent("dislocation_density_skeleton", 0.5),),
}
_FORMULA = {
    BARRIER: "dispersed barriers, alpha M G b sqrt(N d)",
    TAYLOR: "Taylor, alpha M G b sqrt(rho)",
}


def hardening(quantities: Sequence[Quantity], defect: str, material: Material) -> list[Quantity]:
    """Increase of yield strength by this type of defect alone.

    Parameters
    ----------
    quantities : sequence of Quantity
        As `pooling.pool` returns them; those with the interval ``material`` are used.
    defect : str
        Key of the type, for its strength as an obstacle.
    material : Material

    Returns
    -------
    list of Quantity
        ``barrier_hardening`` from number density and mean diameter, or ``taylor_hardening`` from
        the dislocation density, in MPa::

            alpha M G b sqrt(N d)        alpha M G b sqrt(rho)

        Empty where neither is known (no foil thickness) or the type has no alpha. No particle: 0,
        the upper bound undefined, since the size is. The interval holds what the intervals of the
        measured quantities hold, not yet the constants: see `constants_sd`.

    Notes
    -----
    One type of obstacle alone. How contributions of several types add up (linearly, in
    quadrature, or in between by their strengths) is a model of its own and not assumed here. Not
    for particles spaced wider than grains, for coherency or modulus hardening, and not at
    temperatures where obstacles are passed by climb.

    References
    ----------
    Seeger, A., Proc. 2nd UN Int. Conf. on the Peaceful Uses of Atomic Energy 6, 250 (1958), no DOI
    (barriers); Taylor, G. I., Proc. R. Soc. A 145, 362 (1934), doi:10.1098/rspa.1934.0106.
    """
    obstacle = material.obstacle(defect)
    known = {q.quantity: q for q in quantities if q.interval == MATERIAL}
    if obstacle is None:
        return []
    return [
        _derived(name, [known[p.quantity] for p in parents], obstacle[0], material)
        for name, parents in PARENTS.items()
        if all(p.quantity in known for p in parents)
    ]


def constants_sd(defect: str, material: Material) -> float:
    """Relative standard uncertainty of ``alpha M G b``; 0 for a type without alpha."""
    alpha, alpha_sd = material.obstacle(defect) or (1.0, 0.0)
    return math.hypot(
        alpha_sd / alpha,
        material.taylor_factor_sd / material.taylor_factor,
        material.shear_modulus_sd_gpa / material.shear_modulus_gpa,
        material.burgers_vector_sd_nm / material.burgers_vector_nm,
    )


def _derived(name: str, parents: list[Quantity], alpha: float, material: Material) -> Quantity:
    factor = (
        alpha
        * material.taylor_factor
        * (material.shear_modulus_gpa * 1e3)  # MPa
        * (material.burgers_vector_nm * 1e-9)
    )
    first = parents[0]
    inside = 0.0 if first.value == 0 else math.prod(_in_metres(q) for q in parents)
    value = factor * math.sqrt(inside)
    method = (
        f"{_FORMULA[name]}; {material.name}: alpha {alpha:g}, M {material.taylor_factor:g}, "
        f"G {material.shear_modulus_gpa:g} GPa, b {material.burgers_vector_nm:g} nm; this type of "
        f"defect alone; {first.method}"
    )
    interval = _interval(value, parents)
    if name == TAYLOR and value == 0:
        interval = Interval(0.0, factor * math.sqrt(first.high))
    return material_quantity(name, value, interval, "MPa", first.n, method, level=first.level)


def _in_metres(q: Quantity) -> float:
    return q.value * 1e-9 if q.unit == "nm" else q.value


def _interval(value: float, parents: list[Quantity]) -> Interval:
    """Half the logarithmic distance of each parent's ends, in quadrature; NaN where undefined."""
    if not value > 0:
        return Interval(0.0 if value == 0 else math.nan, math.nan)
    below = math.hypot(*(_log_ratio(q.value, q.low) / 2 for q in parents))
    above = math.hypot(*(_log_ratio(q.high, q.value) / 2 for q in parents))
    return Interval(value * math.exp(-below), value * math.exp(above))


def _log_ratio(above: float, below: float) -> float:
    return math.inf if below == 0 else math.log(above / below)
