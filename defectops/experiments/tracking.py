"""What a training tells about itself while it runs: the port, its fake, and runs that always end.

`Tracker` is the port. `mlflow_tracking.MlflowTracker` records in MLflow, `RecordingTracker` here
records in memory; both pass the same tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from defectops.atomic import replacing
from defectops.errors import InputRefused, one_line
from defectops.experiments.ownership import life, owner_of, this_process

Ending = Literal["FINISHED", "FAILED", "KILLED"]
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

REASON = "ended.reason"
_REASON_LENGTH = 500
_VALUE_LENGTH = 6000


@dataclass(frozen=True)
class Run:
    """A run as it is recorded now.

    Parameters
    ----------
    metrics : mapping of str to float
        Value of each metric at its highest step.
    """

    run_id: str
    experiment: str
    name: str
    status: Status
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


class Tracker(Protocol):
    """Where runs are recorded.

    Every method raises `EnvironmentFault` when the store is away, full or read-only.
    """

    def start(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> str:
        """Begin a run that belongs to this process and return its id."""
        ...

    def reopen(self, run_id: str) -> None:
        """Let a run that ended go on as a run of this process (a training that resumes)."""
        ...

    def params(self, run_id: str, values: Mapping[str, object]) -> None:
        """Record parameters; one recorded before cannot take another value (`InputRefused`)."""
        ...

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """Record metrics at a step. A value that is not finite is left out."""
        ...

    def tags(self, run_id: str, values: Mapping[str, str]) -> None:
        """Set tags; the last value of a tag wins."""
        ...

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a copy of a file in a folder of the run."""
        ...

    def fetch(self, run_id: str, name: str, into: Path) -> Path:
        """Copy an artifact into a folder and return its path; `InputRefused` if there is none.

        `name` is as it was stored, ``<folder>/<file>``. A file of that name is replaced whole or
        not at all.
        """
        ...

    def dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        """Record that a run read a data set: where it came from, what for (``train``, ``dev``).

        MLflow keeps 36 characters of the digest; DVC's md5 of a file or a folder fits.
        """
        ...

    def finish(self, run_id: str, status: Ending, reason: str = "") -> None:
        """End a run; the reason becomes the tag ``ended.reason``."""
        ...

    def run(self, run_id: str) -> Run:
        """Return a run as recorded; `InputRefused` when there is none."""
        ...

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Return (step, value) of a metric by step; empty when it was never recorded."""
        ...

    def running(self) -> list[Run]:
        """Return the runs of all experiments that have not ended."""
        ...


@contextlib.contextmanager
def tracked_run(
    tracker: Tracker,
    experiment: str,
    name: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> Iterator[str]:
    """Record a run that ends however the block ends, and end the runs of dead processes first.

    FINISHED when the block ends, FAILED on an exception, KILLED on Ctrl-C and on SIGTERM (which
    entry points turn into `SystemExit`). After SIGKILL nothing runs any more: the next command
    closes the run, see `close_stale_runs`.

    Yields
    ------
    str
        The run's id.
    """
    close_stale_runs(tracker)
    run_id = tracker.start(experiment, name, params, tags)
    with ending(tracker, run_id):
        yield run_id


@contextlib.contextmanager
def ending(tracker: Tracker, run_id: str) -> Iterator[None]:
    """End a run that was started or reopened the way the block ends; see `tracked_run`."""
    try:
        yield
    except Exception as error:
        _finish_anyway(tracker, run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:
        _finish_anyway(tracker, run_id, "KILLED", _interruption(error))
        raise
    tracker.finish(run_id, "FINISHED")


def close_stale_runs(tracker: Tracker) -> list[Run]:
    """End the runs whose process on this machine is gone, and return them.

    Runs of living processes, of other machines and containers, and runs without an owner (made
    by other programs in the same store) are left alone.

    Returns
    -------
    list of Run
        As they were before; all are KILLED now.
    """
    stale = [run for run in tracker.running() if owner_is(run, "gone")]
    for run in stale:
        pid = run.tags.get("owner.pid", "?")
        tracker.finish(run.run_id, "KILLED", f"process {pid} ended without a word")
    return stale


def knows(tracker: Tracker, run_id: str) -> bool:
    """Whether the store holds a run; a clone may have a model but not its store."""
    try:
        tracker.run(run_id)
    except InputRefused:
        return False
    return True


def owner_is(run: Run, state: Literal["alive", "gone", "elsewhere"]) -> bool:
    """Whether the process that owns a run is in that state, seen from here."""
    owner = owner_of(run.tags)
    return owner is not None and life(owner, this_process()) == state


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are finite numbers, as Python floats."""
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def as_text(values: Mapping[str, object]) -> dict[str, str]:
    """Return parameters as text of at most 6000 characters (MLflow's limit); None is empty."""
    return {
        key: "" if value is None else str(value)[:_VALUE_LENGTH] for key, value in values.items()
    }


def short_reason(reason: str) -> str:
    """Return a reason on one line, short enough for a tag."""
    return one_line(" ".join(reason.split()))[:_REASON_LENGTH]


def refuse_changed(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raise `InputRefused` for a parameter that was recorded with another value."""
    for key, value in after.items():
        if before.get(key, value) != value:
            raise InputRefused(
                key,
                "E_PARAM",
                f"recorded as {before[key]!r} before, now {value!r}; start another run",
            )


def no_such_artifact(run_id: str, name: str) -> InputRefused:
    """Return the error for a file that a run does not hold."""
    return InputRefused(
        run_id, "E_RUN", f"has no {name}; the run was cut short, or its files are gone"
    )


def no_such_run(run_id: str) -> InputRefused:
    """Return the error for a run that the store does not hold."""
    return InputRefused(run_id, "E_RUN", "no such run in this store; see `defectops ui`")


@dataclass
class _Record:
    """What `RecordingTracker` keeps of one run beside `Run`."""

    run: Run
    history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    datasets: list[dict[str, str]] = field(default_factory=list)


class RecordingTracker:
    """A tracker that records in memory: for tests, and for a training nobody wants recorded.

    Attributes
    ----------
    records : dict
        By run id: the `Run`, its metric history, artifacts (path to bytes) and data sets.
    """

    def __init__(self) -> None:
        self.records: dict[str, _Record] = {}

    def start(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> str:
        """See `Tracker.start`. Ids are digests of a counter, so a test can repeat them."""
        run_id = hashlib.sha256(f"run {len(self.records)}".encode()).hexdigest()[:32]
        owned = {**tags, **this_process().tags()}
        self.records[run_id] = _Record(
            Run(run_id, experiment, name, "RUNNING", as_text(params), owned, {})
        )
        return run_id

    def reopen(self, run_id: str) -> None:
        """See `Tracker.reopen`."""
        self.tags(run_id, this_process().tags())
        self._change(run_id, status="RUNNING")

    def params(self, run_id: str, values: Mapping[str, object]) -> None:
        """See `Tracker.params`."""
        before, after = self.run(run_id).params, as_text(values)
        refuse_changed(before, after)
        self._change(run_id, params={**before, **after})

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.metrics`."""
        record = self._record(run_id)
        for key, value in finite(values).items():
            record.history.setdefault(key, []).append((step, value))
        latest = {key: max(points)[1] for key, points in record.history.items()}
        self._change(run_id, metrics=latest)

    def tags(self, run_id: str, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        self._change(run_id, tags={**self.run(run_id).tags, **values})

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """See `Tracker.artifact`."""
        name = f"{folder}/{path.name}" if folder else path.name
        self._record(run_id).artifacts[name] = path.read_bytes()

    def fetch(self, run_id: str, name: str, into: Path) -> Path:
        """See `Tracker.fetch`."""
        held = self._record(run_id).artifacts
        if name not in held:
            raise no_such_artifact(run_id, name)
        target = into / Path(name).name
        with replacing(target) as temporary:
            temporary.write_bytes(held[name])
        return target

    def dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        """See `Tracker.dataset`."""
        self._record(run_id).datasets.append(
            {"name": name, "digest": digest, "source": source, "context": context}
        )

    def finish(self, run_id: str, status: Ending, reason: str = "") -> None:
        """See `Tracker.finish`."""
        if reason:
            self.tags(run_id, {REASON: short_reason(reason)})
        self._change(run_id, status=status)

    def run(self, run_id: str) -> Run:
        """See `Tracker.run`."""
        return self._record(run_id).run

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """See `Tracker.history`."""
        return sorted(self._record(run_id).history.get(metric, []))

    def running(self) -> list[Run]:
        """See `Tracker.running`."""
        return [r.run for r in self.records.values() if r.run.status == "RUNNING"]

    def _record(self, run_id: str) -> _Record:
        if run_id not in self.records:
            raise no_such_run(run_id)
        return self.records[run_id]

    def _change(self, run_id: str, **changes: object) -> None:
        record = self._record(run_id)
        record.run = replace(record.run, **changes)  # type: ignore[arg-type]


def _finish_anyway(tracker: Tracker, run_id: str, status: Ending, reason: str) -> None:
    # A store that is away must not hide why the run ended; the next command closes the run.
    with contextlib.suppress(Exception):
        tracker.finish(run_id, status, reason)


def _interruption(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    if isinstance(error, SystemExit):
        return "stopped by SIGTERM" if error.code == 143 else f"exit {error.code}"
    return type(error).__name__
