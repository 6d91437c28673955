"""Judge a model on the gate pack: measure it and the champion, hand the rules what they ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import ModelRefused
from defectops.experiments.gate_rules import Evidence, judge
from defectops.experiments.promotion import Finding, PromotionOptions, Verdict
from defectops.experiments.registry import digest
from defectops.learning.bundle import EARLIER_FORM
from defectops.learning.inference import LoadedModel, load_model
from defectops.measurement.expert_errors import beyond_experts
from defectops.measurement.model_comparison import (
    Change,
    GateSample,
    Resampling,
    is_error,
    paired_change,
    score_intervals,
    size_of,
)
from defectops.measurement.panel_table import read_panel
from defectops.measurement.quantities import MeasureOptions
from defectops.workflows.champions import why_incomparable
from defectops.workflows.gate_measuring import measure_on_gate, seconds_per_megapixel

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.champions import Champion, Places
    from defectops.micrograph import Array, Field


# Tag of a version: with which options its registered scores were measured.
MEASURED_WITH = "measured_with"


def measured_with(options: MeasureOptions) -> str:
    """Return a short digest of the options that scores were measured with."""
    return sha256(json.dumps(asdict(options), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Gate:
    """What models of one defect are judged on.

    Parameters
    ----------
    defect : DefectType
    places : Places
    fields : sequence of Field
        The gate pack.
    rules : PromotionOptions
    measuring : MeasureOptions
        Those of the stage ``quantify``.
    """

    defect: DefectType
    places: Places
    fields: Sequence[Field]
    rules: PromotionOptions
    measuring: MeasureOptions = field(default_factory=MeasureOptions)

    def show(self, model: LoadedModel, masks: Sequence[Array] | None = None) -> GateSample:
        """Let a model segment the gate pack, once, and measure what it found; or has found."""
        return measure_on_gate(self.defect, model, self.fields, self.measuring, masks)


def judge_on_gate(
    gate: Gate, model: LoadedModel, sample: GateSample, bundle: Path, champion: Champion
) -> Verdict:
    """Judge a model that the gate pack was shown to.

    Parameters
    ----------
    gate : Gate
    model : LoadedModel
    sample : GateSample
        From `Gate.show`.
    bundle : Path
        The model's file.
    champion : Champion
        The present one; compared with, unless there is none, it is this model itself, or it
        cannot be compared, which the verdict then says.

    Returns
    -------
    Verdict

    Raises
    ------
    InputRefused
        The table of the expert panel cannot be used.
    """
    how = Resampling(gate.rules.resamples, gate.rules.seed)
    before, apart = None, ""
    if champion.sha256 not in {None, digest(bundle)}:
        before, apart = _champion_sample(gate, champion, model)
    found = score_intervals(sample, how)
    evidence = Evidence(
        scores={name: size_of(c) if is_error(name) else c for name, c in found.items()},
        images=len(set(sample.images)),
        change=None if before is None else paired_change(before, sample, how),
        experts=_experts(gate, sample, found),
        costs=_costs(gate, model, bundle),
    )
    return _with_note(judge(gate.rules, evidence), apart)


def _champion_sample(
    gate: Gate, champion: Champion, candidate: LoadedModel
) -> tuple[GateSample | None, str]:
    """Show the champion the same fields; without it, say why it is not compared."""
    name = f"champion version {champion.version} was not compared with"
    if not gate.places.bundle.is_file():
        return None, f"{name}: its bundle is not at hand"
    try:
        model = load_model(gate.places.bundle, champion.sha256)
    except ModelRefused as error:
        if error.code != EARLIER_FORM:
            raise
        # Else nobody could ever follow it.
        return None, f"{name}: its bundle is of an earlier form, which cannot be loaded any more"
    reason = why_incomparable(model.bundle, candidate.bundle, gate.fields)
    return (None, f"{name}: {reason}") if reason else (gate.show(model), "")


def _with_note(verdict: Verdict, text: str) -> Verdict:
    """Return the verdict with one more finding that decides nothing; as it is without a text."""
    if not text:
        return verdict
    return Verdict(
        verdict.outcome,
        (*verdict.findings, Finding("champion", verdict.outcome, None, None, text)),
    )


def _experts(gate: Gate, sample: GateSample, errors: Mapping[str, Change]) -> Mapping[str, Change]:
    """Set the model's errors beside those of the panel, if one is asked."""
    if not gate.rules.panel:
        return {}
    panel = read_panel(gate.places.root / gate.rules.panel)
    return beyond_experts(errors, panel, gate.defect.key, sample.images)


def _costs(gate: Gate, model: LoadedModel, bundle: Path) -> dict[str, Change]:
    """Weigh the bundle; time the model only if that is asked, since times differ on every run."""
    size = bundle.stat().st_size / 1e6
    costs = {"size_mb": Change(size, size, size, 1, "MB", "bundles")}
    if gate.rules.max_seconds_per_megapixel is not None and gate.fields:
        costs["seconds_per_megapixel"] = seconds_per_megapixel(model, gate.fields[0])
    return costs
