"""How a study is summed up: what was best, what that was due to, what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from defectops.cli.output import as_json, line, table

if TYPE_CHECKING:
    from defectops.experiments.importance import Importance
    from defectops.experiments.study_trials import Plan, StudyState, Trial
    from defectops.workflows.tuning import Tuned


class Setting(NamedTuple):
    """One hyperparameter: the best trial's, what `--apply` writes, the project's own, its worth."""

    name: str
    best: str
    applied: str
    own: str
    worth: str


def show_result(
    tuned: Tuned, model: str, again: str, applied: Mapping[str, Any] | None, *, json: bool
) -> None:
    """Show a study that has ended or was stopped; progress has gone to stderr before.

    Parameters
    ----------
    tuned : Tuned
    model : str
        Name of the registered model.
    again : str
        Command that goes on with this study.
    applied : mapping or None
        What was written into params.yaml; None if nothing was.
    json : bool
        Print the exported study and nothing else.
    """
    from defectops.experiments.importance import importance
    from defectops.experiments.study_trials import exported
    from defectops.workflows.study_results import settings_of

    state, plan = tuned.state, tuned.plan
    if json:
        as_json(exported(state, plan))
        return
    for text in verdict(state, plan):
        line(text)
    if state.best is not None:
        found = importance(state, plan)
        written = settings_of(state.best, state, plan)
        columns = ("setting", f"best (trial {state.best.index})", "--apply", "own", "worth")
        table(columns, setting_rows(state, plan, written, found))
        if found.note:
            line(f"worth: {found.note}")
    if len(plan.directions) > 1:
        table(("trial", "dev IoU", "error", "epochs"), pareto_rows(state), "Pareto set")
    for text in next_lines(state, plan, model, again, applied):
        line(text)


def verdict(state: StudyState, plan: Plan) -> list[str]:
    """Return what came of the study, in a few lines."""
    counts = [t.state for t in state.trials]
    said = ", ".join(f"{counts.count(s)} {s}" for s in ("complete", "pruned", "failed"))
    lines = [f"{state.name}: {len(counts)} trials ({said})"]
    lines.append(f"stopped: {state.done}" if state.done else "not done: the budget is used up")
    if state.best is None:
        return [*lines, "no trial came to an end, so there is no best one"]
    lines.append(f"best: {_trial(state.best, plan)}")
    own = own_trial(state, plan)
    if own is state.best:
        lines.append("own settings: they are the best that was found")
    elif own is not None and own.values:
        difference = state.best.values[0] - own.values[0]
        lines.append(f"own settings: {_trial(own, plan)}; difference {difference:+.3f}")
    return lines


def own_trial(state: StudyState, plan: Plan) -> Trial | None:
    """Return the trial that has the project's own settings; None if there is none."""
    return state.trials[0] if plan.first and state.trials else None


def setting_rows(
    state: StudyState, plan: Plan, written: Mapping[str, Any], found: Importance
) -> list[Setting]:
    """Return a row for each hyperparameter, the most important first, then what else is written.

    Parameters
    ----------
    state : StudyState
        With a best trial.
    plan : Plan
    written : mapping
        What ``--apply`` writes.
    found : Importance
    """
    best, own = _settings(state.best), _settings(own_trial(state, plan))
    worth = {
        w.name: f"{100 * w.share:.0f} %" + ("" if w.clear else " (chance)") for w in found.worths
    }
    names = [*worth, *(n for n in plan.space.names if n not in worth)]
    names += [n for n in written if n not in names]
    return [
        Setting(
            name,
            _value(best.get(name)),
            _value(written.get(name)),
            _value(own.get(name)),
            worth.get(name, ""),
        )
        for name in names
    ]


def _settings(trial: Trial | None) -> dict[str, Any]:
    return {} if trial is None else {**trial.params, "epochs": trial.cumulative_epochs}


def pareto_rows(state: StudyState) -> list[tuple[str, ...]]:
    """Return the members of the Pareto set, the highest dev IoU first."""
    members = sorted(state.pareto, key=lambda t: (-t.values[0], t.index))
    return [
        (str(t.index), f"{t.values[0]:.3f}", f"{t.values[1]:.3f}", str(t.cumulative_epochs))
        for t in members
    ]


def next_lines(
    state: StudyState, plan: Plan, model: str, again: str, applied: Mapping[str, Any] | None
) -> list[str]:
    """Return what to type next, indented."""
    kept = f"kept in studies/{plan.defect}.json"
    if state.best is None:
        return [f"{kept}; next:", f"  {again}"]
    lines = [f"{kept} and as versions of {model}; next:"]
    if not state.done:
        lines.append(f"  {again}  # goes on")
    if applied is None:
        lines.append(f"  {again} --apply  # writes the settings into params.yaml")
    lines += [
        "  dvc repro  # trains with them; the gate decides",
        f"  defectops lineage {plan.defect}/{state.best.index}",
        "  defectops ui  # runs, curves and figures",
    ]
    return lines


def _trial(trial: Trial, plan: Plan) -> str:
    measure = "error" if plan.objective == "density" else "dev IoU"
    return (
        f"trial {trial.index}, {measure} {trial.values[0]:.3f} "
        f"after {trial.cumulative_epochs} epochs"
    )


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
