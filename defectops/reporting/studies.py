"""All figures of a study, each under its name, for a run, a page or a talk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from defectops.experiments.importance import importance
from defectops.experiments.lineage import ancestry, members_of
from defectops.reporting.study_history import draw_history, draw_learning_curves
from defectops.reporting.study_lineage import draw_lineage, study_lineage
from defectops.reporting.study_parameters import draw_importance, draw_parallel, draw_slices
from defectops.reporting.study_pareto import draw_pareto

if TYPE_CHECKING:
    from pathlib import Path

    from defectops.experiments.study_trials import Plan, StudyState


def draw_study(state: StudyState, plan: Plan, folder: Path, suffix: str = ".png") -> list[Path]:
    """Draw every figure of a study, the same bytes for the same study.

    Parameters
    ----------
    state : StudyState
        Finished or not; where there is nothing to show yet, a figure says so.
    plan : Plan
    folder : Path
        Gets ``history``, ``curves``, ``importance``, ``slice``, ``parallel``, ``lineage`` and, for
        a study of two objectives, ``pareto``.
    suffix : {".png", ".svg"}

    Returns
    -------
    list of Path
    """
    paths = {name: folder / f"{name}{suffix}" for name in _NAMES}
    draw_history(state, plan, paths["history"])
    draw_learning_curves(state, paths["curves"])
    draw_importance(importance(state, plan), paths["importance"])
    draw_slices(state, plan, paths["slice"])
    draw_parallel(state, plan, paths["parallel"])
    _draw_tree(state, plan, paths["lineage"])
    if len(plan.directions) == 1:
        del paths["pareto"]
    else:
        draw_pareto(state, plan, paths["pareto"])
    return list(paths.values())


_NAMES = ("history", "curves", "importance", "slice", "parallel", "lineage", "pareto")


def _draw_tree(state: StudyState, plan: Plan, path: Path) -> None:
    members = members_of(state.trials)
    line = () if state.best is None else [m.index for m in ancestry(members, state.best.index)]
    label = "error" if plan.objective == "density" else "dev IoU"
    draw_lineage(study_lineage(members, line, label), path)
