"""What every test gets: a clean environment, the Agg back end, and the shared data if there."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

os.environ.setdefault("MPLBACKEND", "Agg")
# PyTorch's threads wait for each other asleep, not spinning: beside another busy process a spinning
# pair takes a thousand times as long. Set before PyTorch is loaded, and for every child.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One of several pytest workers keeps to a core of its own, and so do the processes that it starts:
# two networks with two threads each on two cores would mostly wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# The same examples in every run, so that a red run is about the change that is tested; new ones are
# looked for with HYPOTHESIS_PROFILE=search. No deadline: a busy machine is not a broken law.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A shell starts background jobs with Ctrl-C ignored, and children inherit it: tests that send it to
# a command of ours would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """The long kill tests are slow: `-m "not slow"` leaves them out too."""
    for item in items:
        if "kills" in item.keywords:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_", "CUDA_", "DEFECTOPS_")) and name not in (
            "DEFECTOPS_SHARED",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with MLflow's schema; its migrations take seconds, a copy takes none."""
    from defectops.experiments.mlflow_store import make_database  # noqa: PLC0415 - loads MLflow

    root = tmp_path_factory.mktemp("empty")
    make_database(root / "mlflow.db", root)
    return root / "mlflow.db"


@pytest.fixture(scope="session")
def shared():
    """Real micrographs and hostile inputs that lie beside a developer's checkout."""
    folder = Path(os.environ.get("DEFECTOPS_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("the shared data are not beside this checkout (set DEFECTOPS_SHARED)")
    return folder
