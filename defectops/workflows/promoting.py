"""Judge a freshly trained model on the gate pack; promote it or keep the champion."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from defectops.atomic import write_text
from defectops.experiments.champions import (
    Champion,
    Places,
    places_of,
    read_champion,
    write_champion,
)
from defectops.experiments.promotion import Finding, PromotionOptions, Verdict, may_move
from defectops.experiments.registry import Registry, digest, place
from defectops.experiments.succession import Candidate, note, promote
from defectops.experiments.tracking import close_stale_runs, knows
from defectops.learning import machine
from defectops.learning.inference import LoadedModel, load_model
from defectops.measurement.agreement import comparison_map
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import field_names, load_fields
from defectops.reporting.curves import draw_iou_curves
from defectops.reporting.maps import draw_comparison
from defectops.workflows.after_promotion import finish_move, moved_by_hand
from defectops.workflows.champions import data_tag
from defectops.workflows.gate_measuring import gate_scores, masks_of
from defectops.workflows.judging import MEASURED_WITH, Gate, judge_on_gate, measured_with
from defectops.workflows.leak_audit import judges_of, refuse_leak
from defectops.workflows.model_card import model_card

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.tracking import Tracker
    from defectops.measurement.model_comparison import GateSample
    from defectops.micrograph import Array, Region

# Where the code was that trained a model, from the tags of its run.
_FROM_RUN = ("git.commit", "git.dirty")


def promote_on_repro(
    root: Path,
    defect: DefectType,
    options: PromotionOptions,
    tracker: Tracker,
    registry: Registry | None,
    measuring: MeasureOptions | None = None,
) -> Verdict:
    """Judge ``models/<defect>/`` on the gate pack and make it champion if the gate lets it.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    options : PromotionOptions
    tracker : Tracker
        The training's run gets the figures: IoU curves, and comparison maps of the dev side.
    registry : Registry or None
        None inside ``dvc exp run``: the model is judged, nothing moves.
    measuring : MeasureOptions, optional
        Those of the stage ``quantify``.

    Returns
    -------
    Verdict
        Also written to ``results/promotion/<defect>.json``. Fail keeps the champion there is;
        the stage ends well either way.

    Raises
    ------
    GateFailed
        ``E_LEAK``: the model has seen pixels of the gate pack or of the test side, or was chosen on
        pixels of a side ``gate``.
    """
    machine.settle()
    close_stale_runs(tracker)
    places = places_of(root, defect.key)
    if registry is not None:
        finish_move(places, registry)
    bundle = root / "models" / defect.key / "model.safetensors"
    gate = load_fields(root / "split" / defect.key / "gate.npz")
    run_id = str(
        json.loads((root / "results" / "runs" / f"{defect.key}.json").read_text())["run_id"]
    )
    champion = read_champion(places)
    model = load_model(bundle)
    refuse_leak(
        model.bundle,
        f"models/{defect.key}",
        judges_of(root, defect, gate),
        f"mend the split, then run `dvc repro train@{defect.key}`",
    )
    masks = masks_of(model, gate)
    shown = {(f.image, f.region): mask for f, mask in zip(gate, masks, strict=True)}
    _publish_figures(root, defect, tracker, run_id, model, shown)
    judged_by = Gate(defect, places, gate, options, measuring or MeasureOptions())
    sample = judged_by.show(model, masks)
    verdict = judge_on_gate(judged_by, model, sample, bundle, champion)
    moved = False
    if registry is not None:
        run_tags = tracker.run(run_id).tags if knows(tracker, run_id) else {}
        candidate = _candidate(judged_by, bundle, run_id, model, sample, run_tags)
        verdict, moved = _follow(places, registry, candidate, verdict, options, champion)
    elif champion.sha256 == digest(bundle) and not places.bundle.is_file():
        place(bundle, str(champion.sha256), places.bundle.parent, places.model)
    _leave_something(places)
    found = {**verdict.as_mapping(), "moved": moved}
    path = root / "results" / "promotion" / f"{defect.key}.json"
    write_text(path, json.dumps(found, indent=1, sort_keys=True) + "\n")
    return verdict


def _candidate(
    gate: Gate,
    bundle: Path,
    run_id: str,
    model: LoadedModel,
    sample: GateSample,
    run_tags: Mapping[str, str],
) -> Candidate:
    """Return a judged model with what its version is to say of it."""
    metrics = _defined(gate_scores(sample))
    tags = {
        "defect": gate.defect.key,
        "preset": str(model.bundle.training["settings"]["preset"]),
        MEASURED_WITH: measured_with(gate.measuring),
        **data_tag(model.bundle),
        **{name: run_tags[name] for name in _FROM_RUN if name in run_tags},
    }
    card = model_card(gate.defect, model.bundle, metrics, tags)
    return Candidate(bundle, run_id, model.bundle.threshold, metrics, tags, card)


def _publish_figures(
    root: Path,
    defect: DefectType,
    tracker: Tracker,
    run_id: str,
    model: LoadedModel,
    shown: Mapping[tuple[str, Region], Array],
) -> None:
    """Draw what one wants to see of a training beside its run.

    Done here and not by the training, so that an edit of a figure never trains again. `shown` are
    the masks of the gate pack, which may be the dev side.
    """
    if not knows(tracker, run_id):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        curves = pd.read_csv(root / "results" / "curves" / f"{defect.key}.csv")
        draw_iou_curves(curves, folder / "iou.png", defect.colour)
        tracker.artifact(run_id, folder / "iou.png", "curves")
        dev = load_fields(root / "split" / defect.key / "dev.npz")
        for field, stem in zip(dev, field_names(dev, "dev"), strict=True):
            mask = shown.get((field.image, field.region))
            if mask is None:
                (mask,) = masks_of(model, [field])
            path = folder / f"{stem}.png"
            draw_comparison(
                field.intensity,
                comparison_map(mask, field.label, field.ignore),
                path,
                pixel_size_nm=field.calibration.pixel_size_nm,
                title=f"{field.image}, development side",
            )
            tracker.artifact(run_id, path, "comparison")


def _follow(
    places: Places,
    registry: Registry,
    candidate: Candidate,
    verdict: Verdict,
    options: PromotionOptions,
    champion: Champion,
) -> tuple[Verdict, bool]:
    """Register a judged model and let it follow the champion if it may; return whether it did.

    A model that was registered before was judged before. If the champion was moved since and DVC
    was not told, a person did so: the stage runs for that reason alone and must not undo it.
    """
    same = champion.sha256 == digest(candidate.bundle)
    by_hand = not same and moved_by_hand(places, registry, digest(candidate.bundle))
    moves = may_move(options, verdict, champion.version is not None) and not by_hand
    held = verdict if moves or not verdict.passed else Verdict("fail", verdict.findings)
    about = note(verdict.reason, by="repro")
    promote(places, registry, candidate, held, about, expect=champion)
    if by_hand:
        text = "somebody moved the champion after this model was judged: it stays"
        finding = Finding("by hand", verdict.outcome, None, None, text)
        verdict = Verdict(verdict.outcome, (*verdict.findings, finding))
    return verdict, moves and not same


def _leave_something(places: Places) -> None:
    """Write a file and a folder that say so where there is no champion: outputs must exist."""
    places.bundle.parent.mkdir(parents=True, exist_ok=True)
    if not places.file.is_file():
        write_champion(places, read_champion(places))
    if not places.journal.is_file():
        write_text(places.journal, "")


def _defined(metrics: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
