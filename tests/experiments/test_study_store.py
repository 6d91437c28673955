import contextlib
import os
import shutil
import sqlite3
import sys

import pytest
import sqlalchemy
from toy_study import listing, plan, toy

from defectops.errors import DefectopsError, EnvironmentFault, InputRefused, IntegrityFault
from defectops.experiments import study_store
from defectops.experiments.studies import close_study, default_url, open_study, state_of, work
from defectops.experiments.study_store import open_store, store_faults

SMALL = plan(trials=2, generations=0, epochs=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the database of a study that is done, all of it in one file."""
    root = tmp_path_factory.mktemp("finished")
    study = open_study(root, "", "voids", SMALL)
    work(study, toy(2))
    close_study(study)
    path = root / ".defectops/studies/studies.db"
    assert not path.with_name("studies.db-wal").exists()
    return path


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(study_store, "_FIRST_PAUSE_SECONDS", 0.0)


def copied(finished, root, cut=None):
    """Put a copy of the database into a project, cut after so many bytes."""
    path = root / ".defectops/studies/studies.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(finished.read_bytes()[:cut])
    return path


def opened_listing(root):
    study = open_study(root, "", "voids", SMALL)
    try:
        return listing(study)
    finally:
        close_study(study)


def test_the_default_lies_in_the_project_and_uses_a_write_ahead_log(tmp_path):
    store = open_store(default_url(tmp_path))
    store.close()
    path = tmp_path / ".defectops/studies/studies.db"
    assert store.database == path
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["100% sure", "what?", "a#b", "ü ñ"])
def test_any_folder_will_do(tmp_path, name):
    root = tmp_path / name
    root.mkdir()
    study = open_study(root, default_url(root), "voids", SMALL)
    work(study, toy(2))
    assert len(state_of(study).trials) == 2
    close_study(study)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (root / ".defectops/studies/studies.db").is_file()


@pytest.mark.parametrize(
    "url",
    ["studies.db", "sqlite://", "sqlite:///:memory:", "mysql://a:secret@h/d", "redis://x", "://"],
)
def test_what_is_no_study_database_is_refused(url):
    with pytest.raises(InputRefused, match=r"E_STUDY.*sqlite:///path") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://a:secret@h/d", "postgresql+psycopg2://a:secret@h/d"])
def test_a_driver_that_is_missing_is_named(monkeypatch, url):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'defectops\[scale\]'") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / ".defectops/studies/studies.db"
    path.parent.mkdir(parents=True)
    path.write_text("hello " * 1000)
    with pytest.raises(IntegrityFault, match=r"studies\.db: E_STUDY.*not a database.*restore") as c:
        open_study(tmp_path, "", "voids", SMALL)
    assert (c.value.exit_code, str(c.value).count("\n")) == (5, 0)


def test_a_database_that_is_cut_off_is_refused_in_one_line_that_names_it(finished, tmp_path):
    whole = finished.stat().st_size
    outcomes = set()
    for cut in [100, 512, 4096, 5000, 8192, whole // 2, *range(whole - 200, whole, 20)]:
        copied(finished, tmp_path, cut)
        with pytest.raises(DefectopsError, match=r"studies\.db: E_STUDY") as caught:
            opened_listing(tmp_path)
        assert "\n" not in str(caught.value)
        outcomes.add(caught.value.exit_code)
    assert outcomes <= {4, 5}
    copied(finished, tmp_path)
    assert len(opened_listing(tmp_path)[0]) == 2


@pytest.mark.slow
def test_a_log_that_is_cut_off_loses_its_end_and_nothing_else(finished, tmp_path):
    expected = opened_listing(copied(finished, tmp_path / "whole").parents[2])
    path = copied(finished, tmp_path / "a")
    # A process that is killed leaves its log beside the database.
    study = open_study(tmp_path / "a", "", "voids", SMALL)
    study.store.storage.set_study_user_attr(study.study_id, "extra", "x" * 9000)
    saved = tmp_path / "log"
    shutil.copy(path.with_name("studies.db-wal"), saved)
    close_study(study)
    size = saved.stat().st_size
    assert size > 9000
    for cut in range(0, size, size // 25):
        folder = tmp_path / f"b{cut}"
        copied(finished, folder).with_name("studies.db-wal").write_bytes(saved.read_bytes()[:cut])
        assert opened_listing(folder) == expected


def test_damage_in_the_middle_is_told(finished, tmp_path):
    path = copied(finished, tmp_path)
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 16] = b"\xff" * 16
    path.write_bytes(content)
    with pytest.raises(IntegrityFault, match=r"studies\.db: E_STUDY.*\.recover"):
        opened_listing(tmp_path)


def test_a_folder_in_the_way_is_told(tmp_path, impatient):
    (tmp_path / ".defectops/studies/studies.db").mkdir(parents=True)
    with pytest.raises(EnvironmentFault, match=r"studies\.db: E_(IO|STUDY)"):
        open_study(tmp_path, "", "voids", SMALL)


def test_a_schema_of_another_optuna_says_how_to_upgrade(finished, tmp_path):
    path = copied(finished, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.4.0.a'")
        connection.commit()
    with pytest.raises(EnvironmentFault, match="optuna storage upgrade"):
        opened_listing(tmp_path)


def test_a_passing_fault_is_waited_for(finished, tmp_path, impatient):
    store = open_store(f"sqlite:///{copied(finished, tmp_path)}")
    faults = [sqlite3.OperationalError("database is locked")] * 5

    def act():
        if faults:
            raise faults.pop()
        return 7

    assert store.patiently(act) == 7
    store.close()


def test_a_fault_that_stays_ends_in_one_line(finished, tmp_path, impatient):
    path = copied(finished, tmp_path)
    store = open_store(f"sqlite:///{path}")

    def full():
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(EnvironmentFault, match=r"studies\.db: E_STUDY.*full.*resumes") as caught:
        store.patiently(full)
    assert caught.value.exit_code == 4
    store.close()


def test_a_mistake_of_ours_is_not_told_as_a_fault_of_the_store():
    with pytest.raises(AssertionError, match="ours"), store_faults("a.db"):
        raise AssertionError("ours")


@pytest.mark.slow
def test_a_database_without_room_ends_the_worker_and_loses_nothing(tmp_path, impatient):
    given = plan(trials=12, generations=0, epochs=4)
    whole = open_study(tmp_path / "a", "", "voids", given)
    work(whole, toy())
    study = open_study(tmp_path / "b", "", "voids", given)

    def no_room(connection, _):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")

    study.store.engine.dispose()
    sqlalchemy.event.listen(study.store.engine, "connect", no_room)
    with pytest.raises(EnvironmentFault, match=r"studies\.db: E_STUDY.*full.*resumes"):
        work(study, toy())
    close_study(study)
    again = open_study(tmp_path / "b", "", "voids", given)
    work(again, toy(), grace_s=0.0)
    assert listing(again) == listing(whole)
    close_study(again)
    close_study(whole)


def test_a_study_that_is_deleted_meanwhile_is_told(tmp_path):
    study = open_study(tmp_path, "", "voids", SMALL)
    with pytest.raises(DefectopsError, match=r"E_STUDY: the study was deleted"):
        work(study, toy(2, each=lambda c, e: study.store.storage.delete_study(study.study_id)))
    close_study(study)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFault, match="E_IO"):
        open_study(tmp_path, "", "voids", SMALL)


def test_no_password_in_what_is_said_of_a_server_that_is_away():
    with pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1.*E_STUDY") as caught:
        open_store("postgresql://somebody:secret@127.0.0.1:9/none?connect_timeout=2")
    assert "secret" not in str(caught.value)


def test_connections_do_not_stay_open(finished, tmp_path):
    store = open_store(f"sqlite:///{copied(finished, tmp_path)}")
    with store.engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar() == 1
    store.close()
    assert not (tmp_path / ".defectops/studies/studies.db-wal").exists()
