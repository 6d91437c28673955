"""Coordinate a study on this machine: start workers, pass on what they tell, keep the result."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from defectops import errors
from defectops.errors import DefectopsError, EnvironmentFault, InputRefused
from defectops.experiments.studies import (
    Plan,
    StudyState,
    read_study,
)
from defectops.workflows.parameters import load_parameters
from defectops.workflows.study_results import write_result

if TYPE_CHECKING:
    from defectops.workflows.tune_settings import TuneOptions

BUG, INTERRUPTED, TERMINATED = 1, 130, 143

Event = Mapping[str, Any]
Mode = Literal["either", "resume", "new", "join", "renew"]

_WORKER = "defectops.workflows.study_worker"
_STOP_SECONDS = 4.0
_MAX_IDLE_DEATHS = 5
_MAX_WORKERS = 1024


@dataclass(frozen=True)
class Session:
    """How a study is run here; it decides nothing about its trials but the threads.

    Parameters
    ----------
    workers : int
        Processes.
    threads : int
        CPU threads of each; 0 shares the cores out, or takes what the study was begun with.
    storage : str
        Address of the study store; empty for the project's own SQLite file.
    mode : {"either", "resume", "new", "join", "renew"}
        As `experiments.studies.open_study` has them; ``join`` adds workers to a study that
        somebody began, with its own plan; ``renew`` begins a new one where data or settings are
        no longer those of the last.
    budget_minutes : float or None
        After which it stops, to be resumed.
    name : str
        Of the study; empty for that of the defect.
    """

    workers: int = 1
    threads: int = 0
    storage: str = ""
    mode: Mode = "either"
    budget_minutes: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= _MAX_WORKERS:
            raise InputRefused(
                "--workers", "E_USAGE", f"must be 1 to {_MAX_WORKERS}, got {self.workers}"
            )
        if self.budget_minutes is not None and not self.budget_minutes > 0:
            raise InputRefused(
                "--budget-minutes", "E_USAGE", f"must be above 0, got {self.budget_minutes:g}"
            )


@dataclass(frozen=True)
class Order:
    """What a worker is told, as one line of JSON on its standard input.

    `options` are those of `TuneOptions`; `seconds` are left of the budget; `fair_threads` are
    taken where nobody says otherwise.
    """

    root: str
    defect: str
    options: Mapping[str, Any]
    name: str
    storage: str
    mode: Mode
    threads: int
    fair_threads: int
    seconds: float | None = None


@dataclass(frozen=True)
class Tuned:
    """A study after this session, and where its result was written."""

    state: StudyState
    plan: Plan
    result: Path


def tune(
    root: Path,
    defect: str,
    options: TuneOptions,
    listen: Callable[[Event], None] = lambda event: None,
    session: Session | None = None,
) -> Tuned:
    """Run or resume the study of a defect until it is done or the time is up.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : str
    options : TuneOptions
    listen : callable, optional
        Gets each event as it comes, with the number of its ``worker``: ``ready`` (study, threads),
        ``began`` (index, generation, attempt, params, parent, kin_epochs), ``stepped`` (index,
        epoch, value, seconds), ``ended`` (index, ending, reason, values), ``done`` (study,
        reason), ``line`` (text).
    session : Session, optional

    Returns
    -------
    Tuned
        Also written: ``studies/<defect>.json``.

    Raises
    ------
    DefectopsError
        What a worker could not go on with. Ctrl-C and SIGTERM stop the workers, whose trials are
        given back, and pass through.
    """
    chosen = session or Session()
    load_parameters(root).defect(defect)  # refuses an unknown one
    fair = max(1, len(os.sched_getaffinity(0)) // chosen.workers)
    order = Order(
        root=str(root.resolve()),
        defect=defect,
        options=asdict(options),
        name=chosen.name or defect,
        storage=chosen.storage,
        mode=chosen.mode,
        threads=chosen.threads,
        fair_threads=fair,
    )
    crew = _Crew(order, chosen, listen)
    with crew.stopping():
        crew.run()
    state, plan = read_study(root, chosen.storage, crew.order.name)
    return Tuned(state, plan, write_result(root, state, plan))


@dataclass(eq=False)
class _Worker:
    """A process, and what it says."""

    number: int
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    reader: threading.Thread
    failed: Exception | None = None

    def stop_by(self, moment: float) -> None:
        """Wait for its end until a moment of the monotonic clock, then kill it."""
        try:
            self.process.wait(max(0.0, moment - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.close()

    def close(self) -> str:
        """Wait for its end, close what we hold of it, and return its last words, once."""
        self.process.wait()
        self.reader.join()
        if self.stderr.closed:
            return ""
        self.stderr.seek(0)
        lines = self.stderr.read().decode("utf-8", "replace").strip().splitlines()
        for stream in (self.process.stdin, self.process.stdout, self.stderr):
            # An order that it did not live to read is still in the buffer.
            with contextlib.suppress(BrokenPipeError):
                if stream is not None:
                    stream.close()
        return lines[-1] if lines else ""


@dataclass(eq=False)
class _Crew:
    """The workers of one session."""

    order: Order
    session: Session
    listen: Callable[[Event], None]
    workers: dict[int, _Worker] = field(default_factory=dict)
    idle_deaths: int = 0
    opened: bool = False

    def __post_init__(self) -> None:
        self.events: queue.Queue[tuple[int, Event | None]] = queue.Queue()
        minutes = self.session.budget_minutes
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def run(self) -> None:
        """Start the workers and pass their events on until all have ended well."""
        # The first one alone opens the study; the others join what it opened.
        self.start(0)
        while self.workers:
            number, event = self.events.get()
            if event is None:
                self.ended(self.workers[number])
            else:
                self.heard(number, event)

    def start(self, number: int) -> None:
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        order = replace(self.order, seconds=left)
        threads = str(order.threads or order.fair_threads)
        # Threads that wait for each other sleep: a spinning pair beside another worker stalls.
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its worker
        process = subprocess.Popen(
            [sys.executable, "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop them in order
        )
        reader = threading.Thread(target=self._read, args=(number, process), daemon=True)
        self.workers[number] = _Worker(number, process, stderr, reader)
        reader.start()
        # Not as an argument: the address of a store may hold a password.
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
                process.stdin.flush()

    def heard(self, number: int, event: Event) -> None:
        worker = self.workers[number]
        kind = event["event"]
        if kind == "error":
            named = getattr(errors, event["class"], DefectopsError)
            worker.failed = named(event["subject"], event["code"], event["message"])
        elif kind == "bug":
            worker.failed = RuntimeError(event["message"])
            worker.failed.add_note(event["traceback"])
        else:
            if kind in {"stepped", "ended", "done"}:
                self.idle_deaths = 0
            self.listen({**event, "worker": number})
            if kind == "ready" and not self.opened:
                self.opened = True
                self.order = replace(self.order, name=event["study"], mode="join")
                for other in range(1, self.session.workers):
                    self.start(other)

    def ended(self, worker: _Worker) -> None:
        said = worker.close()
        # Only now: until it is reaped and closed, an interruption leaves it to `_stop`.
        del self.workers[worker.number]
        code = worker.process.returncode
        if worker.failed is not None:
            raise worker.failed
        if code == 0:
            return
        self.idle_deaths += 1
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        if self.idle_deaths >= _MAX_IDLE_DEATHS:
            raise EnvironmentFault(
                f"worker {worker.number}",
                "E_WORKER",
                f"workers died {self.idle_deaths} times without an epoch between ({how}"
                f"{': ' * bool(said)}{said}); is there enough memory for so many?",
            )
        text = f"worker {worker.number} died ({how}); another one takes its place"
        self.listen({"event": "line", "worker": worker.number, "text": text})
        self.start(worker.number)

    @contextlib.contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop the workers however the block ends; each gives its trial back."""
        try:
            yield
        finally:
            self._stop()

    def _stop(self) -> None:
        for worker in self.workers.values():
            worker.process.terminate()
        moment = time.monotonic() + _STOP_SECONDS
        for worker in self.workers.values():
            worker.stop_by(moment)

    def _read(self, number: int, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            for line in process.stdout:
                try:
                    event = json.loads(line)
                except ValueError:  # cut short by a kill
                    continue
                self.events.put((number, event))
        self.events.put((number, None))
