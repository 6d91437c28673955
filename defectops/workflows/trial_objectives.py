"""What a trial is judged by: its IoU on dev, the error of the material quantity, or both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from defectops.errors import SettingsRefused
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.paired import percent_error
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.pooling import pool

if TYPE_CHECKING:
    from defectops.experiments.study_trials import Objective
    from defectops.learning.inference import LoadedModel
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Field

# The quantity of a defect, per volume where the foil's thickness is known. For particles their
# mean diameter counts as much.
_DENSITIES = (
    "number_density",
    "areal_density",
    "dislocation_density_skeleton",
    "projected_line_density",
)
_DIAMETER = "mean_diameter"


def objective_values(
    objective: Objective,
    dev_iou: float,
    model: LoadedModel,
    dev: Sequence[Field],
    options: MeasureOptions,
) -> tuple[tuple[float, ...], dict[str, float]]:
    """Return the values of a trial, one a direction of its study, and what they were made of.

    Returns
    -------
    tuple of float
        ``iou``: dev IoU. ``density``: error of the density. ``pareto``: dev IoU, and the mean of
        the errors of density and mean diameter (lines: of the density alone). Errors are relative
        and absolute: 0.1 is 10 % too much or too little.
    dict of str to float
        The errors by quantity; empty for ``iou``, which measures nothing.

    Raises
    ------
    SettingsRefused
        The label's own quantity on dev is 0 or undefined, so that there is no error.
    """
    if objective == "iou":
        return (dev_iou,), {}
    errors = quantity_errors(model, dev, options)
    density = next(errors[name] for name in _DENSITIES if name in errors)
    facts = {f"error.{name}": value for name, value in errors.items()}
    if objective == "density":
        return (density,), facts
    return (dev_iou, math.fsum(errors.values()) / len(errors)), facts


def quantity_errors(
    model: LoadedModel, dev: Sequence[Field], options: MeasureOptions
) -> dict[str, float]:
    """Return the relative errors of density and mean diameter on dev, all fields pooled.

    A model that finds nothing has the error 1 in both: its mean diameter is undefined, which is
    as far off as a density of 0.
    """
    observe = observe_lines if model.bundle.defect["shape"] == "line" else observe_particles
    label, prediction = [], []
    for field in dev:
        mask = model.probability(field.intensity) >= model.bundle.threshold
        label.append(observe(field.label, field.calibration, options, field.ignore))
        prediction.append(observe(mask, field.calibration, options, field.ignore))
    truth = {q.quantity: q.value for q in pool(label)}
    percent = percent_error(pool(label), pool(prediction))
    wanted = [next(n for n in _DENSITIES if n in truth)]
    wanted += [_DIAMETER] if _DIAMETER in truth else []
    return {name: _error(name, truth, percent) for name in wanted}


def _error(name: str, truth: Mapping[str, float], percent: Mapping[str, float]) -> float:
    if not (math.isfinite(truth[name]) and truth[name] > 0):
        raise SettingsRefused(
            "tune.objective",
            "E_CONFIG",
            f"the label's {name} on dev is {truth[name]:g}, so it has no relative error; choose "
            "the objective iou",
        )
    error = abs(percent[name]) / 100
    return error if math.isfinite(error) else 1.0
