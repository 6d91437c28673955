"""Sessions of a study in this process: several workers, a budget, what is refused."""

import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from small_study import OPTIONS, write_project

from defectops.errors import EnvironmentFault, InputRefused
from defectops.workflows.study_worker import run
from defectops.workflows.tune_settings import TuneOptions
from defectops.workflows.tuning import Order, Session, _Worker, tune

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


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
