"""Where the uncertainty of each number comes from: an itemised budget and its interval."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from defectops.measurement.paired import tile_statistics
from defectops.measurement.pooling import Measurement, pool
from defectops.measurement.quantities import Quantity, pooled_thickness
from defectops.measurement.strength import PARENTS
from defectops.measurement.uncertainty import resampled

if TYPE_CHECKING:
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]
Derive = Callable[[list[Quantity]], list[Quantity]]

COMPONENTS = (
    "counting",
    "fields",
    "pixel size",
    "thickness",
    "segmentation",
    "mirrored views",
    "estimator",
    "constants",
)
COUNTING, FIELDS, PIXEL_SIZE, THICKNESS, SEGMENTATION, MIRRORED, ESTIMATOR, CONSTANTS = COMPONENTS
COLUMNS = (
    "image",
    "region",
    "source",
    "quantity",
    "component",
    "relative_sd_percent",
    "method",
)

_DRAWS = 1000
_FEWEST_FIELDS = 6  # below, tiles of the fields are resampled instead of whole fields
_STEP = 0.01  # relative step of the derivative by the thickness
_CHANCE = 0.95  # scatter beyond this quantile of what counting gives is not chance
# Two estimators of the same number from the same fields.
_TWINS = {
    "areal_density": "areal_density_by_notches",
    "dislocation_density_skeleton": "dislocation_density_grid",
    "projected_line_density": "projected_line_density_grid",
}
_TWINS |= {there: here for here, there in _TWINS.items()}
_NO_REMARK = "no thickness is known"
_LENGTH = re.compile(r"(?:nm|m)(?:\^(-?\d+))?")


@dataclass(frozen=True)
class Component:
    """One item of the budget of one quantity.

    Parameters
    ----------
    quantity : str
    component : str
        One of `COMPONENTS`.
    relative_sd : float
        Standard uncertainty over the value, on the logarithmic scale; NaN where undefined.
    method : str
        How it was found.
    """

    quantity: str
    component: str
    relative_sd: float
    method: str


@dataclass(frozen=True)
class Budget:
    """Quantities with their combined intervals, and what these are made of."""

    quantities: list[Quantity]
    components: list[Component]


@dataclass(frozen=True)
class Alternative:
    """The same fields measured in another way that would be as good.

    Parameters
    ----------
    component : str
        ``segmentation`` (another threshold, edges moved), ``mirrored views`` (the same model, the
        micrograph mirrored) or ``estimator`` (another separation).
    method : str
        What is different, in words.
    fields : sequence of Measurement
    """

    component: str
    method: str
    fields: Sequence[Measurement]


@dataclass(frozen=True)
class Known:
    """What is known besides the fields themselves.

    Parameters
    ----------
    pixel_size_relative_sd : float
        Standard uncertainty of the pixel size over the pixel size, one for all fields.
    constants_relative_sd : float
        Of the constants that turn densities into strength.
    alternatives : sequence of Alternative
    """

    pixel_size_relative_sd: float = 0.0
    constants_relative_sd: float = 0.0
    alternatives: Sequence[Alternative] = ()


def itemised(
    fields: Sequence[Measurement], known: Known | None = None, derive: Derive | None = None
) -> Budget:
    """Draw quantities from fields, with the budget of each and the interval it adds up to.

    Parameters
    ----------
    fields : sequence of Measurement
        As for `pooling.pool`.
    known : Known, optional
    derive : callable, optional
        Returns further quantities that follow from those of `pool`, such as
        `strength.hardening`.

    Returns
    -------
    Budget
        The quantities of `pool` and of `derive`; each interval is that of counting, widened on the
        logarithmic scale by all other components in quadrature. With none it is unchanged.

    Notes
    -----
    Components, each the standard deviation of the logarithm:

    ``counting``
        Half the logarithmic width of the counting interval over the normal quantile. Other fields
        of the same material would show other objects.
    ``fields``
        Scatter of whole fields (fewer than six: of 4 x 4 tiles a field) when resampled, *beyond*
        what counting gives, and only if it is more than chance gives in 95 of 100 cases. Else
        objects lie at random and this would count them twice.
    ``pixel size``
        A quantity with the dimension of length to the power k, computed from lengths in pixels
        and a thickness with power a, moves with the pixel size to the power k - a.
    ``thickness``
        The relative uncertainty of the thickness times that power a, found by moving it.
    ``segmentation``, ``estimator``
        The value is taken to lie anywhere between the given one and those of the alternatives,
        which are as good: width over sqrt(12).
    ``mirrored views``
        The given value is one of several readings that only chance tells apart: their sample
        standard deviation. A reading that shows nothing counts as half an object.
    ``constants``
        Of what strength is computed with.

    A density of zero has no logarithm: counting is undefined, and only the upper end grows. A value
    without any interval (a p-value, a mean of one particle) has no other component.

    References
    ----------
    JCGM 100:2008 (GUM), sections 4.2.2, 4.3.7 and 5.1, doi:10.59161/JCGM100-2008E. Efron, B., Ann.
    Stat. 7, 1 (1979), doi:10.1214/aos/1176344552.
    """
    given = known or Known()
    more = derive or (lambda _: [])
    exact = _exact(fields)
    said = _thickness_remark(exact), _thickness_remark(fields)
    counted = [replace(q, method=q.method.replace(*said)) for q in _drawn(exact, more)]
    others = [
        *_field_components(fields, counted),
        *_scale_components(fields, counted, more, given.pixel_size_relative_sd),
        *_alternative_components(counted, given.alternatives, more),
        *_twin_components(counted),
        *_constant_components(counted, given.constants_relative_sd),
    ]
    quantities, components = [], []
    for q in counted:
        claimed = math.isfinite(q.low) or math.isfinite(q.high)
        own = sorted(
            (c for c in others if c.quantity == q.quantity and claimed),
            key=lambda c: COMPONENTS.index(c.component),
        )
        components += [_counting(q), *own]
        quantities.append(_widened(q, [c.relative_sd for c in own]))
    return Budget(quantities, components)


def budget_rows(
    components: Iterable[Component], *, image: str, region: str, source: str
) -> list[dict[str, object]]:
    """Return rows of the budget table with the keys `COLUMNS`."""
    return [
        dict(
            zip(
                COLUMNS,
                (
                    image,
                    region,
                    source,
                    c.quantity,
                    c.component,
                    round(100 * c.relative_sd, 4),
                    c.method,
                ),
                strict=True,
            )
        )
        for c in components
    ]


def _drawn(fields: Sequence[Measurement], derive: Derive) -> list[Quantity]:
    found = pool(fields)
    return [*found, *derive(found)]


def _exact(fields: Sequence[Measurement]) -> list[Measurement]:
    """Return fields whose thickness has no uncertainty, so that intervals hold counting alone."""
    return [_with(f, replace(f.calibration, thickness_sd_nm=None)) for f in fields]


def _thickness_remark(fields: Sequence[Measurement]) -> str:
    """Return what the methods say of the thickness; where there is none, they say nothing."""
    foil = pooled_thickness([(f.field_area, f.calibration) for f in fields])
    return _NO_REMARK if foil is None else foil.remark


def _with(field: Measurement, calibration: Calibration) -> Measurement:
    return replace(field, calibration=calibration)


def _counting(q: Quantity) -> Component:
    return Component(
        q.quantity, COUNTING, _log_sd(q), f"interval of counting, n = {q.n}, at level {q.level:g}"
    )


def _log_sd(q: Quantity) -> float:
    """Half the width of an interval as the standard deviation of a logarithm."""
    z = float(stats.norm.ppf((1 + q.level) / 2))
    if q.value > 0 and q.low > 0:
        return math.log(q.high / q.low) / (2 * z)
    if q.value > 0 and q.high > q.value:  # cut off at 0
        return math.log(q.high / q.value) / z
    return math.nan


def _widened(q: Quantity, relative_sds: Sequence[float]) -> Quantity:
    """Add components to the ends of an interval, in quadrature on the logarithmic scale."""
    z = float(stats.norm.ppf((1 + q.level) / 2))
    more = z * math.hypot(*(s for s in relative_sds if math.isfinite(s)))
    if more == 0:
        return q
    if not q.value > 0:
        return replace(q, high=q.high * math.exp(more))
    low, high = q.low, q.high
    if low > 0:
        low = q.value * math.exp(-math.hypot(math.log(q.value / low), more))
    if high > 0:
        high = q.value * math.exp(math.hypot(math.log(high / q.value), more))
    if q.quantity.endswith("_fraction"):
        high = min(high, 1.0)
    return replace(q, low=low, high=high)


def _field_components(
    fields: Sequence[Measurement], counted: Sequence[Quantity]
) -> list[Component]:
    """Scatter between fields or tiles, as far as counting does not explain it."""
    whole = len(fields) >= _FEWEST_FIELDS
    tiles = [f.tiles.sum().to_frame().T if whole else f.tiles for f in fields]
    sums = pd.concat(tiles, ignore_index=True)
    area = np.repeat([f.field_area for f in fields], [len(t) for t in tiles])
    draws = resampled(len(sums), _DRAWS, fields[0].options.seed)
    drawn_area = draws @ area / area.sum()
    units = f"{len(sums)} {'fields' if whole else 'tiles'}"
    found: dict[str, Component] = {}
    statistics = tile_statistics(fields)
    for q in counted:
        if q.quantity in statistics and math.isfinite(_log_sd(q)):
            with np.errstate(divide="ignore", invalid="ignore"):
                drawn = statistics[q.quantity](draws, sums)
            if "density" in q.quantity or "fraction" in q.quantity:
                drawn = drawn / drawn_area
            found[q.quantity] = _excess(q, drawn, len(sums), units)
    for name, parents in PARENTS.items():
        own = [found[p.quantity] for p in parents if p.quantity in found]
        if own and any(q.quantity == name for q in counted):
            sd = math.hypot(*(c.relative_sd / 2 for c in own))
            found[name] = Component(name, FIELDS, sd, own[0].method)
    return list(found.values())


def _excess(q: Quantity, drawn: Array, n: int, units: str) -> Component:
    finite = drawn[np.isfinite(drawn)]
    mean = float(finite.mean()) if finite.size else 0.0
    if n < 2 or not mean > 0:
        return Component(q.quantity, FIELDS, math.nan, f"{units}: too few to scatter")
    # The bootstrap of n units underestimates a variance by (n - 1)/n.
    variance = float(finite.var()) / mean**2 * n / (n - 1)
    counting = _log_sd(q) ** 2
    limit = counting * float(stats.chi2.ppf(_CHANCE, n - 1)) / (n - 1)
    said = f"bootstrap of {units}: {100 * math.sqrt(variance):.2g} %"
    if variance <= limit:
        return Component(q.quantity, FIELDS, 0.0, f"{said}, no more than counting gives")
    sd = math.sqrt(variance - counting)
    return Component(q.quantity, FIELDS, sd, f"{said}, less what counting gives")


def _scale_components(
    fields: Sequence[Measurement],
    counted: Sequence[Quantity],
    derive: Derive,
    pixel_size_relative_sd: float,
) -> list[Component]:
    """Pixel size and thickness, each with the power that the quantity has in it."""
    if not fields[0].calibration.calibrated:
        return []
    powers = _thickness_powers(fields, counted, derive)
    foil = pooled_thickness([(f.field_area, f.calibration) for f in fields])
    found = []
    for q in counted:
        power = powers.get(q.quantity, 0.0)
        if abs(power) > 1e-9 and foil is not None:
            sd = abs(power) * foil.sd_nm / foil.nm
            found.append(Component(q.quantity, THICKNESS, sd, f"power {power:.3g}; {foil.remark}"))
        power = _dimension(q.unit) - power
        if pixel_size_relative_sd > 0 and abs(power) > 1e-9:
            sd = abs(power) * pixel_size_relative_sd
            said = f"power {power:.3g}; pixel size known to {100 * pixel_size_relative_sd:.3g} %"
            found.append(Component(q.quantity, PIXEL_SIZE, sd, said))
    return found


def _thickness_powers(
    fields: Sequence[Measurement], counted: Sequence[Quantity], derive: Derive
) -> dict[str, float]:
    """Return the power of each quantity in the thickness of the foil, by moving it."""
    if any(f.calibration.thickness_nm is None for f in fields):
        return {}
    moved = {q.quantity: q.value for q in _drawn([_thicker(f, 1 + _STEP) for f in fields], derive)}
    return {
        q.quantity: math.log(moved[q.quantity] / q.value) / math.log1p(_STEP)
        for q in counted
        if q.value > 0 and moved[q.quantity] > 0
    }


def _thicker(field: Measurement, factor: float) -> Measurement:
    old = field.calibration
    nm = None if old.thickness_nm is None else old.thickness_nm * factor
    return _with(field, replace(old, thickness_nm=nm, thickness_sd_nm=None))


def _dimension(unit: str) -> int:
    """Return the power of length in a unit; strength goes with the inverse of a spacing."""
    if unit == "MPa":
        return -1
    match = _LENGTH.fullmatch(unit)
    return 0 if match is None else int(match[1] or 1)


def _alternative_components(
    counted: Sequence[Quantity], alternatives: Sequence[Alternative], derive: Derive
) -> list[Component]:
    drawn = [(a, {q.quantity: q.value for q in _drawn(a.fields, derive)}) for a in alternatives]
    found = []
    for name in (SEGMENTATION, MIRRORED, ESTIMATOR):
        own = [(a.method, values) for a, values in drawn if a.component == name]
        for q in counted if own else ():
            others = [values.get(q.quantity, math.nan) for _, values in own]
            said = "; ".join(
                f"{method}: {value:.4g} {q.unit}"
                for (method, _), value in zip(own, others, strict=True)
            )
            sd = _repeat_sd(q, others) if name == MIRRORED else _range_sd([q.value, *others])
            found.append(Component(q.quantity, name, sd, said))
    return found


def _twin_components(counted: Sequence[Quantity]) -> list[Component]:
    """Compare two estimators of a density; what follows from it takes its share."""
    values = {q.quantity: q.value for q in counted}
    found = {
        name: Component(
            name,
            ESTIMATOR,
            _range_sd([value, values[_TWINS[name]]]),
            f"against {_TWINS[name]}: ratio {value / (values[_TWINS[name]] or math.nan):.4g}",
        )
        for name, value in values.items()
        if _TWINS.get(name) in values
    }
    if "areal_density" in found and "number_density" in values:
        found["number_density"] = replace(found["areal_density"], quantity="number_density")
    for name, parents in PARENTS.items():
        own = [found[p.quantity] for p in parents if p.quantity in found]
        if name in values and own:
            found[name] = replace(own[0], quantity=name, relative_sd=own[0].relative_sd / 2)
    return list(found.values())


def _constant_components(counted: Sequence[Quantity], relative_sd: float) -> list[Component]:
    said = "alpha, Taylor factor, shear modulus and Burgers vector"
    return [
        Component(q.quantity, CONSTANTS, relative_sd, said)
        for q in counted
        if q.quantity in PARENTS and relative_sd > 0
    ]


def _range_sd(values: Sequence[float]) -> float:
    """Return the standard deviation of a logarithm spread evenly over the range of values."""
    logs = [math.log(v) for v in values if v > 0]
    return (max(logs) - min(logs)) / math.sqrt(12) if len(logs) > 1 else math.nan


def _repeat_sd(q: Quantity, others: Sequence[float]) -> float:
    """Return the sample standard deviation of the logarithm over repeated readings of a value.

    One that found nothing says much, and has no logarithm: it counts as half an object.
    """
    half = q.value / (2 * max(q.n, 1))
    least = [max(v, half) for v in (q.value, *others)]
    logs = [math.log(v) for v in least if v > 0]
    return statistics.stdev(logs) if len(logs) > 1 else math.nan
