"""`defectops doctor` and `defectops ui` as a user runs them; runs of processes that were killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from defectops.cli import ui
from defectops.cli.main import run
from defectops.experiments.mlflow_store import sqlite_uri
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.tracking import tracked_run

TRAIN = """
import sys, time
from pathlib import Path
from defectops.cli.rim import guarded
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.tracking import tracked_run
from defectops.settings import tracking_uri

def train():
    tracker = MlflowTracker(tracking_uri(Path.cwd()), Path.cwd())
    with tracked_run(tracker, "voids", sys.argv[1], {}, {}):
        print("training", flush=True)
        time.sleep(60)

sys.exit(guarded(train))
"""


@pytest.fixture
def project(root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the rim's handler stays out of pytest
    return root


def trainings(root, *names):
    """Start processes that train and wait until each has its run."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, name], cwd=root, stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    assert [p.stdout.readline() for p in processes] == ["training\n"] * len(names)
    return processes


def ended(process, number):
    process.send_signal(number)
    code = process.wait(20)
    process.stdout.close()
    return code


def statuses(root):
    tracker = MlflowTracker(sqlite_uri(root / "mlflow.db"), root)
    found = tracker.client.search_runs(
        [tracker.client.get_experiment_by_name("voids").experiment_id]
    )
    return {r.info.run_name: (r.info.status, r.data.tags.get("ended.reason")) for r in found}


def test_doctor_on_a_healthy_project(project, capsys):
    assert run(["doctor"]) == 0
    assert capsys.readouterr().out == "nothing is wrong with runs, promotions and champions\n"
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_doctor_makes_no_store_where_none_is(project, capsys):
    (project / "mlflow.db").unlink()
    assert run(["doctor", "--fix"]) == 0
    assert list(project.iterdir()) == []


@pytest.mark.slow
def test_killed_runs_are_closed_by_doctor_or_the_next_command(project, capsys):
    names = ("alive", "terminated", "interrupted", "killed", "killed too")
    alive, *others, last = trainings(project, *names)
    codes = map(ended, others, (signal.SIGTERM, signal.SIGINT, signal.SIGKILL))
    assert list(codes) == [143, 130, -9]
    assert statuses(project) == {
        "alive": ("RUNNING", None),
        "terminated": ("KILLED", "stopped by SIGTERM"),
        "interrupted": ("KILLED", "stopped by Ctrl-C"),
        "killed": ("RUNNING", None),
        "killed too": ("RUNNING", None),
    }
    assert run(["doctor"]) == 5
    assert "E_STALE_RUN: voids/killed" in capsys.readouterr().out
    assert run(["doctor", "--fix"]) == 0
    assert "(put right)" in capsys.readouterr().out
    assert statuses(project)["killed"][0] == "KILLED"

    assert statuses(project)["killed too"][0] == "RUNNING"
    assert ended(last, signal.SIGKILL) == -9
    tracker = MlflowTracker(sqlite_uri(project / "mlflow.db"), project)
    with tracked_run(tracker, "voids", "next", {}, {}):
        assert statuses(project)["killed too"][0] == "KILLED"
        assert statuses(project)["alive"][0] == "RUNNING"
    ended(alive, signal.SIGKILL)


def test_ui_on_a_server_prints_its_address(project, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.lab:5000")
    assert run(["ui"]) == 0
    assert capsys.readouterr().out == "http://tracking.lab:5000\n"


def test_ui_on_a_port_in_use(project, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        assert run(["ui", "--port", str(number)]) == 4
    assert f"port {number}: E_PORT: " in capsys.readouterr().err


def test_ui_keeps_to_this_machine_and_passwords_off_the_command(project, monkeypatch):
    seen = []
    monkeypatch.setattr(ui.os, "execv", lambda program, words: seen.append(words))
    monkeypatch.setattr(ui.os, "environ", dict(os.environ))
    assert run(["ui", "--port", "0"]) == 0
    (words,) = seen
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert not any("sqlite" in word for word in words)
    assert ui.os.environ["MLFLOW_BACKEND_STORE_URI"] == sqlite_uri(project / "mlflow.db")


@pytest.mark.slow
def test_ui_answers_and_shows_the_runs_of_this_project(project):
    tracker = MlflowTracker(sqlite_uri(project / "mlflow.db"), project)
    with tracked_run(tracker, "voids", "seen", {}, {}) as run_id:
        tracker.metrics(run_id, {"dev/iou": 0.5}, 1)
    start = "import sys; from defectops.cli.main import run; sys.exit(run())"
    words = [sys.executable, "-c", start, "ui", "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        base = server.stdout.readline().partition("/#")[0]
        assert answer(f"{base}/health") == "OK"
        history = answer(
            f"{base}/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key=dev/iou"
        )
        assert json.loads(history)["metrics"][0]["value"] == 0.5
        assert json.loads(answer(f"{base}/ajax-api/3.0/mlflow/ui-telemetry"))[
            "disable_ui_telemetry"
        ]
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()


def answer(url, seconds=60):
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return reply.read().decode()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_the_commands_are_in_the_help(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert "doctor" in text
    assert "ui" in text
