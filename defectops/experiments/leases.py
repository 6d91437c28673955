"""Who carries out which trial: claims under a lock, signs of life, and who comes too late.

A worker that is killed leaves a row that says RUNNING. Whoever claims next sees that its process is
gone, or that it has given no sign of life for a while by the observer's own clock, closes it and
takes the trial over. The database refuses every later write to a closed row: a worker that was
only paused cannot undo what its successor does.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from defectops.errors import EnvironmentFault, LeaseLost
from defectops.experiments.generations import Stop, next_tasks
from defectops.experiments.ownership import life, owner_of, this_process
from defectops.experiments.study_rows import (
    Attempt,
    Task,
    attempt_of,
    attempts_by_index,
    new_row,
    trial_of,
)
from defectops.experiments.study_trials import Choice, Parent, Plan, Step

if TYPE_CHECKING:
    from defectops.experiments.study_store import Store

DONE = "done"  # attribute of a study: why it stopped

_CUT_SHORT = "its claim was cut short"

Attempts = Mapping[int, Sequence[Attempt]]


@dataclass(frozen=True, eq=False)
class StudyHandle:
    """An open study, in the process that opened it.

    Parameters
    ----------
    store : Store
    study_id : int
        In the store.
    name : str
    plan : Plan
    folder : Path
        For the files of its trials, on this machine.
    """

    store: Store
    study_id: int
    name: str
    plan: Plan
    folder: Path

    def rows(self) -> list[FrozenTrial]:
        """Return all rows as they are now; not to be changed."""
        return self.store.storage.get_all_trials(self.study_id, deepcopy=False)

    def attrs(self) -> dict[str, Any]:
        """Return what is stored of the study itself."""
        return self.store.storage.get_study_user_attrs(self.study_id)


@dataclass(eq=False)
class Lease:
    """The right to carry out one attempt, until it ends or somebody takes it over.

    `ended` says whether a result is stored.
    """

    study: StudyHandle
    row: int
    task: Task
    choice: Choice
    ended: bool = False
    _lost: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def beating(self, beat_s: float) -> Iterator[None]:
        """Give a sign of life every `beat_s` seconds during the block."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over, beat_s), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=1.0)

    def report(self, step: Step) -> None:
        """Store the value of an epoch.

        Raises
        ------
        LeaseLost
            Another worker has the trial.
        """
        storage = self.study.store.storage
        value = float(step.value)
        self._write(lambda: storage.set_trial_intermediate_value(self.row, step.epoch, value))

    def note(self, **attrs: object) -> None:
        """Store facts about the attempt; raises as `report`."""
        storage = self.study.store.storage
        for key, value in attrs.items():
            self._write(functools.partial(storage.set_trial_user_attr, self.row, key, value))

    def end(self, state: TrialState, values: Sequence[float] | None, **attrs: object) -> None:
        """End the trial with a result, which is final; raises as `report`."""
        store = self.study.store
        store.patiently(lambda: self._end(state, values, {**attrs, "dead": False}))
        self.ended = True

    def release(self, reason: str) -> None:
        """Give the trial back unfinished, so that anybody can go on with it at once.

        Without the lock, which a stopped process may hold: whatever happens to the row meanwhile,
        it is closed as dead.
        """
        storage = self.study.store.storage
        with contextlib.suppress(UpdateFinishedTrialError), self.study.store.faults():
            _close(storage, self.row, {"reason": reason, "dead": True, "died": False})

    def _end(
        self, state: TrialState, values: Sequence[float] | None, attrs: Mapping[str, object]
    ) -> None:
        storage = self.study.store.storage
        with self.study.store.lock(self.study.name):
            now = storage.get_trial(self.row)
            if now.state.is_finished():
                if now.state == state and not now.user_attrs.get("dead", True):
                    return  # stored before a fault, and told again
                raise self._late()
            for key, value in attrs.items():
                storage.set_trial_user_attr(self.row, key, value)
            storage.set_trial_state_values(self.row, state, values)

    def _write(self, act: Callable[[], None]) -> None:
        if self._lost.is_set():
            raise self._late()
        try:
            self.study.store.patiently(act)
        except UpdateFinishedTrialError as error:
            raise self._late() from error

    def _late(self) -> LeaseLost:
        return LeaseLost(
            f"trial {self.choice.index}",
            "E_LEASE",
            f"attempt {self.choice.attempt} was silent for too long and another worker has the "
            "trial; nothing of this attempt is kept",
        )

    def _beat(self, over: threading.Event, beat_s: float) -> None:
        storage = self.study.store.storage
        count = 0
        try:
            while not over.wait(beat_s) and not self._lost.is_set():
                count += 1
                try:
                    storage.set_trial_user_attr(self.row, "beat", count)
                except UpdateFinishedTrialError:
                    self._lost.set()
                except Exception:
                    continue  # the store is away, which the next step will say
        finally:
            storage.remove_session()


@dataclass(eq=False)
class Claims:
    """What one worker claims in one study.

    Parameters
    ----------
    study : StudyHandle
    grace_s : float
        Without a sign of life for so long, an attempt counts as dead.
    max_deaths : int
        So many deaths in a row without one more whole epoch fail the trial.
    clock : callable
        Monotonic seconds of this process. Clocks of two hosts are never compared.
    """

    study: StudyHandle
    grace_s: float
    max_deaths: int
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._me = {**this_process().tags(), "worker": uuid.uuid4().hex}
        self._seen: dict[int, tuple[int, float]] = {}

    def claim(self) -> Lease | Stop | None:
        """Return the next attempt, that the study is over, or None: wait for others.

        Safe to repeat after a fault: an attempt that this worker began to claim and does not hold
        is closed first.
        """
        return self.study.store.patiently(self._claim)

    def _claim(self) -> Lease | Stop | None:
        with self.study.store.lock(self.study.name):
            reason = self.study.attrs().get(DONE, "")
            attempts = self._without_dead()
            self._sweep(attempts)
            if reason:
                return Stop(reason)
            retry = next((a for a in attempts.values() if a[-1].dead), None)
            if retry is not None:
                return self._begin(retry[-1].task, attempts)
            return self._waiting(attempts) or self._new(attempts)

    def _without_dead(self) -> Attempts:
        """Close the attempts whose worker is gone, and return all."""
        storage = self.study.store.storage
        rows = self.study.rows()
        attempts = attempts_by_index(rows)
        running = [r for r in rows if r.state == TrialState.RUNNING]
        dead = [(r, reason) for r in running if (reason := self._why_dead(attempt_of(r)))]
        for row, reason in dead:
            attempt = attempt_of(row)
            died = reason != _CUT_SHORT
            attrs: dict[str, object] = {"reason": reason, "dead": True, "died": died}
            if died and attempt is not None and self._hopeless(attempts[attempt.task.index]):
                attrs = {"reason": self._hopeless_reason(), "dead": False, "died": True}
            _close(storage, row._trial_id, attrs)
        return attempts_by_index(self.study.rows()) if dead else attempts

    def _why_dead(self, attempt: Attempt | None) -> str:
        owner = None if attempt is None else owner_of(attempt.owner)
        if attempt is None or owner is None:
            return "nobody carries it out"
        if attempt.owner.get("worker") == self._me["worker"]:
            return _CUT_SHORT
        if life(owner, this_process()) == "gone":
            return f"process {owner.pid} ended without a word"
        beat, since = self._seen.get(attempt.row, (None, 0.0))
        if beat != attempt.beat:
            self._seen[attempt.row] = (attempt.beat, self.clock())
            return ""
        silent = self.clock() - since > self.grace_s
        return f"no sign of life from process {owner.pid} for {self.grace_s:g} s" if silent else ""

    def _hopeless(self, attempts: Sequence[Attempt]) -> bool:
        """Whether the last of these, which has just died, was one too many."""
        most, idle = 0, 0
        for attempt in attempts:
            if len(attempt.curve) > most:
                most, idle = len(attempt.curve), 0
            elif attempt.died or attempt is attempts[-1]:
                idle += 1
        return idle >= self.max_deaths

    def _hopeless_reason(self) -> str:
        return (
            f"its process died {self.max_deaths} times in a row without finishing an epoch; out "
            "of memory?"
        )

    def _waiting(self, attempts: Attempts) -> Lease | None:
        """Take the first trial that was seeded and that nobody has begun."""
        found = next((a[-1] for a in attempts.values() if a[-1].state == "waiting"), None)
        if found is None:
            return None
        storage = self.study.store.storage
        # The owner first: a row that says RUNNING always says whose it is.
        storage.set_trial_user_attr(found.row, "owner", self._me)
        storage.set_trial_state_values(found.row, TrialState.RUNNING)
        return self._lease(found.row, found.task, attempts)

    def _new(self, attempts: Attempts) -> Lease | Stop | None:
        tasks = next_tasks(self.study.plan, [trial_of(a) for a in attempts.values()])
        if isinstance(tasks, Stop):
            self.study.store.storage.set_study_user_attr(self.study.study_id, DONE, tasks.reason)
            return tasks
        if tasks and tasks[0].generation == 0:
            return self._begin(tasks[0], attempts)
        for task in tasks:
            self._write_row(task, TrialState.WAITING, {})
        return self._waiting(attempts_by_index(self.study.rows())) if tasks else None

    def _begin(self, task: Task, attempts: Attempts) -> Lease:
        number = len(attempts.get(task.index, ())) + 1
        attrs = {"attempt": number, "owner": self._me}
        row = self._write_row(task, TrialState.RUNNING, attrs)
        return self._lease(row, task, attempts)

    def _write_row(self, task: Task, state: TrialState, attrs: Mapping[str, Any]) -> int:
        row = new_row(self.study.plan, task, state, attrs)
        return self.study.store.storage.create_new_trial(self.study.study_id, row)

    def _lease(self, row: int, task: Task, attempts: Attempts) -> Lease:
        before = [a for a in attempts.get(task.index, ()) if a.row != row]
        number = len(before) + 1
        try:
            folder = take_over(self._files(task.index), number)
        except BaseException:
            # Nobody died: a disk without room must not use up the lives of the trial.
            _close(self.study.store.storage, row, {"reason": _CUT_SHORT, "dead": True})
            raise
        runs = [a.run_id for a in before if a.run_id]
        choice = Choice(
            study=self.study.name,
            index=task.index,
            generation=task.generation,
            attempt=number,
            params=task.params,
            seed=task.seed,
            epochs=task.epochs,
            parent=_parent(task, attempts),
            folder=folder,
            predecessor_run=runs[-1] if runs else None,
        )
        return Lease(self.study, row, task, choice)

    def _sweep(self, attempts: Attempts) -> None:
        """Delete the files of trials that have ended and whose worker no longer needs them."""
        for index, tried in attempts.items():
            folder = self._files(index)
            if not trial_of(tried).finished or not folder.exists():
                continue
            owner = owner_of(tried[-1].owner)
            mine = tried[-1].owner.get("worker") == self._me["worker"]
            if mine or owner is None or life(owner, this_process()) == "gone":
                shutil.rmtree(folder, ignore_errors=True)

    def _files(self, index: int) -> Path:
        return self.study.folder / "trials" / str(index)


def take_over(folder: Path, number: int) -> Path:
    """Return the folder of an attempt, with what the one before left in it.

    It is renamed rather than shared: a predecessor that was only paused finds its own folder gone
    and cannot write into its successor's.

    Parameters
    ----------
    folder : Path
        Of the trial; holds ``attempt-<number>``.
    number : int
        Of the new attempt.

    Raises
    ------
    EnvironmentFault
        No room, or not writable.
    """
    mine = folder / f"attempt-{number}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = [int(p.name.partition("-")[2]) for p in folder.glob("attempt-*")]
        if left and max(left) < number:
            (folder / f"attempt-{max(left)}").rename(mine)
        mine.mkdir(exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            mine, "E_IO", f"cannot make the folder of a trial: {error.strerror}"
        ) from error
    return mine


def _parent(task: Task, attempts: Attempts) -> Parent | None:
    if task.parent is None:
        return None
    run_id = attempts[task.parent][-1].run_id
    return Parent(task.parent, task.parent_sha256, task.kin_epochs, task.kin_seconds, run_id)


def _close(storage: Any, row: int, attrs: Mapping[str, object]) -> None:
    """Close a row as failed; what is said about it comes first, since a closed row is closed."""
    for key, value in attrs.items():
        storage.set_trial_user_attr(row, key, value)
    storage.set_trial_state_values(row, TrialState.FAIL)
