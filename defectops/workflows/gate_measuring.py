"""Show a model the gate pack once; keep what scores, errors and comparisons are drawn from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from defectops.measurement.model_comparison import Change, GateSample, observe_sample, scores
from defectops.measurement.uncertainty import mean_interval

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.learning.inference import LoadedModel
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Array, Field


def masks_of(model: LoadedModel, fields: Sequence[Field]) -> list[Array]:
    """Return what a model calls defect in each field, at its own threshold."""
    return [model.probability(f.intensity) >= model.bundle.threshold for f in fields]


def measure_on_gate(
    defect: DefectType,
    model: LoadedModel,
    gate: Sequence[Field],
    options: MeasureOptions,
    masks: Sequence[Array] | None = None,
) -> GateSample:
    """Segment each gate field once, at the model's own threshold, and measure what it found.

    Parameters
    ----------
    defect : DefectType
    model : LoadedModel
    gate : sequence of Field
    options : MeasureOptions
        Those of the stage ``quantify``.
    masks : sequence of ndarray, optional
        From `masks_of`, where the model was shown the gate pack before.

    Returns
    -------
    GateSample
        For `gate_scores` and `measurement.model_comparison.paired_change`.
    """
    found = masks_of(model, gate) if masks is None else masks
    return observe_sample(defect.shape, gate, found, options)


def gate_scores(sample: GateSample) -> dict[str, float | None]:
    """Return the scores that are registered with a version; see `model_comparison.scores`."""
    return scores(sample)


def seconds_per_megapixel(model: LoadedModel, field: Field, rounds: int = 5) -> Change:
    """Return how long a model takes for a million pixels on this machine, as it is loaded now.

    Parameters
    ----------
    model : LoadedModel
    field : Field
        What it segments in every round, after one that does not count.
    rounds : int

    Returns
    -------
    Change
        Mean with Student's interval over the rounds.
    """
    model.probability(field.intensity)
    spent = np.empty(rounds)
    for i in range(rounds):
        started = time.perf_counter()
        model.probability(field.intensity)
        spent[i] = time.perf_counter() - started
    each = spent / field.intensity.size * 1e6
    interval = mean_interval(each)
    return Change(float(each.mean()), interval.low, interval.high, rounds, "s", "rounds")
