"""What doctor finds, and what it puts right."""

import json
from dataclasses import replace

import pytest

from defectops.experiments import changing, journal
from defectops.experiments.accesses import record_access
from defectops.experiments.champions import (
    checked_champion,
    places_of,
    read_champion,
    write_champion,
)
from defectops.experiments.changing import Note
from defectops.experiments.health import examine
from defectops.experiments.ownership import this_process
from defectops.experiments.promotion import Verdict
from defectops.experiments.registry import RecordingRegistry
from defectops.experiments.succession import Candidate, promote
from defectops.experiments.tracking import RecordingTracker

ABOUT = Note("ada@lab", "first", "2026-01-01T00:00:00Z")


@pytest.fixture
def tracker():
    return RecordingTracker()


@pytest.fixture
def registry():
    return RecordingRegistry()


@pytest.fixture
def places(tmp_path):
    return places_of(tmp_path, "voids")


def move(places, registry, name="first"):
    bundle = places.root / f"{name}.safetensors"
    bundle.write_bytes(name.encode())
    candidate = Candidate(bundle, "run", 0.4, {"iou": 0.5}, {})
    verdict = Verdict("pass", ())
    return promote(places, registry, candidate, verdict, ABOUT)


def codes(found):
    return [(t.code, t.exit_code, t.mended) for t in found]


def test_nothing_wrong(places, tracker, registry):
    move(places, registry)
    tracker.start("voids", "alive", {}, {})
    assert examine(places.root, tracker, registry, mend=True) == []


def test_stale_runs_and_runs_elsewhere(tmp_path, tracker, registry):
    here = this_process()
    gone = tracker.start("voids", "gone", {}, {})
    away = tracker.start("voids", "away", {}, {})
    tracker.tags(gone, replace(here, pid="4194305").tags())
    tracker.tags(away, replace(here, host="cluster").tags())
    elsewhere = ("N_RUN_ELSEWHERE", 0, False)
    looked = examine(tmp_path, tracker, registry, mend=False)
    assert codes(looked) == [("E_STALE_RUN", 5, False), elsewhere]
    assert tracker.run(gone).status == "RUNNING"
    mended = examine(tmp_path, tracker, registry, mend=True)
    assert codes(mended) == [("E_STALE_RUN", 0, True), elsewhere]
    assert tracker.run(gone).status == "KILLED"
    assert tracker.run(away).status == "RUNNING"


def test_an_interrupted_promotion(places, tracker, registry, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changing, "STEPS", (*changing.STEPS[:2], die))
        with pytest.raises(KeyboardInterrupt):
            move(places, registry)
    looked = examine(places.root, tracker, registry, mend=False)
    assert codes(looked) == [("E_UNFINISHED", 5, False)]
    mended = examine(places.root, tracker, registry, mend=True)
    assert codes(mended) == [("E_UNFINISHED", 0, True)]
    assert checked_champion(places).version == 1


def test_a_damaged_bundle_comes_back_from_the_registry(places, tracker, registry):
    move(places, registry)
    places.bundle.write_bytes(b"fist")
    looked = examine(places.root, tracker, registry, mend=False)
    assert codes(looked) == [("E_DIGEST", 5, False)]
    lost = examine(places.root, tracker, RecordingRegistry(), mend=True)
    assert codes(lost) == [("E_DIGEST", 5, False)]
    mended = examine(places.root, tracker, registry, mend=True)
    assert codes(mended) == [("E_DIGEST", 0, True)]
    assert places.bundle.read_bytes() == b"first"


def test_a_registry_that_is_damaged_too_does_not_end_the_list(places, tracker, registry):
    move(places, registry)
    other = places_of(places.root, "precipitates")
    move(other, registry, "second")
    places.bundle.write_bytes(b"fist")
    other.bundle.write_bytes(b"sekond")
    registry.stored[other.model, 1] = b"secnd"
    found = examine(places.root, tracker, registry, mend=True)
    assert codes(found) == [("E_DIGEST", 5, False), ("E_DIGEST", 0, True)]


def test_a_fresh_clone_is_no_fault(places, tracker, registry):
    move(places, registry)
    places.bundle.unlink()
    looked = examine(places.root, tracker, RecordingRegistry(), mend=True)
    assert codes(looked) == [("N_NO_BUNDLE", 0, False)]
    mended = examine(places.root, tracker, registry, mend=True)
    assert codes(mended) == [("N_NO_BUNDLE", 0, True)]
    assert places.bundle.read_bytes() == b"first"


def test_a_cut_journal_cannot_be_mended(places, tracker, registry):
    move(places, registry)
    places.journal.write_text("")
    found = examine(places.root, tracker, registry, mend=True)
    assert codes(found) == [("E_JOURNAL", 5, False)]


def test_an_edited_champion_file(places, tracker, registry):
    move(places, registry)
    places.file.write_text(json.dumps({"model": "defectops-voids"}))
    assert codes(examine(places.root, tracker, registry, True)) == [("E_CHAMPION", 5, False)]


def test_edited_and_missing_evidence(places, tracker, registry):
    move(places, registry)
    move(places, registry, "second")
    first, second = sorted(places.evidence.iterdir())
    first.write_text(first.read_text().replace("run", "ran"))
    second.unlink()
    found = examine(places.root, tracker, registry, mend=True)
    assert codes(found) == [("E_EVIDENCE", 5, False), ("N_EVIDENCE", 0, False)]
    assert "1 of 2 lines" in found[1].message
    first.write_text("{")
    assert examine(places.root, tracker, registry, mend=False)[0].code == "E_EVIDENCE"


def test_a_ledger_shorter_than_the_journal_knows(places, tracker, registry):
    move(places, registry)
    for _ in range(2):
        record_access(places, read_champion(places), "t" * 64)
    move(places, registry, "second")
    assert examine(places.root, tracker, registry, mend=True) == []
    lines = places.accesses.read_text().splitlines(keepends=True)
    places.accesses.write_text(lines[0])
    found = examine(places.root, tracker, registry, mend=True)
    assert codes(found) == [("E_JOURNAL", 5, False)]
    assert "the journal knows of 2 accesses, the rest was cut off" in found[0].message


def test_journal_and_champion_file_cut_off_together_are_found_out_by_the_tags(
    places, tracker, registry
):
    move(places, registry)
    files = {p: p.read_bytes() for p in (places.file, places.journal, places.bundle)}
    move(places, registry, "second")
    for path, data in files.items():
        path.write_bytes(data)
    looked = examine(places.root, tracker, registry, mend=False)
    assert codes(looked) == [("E_REGISTRY", 5, False)]
    assert "version 2 with a journal of 2 lines" in looked[0].message
    assert registry.alias(places.model, "champion") == 2
    mended = examine(places.root, tracker, registry, mend=True)
    assert codes(mended) == [("E_REGISTRY", 0, True)]
    assert registry.alias(places.model, "champion") == 1
    assert examine(places.root, tracker, registry, mend=False) == []


def test_a_line_rewritten_with_all_digests_is_found_out_by_the_tags(places, tracker, registry):
    move(places, registry)
    (entry,) = journal.read(places.journal)
    forged = replace(entry, reason="invented").after(None)
    journal.write(places.journal, [forged])
    write_champion(places, replace(read_champion(places), journal_sha256=forged.sha256))
    assert codes(examine(places.root, tracker, registry, False)) == [("E_REGISTRY", 5, False)]


def test_a_registry_that_lost_the_champion_but_names_another(places, tracker, registry):
    move(places, registry)
    other = RecordingRegistry()
    stray = places.root / "stray"
    stray.write_bytes(b"stray")
    other.submit(places.model, stray, "run", {}, {})
    other.set_alias(places.model, "champion", 1)
    assert codes(examine(places.root, tracker, other, mend=True)) == [("E_REGISTRY", 0, True)]
    assert other.stored[places.model, other.alias(places.model, "champion")] == b"first"
