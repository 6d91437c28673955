"""How pixel errors become an error of a density: each cause with its share, adding up to all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement.line_errors import (
    LINE_CAUSES,
    LineErrors,
    compare_lines,
    switched_lines,
)
from defectops.measurement.particle_errors import (
    PARTICLE_CAUSES,
    ParticleErrors,
    compare_particles,
    switched_particles,
)
from defectops.measurement.pooling import Measurement, pool

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.measurement.quantities import MeasureOptions, Quantity
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]
FieldErrors = ParticleErrors | LineErrors

QUANTITIES = (
    "number_density",
    "areal_density",
    "mean_diameter",
    "sd_diameter",
    "area_fraction",
    "projected_line_density",
    "projected_line_density_grid",
    "dislocation_density_skeleton",
    "dislocation_density_grid",
)

COLUMNS = ("image", "region", "quantity", "unit", "part", "value")


@dataclass(frozen=True)
class ErrorBudget:
    """One quantity, from the label's value to the prediction's.

    Parameters
    ----------
    quantity, unit : str
    label, prediction : float
        As `pooling.pool` gives them; NaN where undefined.
    parts : dict of str to float
        What each cause adds, in the unit of the quantity and in a fixed order. They sum to
        ``prediction - label``, whatever the estimator is: nothing is left over and no part is
        computed as a remainder. NaN where either end is undefined.
    """

    quantity: str
    unit: str
    label: float
    prediction: float
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """Prediction minus label."""
        return self.prediction - self.label


def error_budget(fields: Sequence[FieldErrors]) -> list[ErrorBudget]:
    """Say what moved each quantity from the label's value to the prediction's.

    Parameters
    ----------
    fields : sequence of ParticleErrors or of LineErrors
        From `particle_errors.compare_particles` or `line_errors.compare_lines`, of one kind.

    Returns
    -------
    list of ErrorBudget
        One for each of `QUANTITIES` that `pooling.pool` gives. Causes of particles are
        `PARTICLE_CAUSES`, of lines `LINE_CAUSES`; those that do not occur have the part 0.

    Raises
    ------
    LabelRefused
        No field, or lines among particles.

    Notes
    -----
    The label is turned into the prediction one cause at a time, and after each step every quantity
    is drawn anew by its own estimator, so that whatever is not additive in it (``t + d``, caps,
    corrections for merged lines) is shared out too. What a cause adds then depends on what was
    brought in before; hence the mean of the given order and its reverse, in which each cause comes
    once before and once after each other. For counts, lengths and areas every order gives the same.
    Where a quantity is undefined on the way of one order (no particle left), the other is taken.

    References
    ----------
    Dietzenbacher, E. and Los, B., Econ. Syst. Res. 10, 307 (1998), doi:10.1080/09535319800000023
    (the mean of the two polar orders stands for that of all).
    """
    particles = [f for f in fields if isinstance(f, ParticleErrors)]
    lines = [f for f in fields if isinstance(f, LineErrors)]
    if not fields or (particles and lines):
        raise LabelRefused(
            "error budget", "E_EMPTY", "needs at least one field, of lines or of particles"
        )
    present = set().union(*(f.present for f in fields))
    if particles:
        return _budgets(
            PARTICLE_CAUSES,
            present,
            lambda causes: pool([_main(switched_particles(f, causes)) for f in particles]),
        )
    return _budgets(
        LINE_CAUSES, present, lambda causes: pool([_main(switched_lines(f, causes)) for f in lines])
    )


def compare_masks(
    defect: DefectType,
    prediction: Array,
    label: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> FieldErrors:
    """Find out why two masks of one field differ, as lines or as particles.

    See `line_errors.compare_lines` and `particle_errors.compare_particles`.
    """
    if defect.shape == "line":
        return compare_lines(prediction, label, calibration, options, ignore)
    return compare_particles(prediction, label, calibration, options, ignore)


def error_rows(found: Sequence[ErrorBudget], *, image: str, region: str) -> list[dict[str, object]]:
    """Return rows with the keys `COLUMNS`: of each quantity the label, its causes, the prediction.

    The values of ``label`` and of all causes sum to that of ``prediction``.
    """
    return [
        {
            "image": image,
            "region": region,
            "quantity": budget.quantity,
            "unit": budget.unit,
            "part": part,
            "value": value,
        }
        for budget in found
        for part, value in [
            ("label", budget.label),
            *budget.parts.items(),
            ("prediction", budget.prediction),
        ]
    ]


def read_error_rows(table: pd.DataFrame) -> list[ErrorBudget]:
    """Return the budgets of a table of `error_rows` of one image and region; empty without rows."""
    if table.empty:
        return []
    found = []
    for quantity, rows in table.groupby("quantity", sort=False):
        values = dict(zip(rows["part"].astype(str), rows["value"].astype(float), strict=True))
        label, prediction = values.pop("label"), values.pop("prediction")
        unit = rows["unit"].iloc[0]
        # A number without a unit has an empty cell, which a CSV file gives back as NaN.
        unit = "" if pd.isna(unit) else str(unit)
        found.append(ErrorBudget(str(quantity), unit, label, prediction, values))
    return found


def _budgets(
    causes: Sequence[str],
    present: set[str],
    measured: Callable[[frozenset[str]], list[Quantity]],
) -> list[ErrorBudget]:
    order = [cause for cause in causes if cause in present]
    known: dict[frozenset[str], list[Quantity]] = {}
    paths = []
    for way in (order, order[::-1]):
        states = [frozenset(way[:k]) for k in range(len(way) + 1)]
        for state in states:
            if state not in known:
                known[state] = [q for q in measured(state) if q.quantity in QUANTITIES]
        paths.append((way, np.array([[q.value for q in known[state]] for state in states])))
    before, after = known[frozenset()], known[frozenset(order)]
    shares = _shares(paths)
    nothing = np.zeros(len(before))
    return [
        ErrorBudget(
            b.quantity,
            b.unit,
            b.value,
            a.value,
            {cause: _part(b, a, float(shares.get(cause, nothing)[k])) for cause in causes},
        )
        for k, (b, a) in enumerate(zip(before, after, strict=True))
    ]


def _main(measured: Measurement) -> Measurement:
    """Leave out the quantities that no budget asks for."""
    return replace(measured, options=replace(measured.options, detail="main"))


def _shares(paths: Sequence[tuple[Sequence[str], Array]]) -> dict[str, Array]:
    """Mean, over the ways along which a value stays finite, of what each cause adds to it."""
    finite = [np.isfinite(values).all(axis=0) for _, values in paths]
    ways = np.maximum(sum(f.astype(int) for f in finite), 1)
    undefined = ~np.logical_or.reduce(finite)
    total: dict[str, Array] = {}
    for (way, values), usable in zip(paths, finite, strict=True):
        with np.errstate(invalid="ignore"):
            added = np.where(usable, np.diff(values, axis=0), 0.0) / ways
        for cause, part in zip(way, added, strict=True):
            total[cause] = total.get(cause, 0.0) + np.where(undefined, np.nan, part)
    return total


def _part(before: Quantity, after: Quantity, part: float) -> float:
    return part if math.isfinite(before.value + after.value) else float("nan")
