"""Promote a registered version, or go back to an earlier champion, because a person asks for it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import InputRefused, IntegrityFault, ModelRefused
from defectops.experiments.champions import Champion, places_of, read_champion, require_settled
from defectops.experiments.promotion import PromotionOptions, Verdict, require_pass
from defectops.experiments.registry import CANDIDATE, Registry, Version
from defectops.experiments.succession import (
    ANY,
    ROLLBACK,
    Candidate,
    note,
    promote,
    require_expected,
    rollback,
)
from defectops.learning import machine
from defectops.learning.inference import load_model
from defectops.measurement.agreement import SCORES
from defectops.measurement.model_comparison import GateSample, one_object
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Field, load_fields
from defectops.workflows.after_promotion import finish_move, record, unrecorded
from defectops.workflows.champions import data_tag
from defectops.workflows.gate_measuring import gate_scores
from defectops.workflows.judging import MEASURED_WITH, Gate, judge_on_gate, measured_with
from defectops.workflows.leak_audit import judges_of, refuse_leak
from defectops.workflows.versioning import cached

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.learning.inference import LoadedModel

# A score measured again may differ in what bfloat16 of another processor rounds, and no more.
_PIXELS = 0.005
_ERRORS = 0.5  # in percent


@dataclass(frozen=True)
class PromotionRequest:
    """What a person asks for.

    Parameters
    ----------
    version : int or None
        Registered version; None takes the one of `run_id`.
    run_id : str or None
        The run that trained it; with neither, the present candidate is meant.
    dry_run : bool
        Judge, move nothing.
    expect : int or None
        Version that must be champion now (None: nobody); `succession.ANY` asks nothing.
    reason : str
        Written into the journal; needed to force.
    forced : bool
        Promote against the gate's verdict. Digest, leak and reproduction are never forced.
    """

    version: int | None = None
    run_id: str | None = None
    dry_run: bool = False
    expect: int | None = ANY
    reason: str = ""
    forced: bool = False


@dataclass(frozen=True)
class Decision:
    """What came of it: the version asked for, its scores and verdict, the champions around it."""

    version: Version
    metrics: Mapping[str, float | None]
    verdict: Verdict
    before: Champion
    after: Champion

    @property
    def moved(self) -> bool:
        """Whether another model is champion now."""
        return self.before.sha256 != self.after.sha256


def promote_version(
    root: Path,
    defect: DefectType,
    options: PromotionOptions,
    registry: Registry,
    request: PromotionRequest,
    measuring: MeasureOptions | None = None,
) -> Decision:
    """Judge a registered version on the gate pack and make it champion if it passes.

    The version is loaded anew and its scores on the gate pack must come out as they were
    registered. Nothing of the test side is opened.

    Raises
    ------
    InputRefused
        No such version, no candidate, no gate pack, or forced without a reason.
    GateFailed
        ``E_LEAK``: it was trained on pixels of the gate pack or of the test side, or chosen on
        pixels of the test side or of a side ``gate``. ``E_GATE``: the gate says fail.
    GateInconclusive
        The gate cannot decide.
    IntegrityFault
        Damaged, or its scores cannot be reproduced.
    Conflict
        Somebody else moved the champion.
    """
    if request.forced and not request.reason.strip():
        raise InputRefused(
            "--force", "E_USAGE", "a forced promotion needs --reason TEXT; the journal keeps it"
        )
    machine.settle()
    places = places_of(root, defect.key)
    if request.dry_run:
        require_settled(places)
    else:
        finish_move(places, registry)
        record(root, defect)  # before anything follows it, and be it from an earlier command
    version = _chosen(registry, defect, request)
    gate = _gate(root, defect)
    before = read_champion(places)
    require_expected(before, request.expect)
    with tempfile.TemporaryDirectory(prefix="defectops-") as scratch:
        bundle = registry.fetch(defect.model_name, version.number, Path(scratch))
        model = load_model(bundle, version.sha256)
        _refuse_leak(root, defect, version, model, gate)
        judged_by = Gate(defect, places, gate, options, measuring or MeasureOptions())
        sample = judged_by.show(model)
        metrics = gate_scores(sample)
        _require_reproduced(version, sample, judged_by.measuring)
        verdict = _judged(judged_by, model, sample, bundle, before)
        if request.dry_run:
            return Decision(version, metrics, verdict, before, before)
        if not request.forced:
            require_pass(verdict, f"{defect.model_name}/{version.number}")
        tags = {**version.tags, **data_tag(model.bundle)}
        candidate = Candidate(bundle, version.run_id, model.bundle.threshold, version.metrics, tags)
        about = note(request.reason or verdict.reason, request.forced)
        after = promote(places, registry, candidate, verdict, about, expect=before)
    record(root, defect)
    return Decision(version, metrics, verdict, before, after)


def roll_back(root: Path, defect: DefectType, registry: Registry, reason: str) -> Champion:
    """Make the champion before the present one champion again, weights and threshold.

    After a rollback that was interrupted it finishes that one and moves no further. The bundle
    comes from the registry, or from DVC's cache where the registry was lost.

    Raises
    ------
    InputRefused
        There is no earlier champion.
    IntegrityFault
        Its bundle is damaged or gone.
    """
    places = places_of(root, defect.key)
    champion = read_champion(places)
    if champion.verdict == ROLLBACK and not places.intent.exists() and unrecorded(places):
        record(root, defect)  # an earlier rollback was interrupted here: this one finishes it
        return champion
    about = note(reason or "rollback", by="rollback")
    champion = rollback(places, registry, about, lambda md5: cached(root, md5))
    record(root, defect)
    return champion


def _chosen(registry: Registry, defect: DefectType, request: PromotionRequest) -> Version:
    model = defect.model_name
    if request.version is not None:
        return registry.version(model, request.version)
    if request.run_id is not None:
        found = [v for v in registry.versions(model) if v.run_id == request.run_id]
        if not found:
            raise InputRefused(
                request.run_id,
                "E_VERSION",
                f"no version of {model} was trained by this run; see `defectops models list`",
            )
        return found[-1]
    number = registry.alias(model, CANDIDATE)
    if number is None:
        raise InputRefused(
            model,
            "E_VERSION",
            "nobody is candidate; give --version or --run (see `defectops models list`), or "
            f"train one: `dvc repro promote@{defect.key}`",
        )
    return registry.version(model, number)


def _judged(
    gate: Gate, model: LoadedModel, sample: GateSample, bundle: Path, before: Champion
) -> Verdict:
    try:
        return judge_on_gate(gate, model, sample, bundle, before)
    except (IntegrityFault, ModelRefused):
        # Its bundle is another one because somebody moved the champion meanwhile?
        require_expected(read_champion(gate.places), before)
        raise


def _gate(root: Path, defect: DefectType) -> Sequence[Field]:
    path = root / "split" / defect.key / "gate.npz"
    if not path.is_file():
        raise InputRefused(
            f"split/{defect.key}/gate.npz",
            "E_IO",
            f"there is no gate pack to judge on; run `dvc repro split@{defect.key}`",
        )
    return load_fields(path)


def _refuse_leak(
    root: Path, defect: DefectType, version: Version, model: LoadedModel, gate: Sequence[Field]
) -> None:
    refuse_leak(
        model.bundle,
        f"{version.model}/{version.number}",
        judges_of(root, defect, gate),
        "train it anew on the present split",
    )


def _require_reproduced(version: Version, sample: GateSample, measuring: MeasureOptions) -> None:
    """Refuse a version whose scores on the gate pack are not those that were registered.

    Scores of objects and errors of quantities are asked only if they were measured with the same
    options: who changes ``quantify`` has not changed the model.
    """
    found = gate_scores(sample)
    allowed = _tolerances(sample, version.tags.get(MEASURED_WITH) == measured_with(measuring))
    for name, registered in sorted(version.metrics.items()):
        value, tolerance = found.get(name), allowed.get(name)
        if tolerance is not None and (value is None or abs(value - registered) > tolerance):
            raise IntegrityFault(
                f"{version.model}/{version.number}",
                "E_REPRODUCE",
                f"{name} was registered as {registered:.4f}, on the gate pack it is "
                f"{'undefined' if value is None else format(value, '.4f')} now (tolerance "
                f"{tolerance:.4f}); the gate pack or the model is another one: train and register "
                "it anew",
            )


def _tolerances(sample: GateSample, same_options: bool) -> dict[str, float]:
    """Return how far each score may differ from the one that was registered.

    Where another processor rounds bfloat16 otherwise, a few pixels at the threshold go the other
    way; one of them may split, join or drop an object.
    """
    pixels = dict.fromkeys(SCORES, _PIXELS)
    if not same_options:
        return pixels
    step = one_object(sample)
    objects = {n: _ERRORS + d if n.endswith("_percent") else _PIXELS + d for n, d in step.items()}
    return {**objects, **pixels}
