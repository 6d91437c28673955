"""Runs any evaluator as a study: killed, resumed, shared by workers, and always the same trials.

A study is trials in generations. Generation 0 starts from nothing, later ones from the weights of
the best trials so far. Each trial is a logical one with an index; a process that carries it out
makes an attempt. `work` is one worker; start as many as you like, on one machine or on many.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from defectops.errors import (
    DefectopsError,
    InputRefused,
    LeaseLost,
    one_line,
)
from defectops.experiments.generations import Stop
from defectops.experiments.interruptions import Interruptions
from defectops.experiments.leases import DONE, Claims, Lease, StudyHandle
from defectops.experiments.pruning import has_risen, should_prune
from defectops.experiments.study_rows import Task, state_from, trials_of
from defectops.experiments.study_store import FOLDER, Store, default_url, open_store
from defectops.experiments.study_trials import (
    Choice,
    Ending,
    Evaluate,
    Listener,
    Outcome,
    Parent,
    Plan,
    Step,
    StudyState,
    Trial,
    exported,
)

__all__ = [
    "Choice",
    "Ending",
    "Evaluate",
    "Listener",
    "Mode",
    "Outcome",
    "Parent",
    "Plan",
    "Step",
    "StudyHandle",
    "StudyState",
    "Trial",
    "close_study",
    "default_url",
    "exported",
    "join_study",
    "open_study",
    "state_of",
    "work",
]

Mode = Literal["resume", "new", "either"]

_PLAN = "plan"  # attribute of a study
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_SHOWN = 5  # differences between plans in one line
_POLL_SECONDS = 0.5
_RELEASE_SECONDS = 3.0
_STATES: dict[Ending, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def open_study(
    root: Path, url: str, name: str, plan: Plan, *, mode: Mode = "either"
) -> StudyHandle:
    """Open a study to work on, or begin it.

    Parameters
    ----------
    root : Path
        The project; the files of trials lie in ``.defectops/studies/<name>`` there.
    url : str
        Of the study store, see `study_store.open_store`; empty for the project's own SQLite file.
    name : str
        Of the study: letters, digits, ``-`` and ``_``.
    plan : Plan
    mode : {"either", "resume", "new"}
        ``resume``: it must be there. ``new``: begin another one of that name; the earlier ones
        stay in the store, this one is called ``<name>.2`` and so on.

    Raises
    ------
    InputRefused
        The study was begun with another plan, or is to be resumed and not there.
    EnvironmentFault, IntegrityFault
        See `study_store.open_store`.
    """
    _require_name(name)
    with Interruptions():
        store = open_store(url or default_url(root))

    def find_or_begin() -> StudyHandle:
        with store.lock(name):
            newest = _newest(store, name)
            if newest is None and mode == "resume":
                raise _no_study(name, store)
            if newest is None or mode == "new":
                newest = _following(name, newest)
                _create(store, newest, plan)
            return _handle(store, root, newest, plan)

    with Interruptions():
        study = store.patiently(find_or_begin)
    _require_same(study, plan)
    return study


def join_study(root: Path, url: str, name: str) -> StudyHandle:
    """Open a study that somebody began, with its own plan; parameters and errors as `open_study`.

    `name` may also be that of an earlier one, such as ``voids.2``.
    """
    with Interruptions():
        store = open_store(url or default_url(root))

    def find() -> StudyHandle:
        newest = _newest(store, name)
        if newest is None:
            raise _no_study(name, store)
        return _handle(store, root, newest, None)

    with Interruptions():
        return store.patiently(find)


def close_study(study: StudyHandle) -> None:
    """Give the connections to the store back."""
    study.store.close()


def state_of(study: StudyHandle) -> StudyState:
    """Return a study as it is now."""

    def read() -> StudyState:
        done = study.attrs().get(DONE, "")
        return state_from(study.name, study.plan, study.rows(), done)

    with Interruptions():
        return study.store.patiently(read)


def work(  # noqa: PLR0913 - the later ones have defaults that nobody changes but tests
    study: StudyHandle,
    evaluate: Evaluate,
    listener: Listener | None = None,
    *,
    beat_s: float = 10.0,
    grace_s: float = 60.0,
    deadline: float | None = None,
    max_deaths: int = 5,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Carry out trials in this process until the study is done or the time is up.

    A trial whose evaluator raises, or yields a value that is not finite, fails with a reason, and
    the study goes on. Ctrl-C and SIGTERM (as `SystemExit`) give the trial back and pass through.

    Parameters
    ----------
    study : StudyHandle
    evaluate : Evaluate
    listener : Listener, optional
    beat_s, grace_s : float
        A sign of life every `beat_s` seconds; without one for `grace_s` seconds an attempt is taken
        over. A worker on this machine whose process is gone is noticed at once.
    deadline : float, optional
        On `clock`; the trial that runs then is given back.
    max_deaths : int
        A trial whose process died so often in a row without one more epoch has failed.
    clock, sleep : callable
        For tests.

    Raises
    ------
    EnvironmentFault
        The study store stays away.
    """
    claims = Claims(study, grace_s, max_deaths, clock)
    with Interruptions() as interruptions:
        worker = _Worker(
            study, evaluate, listener or Listener(), deadline, clock, interruptions.check
        )
        while not worker.late():
            claimed = claims.claim()
            if isinstance(claimed, Stop):
                worker.listener.study_done(study.name, claimed.reason)
                return
            if claimed is not None:
                worker.carry_out(claimed, beat_s)
            interruptions.check()
            if claimed is None:
                sleep(min(_POLL_SECONDS, beat_s))


@dataclass(frozen=True)
class _Verdict:
    """How an attempt ended, by itself."""

    ending: Ending
    reason: str = ""
    outcome: Outcome | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class _Worker:
    """One process that carries out attempts, one after the other."""

    study: StudyHandle
    evaluate: Evaluate
    listener: Listener
    deadline: float | None
    clock: Callable[[], float]
    check: Callable[[], None]

    def late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and self.clock() >= self.deadline

    def carry_out(self, lease: Lease, beat_s: float) -> None:
        """Carry out an attempt; however it ends, its row and its listener are told."""
        verdict = _Verdict("stopped")
        try:
            with lease.beating(beat_s):
                run_id = self.listener.began(lease.choice)
                if run_id:
                    lease.note(run_id=run_id)
                self.check()
                verdict = self._run(lease)
                if verdict.ending == "stopped":
                    _give_back(lease, verdict.reason)
                else:
                    _store_end(lease, verdict)
        except LeaseLost as lost:
            verdict = _Verdict("lost", lost.message)
        except BaseException as error:
            if not lease.ended:
                verdict = _Verdict("stopped", _interruption(error))
                _give_back(lease, verdict.reason)
            # What stopped us matters more than a listener that cannot be told any more.
            with contextlib.suppress(Exception):
                self._tell(lease, verdict)
            raise
        self._tell(lease, verdict)

    def _tell(self, lease: Lease, verdict: _Verdict) -> None:
        self.listener.ended(lease.choice, verdict.ending, verdict.reason, verdict.outcome)

    def _run(self, lease: Lease) -> _Verdict:
        steps: list[Step] = []
        running = _started(self.evaluate, lease.choice)
        try:
            while (verdict := self._advance(lease, running, steps)) is None:
                pass
        finally:
            # The verdict stands, however badly an evaluator cleans up.
            with contextlib.suppress(Exception):
                running.close()
        return replace(verdict, seconds=sum(s.seconds for s in steps))

    def _advance(
        self, lease: Lease, running: Generator[Step, None, Outcome], steps: list[Step]
    ) -> _Verdict | None:
        """Let the evaluator go on by one epoch; None if it is to go on after that."""
        got = _next(running)
        if isinstance(got, str):
            return _Verdict("failed", got)
        if isinstance(got, Outcome):
            wrong = _wrong_outcome(got, self.study.plan)
            return _Verdict("failed", wrong) if wrong else _Verdict("complete", "", got)
        wrong = _wrong_step(got, len(steps))
        if wrong:
            return _Verdict("failed", wrong)
        steps.append(got)
        lease.report(got)
        self.listener.stepped(lease.choice, got)
        self.check()
        reason = self._why_pruned(lease.task, steps)
        if reason:
            return _Verdict("pruned", reason)
        return _Verdict("stopped", "stopped by the budget") if self.late() else None

    def _why_pruned(self, task: Task, steps: list[Step]) -> str:
        plan = self.study.plan
        if plan.pruner == "none":
            return ""
        kin = self.study.store.patiently(lambda: _kin(self.study, task))
        return should_prune(plan.pruner, [s.value for s in steps], kin, task.epochs)


def _give_back(lease: Lease, reason: str) -> None:
    """Release a trial, but wait for the store only briefly: a stop is to be quick.

    An interruption may leave a transaction of this very process open, which holds up every later
    one until the process ends. Where the store is not told in time, the row is closed by whoever
    claims next.
    """

    def release() -> None:
        with contextlib.suppress(DefectopsError):
            lease.release(reason)
        lease.study.store.storage.remove_session()

    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    thread.join(_RELEASE_SECONDS)


def _store_end(lease: Lease, verdict: _Verdict) -> None:
    attrs: dict[str, object] = {"reason": verdict.reason, "seconds": verdict.seconds}
    values = None
    if verdict.outcome is not None:
        values = [float(v) for v in verdict.outcome.values]
        attrs["checkpoint_sha256"] = verdict.outcome.checkpoint_sha256
        attrs["facts"] = dict(verdict.outcome.facts)
    lease.end(_STATES[verdict.ending], values, **attrs)


def _kin(study: StudyHandle, task: Task) -> list[list[float]]:
    """Return the curves of the other trials of this kind; see `pruning`."""
    kin = []
    for trial in trials_of(study.rows()):
        start = trial.cumulative_epochs - trial.epochs
        same = trial.generation == task.generation and start == task.kin_epochs
        if same and trial.index != task.index and trial.state not in {"failed", "waiting"}:
            curve = [trial.curve[e] for e in sorted(trial.curve)]
            if task.parent is not None or has_risen(curve):
                kin.append(curve)
    return kin


def _started(evaluate: Evaluate, choice: Choice) -> Generator[Step, None, Outcome]:
    """Return the evaluator's generator; one that cannot even start fails at its first step."""
    return (yield from evaluate(choice))


def _next(running: Generator[Step, None, Outcome]) -> Step | Outcome | str:
    """Return the next epoch, the outcome, or the reason of a failure.

    Not the exception itself: it holds on to the memory of everything that was running.
    """
    try:
        return next(running)
    except StopIteration as end:
        outcome = end.value
        return outcome if isinstance(outcome, Outcome) else "ended without an outcome"
    except Exception as error:
        return _why_failed(error)


def _why_failed(error: Exception) -> str:
    said = one_line(" ".join(str(error).split()))[:300]
    if isinstance(error, MemoryError) or "not enough memory" in said:
        return "out of memory"
    if isinstance(error, DefectopsError):
        return said
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"no room on the disk: {error.strerror}"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _wrong_step(step: Step, expected: int) -> str:
    if step.epoch != expected:
        return f"told epoch {step.epoch} where {expected} was due"
    if not math.isfinite(step.value):
        return f"value is {step.value} in epoch {step.epoch}"
    return "" if math.isfinite(step.seconds) else f"took {step.seconds} s in epoch {step.epoch}"


def _wrong_outcome(outcome: Outcome, plan: Plan) -> str:
    if len(outcome.values) != len(plan.directions):
        return f"gave {len(outcome.values)} values, the study has {len(plan.directions)}"
    if not all(math.isfinite(v) for v in outcome.values):
        return f"value is {', '.join(str(v) for v in outcome.values)} in the end"
    return ""


def _interruption(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, SystemExit):
        return "stopped by SIGTERM" if error.code == 143 else f"stopped by exit {error.code}"
    return f"stopped by {type(error).__name__}: {one_line(str(error))[:300]}"


def read_study(root: Path, url: str, name: str) -> tuple[StudyState, Plan]:
    """Return what the newest study of a name holds now; see `join_study`."""
    study = join_study(root, url, name)
    try:
        return state_of(study), study.plan
    finally:
        close_study(study)


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputRefused(name, "E_STUDY", "a study's name has letters, digits, - and _ only")


def _newest(store: Store, name: str) -> str | None:
    """Return the study of that name, of several the last one begun."""
    names = {study.study_name for study in store.storage.get_all_studies()}
    serials = [
        int(n.rpartition(".")[2]) for n in names if re.fullmatch(rf"{re.escape(name)}\.\d+", n)
    ]
    if serials:
        return f"{name}.{max(serials)}"
    return name if name in names else None


def _following(name: str, newest: str | None) -> str:
    if newest is None:
        return name
    return f"{name}.{int(newest.rpartition('.')[2]) + 1}" if newest != name else f"{name}.2"


def _create(store: Store, name: str, plan: Plan) -> None:
    directions = [StudyDirection[d.upper()] for d in plan.directions]
    with contextlib.suppress(DuplicatedStudyError):
        store.storage.create_new_study(directions, name)


def _handle(store: Store, root: Path, name: str, plan: Plan | None) -> StudyHandle:
    """Return the handle; give a plan to a study whose maker died before it wrote one."""
    storage = store.storage
    study_id = storage.get_study_id_from_name(name)
    stored = storage.get_study_user_attrs(study_id).get(_PLAN)
    if stored is None:
        if plan is None or storage.get_all_trials(study_id, deepcopy=False):
            raise InputRefused(
                name, "E_STUDY", f"the study of this name in {store.subject} is not one of ours"
            )
        stored = plan.as_json()
        storage.set_study_user_attr(study_id, _PLAN, stored)
    return StudyHandle(store, study_id, name, Plan.from_json(stored), root / FOLDER / name)


def _no_study(name: str, store: Store) -> InputRefused:
    return InputRefused(
        name, "E_STUDY", f"no such study in {store.subject}; start it without --resume and --join"
    )


def _require_same(study: StudyHandle, plan: Plan) -> None:
    differ = list(_differences(study.plan.as_json(), plan.as_json()))
    if differ:
        more = f" and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise InputRefused(
            study.name,
            "E_STUDY",
            f"the study was begun with other settings: {'; '.join(differ[:_SHOWN])}{more}; give "
            "the same, or --new for another study",
        )


def _differences(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """Yield each value in which two plans differ, named by where it stands."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            where = f"{at}.{key}" if at else str(key)
            yield from _differences(before.get(key), now.get(key), where)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now, strict=True)):
            yield from _differences(*pair, f"{at}[{number}]")
    elif before != now:
        yield f"{at} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}..."
