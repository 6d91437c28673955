"""What a study leaves in the project: a file under git, and settings in params.yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from defectops import settings
from defectops.atomic import write_text
from defectops.errors import InputRefused
from defectops.experiments.studies import Plan, StudyState, Trial, exported

_KEPT = 3  # best trials that are registered, at least


def result_path(root: Path, defect: str) -> Path:
    """Return where the result of a defect's studies lies, under git."""
    return root / "studies" / f"{defect}.json"


def result_text(state: StudyState, plan: Plan) -> str:
    """Return the result of a study as JSON, the same for the same study."""
    return json.dumps(exported(state, plan), indent=1) + "\n"


def write_result(root: Path, state: StudyState, plan: Plan) -> Path:
    """Write ``studies/<defect>.json``, the same bytes for the same study."""
    path = result_path(root, plan.defect)
    write_text(path, result_text(state, plan))
    return path


def best_trials(state: StudyState, plan: Plan) -> list[Trial]:
    """Return the trials that are worth keeping, best first.

    Of two objectives the Pareto set, by its first value; else as many as seed a generation, and
    at least three.
    """
    if len(plan.directions) > 1:
        return sorted(state.pareto, key=lambda t: (-t.values[0], t.index))
    sign = -1 if plan.directions[0] == "maximize" else 1
    complete = [t for t in state.trials if t.state == "complete"]
    return sorted(complete, key=lambda t: (sign * t.values[0], t.index))[
        : max(plan.seed_from, _KEPT)
    ]


def lineage(trial: Trial, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose weights one continues, from the first ancestor to itself."""
    line = [trial]
    while line[-1].parent is not None:
        line.append(trials[line[-1].parent])
    return line[::-1]


def settings_of(trial: Trial, state: StudyState, plan: Plan) -> dict[str, Any]:
    """Return what ``train`` has to say to train, from nothing, what a trial's lineage trained.

    The parameters are those of its first ancestor, the only ones of the line that are known to
    train from fresh weights; the epochs are those of the whole line (decision 16).
    """
    share = float(plan.facts.get("final_decay_share", "0"))
    epochs = trial.cumulative_epochs
    decay = {"final_decay_epochs": round(share * epochs)} if share else {}
    return {**lineage(trial, state.trials)[0].params, "epochs": epochs, **decay}


def apply(root: Path, state: StudyState, plan: Plan, index: int | None = None) -> dict[str, Any]:
    """Write the settings of a trial into ``params.yaml: train.<defect>``.

    Parameters
    ----------
    root : Path
        The project's folder.
    state : StudyState
    plan : Plan
    index : int, optional
        Of a complete trial; the best one if not given.

    Returns
    -------
    dict
        What was written. Other keys, comments and the order of the file stay.

    Raises
    ------
    InputRefused
        No such trial, or none that came to an end.
    """
    written = settings_of(_complete(state, index), state, plan)
    path = root / settings.PARAMS
    yaml, data = settings.edit_yaml(path)
    section = data.setdefault("train", CommentedMap())
    if not section.get(plan.defect):
        section[plan.defect] = CommentedMap()
    section[plan.defect].update(written)
    write_text(path, settings.dump_yaml(yaml, data))
    return written


def _complete(state: StudyState, index: int | None) -> Trial:
    found = state.best
    if index is not None:
        found = next((t for t in state.trials if t.index == index), None)
    if found is None or found.state != "complete":
        which = "a trial" if index is None else f"trial {index}"
        raise InputRefused(
            state.name, "E_STUDY", f"has not brought {which} to an end; there is nothing to apply"
        )
    return found
