"""A study as runs: one for the study, one below it for each attempt at a trial, told live."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from defectops.errors import DefectopsError, InputRefused
from defectops.experiments.registry import digest
from defectops.experiments.studies import Choice, Ending, Listener, Outcome, Parent, Step, Trial
from defectops.experiments.tracking import Ending as Status
from defectops.experiments.tracking import close_stale_runs, knows, owner_is

if TYPE_CHECKING:
    from defectops.experiments.studies import StudyHandle, StudyState
    from defectops.experiments.tracking import Tracker
    from defectops.micrograph import Array

STATE, SUPERSEDED = "trial.state", "superseded.by"
_PARENT = "mlflow.parentRunId"
_RUN = "run_id"  # attribute of a study
_WEIGHTS = "weights"
_STATUS: dict[str, Status] = {
    "complete": "FINISHED",
    "failed": "FAILED",
    "pruned": "KILLED",
    "stopped": "KILLED",
    "lost": "KILLED",
}
_FETCH_SECONDS, _FETCH_PAUSE_SECONDS = 60.0, 2.0


@dataclass(frozen=True, eq=False)
class Told:
    """What runs say beside what the engine of studies knows.

    Parameters
    ----------
    experiment : str
        Where the runs lie: the model's name, as for a training.
    tags : mapping
        Every run has them.
    params : callable
        All settings of a trial.
    numbers : callable
        Metrics of the epoch that was told last.
    picture : callable
        Comparison map of the trial that ended last, also of one that was pruned, ``uint8 (H, W,
        3)``; None without one.
    datasets : sequence of (name, digest, source, context)
    weights : Path
        Folder of the trials' best weights.
    """

    experiment: str
    tags: Mapping[str, str]
    params: Callable[[Choice], Mapping[str, object]]
    numbers: Callable[[], Mapping[str, float]]
    picture: Callable[[], Array | None]
    weights: Path
    datasets: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(eq=False)
class StudyRuns(Listener):
    """Tells a tracker of every attempt of this worker.

    Parameters
    ----------
    tracker : Tracker
    study : StudyHandle
    told : Told
    """

    tracker: Tracker
    study: StudyHandle
    told: Told
    _runs: dict[tuple[int, int], str] = field(default_factory=dict)

    def began(self, choice: Choice) -> str:
        """Start the attempt's run below the study's; close that of the attempt before."""
        parent = self.open_parent()
        run_id = self.tracker.start(
            self.told.experiment,
            f"trial {choice.index}" + (f", attempt {choice.attempt}" * (choice.attempt > 1)),
            self.told.params(choice),
            {**self.told.tags, **_choice_tags(choice), _PARENT: parent},
        )
        self._runs[choice.index, choice.attempt] = run_id
        for dataset in self.told.datasets:
            self.tracker.dataset(run_id, *dataset)
        if choice.predecessor_run:
            self._supersede(choice.predecessor_run, run_id)
        return run_id

    def stepped(self, choice: Choice, step: Step) -> None:
        """Record the epoch's numbers, also of epochs that a checkpoint told again."""
        run_id = self._runs[choice.index, choice.attempt]
        self.tracker.metrics(run_id, self.told.numbers(), step.epoch)

    def ended(self, choice: Choice, ending: Ending, reason: str, outcome: Outcome | None) -> None:
        """End the run with a status and a reason that say how the trial ended."""
        run_id = self._runs.pop((choice.index, choice.attempt), None)
        if run_id is None:
            return
        if ending in {"stopped", "lost"}:
            # The trial goes on elsewhere; a store that is away must not hide why we stop.
            with contextlib.suppress(DefectopsError):
                self._end(run_id, ending, reason)
            return
        if outcome is not None:
            self._keep(run_id, outcome)
        if ending in {"complete", "pruned"}:
            self._show(run_id, self.told.picture())
        self._end(run_id, ending, reason)

    def open_parent(self) -> str:
        """Return the study's own run, running; begun once, by whoever comes first."""
        store = self.study.store
        with store.lock(f"{self.study.name}-runs"):
            run_id = str(self.study.attrs().get(_RUN, ""))
            if run_id and knows(self.tracker, run_id):
                run = self.tracker.run(run_id)
                if run.status != "RUNNING" or owner_is(run, "gone"):
                    self.tracker.reopen(run_id)
                return run_id
            tags = {**self.told.tags, "study": self.study.name}
            plan = {k: str(v) for k, v in self.study.plan.as_json().items()}
            run_id = self.tracker.start(
                self.told.experiment, f"study {self.study.name}", plan, tags
            )
            store.storage.set_study_user_attr(self.study.study_id, _RUN, run_id)
            return run_id

    def close_parent(self, state: StudyState) -> None:
        """End the study's own run: finished if the study is, else stopped until it is resumed."""
        run_id = self.open_parent()
        if state.best is not None:
            self.tracker.tags(run_id, {"best.trial": str(state.best.index)})
            self.tracker.metrics(run_id, {"best": state.best.values[0]}, len(state.trials))
        reason = state.done or "stopped before its end; run the same command again"
        self.tracker.finish(run_id, "FINISHED" if state.done else "KILLED", reason)

    def set_right(self, state: StudyState) -> None:
        """End what a killed worker left: runs that still run, or say less than the study knows."""
        close_stale_runs(self.tracker)
        for trial in state.trials:
            if not (trial.finished and trial.run_id and knows(self.tracker, trial.run_id)):
                continue
            run = self.tracker.run(trial.run_id)
            if run.status == "RUNNING" or run.tags.get(STATE) != trial.state:
                if trial.state == "complete":
                    self._keep(trial.run_id, _outcome_of(trial))
                self._end(trial.run_id, trial.state, trial.reason)

    def weights_of(self, trial: Trial) -> Path | None:
        """Return where a trial's best weights are here; None if they are nowhere to be had."""
        path = self.told.weights / f"{trial.checkpoint_sha256}.safetensors"
        if _is_right(path):
            return path
        with contextlib.suppress(InputRefused):
            self.tracker.fetch(trial.run_id, f"{_WEIGHTS}/{path.name}", path.parent)
        return path if _is_right(path) else None

    def _keep(self, run_id: str, outcome: Outcome) -> None:
        sha256 = outcome.checkpoint_sha256
        weights = self.told.weights / f"{sha256}.safetensors"
        if weights.is_file():
            self.tracker.artifact(run_id, weights, _WEIGHTS)
        numbers = {n: v for n, v in outcome.facts.items() if isinstance(v, (int, float))}
        values = {f"objective/{i}": v for i, v in enumerate(outcome.values)}
        best = {f"best/{n}": v for n, v in numbers.items()}
        self.tracker.metrics(run_id, best | values, int(numbers.get("best_epoch", 0)))
        self.tracker.tags(run_id, {"checkpoint.sha256": sha256})

    def _show(self, run_id: str, picture: Array | None) -> None:
        if picture is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "dev.png"
                Image.fromarray(picture).save(path, compress_level=1)
                self.tracker.artifact(run_id, path, "comparison")

    def _end(self, run_id: str, state: str, reason: str) -> None:
        self.tracker.tags(run_id, {STATE: state})
        self.tracker.finish(run_id, _STATUS[state], reason)

    def _supersede(self, before: str, run_id: str) -> None:
        with contextlib.suppress(InputRefused):  # another store knows it
            self.tracker.tags(before, {SUPERSEDED: run_id})
            if self.tracker.run(before).status == "RUNNING":
                self.tracker.finish(before, "KILLED", "its process ended without a word")


def fetcher(
    tracker: Tracker, sleep: Callable[[float], None] = time.sleep
) -> Callable[[Parent, Path], None]:
    """Return what brings a parent's weights from its run to this machine.

    The machine that trained it stores its result before it uploads the weights, so they are
    waited for, for a minute, while its run goes on.
    """

    def fetch(parent: Parent, path: Path) -> None:
        if not knows(tracker, parent.run_id):
            return
        for _ in range(round(_FETCH_SECONDS / _FETCH_PAUSE_SECONDS)):
            goes_on = tracker.run(parent.run_id).status == "RUNNING"
            with contextlib.suppress(InputRefused):
                tracker.fetch(parent.run_id, f"{_WEIGHTS}/{path.name}", path.parent)
                return
            if not goes_on:
                return
            sleep(_FETCH_PAUSE_SECONDS)

    return fetch


def _is_right(weights: Path) -> bool:
    """Whether a file holds what its name, a digest, says."""
    return weights.is_file() and digest(weights) == weights.stem


def _choice_tags(choice: Choice) -> dict[str, str]:
    tags: dict[str, Any] = {
        "study": choice.study,
        "trial": choice.index,
        "generation": choice.generation,
        "attempt": choice.attempt,
    }
    if choice.parent is not None:
        tags |= {
            "parent.trial": choice.parent.index,
            "parent.sha256": choice.parent.checkpoint_sha256,
            "parent.epochs": choice.parent.epochs,
        }
    return {key: str(value) for key, value in tags.items()}


def _outcome_of(trial: Trial) -> Outcome:
    return Outcome(trial.values, trial.checkpoint_sha256, trial.facts)
