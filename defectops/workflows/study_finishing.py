"""What a study leaves in the tracking store: its best as candidates, its figures, its end."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.defects import DefectType
from defectops.errors import ModelRefused
from defectops.experiments.registry import CANDIDATE
from defectops.learning.bundle import load_bundle
from defectops.reporting.studies import draw_study
from defectops.workflows.model_card import model_card
from defectops.workflows.study_results import best_trials, lineage, result_text

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry
    from defectops.experiments.studies import Plan, StudyState, Trial
    from defectops.learning.bundle import Bundle
    from defectops.workflows.study_tracking import StudyRuns

_RESULT = "result.sha256"


def finish(runs: StudyRuns, state: StudyState, registry: Registry | None) -> None:
    """Set right what killed workers left, register the best trials, draw, end the study's run.

    Can be repeated: a version is known by its digest, a figure by what it shows.

    Parameters
    ----------
    runs : StudyRuns
    state : StudyState
    registry : Registry or None
        None inside ``dvc exp run``: nothing in the registry moves.
    """
    runs.set_right(state)
    if registry is not None:
        _register(runs, state, registry)
    _publish_figures(runs, state)
    runs.close_parent(state)


def _register(runs: StudyRuns, state: StudyState, registry: Registry) -> None:
    plan, model = runs.study.plan, runs.told.experiment
    numbers = []
    for trial in best_trials(state, plan):
        weights = runs.weights_of(trial)
        bundle = None if weights is None else _usable(weights)
        if weights is None or bundle is None:  # lost or damaged, here and in its run
            continue
        metrics = {n: v for n, v in trial.facts.items() if isinstance(v, float)}
        tags = _version_tags(trial, state, plan)
        kind: dict[str, Any] = dict(bundle.defect)
        card = model_card(DefectType(**kind), bundle, metrics, tags)
        numbers.append(registry.submit(model, weights, trial.run_id, metrics, tags, card))
    if numbers:
        registry.set_alias(model, CANDIDATE, numbers[0])


def _usable(weights: Path) -> Bundle | None:
    """Return the bundle of a trial; None for one of an earlier form, which nobody can load now."""
    try:
        return load_bundle(weights)
    except ModelRefused:
        return None


def _version_tags(trial: Trial, state: StudyState, plan: Plan) -> dict[str, str]:
    line = lineage(trial, state.trials)
    tags: dict[str, object] = {
        "defect": plan.defect,
        "preset": plan.facts.get("preset", ""),
        "threshold": repr(trial.facts["threshold"]),
        "study": state.name,
        "trial": trial.index,
        "generation": trial.generation,
        "cumulative_epochs": trial.cumulative_epochs,
        "lineage.trials": " > ".join(str(t.index) for t in line),
        "lineage.sha256": " > ".join(t.checkpoint_sha256 for t in line),
    }
    return {key: str(value) for key, value in tags.items()}


def _publish_figures(runs: StudyRuns, state: StudyState) -> None:
    run_id, plan = runs.open_parent(), runs.study.plan
    text = result_text(state, plan)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    if runs.tracker.run(run_id).tags.get(_RESULT) == sha256:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for figure in draw_study(state, plan, folder):
            runs.tracker.artifact(run_id, figure, "figures")
        (folder / f"{plan.defect}.json").write_text(text, encoding="utf-8")
        runs.tracker.artifact(run_id, folder / f"{plan.defect}.json")
    runs.tracker.tags(run_id, {_RESULT: sha256})
