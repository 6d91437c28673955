"""The contracts are importable, and an empty MLflow store is made once."""

import shutil
import sys
from pathlib import Path

import pytest

from defectops.experiments.mlflow_store import make_database

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with MLflow's schema; its migrations take a second."""
    root = tmp_path_factory.mktemp("empty")
    make_database(root / "mlflow.db", root)
    return root / "mlflow.db"


@pytest.fixture
def root(empty_store, tmp_path):
    """A project folder with an empty MLflow store."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder
