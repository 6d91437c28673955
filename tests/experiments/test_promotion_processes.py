"""Promotions by real processes on MLflow's SQLite: eight at once, and killed between two steps."""

import os
import signal
import time

import pytest
from study_processes import Child, gate

from defectops.errors import Conflict
from defectops.experiments import changing, journal
from defectops.experiments.champions import Places, checked_champion
from defectops.experiments.changing import Note
from defectops.experiments.health import examine
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_store import sqlite_uri
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.experiments.promotion import Verdict
from defectops.experiments.registry import CHAMPION, PREVIOUS
from defectops.experiments.succession import ANY, Candidate, promote, rollback

pytestmark = pytest.mark.slow

MODEL = "defectops-voids"
KILLS = pytest.mark.kills


def registry_of(root):
    return MlflowRegistry(MlflowTracker(sqlite_uri(root / "mlflow.db"), root))


def places_of(root):
    return Places(root, "voids", MODEL)


def move(root, name, expect=ANY):
    path = root / f"{name}.trained"
    path.write_bytes(name.encode())
    candidate = Candidate(path, "", 0.5, {"iou": 0.5}, {})
    about = Note("ada@lab", name, "2026-01-01T00:00:00Z")
    return promote(
        places_of(root), registry_of(root), candidate, Verdict("pass", ()), about, expect
    )


def in_a_child(act, log):
    """No connection of this process crosses a fork: whatever opens the store is a child's."""
    Child(act, log).succeed()


def agreed(root, log):
    """Require that files and registry tell the same; return the champion's name and all moves."""

    def check():
        places, registry = places_of(root), registry_of(root)
        champion = checked_champion(places)
        moves = [e.reason for e in journal.read(places.journal)]
        names = {v.number: v for v in registry.versions(MODEL)}
        assert registry.alias(MODEL, CHAMPION) == champion.version
        tags = names[champion.version].tags
        assert tags["journal_length"] == str(champion.journal_length) == str(len(moves))
        assert tags["journal_sha256"] == champion.journal_sha256
        before = registry.alias(MODEL, PREVIOUS)
        fetched = registry.fetch(MODEL, before, root / "before").read_text()
        (root / "seen").write_text(" ".join([fetched, places.bundle.read_text(), *moves]))
        assert examine(root, registry.tracker, registry, mend=False) == []

    in_a_child(check, log)
    return (root / "seen").read_text().split()


def test_of_eight_at_once_one_wins_and_nothing_is_half_done(root, tmp_path):
    in_a_child(lambda: move(root, "first"), tmp_path / "log")
    with gate() as (wait, let_go):
        children = []
        for i in range(8):

            def act(i=i):
                wait()
                try:
                    move(root, f"rival-{i}", expect=1)
                except Conflict as error:
                    raise SystemExit(error.exit_code) from error

            children.append(Child(act, tmp_path / f"log-{i}"))
        let_go()
        codes = [child.wait() for child in children]
    assert sorted(codes) == [0] + [3] * 7
    winner = f"rival-{codes.index(0)}"
    before, champion, *moves = agreed(root, tmp_path / "log")
    assert (before, champion, moves) == ("first", winner, ["first", winner])


def die_before(step):
    """Stop this process before a step of every change; SIGKILL ends it there."""

    def stop(*_):
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)

    steps = list(changing.STEPS)
    changing.STEPS = (*steps[:step], stop, *steps[step:])


# Before journal, aliases, tags and the hook's note.
@pytest.mark.parametrize(
    "step", [1, 4, *(pytest.param(n, marks=pytest.mark.kills) for n in (5, 6))]
)
def test_killed_between_two_steps_the_next_command_finishes_it(root, tmp_path, step):
    def begin():
        move(root, "first")
        move(root, "second")
        die_before(step)
        rollback(places_of(root), registry_of(root), Note("ada@lab", "back", "2026"))

    child = Child(begin, tmp_path / "log")
    _, status = os.waitpid(child.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), (tmp_path / "log").read_text()
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert places_of(root).intent.exists()
    in_a_child(lambda: move(root, "third"), tmp_path / "log")
    before, champion, *moves = agreed(root, tmp_path / "log")
    assert (before, champion) == ("first", "third")
    assert moves == ["first", "second", "back", "third"]
