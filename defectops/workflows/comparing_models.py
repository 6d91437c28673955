"""Two models on the gate pack: every score and every quantity side by side, with intervals.

Nothing is decided here. The gate of `promote` judges the same numbers by the project's rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.learning import machine
from defectops.learning.inference import as_model
from defectops.measurement.model_comparison import (
    Change,
    GateSample,
    Resampling,
    paired_change,
    score_intervals,
)
from defectops.measurement.pooling import pool
from defectops.micrograph import load_fields
from defectops.workflows.champions import why_incomparable
from defectops.workflows.gate_measuring import measure_on_gate

if TYPE_CHECKING:
    from defectops.measurement.quantities import MeasureOptions
    from defectops.workflows.model_finding import FoundModel


@dataclass(frozen=True)
class Comparison:
    """What two models, a and b, show on the same fields.

    Parameters
    ----------
    scores : list of dict
        ``score, unit, a, a_low, a_high, b, b_low, b_high, change, change_low, change_high, n,
        over``; of material errors the change is that of their size, in percentage points.
    quantities : list of dict
        ``quantity, unit, label, label_low, label_high, a, a_low, a_high, b, b_low, b_high``: of the
        material, pooled over all fields; two-sided 95 % intervals of each alone.
    images : list of str
    seed, draws : int
        Of the bootstrap.
    reason : str
        Why nothing was measured; empty if something was.
    """

    scores: list[dict[str, Any]]
    quantities: list[dict[str, Any]]
    images: list[str]
    seed: int
    draws: int
    reason: str = ""


def compare(
    root: Path, first: FoundModel, second: FoundModel, measuring: MeasureOptions
) -> Comparison:
    """Show both models the project's gate pack, if there is one and both may see it.

    Parameters
    ----------
    root : Path
        The project's folder.
    first, second : FoundModel
        Of one defect type.
    measuring : MeasureOptions
        Those of the stage ``quantify``.
    """
    how = Resampling()
    reason = _why_not(root, first, second)
    if reason:
        return Comparison([], [], [], how.seed, how.draws, reason)
    machine.settle()
    gate = load_fields(_gate(root, first))
    samples = [
        measure_on_gate(m.defect, as_model(m.bundle), gate, measuring) for m in (first, second)
    ]
    images = sorted({f.image for f in gate})
    return Comparison(_scores(samples, how), _quantities(samples), images, how.seed, how.draws)


def _gate(root: Path, found: FoundModel) -> Path:
    return root / "split" / found.defect.key / "gate.npz"


def _why_not(root: Path, first: FoundModel, second: FoundModel) -> str:
    """Say why two models are not measured; empty if they can be."""
    if first.defect.key != second.defect.key:
        return f"{first.defect.key} and {second.defect.key} are not found on the same micrographs"
    path = _gate(root, first)
    if not path.is_file():
        return f"there is no gate pack here; run `dvc repro split@{first.defect.key}`"
    gate = load_fields(path)
    for one, other in ((first, second), (second, first)):
        apart = why_incomparable(one.bundle, other.bundle, gate)
        if apart:
            return f"{one.name} cannot be compared with {other.name}: {apart}"
    return ""


def _scores(samples: Sequence[GateSample], how: Resampling) -> list[dict[str, Any]]:
    one, two = (score_intervals(sample, how) for sample in samples)
    changes = paired_change(samples[0], samples[1], how)
    return [
        {
            "score": name,
            "unit": one[name].unit,
            **_with_ends("a", one[name]),
            **_with_ends("b", two[name]),
            **_with_ends("change", change),
            "change_unit": change.unit,
            "n": change.n,
            "over": change.over,
        }
        for name, change in changes.items()
    ]


def _with_ends(name: str, change: Change) -> dict[str, float | None]:
    return _named(name, change.estimate, change.low, change.high)


def _named(name: str, value: float, low: float, high: float) -> dict[str, float | None]:
    """Return a number and its ends for a row; what is undefined is None, as JSON has no NaN."""
    ends = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: v if math.isfinite(v) else None for key, v in ends.items()}


def _quantities(samples: Sequence[GateSample]) -> list[dict[str, Any]]:
    sides = {
        "label": pool(samples[0].label),
        "a": pool(samples[0].prediction),
        "b": pool(samples[1].prediction),
    }
    by_name = {side: {q.quantity: q for q in rows} for side, rows in sides.items()}
    rows = []
    for q in sides["label"]:
        row: dict[str, Any] = {"quantity": q.quantity, "unit": q.unit}
        for side, found in by_name.items():
            if q.quantity in found:
                mine = found[q.quantity]
                row |= _named(side, mine.value, mine.low, mine.high)
        rows.append(row)
    return rows


def as_mapping(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values for JSON."""
    return asdict(comparison)
