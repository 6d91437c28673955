"""A worker of a study: a process that carries out trials and tells of them, one JSON line each.

``python -m defectops.workflows.study_worker`` reads one line, an `Order`, and writes events.
Whoever started it holds its standard input: where that ends, the worker ends too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from defectops.errors import DefectopsError, InputRefused
from defectops.experiments.provenance import run_tags
from defectops.experiments.studies import (
    Choice,
    Ending,
    Listener,
    Outcome,
    Step,
    StudyHandle,
    close_study,
    join_study,
    open_study,
    state_of,
    work,
)
from defectops.experiments.tracking import close_stale_runs
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning import machine
from defectops.learning.bundle import file_sha256
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Array, sealed
from defectops.workflows.packing import tracked
from defectops.workflows.parameters import load_parameters
from defectops.workflows.stores import open_stores
from defectops.workflows.study_finishing import finish
from defectops.workflows.study_plan import make_plan, require_same_ground
from defectops.workflows.study_tracking import StudyRuns, Told, fetcher
from defectops.workflows.trial_pictures import dev_picture
from defectops.workflows.trials import Evaluator, Ground, load_ground, settings_of, sides_of
from defectops.workflows.tune_settings import TuneOptions
from defectops.workflows.tuning import BUG, INTERRUPTED, TERMINATED, Order

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry
    from defectops.experiments.tracking import Tracker

Tell = Callable[[Mapping[str, Any]], None]

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Carry out the order on standard input and return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    _die_with_parent()
    line = sys.stdin.readline()
    if not line:
        return BUG
    threading.Thread(target=_watch, args=(sys.stdin,), daemon=True).start()
    with _only_events_on_stdout() as tell:
        try:
            run(Order(**json.loads(line)), tell)
        except DefectopsError as error:
            about = {"subject": error.subject, "code": error.code, "message": error.message}
            tell({"event": "error", "class": type(error).__name__, **about})
            return error.exit_code
        except KeyboardInterrupt:
            return INTERRUPTED
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else BUG
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            tell({"event": "bug", "message": said, "traceback": traceback.format_exc()})
            return BUG
    return 0


def run(order: Order, tell: Tell) -> None:
    """Work on a study until it is done or the time is up.

    Parameters
    ----------
    order : Order
    tell : callable
        Gets the events, see `tuning.tune`.

    Raises
    ------
    DefectopsError
        The project, the study store or the tracking store cannot be used.
    """
    started = time.monotonic()
    root = Path(order.root)
    parameters = load_parameters(root)
    defect = parameters.defect(order.defect)
    with sealed(*sides_of(root, defect)):
        ground = load_ground(
            root,
            defect,
            parameters.merged("train", order.defect),
            parameters.options("prepare", order.defect, ConditioningOptions),
            parameters.options("quantify", order.defect, MeasureOptions),
        )
        study = _open(root, order, ground)
        with contextlib.ExitStack() as stack:
            stack.callback(close_study, study)
            machine.settle(study.plan.threads)
            tell({"event": "ready", "study": study.name, "threads": study.plan.threads})
            deadline = None if order.seconds is None else started + order.seconds
            stores = open_stores(root)
            shells = Shells(stores.tracker, stores.movable, tell)
            carry_out(root, study, ground, shells, deadline)


@dataclass(frozen=True)
class Shells:
    """Who is told of a study: tracker, registry (None: nothing in it moves), and a listener."""

    tracker: Tracker
    registry: Registry | None
    tell: Tell = lambda event: None


def carry_out(
    root: Path, study: StudyHandle, ground: Ground, shells: Shells, deadline: float | None = None
) -> None:
    """Work on an open study and, where nothing is left or the time is up, keep what it came to."""
    tracker = shells.tracker
    close_stale_runs(tracker)
    weights = study.folder / "weights"
    evaluator = Evaluator(ground, study.plan, weights, fetcher(tracker))
    runs = StudyRuns(tracker, study, _told(root, ground, evaluator, weights))
    try:
        work(study, evaluator, _Both(runs, _Teller(shells.tell)), deadline=deadline)
        with study.store.lock(f"{study.name}-end"):
            finish(runs, state_of(study), shells.registry)
    except BaseException:
        # What stopped us matters more than a store that is away; another worker opens it again.
        with contextlib.suppress(DefectopsError):
            runs.close_parent(state_of(study))
        raise


def _open(root: Path, order: Order, ground: Ground) -> StudyHandle:
    if order.mode == "join":
        study = join_study(root, order.storage, order.name)
        require_same_ground(study, ground)
        return study
    threads = order.threads or _threads_before(root, order) or order.fair_threads
    plan = make_plan(ground, TuneOptions(**order.options), threads)
    if order.mode != "renew":
        return open_study(root, order.storage, order.name, plan, mode=order.mode)
    try:
        return open_study(root, order.storage, order.name, plan, mode="resume")
    except InputRefused:
        return open_study(root, order.storage, order.name, plan, mode="new")


def _threads_before(root: Path, order: Order) -> int:
    """Return the threads of the study that is to be resumed; 0 if there is none."""
    if order.mode == "new":
        return 0
    with contextlib.suppress(InputRefused):
        study = join_study(root, order.storage, order.name)
        close_study(study)
        return study.plan.threads
    return 0


def _told(root: Path, ground: Ground, evaluator: Evaluator, weights: Path) -> Told:
    plan, key = evaluator.plan, ground.defect.key
    tags = {**run_tags(root, key, plan.facts["preset"]), "threads": str(plan.threads)}
    datasets = []
    for side, fields in zip(("train", "dev"), (ground.train, ground.dev), strict=True):
        path = f"split/{key}/{side}.npz"
        digest = tags.get(f"dvc.md5.{path}") or file_sha256(root / path)
        images = ", ".join(sorted({f.image for f in fields}))
        datasets.append((f"{key} {side}", digest, images, side))

    def picture() -> Array | None:
        model = evaluator.model()
        return None if model is None else dev_picture(model, ground.dev)

    return Told(
        experiment=ground.defect.model_name,
        tags=tags,
        params=lambda c: settings_of(ground, plan, c).flat(),
        numbers=lambda: {
            **tracked(evaluator.row),
            "images_per_s": evaluator.row["images_per_s"],
        },
        picture=picture,
        weights=weights,
        datasets=tuple(datasets),
    )


class _Both(Listener):
    """Tells two listeners, the one that gives the run's id first."""

    def __init__(self, first: Listener, second: Listener) -> None:
        self.first, self.second = first, second

    def began(self, choice: Choice) -> str | None:
        """Tell both."""
        run_id = self.first.began(choice)
        self.second.began(choice)
        return run_id

    def stepped(self, choice: Choice, step: Step) -> None:
        """Tell both."""
        self.first.stepped(choice, step)
        self.second.stepped(choice, step)

    def ended(self, choice: Choice, ending: Ending, reason: str, outcome: Outcome | None) -> None:
        """Tell both."""
        self.first.ended(choice, ending, reason, outcome)
        self.second.ended(choice, ending, reason, outcome)

    def study_done(self, study: str, reason: str) -> None:
        """Tell both."""
        self.first.study_done(study, reason)
        self.second.study_done(study, reason)


class _Teller(Listener):
    """Tells of trials as events."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def began(self, choice: Choice) -> None:
        """Tell what is tried."""
        parent = choice.parent
        self.tell(
            {
                "event": "began",
                "index": choice.index,
                "generation": choice.generation,
                "attempt": choice.attempt,
                "epochs": choice.epochs,
                "params": dict(choice.params),
                "parent": None if parent is None else parent.index,
                "kin_epochs": 0 if parent is None else parent.epochs,
            }
        )

    def stepped(self, choice: Choice, step: Step) -> None:
        """Tell of an epoch."""
        self.tell({"event": "stepped", "index": choice.index, **step._asdict()})

    def ended(self, choice: Choice, ending: Ending, reason: str, outcome: Outcome | None) -> None:
        """Tell how it ended."""
        values = [] if outcome is None else list(outcome.values)
        self.tell(
            {
                "event": "ended",
                "index": choice.index,
                "ending": ending,
                "reason": reason,
                "values": values,
            }
        )

    def study_done(self, study: str, reason: str) -> None:
        """Tell why nothing is left to do."""
        self.tell({"event": "done", "study": study, "reason": reason})


def _terminate(number: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _die_with_parent() -> None:
    """On Linux: let the system kill this process when its parent dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(stream: TextIO) -> None:
    """End with the parent where the system does not see to it: its end of the pipe closes."""
    with contextlib.suppress(ValueError, OSError):
        stream.read()
    os._exit(TERMINATED)


@contextlib.contextmanager
def _only_events_on_stdout() -> Iterator[Tell]:
    """Keep standard output for events; what a library prints goes to standard error."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as stream:
        os.dup2(2, 1)

        def tell(event: Mapping[str, Any]) -> None:
            stream.write(json.dumps(event) + "\n")
            stream.flush()

        yield tell


if __name__ == "__main__":
    sys.exit(main())
