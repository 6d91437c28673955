"""MLflow's store: made once whoever starts first, quiet, and at home where the project is."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import EnvironmentFault, InputRefused
from defectops.experiments import mlflow_store
from defectops.experiments.mlflow_store import (
    database_of,
    is_server,
    make_database,
    one_line_faults,
    open_client,
    quiet_environment,
    sqlite_uri,
)
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.settings import tracking_uri

# Imports once, forks eight processes, lets them go at the same moment.
FIRST_START = """
import os
import sys
from pathlib import Path
import mlflow.store.db.utils
import mlflow.store.tracking.sqlalchemy_store
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.settings import tracking_uri

def start(name):
    root = Path.cwd()
    tracker = MlflowTracker(tracking_uri(root), root)
    run_id = tracker.start("voids", name, {"epochs": 1}, {})
    tracker.metrics(run_id, {"loss": 1.0}, 1)
    tracker.finish(run_id, "FINISHED")

read, write = os.pipe()
children = []
for i in range(8):
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)  # returns when the parent closes its end
        start(f"run {i}")
        os._exit(0)
    children.append(child)
os.close(write)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children) > 0)
"""


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_an_address_leads_back_to_its_file(name):
    path = Path("/data") / name / "mlflow.db"
    assert database_of(sqlite_uri(path)) == path


def test_the_default_address_of_the_settings_is_ours(tmp_path):
    odd = tmp_path / "100% sure?"
    odd.mkdir()
    assert database_of(tracking_uri(odd)) == odd.resolve() / "mlflow.db"


def test_what_is_no_sqlite_file():
    assert database_of("sqlite://") is None
    assert database_of("sqlite:///:memory:") is None
    assert database_of("postgresql://host/mlflow") is None
    assert is_server("https://host:5000/mlflow")
    assert not is_server("postgresql://host/mlflow")


def test_the_database_is_written_ahead_and_sound(root):
    with sqlite3.connect(root / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_first_start_that_dies_leaves_nothing(tmp_path, monkeypatch):
    def die(path):
        path.write_bytes(b"half a database")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "_build", die)
        with pytest.raises(KeyboardInterrupt):
            make_database(tmp_path / "mlflow.db", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".defectops"}


def test_what_a_killed_first_start_left_is_swept_away(tmp_path, monkeypatch):
    for name in (".mlflow.db.a1b2c3.tmp", ".mlflow.db.a1b2c3.tmp-wal", ".mlflow.dbx"):
        (tmp_path / name).write_text("half")
    monkeypatch.setattr(mlflow_store, "_build", lambda path: path.write_text("whole"))
    make_database(tmp_path / "mlflow.db", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".defectops", ".mlflow.dbx", "mlflow.db"}


def test_an_existing_database_is_not_made_again(root, monkeypatch):
    monkeypatch.setattr(mlflow_store, "_build", None)
    make_database(root / "mlflow.db", root)


@pytest.mark.slow
def test_eight_first_starts_at_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FIRST_START],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT name, status FROM runs ORDER BY name").fetchall()
        assert rows == [(f"run {i}", "FINISHED") for i in range(8)]
        found = connection.execute("SELECT count(*) FROM experiments WHERE name = 'voids'")
        assert found.fetchone() == (1,)
    connection.close()
    assert {p.name for p in tmp_path.iterdir()} <= {
        ".defectops",
        "mlflow.db",
        "mlflow.db-wal",
        "mlflow.db-shm",
    }


def recorded(root, name):
    """Record a run with an artifact and return the tracker and the run's id."""
    tracker = MlflowTracker(sqlite_uri(root / "mlflow.db"), root)
    run_id = tracker.start("voids", name, {}, {})
    (root / "note.txt").write_text(name)
    tracker.artifact(run_id, root / "note.txt")
    return tracker, run_id


def test_a_folder_with_an_odd_name(root, tmp_path):
    odd = tmp_path / "a b#c%20é?"
    root.rename(odd)
    _, run_id = recorded(odd, "first")
    assert (odd / "mlartifacts" / run_id / "artifacts/note.txt").read_text() == "first"


def test_a_copied_project_keeps_to_itself(root, tmp_path):
    _, first = recorded(root, "first")
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    before = sorted((root / "mlartifacts").rglob("*"))
    tracker, second = recorded(copy, "second")
    assert sorted((root / "mlartifacts").rglob("*")) == before
    assert (copy / "mlartifacts" / second / "artifacts/note.txt").exists()
    moved = tracker.client.get_run(first).info.artifact_uri
    assert moved == (copy / "mlartifacts" / first / "artifacts").as_uri()


def test_artifacts_that_a_user_put_elsewhere_stay_there(root, tmp_path):
    client = open_client(sqlite_uri(root / "mlflow.db"), root)
    client.create_experiment("own", artifact_location=(tmp_path / "own").as_uri())
    again = open_client(sqlite_uri(root / "mlflow.db"), root)
    found = again.get_experiment_by_name("own")
    assert found.artifact_location == (tmp_path / "own").as_uri()


def test_a_server_that_nobody_started_is_named_at_once(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://ada:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentFault, match=r"E_TRACKING.*does not answer") as error:
            open_client(uri, tmp_path)
    assert "secret" not in str(error.value)


def test_an_older_schema_says_what_to_do(root):
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.close()
    with pytest.raises(EnvironmentFault, match="mlflow db upgrade"):
        open_client(sqlite_uri(root / "mlflow.db"), root)


@pytest.mark.parametrize("where", ["mlflow.db", "note.txt/mlflow.db"])
def test_what_is_no_database(tmp_path, where):
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "mlflow.db").write_text("no database at all\n" * 100)
    with pytest.raises(EnvironmentFault) as error:
        open_client(sqlite_uri(tmp_path / where), tmp_path)
    assert "\n" not in str(error.value)


def test_our_own_errors_and_bugs_pass_unchanged():
    for error in (InputRefused("a", "E_B", "c"), ZeroDivisionError("bug")):
        with pytest.raises(type(error)) as seen, one_line_faults("store"):
            raise error
        assert seen.value is error


def test_nothing_calls_home_unless_the_user_says_so(monkeypatch):
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    quiet_environment()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    quiet_environment()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
