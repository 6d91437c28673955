"""A training as a run: what it records and leaves, and that a kill costs nothing but time."""

import hashlib
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

import numpy as np
import pandas as pd
import pytest
from drawing import VOIDS, discs, field

from defectops.errors import TrainingDiverged
from defectops.experiments.tracking import RecordingTracker
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning import machine
from defectops.learning.bundle import load_bundle
from defectops.learning.training import EpochRecord
from defectops.learning.verifying import frozen_difference
from defectops.micrograph import save_fields
from defectops.workflows.train_settings import read_train_settings
from defectops.workflows.training import Shells, train

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "epochs": 3,
    "learning_rate": 0.004,
    "patch_px": 32,
    "batch": 2,
    "patches_per_epoch": 4,
    "width": 0.15,
    "warm_up_steps": 0,
    "final_decay_epochs": 0,
    "threads": 1,
}


def _write_sides(root):
    noise = np.random.default_rng(0)
    for i, side in enumerate(("train", "dev")):
        label = discs((64, 80), (20, 20 + 5 * i), (40, 60))
        shown = 2.0 * label + noise.normal(0, 0.5, label.shape)
        save_fields(root / f"split/voids/{side}.npz", [field(label, shown, image=f"{side}.png")])


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    root = tmp_path_factory.mktemp("sides")
    _write_sides(root)
    return root


@pytest.fixture
def root(sides, tmp_path):
    shutil.copytree(sides, tmp_path / "project")
    threads = machine.settle(1)
    yield tmp_path / "project"
    machine.settle(threads)


def _train(root, tracker, listen=lambda record: None, **changes):
    settings = read_train_settings({**SMALL, **changes}, "params.yaml: train.voids")
    return train(root, VOIDS, settings, ConditioningOptions(), Shells(tracker, listen))


def _files(root):
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.relative_to(root).parts[0] in ("models", "results")
    }


class Stop(BaseException):
    """What SIGKILL would be: nothing of ours catches it."""


def _stop_after(epoch):
    def listen(record):
        if record.epoch == epoch:
            raise Stop

    return listen


def test_a_run_tells_its_epochs_tags_and_data(root):
    tracker = RecordingTracker()
    seen = []
    trained = _train(root, tracker, seen.append)
    run = tracker.run(trained.run_id)
    assert (run.status, run.experiment) == ("FINISHED", "defectops-voids")
    names = ("train/iou", "dev/iou", "loss", "lr", "positive_weight", "loss/l2", "dev/threshold")
    for name in names:
        steps = [step for step, _ in tracker.history(run.run_id, name)]
        assert steps == [0, 1, 2] or name == "train/iou"  # undefined in an epoch: left out
    assert tracker.history(run.run_id, "lr")[0] == (0, 0.004)
    assert [r.epoch for r in seen] == [0, 1, 2]
    assert {"defect": "voids", "preset": "quick", "threads": "1"}.items() <= run.tags.items()
    assert run.params["epochs"] == "3"
    datasets = tracker.records[run.run_id].datasets
    assert [(d["name"], d["context"], d["source"]) for d in datasets] == [
        ("voids train", "train", "train.png"),
        ("voids dev", "dev", "dev.png"),
    ]
    assert datasets[0]["digest"] != datasets[1]["digest"]


def test_files_say_the_same_as_the_run_and_the_bundle(root):
    trained = _train(root, RecordingTracker())
    assert trained.bundle == root / "models/voids/model.safetensors"
    assert trained.sha256 == hashlib.sha256(trained.bundle.read_bytes()).hexdigest()
    run = json.loads((root / "results/runs/voids.json").read_text())
    assert run == {"run_id": trained.run_id, "sha256": trained.sha256}
    metrics = json.loads((root / "results/train/voids.json").read_text())
    assert metrics == dict(trained.metrics)
    curve = pd.read_csv(root / "results/curves/voids.csv")
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert metrics["dev_iou"] == pytest.approx(curve["dev_iou"].max(), abs=1e-6)
    bundle = load_bundle(trained.bundle)
    assert bundle.threshold == metrics["threshold"]
    assert bundle.envelope["pixel_size_nm_low"] == bundle.envelope["pixel_size_nm_high"] == 0.5
    assert frozen_difference(bundle) == 0.0
    assert [row[0] for row in bundle.training["train_regions"]] == ["train.png"]
    assert [row[0] for row in bundle.training["dev_regions"]] == ["dev.png"]
    assert bundle.training["metrics"] == metrics


def test_a_training_that_went_well_leaves_no_checkpoint(root):
    _train(root, RecordingTracker())
    assert list((root / ".defectops/checkpoints").iterdir()) == []


def test_only_train_and_dev_are_opened(root):
    for side in ("test", "gate"):
        (root / f"split/voids/{side}.npz").write_bytes(b"opened, this would not load")
    _train(root, RecordingTracker(), epochs=1)


def test_the_same_training_gives_the_same_bytes(root):
    first = _train(root, RecordingTracker())
    before = _files(root)
    second = _train(root, RecordingTracker())
    assert second.sha256 == first.sha256
    assert _files(root) == before  # the fake's run ids are the same too


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_stopped_training_goes_on_in_its_run_to_the_same_weights(root, epoch):
    whole = _train(root, RecordingTracker())
    expected = _files(root)
    tracker = RecordingTracker()
    with pytest.raises(Stop):
        _train(root, tracker, _stop_after(epoch))
    (run_id,) = tracker.records
    assert tracker.run(run_id).status == "KILLED"
    assert not (root / "models/voids/model.safetensors").exists()
    seen = []
    resumed = _train(root, tracker, seen.append)
    assert [r.epoch for r in seen] == list(range(epoch + 1, 3))
    assert (resumed.run_id, resumed.sha256) == (run_id, whole.sha256)
    assert tracker.run(run_id).status == "FINISHED"
    assert [step for step, _ in tracker.history(run_id, "dev/iou")] == [0, 1, 2]
    assert _files(root) == expected


def test_other_settings_or_data_begin_anew(root):
    tracker = RecordingTracker()
    for _ in range(2):
        with pytest.raises(Stop):
            _train(root, tracker, _stop_after(0), seed=len(tracker.records))
    assert len(tracker.records) == 2
    _write_sides(root)
    label = discs((64, 80), (30, 30))
    save_fields(root / "split/voids/train.npz", [field(label, 2.0 * label)])
    seen = []
    _train(root, tracker, seen.append, seed=1)
    assert len(tracker.records) == 3
    assert seen[0].epoch == 0


def test_a_checkpoint_is_not_taken_up_with_the_notes_of_another_training(root, monkeypatch):
    tracker = RecordingTracker()
    with pytest.raises(Stop):
        _train(root, tracker, _stop_after(1), seed=1)

    def killed(*given):
        raise Stop

    # Another training dies between its notes and its first checkpoint.
    with monkeypatch.context() as patch:
        patch.setattr("defectops.workflows.training.save_state", killed)
        with pytest.raises(Stop):
            _train(root, tracker, seed=2)
    resumed = _train(root, tracker, seed=1)
    assert tracker.run(resumed.run_id).params["seed"] == "1"
    assert len(pd.read_csv(root / "results/curves/voids.csv")) == 3


def test_where_the_store_was_lost_the_story_is_told_again(root):
    with pytest.raises(Stop):
        _train(root, RecordingTracker(), _stop_after(1))
    tracker = RecordingTracker()
    seen = []
    resumed = _train(root, tracker, seen.append)
    assert [r.epoch for r in seen] == [2]
    assert [step for step, _ in tracker.history(resumed.run_id, "dev/iou")] == [0, 1, 2]


def test_a_training_that_diverges_fails_with_its_reason_and_leaves_no_model(root):
    _train(root, RecordingTracker(), epochs=1)
    label = discs((64, 80), (30, 30))
    far = np.where(label, np.inf, 0.0)
    save_fields(root / "split/voids/train.npz", [field(label, far)])
    tracker = RecordingTracker()
    with pytest.raises(TrainingDiverged, match=r"E_DIVERGED.*learning"):
        _train(root, tracker)
    (record,) = tracker.records.values()
    assert record.run.status == "FAILED"
    assert "E_DIVERGED" in record.run.tags["ended.reason"]
    # Nothing of the model before lies about under the name of this one.
    assert _files(root) == {}


def test_an_undefined_train_iou_is_left_out(root, monkeypatch):
    row = EpochRecord.row

    def undefined(record):
        return row(record) | {"train_iou": float("nan")}

    monkeypatch.setattr(EpochRecord, "row", undefined)
    tracker = RecordingTracker()
    trained = _train(root, tracker, epochs=1)
    assert "train_iou_at_best" not in trained.metrics
    assert tracker.history(trained.run_id, "train/iou") == []
    assert "NaN" not in (root / "results/train/voids.json").read_text()


# --- real processes -------------------------------------------------------------------------


class Stage:
    """`python -m pipelines.train voids` in a project."""

    def __init__(self, root, **changes):
        self.root = root
        values = {**SMALL, **changes}
        sections = {"defects": {"voids": {}}, "train": {"default": values}}
        (root / "params.yaml").write_text(json.dumps(sections))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "OMP_NUM"))}
        self.env = clean | {"PYTHONPATH": str(ROOT)}

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.train", "voids"],
            cwd=self.root,
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self):
        with self.start() as process:
            said = process.stderr.read()
        return process.returncode, said.splitlines()

    def stop(self, number, pause):
        """Send a signal some time after the first epoch's line."""
        with self.start() as process:
            assert "epoch 1/" in process.stderr.readline()
            time.sleep(pause)
            process.send_signal(number)
            said = process.stderr.read()
        return process.returncode, said.splitlines()

    def runs(self):
        store = sqlite3.connect(self.root / "mlflow.db")
        rows = store.execute("select run_uuid, status from runs order by start_time").fetchall()
        reasons = dict(
            store.execute("select run_uuid, value from tags where key = 'ended.reason'").fetchall()
        )
        store.close()
        return [(run, status, reasons.get(run, "")) for run, status in rows]


@pytest.fixture
def stage(sides, tmp_path, empty_store):
    def make(name, **changes):
        shutil.copytree(sides, tmp_path / name)
        shutil.copy(empty_store, tmp_path / name / "mlflow.db")
        return Stage(tmp_path / name, **changes)

    return make


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(stage):
    many = {"epochs": 12, "patches_per_epoch": 16}
    whole, broken = stage("whole", **many), stage("broken", **many)
    assert whole.run()[0] == 0
    code, _ = broken.stop(signal.SIGKILL, random.SystemRandom().uniform(0, 0.6))
    assert code == -signal.SIGKILL
    ((run, status, _),) = broken.runs()
    assert status == "RUNNING"
    code, said = broken.run()
    assert code == 0
    assert "epoch 1/12" not in said[0]  # it went on, it did not begin anew
    assert [(r, s) for r, s, _ in broken.runs()] == [(run, "FINISHED")]
    for name in ("models/voids/model.safetensors", "results/curves/voids.csv"):
        assert (broken.root / name).read_bytes() == (whole.root / name).read_bytes()


@pytest.mark.slow
def test_sigterm_ends_with_143_and_a_killed_run(stage):
    broken = stage("broken", epochs=500)
    code, said = broken.stop(signal.SIGTERM, 0.1)
    assert code == 143
    assert not [line for line in said if "Traceback" in line]
    ((_, status, reason),) = broken.runs()
    assert (status, reason) == ("KILLED", "stopped by SIGTERM")


@pytest.mark.slow
def test_diverging_is_one_line_exit_1_and_a_failed_run(stage):
    wild = stage("wild", learning_rate=1.0, positive_weight=1e4, epochs=3)
    label = discs((64, 80), (30, 30))
    far = np.where(label, np.inf, 0.0)
    save_fields(wild.root / "split/voids/train.npz", [field(label, far)])
    code, said = wild.run()
    assert code == 1
    assert len(said) == 1
    assert "E_DIVERGED" in said[0]
    ((_, status, reason),) = wild.runs()
    assert status == "FAILED"
    assert "E_DIVERGED" in reason
    assert not (wild.root / "models").exists()
