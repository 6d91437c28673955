"""The tracker on MLflow: the contract, and what MLflow itself then shows."""

import pytest
from contract import TrackerContract

from defectops.experiments.mlflow_store import sqlite_uri
from defectops.experiments.mlflow_tracking import MlflowTracker


class TestMlflowTracker(TrackerContract):
    @pytest.fixture
    def tracker(self, root):
        return MlflowTracker(sqlite_uri(root / "mlflow.db"), root)

    def artifact_text(self, tracker, run_id, name):
        return (tracker.root / "mlartifacts" / run_id / "artifacts" / name).read_text()

    def datasets(self, tracker, run_id):
        inputs = tracker.client.get_run(run_id).inputs.dataset_inputs
        return [(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs]
