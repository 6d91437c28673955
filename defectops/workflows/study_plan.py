"""From a project's settings to the plan of a study, and whether a study here is the same there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from defectops.errors import InputRefused
from defectops.experiments.provenance import versions
from defectops.experiments.studies import Plan
from defectops.experiments.trial_lengths import epochs_of
from defectops.workflows.train_settings import read_train_settings
from defectops.workflows.trials import final_decay_share, trial_settings
from defectops.workflows.tune_settings import including

if TYPE_CHECKING:
    from defectops.experiments.studies import StudyHandle
    from defectops.workflows.trials import Ground
    from defectops.workflows.tune_settings import TuneOptions

_VERSIONS = ("defectops", "torch", "numpy", "optuna")


def make_plan(ground: Ground, options: TuneOptions, threads: int) -> Plan:
    """Return the plan of a study; the project's own settings are its first trial.

    Raises
    ------
    SettingsRefused
        A bound or a choice of the space cannot be trained with, or a trial would be too long.
    """
    own = read_train_settings(ground.given, f"params.yaml: train.{ground.defect.key}").flat()
    space, first = including(options.as_space(), own)
    plan = Plan(
        **_as_planned(options),
        defect=ground.defect.key,
        space=space,
        first=(first,),
        threads=threads,
        data_sha256=ground.data_sha256,
        facts=plan_facts(ground),
    )
    _try_bounds(ground, plan)
    return plan


def _as_planned(options: TuneOptions) -> dict[str, Any]:
    """Return what a plan takes over as the options have it: all of them but the space."""
    return {f.name: getattr(options, f.name) for f in fields(options) if f.name != "space"}


def plan_facts(ground: Ground) -> dict[str, str]:
    """Return what else a study depends on: settings that it does not vary, and versions."""
    own = read_train_settings(ground.given, f"params.yaml: train.{ground.defect.key}")
    flat = {k: v for k, v in own.flat().items() if k not in {"seed", "threads"}}
    fixed = [asdict(ground.defect), flat, asdict(ground.conditioning), asdict(ground.measure)]
    digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
    return {
        "preset": own.preset,
        "settings_sha256": digest,
        "final_decay_share": repr(round(final_decay_share(own), 6)),
        **versions(_VERSIONS),
    }


def require_same_ground(study: StudyHandle, ground: Ground) -> None:
    """Refuse to join a study that was begun with other data, settings or versions.

    Raises
    ------
    InputRefused
    """
    here: dict[str, Any] = {**plan_facts(ground), "data": ground.data_sha256}
    there = {**study.plan.facts, "data": study.plan.data_sha256}
    other = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    if other:
        raise InputRefused(
            study.name,
            "E_STUDY",
            f"was begun with other {', '.join(other)} than are here; bring this project to the "
            "same state (git, dvc pull, params.yaml, packages), or start another study with --new",
        )


def _try_bounds(ground: Ground, plan: Plan) -> None:
    """Build the settings at every end of the space, so that no trial fails for what one wrote."""
    longest = epochs_of(plan.generations, plan.epochs, plan.stretch)
    for dimension in plan.space.dimensions:
        ends = dimension.choices or (dimension.low, dimension.high)
        for value in ends:
            whole = int(value) if dimension.kind == "int" else value
            trial_settings(ground.given, plan, {dimension.name: whole}, 0, longest)
