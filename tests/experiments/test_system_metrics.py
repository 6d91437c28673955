"""System metrics appear in the run, and their thread goes."""

import threading
import time

import pytest

from defectops.experiments.mlflow_store import sqlite_uri
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.system_metrics import system_metrics
from defectops.experiments.tracking import RecordingTracker


@pytest.mark.slow
def test_metrics_are_recorded_and_no_thread_is_left(root):
    pytest.importorskip("psutil")
    tracker = MlflowTracker(sqlite_uri(root / "mlflow.db"), root)
    run_id = tracker.start("voids", "a", {}, {})
    before = threading.active_count()

    def train():
        with system_metrics(tracker, run_id, 0.2):
            assert threading.active_count() > before
            time.sleep(1.5)
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        train()
    assert threading.active_count() == before
    recorded = tracker.run(run_id).metrics
    assert recorded["system/system_memory_usage_megabytes"] > 0
    assert tracker.run(run_id).status == "RUNNING"


def test_the_recording_tracker_needs_no_machine():
    tracker = RecordingTracker()
    run_id = tracker.start("voids", "a", {}, {})
    with system_metrics(tracker, run_id):
        pass
    assert tracker.run(run_id).metrics == {}
