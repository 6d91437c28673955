"""Show a model the gate pack once; keep what scores, errors and comparisons are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from defectops.measurement.model_comparison import GateSample, observe_sample, scores

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.learning.inference import LoadedModel
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Field


def measure_on_gate(
    defect: DefectType, model: LoadedModel, gate: Sequence[Field], options: MeasureOptions
) -> GateSample:
    """Segment each gate field once, at the model's own threshold, and measure what it found.

    Parameters
    ----------
    defect : DefectType
    model : LoadedModel
    gate : sequence of Field
    options : MeasureOptions
        Those of the stage ``quantify``.

    Returns
    -------
    GateSample
        For `gate_scores` and `measurement.model_comparison.paired_change`.
    """
    threshold = model.bundle.threshold
    masks = [model.probability(f.intensity) >= threshold for f in gate]
    return observe_sample(defect.shape, gate, masks, options)


def gate_scores(sample: GateSample) -> dict[str, float | None]:
    """Return the scores that are registered with a version; see `model_comparison.scores`."""
    return scores(sample)
