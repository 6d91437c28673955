"""``defectops tune``: find the training settings of a defect type, and weights that follow on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from defectops.cli.tune_live import Look
    from defectops.experiments.study_trials import Plan, StudyState
    from defectops.workflows.tuning import Session

app = typer.Typer(rich_markup_mode=None, add_completion=False)

# Options that decide the study itself: who joins one takes them as they are there.
_PLANNED = {
    "trials": "--trials",
    "generations": "--generations",
    "epochs": "--epochs",
    "sampler": "--sampler",
    "pruner": "--pruner",
    "objective": "--objective",
    "seed_from": "--seed-from",
    "seed": "--seed",
}


@app.command(
    epilog="\b\nExamples:\n"
    "  defectops tune --defect precipitates\n"
    "  defectops tune --defect precipitates --apply\n"
    "  defectops tune --defect voids --sampler random --pruner none --epochs 20 --workers 2\n"
    "  defectops tune --defect voids --join --storage postgresql://tuner@db.lab/studies"
)
def tune(
    defect: str = typer.Option(..., "--defect", help="Type whose network is tuned."),
    trials: int | None = typer.Option(
        None, "--trials", min=1, help="Configurations of generation 0, from random weights."
    ),
    generations: int | None = typer.Option(
        None, "--generations", min=0, help="At most so many generations from the best weights."
    ),
    epochs: int | None = typer.Option(
        None, "--epochs", min=1, help="Epochs of the first trials; later ones: tune.stretch."
    ),
    budget_minutes: float | None = typer.Option(
        None, "--budget-minutes", help="Stop after this time; the same command goes on."
    ),
    workers: int = typer.Option(
        1, "--workers", min=1, max=1024, help="Processes, each with its share of the cores."
    ),
    threads: int | None = typer.Option(
        None, "--threads", min=1, help="CPU threads of each worker (default: cores shared out)."
    ),
    sampler: Literal["random", "tpe", "gp", "cmaes"] | None = typer.Option(
        None, "--sampler", help="How configurations are drawn; random is the paper's way."
    ),
    pruner: Literal["median", "hyperband", "patient", "none"] | None = typer.Option(
        None, "--pruner", help="When a trial is given up, compared with its own kind."
    ),
    objective: Literal["iou", "density", "pareto"] | None = typer.Option(
        None, "--objective", help="dev IoU, error of the density, or both against each other."
    ),
    seed_from: int | None = typer.Option(
        None, "--seed-from", min=1, help="How many of the best trials seed a generation."
    ),
    storage: str = typer.Option(
        "", "--storage", help="postgresql://... for many machines (default: a file here)."
    ),
    seed: int | None = typer.Option(None, "--seed", min=0, help="Same seed, same trials."),
    new: bool = typer.Option(False, "--new", help="Begin another study; the old one is kept."),
    resume: bool = typer.Option(False, "--resume", help="Go on; refuse if there is no study."),
    join: bool = typer.Option(False, "--join", help="Add workers to a study that was begun."),
    apply: bool = typer.Option(
        False, "--apply", help="Write the best settings into params.yaml: train.<defect>."
    ),
    json: bool = typer.Option(False, "--json", help="Print the study as JSON."),
) -> None:
    """Search training settings over trials and generations, or go on with such a study.

    Trials of generation 0 start from random weights, the first with the project's own settings;
    those of later generations from the weights of the best so far. Train and dev are seen, never
    test. What is not given here stands in params.yaml: tune. The study is kept in
    studies/<defect>.json; its runs, figures and best versions in MLflow. Ctrl-C stops within
    seconds and loses no whole epoch; the same command goes on.
    """
    given = {
        "trials": trials,
        "generations": generations,
        "epochs": epochs,
        "sampler": sampler,
        "pruner": pruner,
        "objective": objective,
        "seed_from": seed_from,
        "seed": seed,
    }
    _refuse_contradictions(given, budget_minutes, new=new, resume=resume, join=join)
    from defectops.workflows.tuning import Session

    mode: Literal["either", "new", "resume", "join"] = (
        "join" if join else "new" if new else "resume" if resume else "either"
    )
    session = Session(
        workers=workers,
        threads=threads or 0,
        storage=storage,
        mode=mode,
        budget_minutes=budget_minutes,
    )
    _run(defect, given, session, apply=apply, json=json)


def _refuse_contradictions(
    given: Mapping[str, object],
    budget_minutes: float | None,
    *,
    new: bool,
    resume: bool,
    join: bool,
) -> None:
    chosen = [name for name, on in (("--new", new), ("--resume", resume), ("--join", join)) if on]
    if len(chosen) > 1:
        raise typer.BadParameter(f"{' and '.join(chosen)} contradict each other; give one of them")
    extra = [_PLANNED[name] for name, value in given.items() if value is not None]
    if join and extra:
        raise typer.BadParameter(
            f"{', '.join(extra)} cannot be given with --join: a study that was begun has its own"
        )
    if budget_minutes is not None and not budget_minutes > 0:
        raise typer.BadParameter(f"--budget-minutes must be above 0, got {budget_minutes:g}")


def _run(
    defect: str, given: Mapping[str, Any], session: Session, *, apply: bool, json: bool
) -> None:
    import time

    from defectops.cli.tune_live import study_progress
    from defectops.cli.tune_progress import Progress
    from defectops.cli.tune_result import show_result
    from defectops.workflows.parameters import load_parameters
    from defectops.workflows.study_results import apply as write_settings
    from defectops.workflows.tune_settings import changed, read_tune_options
    from defectops.workflows.tuning import tune as run_study

    root = Path()
    parameters = load_parameters(root)
    kind = parameters.defect(defect)
    told = read_tune_options(parameters.merged("tune", defect), f"params.yaml: tune.{defect}")
    options = changed(told, given)
    if given["seed_from"] is not None:
        # Each of the best has at least one child, else it would not seed anything.
        options = changed(options, {"offspring": max(told.offspring, options.seed_from)})
    minutes = session.budget_minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    progress = Progress.of(defect, options, session.workers)
    with study_progress(progress, deadline, _looking_into(root, session)) as listen:
        tuned = run_study(root, defect, options, listen, session)
    applied = write_settings(root, tuned.state, tuned.plan) if apply else None
    show_result(tuned, kind.model_name, _again(defect, given, session), applied, json=json)


def _looking_into(root: Path, session: Session) -> Look:
    """Return what reads the study of that name from its store, with what others did."""
    from defectops.experiments.studies import read_study

    def look(name: str) -> tuple[StudyState, Plan]:
        return read_study(root, session.storage, name)

    return look


def _again(defect: str, given: Mapping[str, object], session: Session) -> str:
    """Return the command that goes on with this study: what decides it has to be said again."""
    words = ["defectops", "tune", "--defect", defect]
    for name, option in _PLANNED.items():
        if given[name] is not None:
            words += [option, str(given[name])]
    if session.mode == "join":
        words.append("--join")  # the study has a plan that this command line does not know
    if session.storage:
        words += ["--storage", "..."]  # it may hold a password
    return " ".join(words)
