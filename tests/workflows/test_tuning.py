"""Studies as processes: killed, stopped, shared by workers, and always the same in the end."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from small_study import OPTIONS, TRAIN, write_project

from defectops.errors import EnvironmentFault, InputRefused
from defectops.experiments.ownership import started
from defectops.workflows.study_worker import run
from defectops.workflows.tune_settings import TuneOptions
from defectops.workflows.tuning import Order, Session, _Worker, tune

ROOT = Path(__file__).resolve().parents[2]
TRACING = ROOT / "tests/pipelines/tracing"
pytestmark = pytest.mark.slow


class Stage:
    """`python -m pipelines.tune voids` in a project of its own."""

    def __init__(self, root, train=None, **options):
        self.root = root
        write_project(root)
        self.tell({**OPTIONS, **options}, train or {})
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "OMP_NUM"))}
        self.env = clean | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TRACING)])}

    def tell(self, options, train):
        sections = {
            "defects": {"voids": {}},
            "train": {"default": {**TRAIN, **train}},
            "tune": {"default": options},
        }
        (self.root / "params.yaml").write_text(json.dumps(sections))

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.tune", "voids"],
            cwd=self.root,
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self):
        with self.start() as process:
            said = process.stderr.read()
        assert process.returncode == 0, said
        return said.splitlines()

    def stop(self, number, until, pause=0.0):
        """Send a signal some time after a line with some words; return code, seconds and lines."""
        with self.start() as process:
            said = []
            for line in process.stderr:
                said.append(line)
                if until in line:
                    break
            else:
                pytest.fail("".join(said))
            time.sleep(pause)
            sent = time.monotonic()
            process.send_signal(number)
            said += process.stderr.readlines()
        return process.returncode, time.monotonic() - sent, said

    @property
    def result(self):
        return (self.root / "studies/voids.json").read_bytes()

    def best_weights(self):
        content = json.loads(self.result)
        sha256 = content["trials"][content["best"]]["checkpoint_sha256"]
        path = self.root / f".defectops/studies/voids/weights/{sha256}.safetensors"
        return path.read_bytes()

    def runs(self):
        """Return (status, tags) of every run."""
        store = sqlite3.connect(self.root / "mlflow.db")
        found = []
        for run_id, status in store.execute("select run_uuid, status from runs").fetchall():
            tags = store.execute("select key, value from tags where run_uuid = ?", (run_id,))
            found.append((status, dict(tags.fetchall())))
        store.close()
        return found


@pytest.fixture
def stage(tmp_path, empty_store):
    """Projects with an empty store; without one where its making belongs to the test."""

    def make(name, *, store=True, **options):
        made = Stage(tmp_path / name, **options)
        if store:
            shutil.copy(empty_store, made.root / "mlflow.db")
        return made

    return make


def test_a_whole_study_opens_train_and_dev_and_no_other_side(stage, tmp_path):
    traced = tmp_path / "trace"
    traced.mkdir()
    one = stage("one")
    one.env |= {"STAGE_TRACE": str(traced)}
    said = one.run()
    opened = {line for path in traced.iterdir() for line in path.read_text().splitlines()}
    assert {f"split/voids/{side}.npz" for side in ("train", "dev")} <= opened
    assert not {line for line in opened if "test.npz" in line or "gate.npz" in line}
    content = json.loads(one.result)
    assert [t["state"] for t in content["trials"]] == ["complete"] * 5
    assert not [line for line in said if "Traceback" in line]
    statuses = [status for status, _ in one.runs()]
    assert statuses == ["FINISHED"] * len(statuses)
    assert sum("mlflow.parentRunId" in tags for _, tags in one.runs()) == 5


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.kills)])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(stage, kills):
    size = {"trials": 2 + kills // 4, "epochs": 4, "offspring": 1 + kills // 4}
    size |= {"train": {"patches_per_epoch": 48}}
    whole, broken = stage("whole", **size), stage("broken", store=False, **size)
    whole.run()
    chance = random.SystemRandom()
    codes = []
    for number in range(kills):
        if number % 4 == 0:  # anywhere, in the start too
            with broken.start() as process:
                time.sleep(chance.uniform(0, 6))
                process.kill()
            codes.append(process.returncode)
        else:
            codes.append(broken.stop(signal.SIGKILL, "epoch", chance.uniform(0, 1.0))[0])
    assert codes.count(-signal.SIGKILL) >= kills // 2
    broken.run()
    assert broken.result == whole.result
    assert broken.best_weights() == whole.best_weights()
    assert {status for status, _ in broken.runs()} <= {"FINISHED", "KILLED"}
    attempts = [tags for _, tags in broken.runs() if "attempt" in tags]
    last = {}
    for tags in attempts:
        last[tags["trial"]] = max(last.get(tags["trial"], 0), int(tags["attempt"]))
    assert len(last) == len(json.loads(whole.result)["trials"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_takes_seconds_and_leaves_nothing_running(stage, number, code):
    one = stage("one", epochs=500)
    found, seconds, said = one.stop(number, "epoch 2/")
    assert found == code
    assert seconds < 5
    assert not [line for line in said if "Traceback" in line]
    runs = one.runs()
    assert {status for status, _ in runs} == {"KILLED"}
    (trial,) = [tags for _, tags in runs if "trial" in tags]
    assert trial["ended.reason"] == "stopped by SIGTERM"  # from who started the worker
    assert list(one.root.glob(".defectops/studies/voids/trials/0/*/checkpoint.safetensors"))


def _children_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            rest = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_workers_go_with_who_started_them(stage):
    one = stage("one", epochs=500)
    with one.start() as process:
        for line in process.stderr:
            if "epoch 1/" in line:
                break
        (worker,) = _children_of(process.pid)
        process.kill()
    until = time.monotonic() + 5
    while started(str(worker)) is not None and time.monotonic() < until:
        time.sleep(0.05)
    assert started(str(worker)) is None


def test_a_killed_worker_is_replaced_and_nothing_is_lost(stage):
    size = {"epochs": 4, "train": {"patches_per_epoch": 24}}
    whole, broken = stage("whole", **size), stage("broken", **size)
    whole.run()
    with broken.start() as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "epoch 2/" in line and len(_children_of(process.pid)) == 1 and len(said) < 8:
                os.kill(_children_of(process.pid)[0], signal.SIGKILL)
    assert process.returncode == 0
    assert [line for line in said if "died (SIGKILL); another one takes its place" in line]
    assert broken.result == whole.result
    assert {status for status, _ in broken.runs()} == {"FINISHED", "KILLED"}
    (superseded,) = [tags for _, tags in broken.runs() if "superseded.by" in tags]
    assert "ended without a word" in superseded["ended.reason"]


@pytest.fixture
def project(tmp_path, monkeypatch, empty_store):
    """A project with an empty store, in which we are."""
    write_project(tmp_path / "p")
    shutil.copy(empty_store, tmp_path / "p/mlflow.db")
    monkeypatch.chdir(tmp_path / "p")


@pytest.fixture
def here(project, monkeypatch):
    """A project, and `tune` called in this process."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def call(session, listen=lambda event: None, **options):
        return tune(Path(), "voids", TuneOptions(**{**OPTIONS, **options}), listen, session)

    return call


def test_two_workers_of_one_thread_find_what_one_finds(here):
    events = []
    size = {"trials": 6, "epochs": 2, "generations": 0}
    two = here(Session(workers=2, threads=1), events.append, **size)
    assert {e["worker"] for e in events} == {0, 1}
    one = here(Session(threads=1, mode="new"), **size)
    assert one.state.name == "voids.2"
    assert [t.values for t in one.state.trials] == [t.values for t in two.state.trials]
    assert [t.params for t in one.state.trials] == [t.params for t in two.state.trials]


def test_a_budget_ends_the_session_and_the_next_one_goes_on(here, work_here):
    first = here(Session(budget_minutes=0.0001))
    assert first.state.done == ""
    assert first.result.is_file()
    second = here(Session(mode="resume"))
    assert second.state.done
    (done,) = [e["reason"] for e in work_here("join") if e["event"] == "done"]
    assert done == second.state.done


def test_what_a_worker_refuses_is_refused_here(here):
    with pytest.raises(InputRefused, match="E_STUDY: no such study"):
        here(Session(mode="resume"))


@pytest.fixture
def work_here(project):
    """A project, and the work of a worker in this process, which spares it all its imports."""

    def call(mode="either", seconds=None, **options):
        chosen = asdict(TuneOptions(**{**OPTIONS, **options}))
        events = []
        run(Order(".", "voids", chosen, "voids", "", mode, 0, 1, seconds), events.append)
        return events

    return call


def test_a_worker_refuses_a_space_that_cannot_be_trained(work_here):
    with pytest.raises(InputRefused, match=r"E_CONFIG.*tune|dropout"):
        work_here(space={"dropout": {"high": 0.95}})


def test_a_study_with_other_settings_is_refused_or_renewed(work_here):
    work_here(seconds=0.0)
    with pytest.raises(InputRefused, match=r"begun with other settings: seed was 0, is 1"):
        work_here(seed=1)
    assert work_here("renew", seconds=0.0, seed=1)[0]["study"] == "voids.2"


def test_other_data_cannot_join(work_here):
    work_here(seconds=0.0)
    shutil.copy("split/voids/train.npz", "split/voids/dev.npz")
    with pytest.raises(InputRefused, match="was begun with other data than are here"):
        work_here("join")


def test_a_stop_while_a_dead_worker_is_seen_to_leaves_no_process_behind(here, monkeypatch):
    left = []

    def interrupted(worker, close=_Worker.close):
        if not left:
            left.append(worker)
            raise KeyboardInterrupt
        return close(worker)

    monkeypatch.setattr("defectops.workflows.tuning._WORKER", "antigravity.nothing")
    monkeypatch.setattr(_Worker, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        here(Session())
    (worker,) = left
    assert worker.process.returncode == 1
    assert worker.stderr.closed
    assert worker.close() == ""


def test_workers_that_die_again_and_again_are_an_error(here, monkeypatch):
    monkeypatch.setattr("defectops.workflows.tuning._WORKER", "antigravity.nothing")
    with pytest.raises(EnvironmentFault, match=r"E_WORKER: workers died 5 times.*exit 1: .*antig"):
        here(Session())


@pytest.mark.parametrize(
    ("given", "match"),
    [({"workers": 0}, "--workers: E_USAGE"), ({"budget_minutes": 0.0}, "--budget-minutes: E_US")],
)
def test_sessions_that_cannot_be(given, match):
    with pytest.raises(InputRefused, match=match):
        Session(**given)


def test_the_coordinator_needs_neither_torch_nor_mlflow_nor_matplotlib():
    code = (
        "import sys, defectops.workflows.tuning as t; "
        "print([m for m in ('torch', 'mlflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
