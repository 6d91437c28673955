"""Studies on a PostgreSQL server of our own, on a socket in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from study_processes import Child, gate, read, run_to_the_end, until, worker
from toy_study import plan, toy

from defectops.errors import EnvironmentFault
from defectops.experiments.studies import close_study, join_study, open_study, state_of

pytestmark = pytest.mark.slow

pytest.importorskip("psycopg", reason="the extra `scale` is not installed")

ALIKE = {"sampler": "random", "pruner": "none"}


def programs():
    """Return the folder of initdb and pg_ctl."""
    found = shutil.which("pg_ctl")
    if found and shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    return versions[-1].parent


class Server:
    """PostgreSQL refuses to run as root; then it runs as the user postgres."""

    def __init__(self, folder):
        self.folder = folder
        self.bin = programs()
        self.as_user = {}
        if os.geteuid() == 0:
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
            shutil.chown(folder, "postgres", "postgres")
            self.as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self.run("initdb", "-D", folder / "data", "-U", "tester", "-A", "trust", "--no-sync")

    def run(self, program, *args):
        # Into a file: the server inherits it and would keep a pipe open.
        with (self.folder / "output").open("a") as output:
            subprocess.run(
                [self.bin / program, *args],
                check=True,
                cwd=self.folder,
                stdout=output,
                stderr=output,
                **self.as_user,
            )

    def pg_ctl(self, act, *args):
        self.run("pg_ctl", "-D", self.folder / "data", "-w", *args, act)

    def start(self):
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.pg_ctl("start", "-o", options, "-l", self.folder / "log")

    def stop(self):
        self.pg_ctl("stop", "-m", "immediate")

    def database(self, name):
        self.run("createdb", "-h", self.folder, "-U", "tester", name)
        return f"postgresql://tester@/{name}?host={self.folder}"


@pytest.fixture(scope="module")
def server():
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets need short paths
    try:
        running = Server(folder)
        running.start()
        yield running
        running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server, request):
    return server.database(f"d{abs(hash(request.node.name))}")


def test_eight_workers_begin_at_once_on_nothing_and_get_what_one_gets(url, tmp_path):
    given = plan(trials=16, generations=1, offspring=8, epochs=3, **ALIKE)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(3), tmp_path)
    with gate() as (wait, let_go):
        children = []
        for i in range(8):

            def act():
                wait()
                worker(tmp_path / "b", url, given, toy(3, 0.01))()

            children.append(Child(act, tmp_path / f"log-{i}"))
        let_go()
        for child in children:
            child.succeed()
    assert read(tmp_path / "b", url, given) == expected
    study = join_study(tmp_path / "b", url, "voids")
    rows = study.rows()
    close_study(study)
    assert sorted(r.user_attrs["index"] for r in rows) == list(range(24))
    assert sorted(r.number for r in rows) == list(range(24))


def test_kills_change_nothing(url, tmp_path):
    given = plan(trials=6, generations=1, offspring=3, epochs=4)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(4), tmp_path)
    kills = 0
    for number in range(10):
        act = worker(tmp_path / "b", url, given, toy(4, 0.02), max_deaths=100)
        child = Child(act, tmp_path / "log")
        time.sleep(0.15 + 0.03 * number)
        child.kill()
        kills += child.wait() == -signal.SIGKILL
    assert kills > 5
    run_to_the_end(tmp_path / "b", url, given, toy(4), tmp_path)
    assert read(tmp_path / "b", url, given) == expected


def test_a_dead_worker_of_another_host_is_noticed_by_its_silence(url, tmp_path):
    given = plan(trials=2, generations=0, epochs=2, **ALIKE)

    def elsewhere(choice, epoch):
        if (choice.index, choice.attempt) == (0, 1):
            os._exit(137)

    assert Child(worker(tmp_path, url, given, toy(2, 0, elsewhere)), tmp_path / "log").wait() == 137
    study = join_study(tmp_path, url, "voids")
    (row,) = study.rows()
    moved = {**row.user_attrs["owner"], "owner.host": "far-away"}
    study.store.storage.set_trial_user_attr(row._trial_id, "owner", moved)
    begun = time.monotonic()
    act = worker(tmp_path, url, given, toy(2), beat_s=0.1, grace_s=1.0)
    Child(act, tmp_path / "log").succeed()
    assert time.monotonic() - begun > 1.0
    trials = state_of(study).trials
    close_study(study)
    assert [t.state for t in trials] == ["complete", "complete"]
    assert trials[0].attempts[0].reason.startswith("no sign of life from process")


def test_a_server_that_restarts_is_waited_for(server, url, tmp_path):
    given = plan(trials=4, generations=0, epochs=4, **ALIKE)
    expected = run_to_the_end(tmp_path / "a", "", given, toy(4), tmp_path)
    child = Child(worker(tmp_path / "b", url, given, toy(4, 0.1)), tmp_path / "log")
    until((tmp_path / "b/.defectops/studies/voids/trials/1/attempt-1/checkpoint.json").exists)
    server.stop()
    time.sleep(0.5)
    server.start()
    child.succeed()
    assert read(tmp_path / "b", url, given) == expected


def test_a_server_that_stays_away_ends_the_worker_in_one_line(tmp_path, server, url):
    with pytest.raises(EnvironmentFault, match="E_STUDY") as caught:
        open_study(tmp_path, url.replace("tester@", "tester:secret@") + "x", "voids", plan())
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
