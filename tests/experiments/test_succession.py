"""Promotion and rollback: four places that never disagree, whatever is interrupted."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from defectops.errors import Conflict, InputRefused, IntegrityFault
from defectops.experiments import changing, journal, succession
from defectops.experiments.champions import (
    Champion,
    Places,
    checked_champion,
    read_champion,
    unfinished,
)
from defectops.experiments.changing import Note, recover
from defectops.experiments.promotion import Verdict
from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.succession import (
    Candidate,
    note,
    promote,
    rollback,
)

ABOUT = Note("ada@lab", "better on dev", "2026-01-01T00:00:00Z")


class Crash(BaseException):
    """The process dies here."""


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path, "voids", "defectops-voids")


@pytest.fixture
def registry():
    return RecordingRegistry()


def trained(places, name, iou=0.5, threshold=0.4):
    path = places.root / f"{name}.safetensors"
    path.write_bytes(name.encode())
    return Candidate(path, f"run of {name}", threshold, {"iou": iou}, {"defect": "voids"})


def move(places, registry, name, iou=0.5, threshold=0.4, expect=succession.ANY):
    candidate = trained(places, name, iou, threshold)
    verdict = Verdict("pass" if iou >= 0.3 else "fail", ())
    return promote(places, registry, candidate, verdict, ABOUT, expect)


def state(places, registry):
    """Everything a promotion moves, as one value."""
    champion = checked_champion(places)
    return (
        champion,
        places.bundle.read_bytes(),
        [e.to_version for e in journal.read(places.journal)],
        registry.alias("defectops-voids", "champion"),
        registry.alias("defectops-voids", "previous"),
        unfinished(places.root),
        places.waiting.exists(),
    )


def test_no_champion_is_an_empty_one(places):
    assert checked_champion(places) == Champion("defectops-voids")


def test_the_first_model_above_the_floor_becomes_champion(places, registry):
    champion = move(places, registry, "first")
    assert json.loads(places.file.read_text()) == {
        "model": "defectops-voids",
        "version": 1,
        "run_id": "run of first",
        "sha256": champion.sha256,
        "threshold": 0.4,
        "verdict": "pass",
        "journal_sha256": journal.read(places.journal)[0].sha256,
        "journal_length": 1,
    }
    after = state(places, registry)
    assert after[1:] == (b"first", [1], 1, None, [], False)
    assert registry.alias("defectops-voids", "candidate") == 1


def test_the_same_promotion_gives_the_same_bytes(tmp_path):
    written = []
    for name in ("a", "b"):
        places = Places(tmp_path / name, "voids", "defectops-voids")
        places.root.mkdir()
        move(places, RecordingRegistry(), "first")
        written.append((places.file.read_bytes(), places.journal.read_bytes()))
    assert written[0] == written[1]


def test_a_model_below_the_floor_is_registered_but_not_champion(places, registry):
    assert move(places, registry, "weak", iou=0.1).version is None
    assert not places.file.exists()
    assert not places.bundle.exists()
    assert registry.alias("defectops-voids", "candidate") == 1
    assert registry.alias("defectops-voids", "champion") is None
    move(places, registry, "first")
    before = state(places, registry)
    move(places, registry, "weaker", iou=0.05)
    assert state(places, registry) == before


def test_promoting_the_champion_again_changes_nothing(places, registry):
    move(places, registry, "first")
    before = state(places, registry)
    move(places, registry, "first")
    assert state(places, registry) == before


def test_a_clone_without_bundle_and_registry_gets_them_back(places, registry):
    move(places, registry, "first")
    places.bundle.unlink()
    fresh = RecordingRegistry()
    move(places, fresh, "first")
    assert state(places, fresh) == state(places, registry)


def test_a_change_that_waits_survives_the_loss_of_the_registry(places, registry, monkeypatch):
    crash_before(2, places, registry, "first", monkeypatch)
    fresh = RecordingRegistry()
    assert recover(places, fresh)
    assert fresh.alias("defectops-voids", "champion") == 1


def test_in_a_new_registry_no_model_is_taken_for_the_former_champion_by_its_number(
    places, registry
):
    move(places, registry, "first")
    fresh = RecordingRegistry()
    assert move(places, fresh, "second").version == 1
    assert fresh.alias("defectops-voids", "champion") == 1
    assert fresh.alias("defectops-voids", "previous") is None


def test_rollback_restores_weights_and_threshold(places, registry):
    move(places, registry, "first", threshold=0.4)
    move(places, registry, "second", threshold=0.6)
    assert registry.alias("defectops-voids", "previous") == 1
    champion = rollback(places, registry, ABOUT)
    assert (champion.version, champion.threshold, champion.run_id) == (1, 0.4, "run of first")
    assert state(places, registry)[1:] == (b"first", [1, 2, 1], 1, 2, [], False)


def test_rollbacks_go_further_back_each_time(places, registry):
    for name in ("first", "second", "third"):
        move(places, registry, name)
    seen = [rollback(places, registry, ABOUT).version for _ in range(2)]
    move(places, registry, "fourth")
    seen.append(rollback(places, registry, ABOUT).version)
    assert seen == [2, 1, 1]
    with pytest.raises(InputRefused, match="E_NO_EARLIER"):
        rollback(places, registry, ABOUT)


def test_rollback_trusts_the_digest_not_the_number(places, registry):
    move(places, registry, "first")
    move(places, registry, "second")
    fresh = RecordingRegistry()  # the store was lost; other models were registered since
    for name in ("other", "first"):
        trained(places, name)
        fresh.submit(
            "defectops-voids", places.root / f"{name}.safetensors", "r", {}, {"threshold": "0.4"}
        )
    assert rollback(places, fresh, ABOUT).version == 2
    assert places.bundle.read_bytes() == b"first"


def test_rollback_refuses_a_model_that_is_gone(places, registry):
    move(places, registry, "first")
    move(places, registry, "second")
    before = state(places, registry)
    fresh = RecordingRegistry()
    fresh.submit("defectops-voids", trained(places, "other").bundle, "r", {}, {})
    with pytest.raises(
        IntegrityFault, match="no version with that digest, and no copy is in DVC's cache"
    ):
        rollback(places, fresh, ABOUT)
    assert state(places, registry) == before


def test_the_journal_tells_one_unbroken_story(places, registry):
    for name in ("first", "second", "third"):
        move(places, registry, name)
    rollback(places, registry, ABOUT)
    entries = journal.read(places.journal)
    assert [(e.from_version, e.to_version) for e in entries] == [(None, 1), (1, 2), (2, 3), (3, 2)]
    assert [e.verdict for e in entries] == ["pass", "pass", "pass", "rollback"]


def test_compare_and_set_of_eight_at_once(places, registry):
    move(places, registry, "first")
    candidates = [trained(places, f"rival {i}") for i in range(8)]
    verdict = Verdict("pass", ())

    def attempt(candidate):
        try:
            return promote(places, registry, candidate, verdict, ABOUT, expect=1).version
        except Conflict as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, candidates))
    won = [r for r in results if isinstance(r, int)]
    lost = [r for r in results if isinstance(r, Conflict)]
    assert (len(won), len(lost)) == (1, 7)
    assert all("E_CHAMPION_MOVED: version 1 was expected" in str(e) for e in lost)
    assert state(places, registry)[2:4] == ([1, won[0]], won[0])


def crash_before(step, places, registry, name, monkeypatch):
    """Promote, but die before the given step (the number of steps: after the last)."""

    def die(*_):
        raise Crash

    steps = list(changing.STEPS)
    steps.insert(step, die)
    with monkeypatch.context() as patch:
        patch.setattr(changing, "STEPS", tuple(steps))
        with pytest.raises(Crash):
            move(places, registry, name)


@pytest.mark.parametrize("step", range(len(changing.STEPS) + 1))
def test_a_crash_between_any_two_steps_is_repaired(places, registry, monkeypatch, step):
    move(places, registry, "first")
    crash_before(step, places, registry, "second", monkeypatch)
    if step < len(changing.STEPS):
        assert unfinished(places.root) == ["voids"]
        with pytest.raises(IntegrityFault, match="E_UNFINISHED"):
            checked_champion(places)
    assert (recover(places, registry) is not None) == (step < len(changing.STEPS))
    assert state(places, registry)[1:] == (b"second", [1, 2], 2, 1, [], False)
    assert not recover(places, registry)


@pytest.mark.parametrize("step", range(len(changing.STEPS)))
def test_a_crash_within_recovery_is_repaired_too(places, registry, monkeypatch, step):
    move(places, registry, "first")
    crash_before(1, places, registry, "second", monkeypatch)
    crash_before(step, places, registry, "third", monkeypatch)  # dies while it recovers
    move(places, registry, "third")
    assert state(places, registry)[2] == [1, 2, 3]


def test_a_crash_before_the_intent_leaves_everything(places, registry, monkeypatch):
    move(places, registry, "first")
    before = state(places, registry)

    def die(path, text):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(changing, "write_text", die)
        with pytest.raises(Crash):
            move(places, registry, "second")
    assert state(places, registry)[:6] == before[:6]


def test_temporary_files_of_a_killed_process_are_swept_away(places, registry):
    move(places, registry, "first")
    (places.bundle.parent / ".model.safetensors.a1b2c3.tmp").write_bytes(b"half")
    (places.file.parent / ".voids.json.a1b2c3.tmp").write_bytes(b"half")
    (places.file.parent / ".lines.json.a1b2c3.tmp").write_bytes(b"of another defect")
    move(places, registry, "second")
    (places.evidence / ".5b0c.json.a1b2c3.tmp").write_bytes(b"half")
    move(places, registry, "third")
    left = {p.name for p in places.file.parent.rglob("*") if p.is_file()}
    left -= {p.name for p in places.evidence.glob("*.json")}
    assert left == {
        ".lines.json.a1b2c3.tmp",
        "model.safetensors",
        "voids.journal.jsonl",
        "voids.json",
    }


def test_another_commit_under_an_unfinished_change_is_reported(places, registry, monkeypatch):
    move(places, registry, "first")
    crash_before(0, places, registry, "second", monkeypatch)
    places.journal.unlink()
    with pytest.raises(IntegrityFault, match="does not fit this journal"):
        recover(places, registry)


def test_a_changed_bundle_is_noticed(places, registry):
    move(places, registry, "first")
    places.bundle.write_bytes(b"fist")
    with pytest.raises(IntegrityFault, match=r"champions/voids/model.safetensors: E_DIGEST"):
        checked_champion(places)


def test_a_tampered_journal_stops_promotion(places, registry):
    move(places, registry, "first")
    places.journal.write_text(places.journal.read_text().replace("better", "bitter"))
    with pytest.raises(IntegrityFault, match="was edited"):
        move(places, registry, "second")
    assert read_champion(places).version == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": "defectops-lines"},
        {"version": "1"},
        {"version": None},
        {"journal_length": True},
        {"extra": 1},
    ],
)
def test_a_champion_file_that_is_none_is_refused(places, registry, change):
    move(places, registry, "first")
    places.file.write_text(json.dumps(json.loads(places.file.read_text()) | change))
    with pytest.raises(IntegrityFault, match="E_CHAMPION"):
        read_champion(places)


def test_text_instead_of_a_champion_file(places):
    places.file.parent.mkdir()
    places.file.write_text("<<<<<<< HEAD\n")
    with pytest.raises(IntegrityFault, match="E_CHAMPION"):
        read_champion(places)


def test_a_note_names_user_and_utc():
    made = note("because")
    assert "@" in made.who
    assert made.at.endswith("Z")
