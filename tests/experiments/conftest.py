"""The contracts are importable, and a project has an empty MLflow store."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def root(empty_store, tmp_path):
    """A project folder with an empty MLflow store."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder
