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
from pathlib import Path

import pytest
from small_study import OPTIONS, TRAIN, write_project

from defectops.experiments.ownership import started

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

    def stop(self, number, until, pause=0.0, known=()):
        """Send a signal some time after a line with some words; return code, seconds and lines.

        A line that begins with one of the known ones says nothing new.
        """
        with self.start() as process:
            said = []
            for line in process.stderr:
                said.append(line)
                if until in line and not line.startswith(tuple(known)):
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
    size |= {"train": {"patches_per_epoch": 48 if kills == 4 else 96}}
    whole, broken = stage("whole", **size), stage("broken", store=False, **size)
    whole.run()
    chance = random.SystemRandom()
    codes, known = [], set()
    for number in range(kills):
        if number % 4 == 0:  # anywhere, in the start too
            with broken.start() as process:
                time.sleep(chance.uniform(0, 6))
                process.kill()
            codes.append(process.returncode)
        else:
            # After an epoch that is new, since five deaths in a row without one end a trial. A
            # trial that goes on tells the epochs behind it again.
            pause = chance.uniform(0, 1.0)
            code, _, said = broken.stop(signal.SIGKILL, "dev IoU", pause, known)
            codes.append(code)
            known |= {line.partition("dev IoU")[0] for line in said if "dev IoU" in line}
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
