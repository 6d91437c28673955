"""The registry in MLflow: the contract, half uploads, and `mlflow.pyfunc` without pickle."""

import subprocess
import sys

import pytest
from contract import RegistryContract, bundle

from defectops.errors import IntegrityFault
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_store import sqlite_uri
from defectops.experiments.mlflow_tracking import MlflowTracker

LOADER = """
import numpy as np

class Model:
    def __init__(self, data):
        self.data = data

    def predict(self, micrograph, params=None):
        assert self.data == b"weights"
        return micrograph / np.float32(2)

def _load_pyfunc(path):
    with open(path, "rb") as stream:
        return Model(stream.read())
"""

SERVE = """
import sys, numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/defectops-voids/1")
plane = np.arange(6, dtype=np.float32).reshape(2, 3)
print(model.predict(plane).tolist())
print(model.metadata.signature)
"""


@pytest.fixture
def registry(root):
    return MlflowRegistry(MlflowTracker(sqlite_uri(root / "mlflow.db"), root))


@pytest.fixture
def new_run(registry):
    def made():
        run_id = registry.tracker.start("voids", "a", {}, {})
        registry.tracker.finish(run_id, "FINISHED")
        return run_id

    return made


@pytest.fixture
def run_id(new_run):
    return new_run()


def stored(registry, number):
    raw = registry.client.get_model_version("defectops-voids", str(number))
    return registry.tracker.root / "mlartifacts" / raw.run_id / "artifacts" / "bundle"


class TestMlflowRegistry(RegistryContract):
    def damage(self, registry, model, number):
        (stored(registry, number) / "model.safetensors").write_bytes(b"weighty")


def test_the_stored_folder_holds_text_and_weights_only(registry, run_id, tmp_path):
    registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {})
    folder = stored(registry, 1)
    assert {p.name for p in folder.iterdir()} == {
        "MLmodel",
        "model.safetensors",
        "python_env.yaml",
        "requirements.txt",
    }
    assert "loader_module: defectops.workflows.serving" in (folder / "MLmodel").read_text()


def test_an_upload_that_breaks_off_is_never_listed(registry, run_id, tmp_path, monkeypatch):
    def torn(run_id, folder, where):
        (tmp_path / "torn.safetensors").write_bytes(b"wei")
        into = registry.tracker.root / "mlartifacts" / run_id / "artifacts" / where
        into.mkdir(parents=True)
        (into / "model.safetensors").write_bytes(b"wei")

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "log_artifacts", torn)
        with pytest.raises(IntegrityFault, match="E_DIGEST"):
            registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {})
    assert registry.versions("defectops-voids") == []
    assert registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {}) == 1
    assert registry.fetch("defectops-voids", 1, tmp_path).read_bytes() == b"weights"


def test_a_bundle_deleted_behind_our_back(registry, run_id, tmp_path):
    registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {})
    (stored(registry, 1) / "model.safetensors").unlink()
    with pytest.raises(IntegrityFault, match=r"defectops-voids/1: E_DIGEST: .* its bundle is gone"):
        registry.fetch("defectops-voids", 1, tmp_path / "into")


@pytest.mark.slow
def test_pyfunc_loads_a_version_without_pickle(root, run_id, registry, tmp_path, monkeypatch):
    (tmp_path / "plain_loader.py").write_text(LOADER)
    registry.loader = "plain_loader"
    registry.submit("defectops-voids", bundle(tmp_path), run_id, {}, {})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    done = subprocess.run(
        [sys.executable, "-c", SERVE, sqlite_uri(root / "mlflow.db")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert "[[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]" in done.stdout
    assert "Tensor('float32', (-1, -1))" in done.stdout
    assert "arning" not in done.stderr
