"""The journal: every edit, every missing line, every cut is found and named."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.errors import IntegrityFault
from defectops.experiments.journal import START, Entry, append, read, read_and_verify


def entry(i, reason="better"):
    return Entry(f"2026-01-0{i}T00:00:00Z", "ada", i - 1 or None, i, reason, "pass", "e" * 64)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "voids.journal.jsonl"
    for i in (1, 2, 3):
        append(path, entry(i))
    return path


def head(path):
    return json.loads(path.read_text().splitlines()[-1])["sha256"]


def test_no_journal_is_an_empty_one(tmp_path):
    assert read_and_verify(tmp_path / "none", START, 0) == []


def test_a_line_has_the_published_fields_and_a_digest_that_anybody_can_compute(journal):
    line = json.loads(journal.read_text().splitlines()[0])
    published = "at evidence_sha256 from previous_sha256 reason sha256 to verdict who"
    assert sorted(line) == published.split()
    assert (line["from"], line["to"], line["previous_sha256"]) == (None, 1, "0" * 64)
    stated = line.pop("sha256")
    text = json.dumps(line, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == stated


def test_further_facts_are_kept_and_protected(tmp_path):
    path = tmp_path / "voids.journal.jsonl"
    append(path, replace(entry(1), more={"to_sha256": "a" * 64}))
    assert json.loads(path.read_text())["to_sha256"] == "a" * 64
    assert read(path)[0].more == {"to_sha256": "a" * 64}
    path.write_text(path.read_text().replace("a" * 64, "b" * 64))
    with pytest.raises(IntegrityFault, match="was edited"):
        read(path)


def test_a_good_journal(journal):
    entries = read_and_verify(journal, head(journal), 3)
    assert [e.to_version for e in entries] == [1, 2, 3]
    assert [e.previous_sha256 for e in entries[1:]] == [e.sha256 for e in entries[:-1]]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_edited_line_is_named(journal, number):
    lines = journal.read_text().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace("better", "worse!")
    journal.write_text("".join(lines))
    with pytest.raises(IntegrityFault, match=rf"line {number}: E_JOURNAL: was edited"):
        read(journal)


@pytest.mark.parametrize(
    ("number", "message"), [(1, "line 1: .* missing"), (2, "line 2: .* missing")]
)
def test_a_missing_line_is_named(journal, number, message):
    last = head(journal)
    lines = journal.read_text().splitlines(keepends=True)
    del lines[number - 1]
    journal.write_text("".join(lines))
    with pytest.raises(IntegrityFault, match=message):
        read_and_verify(journal, last, 3)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_journal_cut_off_is_noticed(journal, kept):
    last = head(journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:kept]))
    with pytest.raises(IntegrityFault, match=rf"line {kept + 1}: .* 3 lines were recorded"):
        read_and_verify(journal, last, 3)
    journal.unlink()
    with pytest.raises(IntegrityFault, match="cut off"):
        read_and_verify(journal, last, 3)


def test_a_journal_rewritten_with_a_valid_chain_is_noticed(journal, tmp_path):
    other = tmp_path / "other.jsonl"
    for i in (1, 2, 3):
        append(other, entry(i, "invented"))
    with pytest.raises(IntegrityFault, match="not the line that the champion file records"):
        read_and_verify(other, head(journal), 3)


def test_a_line_more_than_recorded(journal):
    last = head(journal)
    append(journal, entry(4))
    with pytest.raises(IntegrityFault, match=r"line 4: .* promotion was not finished"):
        read_and_verify(journal, last, 3)


def test_a_fork_joined_by_a_merge_is_reported_with_its_repair(journal, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for side, reason in ((ours, "ours"), (theirs, "theirs")):
        side.write_text(journal.read_text())
        append(side, entry(4, reason))
    journal.write_text(ours.read_text() + theirs.read_text().splitlines()[-1] + "\n")
    with pytest.raises(
        IntegrityFault, match=r"line 5: .*fork.*models repair --defect voids --keep ours"
    ):
        read(journal)


def test_merge_marks_are_reported(journal):
    journal.write_text(journal.read_text() + "<<<<<<< HEAD\n")
    with pytest.raises(IntegrityFault, match=r"line 4: .*unresolved git merge"):
        read(journal)


def test_nothing_is_appended_to_a_broken_chain(journal):
    journal.write_text(journal.read_text().replace("better", "worse!", 1))
    before = journal.read_bytes()
    with pytest.raises(IntegrityFault):
        append(journal, entry(4))
    assert journal.read_bytes() == before


def changed_bytes(draw, good):
    """Change, delete, insert or swap bytes, or cut the end off."""
    at = draw(st.integers(0, len(good) - 1))
    byte = bytes([draw(st.integers(0, 255))])
    other = draw(st.integers(0, len(good) - 1))
    low, high = sorted((at, other))
    return {
        "edit": good[:at] + byte + good[at + 1 :],
        "delete": good[:at] + good[at + 1 :],
        "insert": good[:at] + byte + good[at:],
        "cut": good[:at],
        "swap": good[:low] + good[high : high + 1] + good[low + 1 : high] + good[low : low + 1]
        + good[high + 1 :],
    }[draw(st.sampled_from(["edit", "delete", "insert", "cut", "swap"]))]  # fmt: skip


def changed_lines(draw, good):
    """Drop, repeat or reorder whole lines."""
    lines = good.splitlines(keepends=True)
    at, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    kind = draw(st.sampled_from(["drop", "repeat", "reorder"]))
    if kind == "drop":
        del lines[at]
    elif kind == "repeat":
        lines.insert(other, lines[at])
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return b"".join(lines)


@pytest.fixture(scope="module")
def long_one(tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "voids.journal.jsonl"
    for i in (1, 2, 3, 4):
        append(path, replace(entry(i, "größer"), more={"to_sha256": "a" * 64}))
    return path, path.read_bytes(), head(path)


@pytest.mark.parametrize("change", [changed_bytes, changed_lines])
def test_no_change_goes_unnoticed(long_one, change):
    path, good, last = long_one

    @given(data=st.data())
    @settings(max_examples=150, deadline=None)
    def check(data):
        changed = change(data.draw, good)
        path.write_bytes(changed)
        if changed == good:
            assert len(read_and_verify(path, last, 4)) == 4
        else:
            with pytest.raises(IntegrityFault, match="E_JOURNAL"):
                read_and_verify(path, last, 4)

    check()


def test_a_line_repeated_is_named(journal):
    journal.write_text(journal.read_text() + journal.read_text().splitlines()[1] + "\n")
    with pytest.raises(IntegrityFault, match="line 4: E_JOURNAL: a line that stands there already"):
        read(journal)


def test_a_last_line_without_its_end_is_named(journal):
    journal.write_bytes(journal.read_bytes()[:-1])
    with pytest.raises(IntegrityFault, match="line 3: E_JOURNAL: cut off within the line"):
        read(journal)
