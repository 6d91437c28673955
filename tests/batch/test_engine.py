"""A batch is carried out to the end, whatever single files, machines or killers do."""

import errno
import json
import os
from functools import partial
from pathlib import Path

import pytest
from counting import count, tree

from defectops.batch.engine import BUG
from defectops.batch.ledger import Ledger
from defectops.errors import Conflict, EnvironmentFault, IntegrityFault, SettingsRefused


def test_a_bad_file_is_put_aside_and_the_others_go_on(batch, tmp_path):
    (refused,) = batch()
    assert (refused.name, refused.code, refused.reason) == ("c.tif", "E_UNREADABLE", "no picture")
    table = (tmp_path / "out/table.txt").read_text().split("\n")
    assert [line.split()[0] for line in table] == ["a.tif", "b.tif", "d.tif", "e.tif"]
    assert (tmp_path / "out/labels/a.bin").read_bytes() == b"picture a"[::-1]


def test_the_same_command_again_works_on_nothing_but_what_was_refused(batch, tmp_path):
    batch()
    before, heard = tree(tmp_path / "out"), []
    batch(listen=heard.append)
    assert [p.item.name for p in heard if p.fresh] == ["c.tif"]
    assert tree(tmp_path / "out") == before


def test_a_file_that_was_mended_is_taken_in(batch):
    batch()
    (batch.source / "c.tif").write_bytes(b"picture c")
    assert batch() == []


def test_a_changed_file_is_done_again_and_only_that_one(batch, tmp_path):
    batch()
    (batch.source / "b.tif").write_bytes(b"another picture")
    heard = []
    batch(listen=heard.append)
    assert [p.item.name for p in heard if p.fresh] == ["b.tif", "c.tif"]
    batch("fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_files_that_are_gone_take_their_results_with_them(batch, tmp_path):
    batch()
    (batch.source / "d.tif").unlink()
    (batch.source / "f.tif").write_bytes(b"picture f")
    (batch.source / "a.tif").write_bytes(b"bad now")
    batch()
    batch("fresh")
    assert not (tmp_path / "out/labels/d.bin").exists()
    assert not (tmp_path / "out/labels/a.bin").exists()
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_deleted_result_is_made_again(batch, tmp_path):
    batch()
    before = tree(tmp_path / "out")
    (tmp_path / "out/labels/b.bin").unlink()
    batch()
    assert tree(tmp_path / "out") == before


def test_other_settings_are_refused_by_name_and_change_nothing(batch, tmp_path):
    batch(settings={"models": {"voids": {"sha256": "aa"}}, "level": 0.95})
    before = tree(tmp_path / "out")
    with pytest.raises(SettingsRefused, match=r"E_BATCH.*models\.voids\.sha256 was 'aa', now 'bb'"):
        batch(settings={"models": {"voids": {"sha256": "bb"}}, "level": 0.95})
    assert tree(tmp_path / "out") == before


def test_starting_over_deletes_what_is_ours_and_nothing_else(batch, tmp_path):
    batch()
    (tmp_path / "out/labels/mine.txt").write_text("mine")
    (tmp_path / "out/notes.txt").write_text("mine")
    with Ledger(tmp_path / "out").held() as ledger:
        ledger.start_over(["table.txt"])
    left = {n for n in tree(tmp_path / "out") if not n.startswith(".work/lock")}
    assert left == {"labels/mine.txt", "notes.txt"}


def test_starting_over_needs_no_plan_that_can_be_read(batch, tmp_path):
    batch()
    (tmp_path / "out/.work/plan.json").write_text("{")
    with pytest.raises(IntegrityFault, match=r"plan\.json: E_BATCH: damaged.*--new starts over"):
        batch()
    with Ledger(tmp_path / "out").held(anew=True) as ledger:
        ledger.start_over(["table.txt"])
    assert not list((tmp_path / "out/.work").glob("*/record.json"))
    assert not (tmp_path / "out/table.txt").exists()
    batch()
    batch("fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_table_of_another_program_is_never_written_over(batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/table.txt").write_text("mine")
    wanted = pytest.raises(SettingsRefused, match=r"E_BATCH: table\.txt is there already")
    with Ledger(tmp_path / "out").held() as ledger, wanted:
        ledger.refuse_foreign(["table.txt"])
    batch()
    with Ledger(tmp_path / "out").held() as ledger:
        ledger.refuse_foreign(["table.txt"])


def test_two_cannot_work_in_one_folder(batch, tmp_path):
    wanted = pytest.raises(Conflict, match=rf"E_LOCKED: process {os.getpid()} on ")
    with Ledger(tmp_path / "out").held(), wanted:
        batch()
    batch()


def test_a_damaged_record_is_named(batch, tmp_path):
    batch()
    record = next((tmp_path / "out/.work").glob("*/record.json"))
    record.write_text("{")
    with pytest.raises(IntegrityFault, match=r"record\.json: E_BATCH: damaged"):
        batch()


def test_kept_numbers_that_were_changed_are_noticed(batch, tmp_path):
    batch()
    next((tmp_path / "out/.work").glob("*/sums.npz")).write_bytes(b"changed")
    with pytest.raises(IntegrityFault, match="not what was written"):
        batch()


def test_a_picture_that_changes_while_it_is_read_is_put_aside(batch):
    def slow(item, digests):
        parts = count(item, digests)
        if item.name == "b.tif":
            item.path.write_bytes(b"picture B, later")
        return parts

    refused = batch(work=slow)
    assert [(r.name, r.code) for r in refused] == [("b.tif", "E_IO"), ("c.tif", "E_UNREADABLE")]
    assert [r.name for r in batch()] == ["c.tif"]


def failing(name, error):
    def work(item, digests):
        if item.name == name:
            raise error
        return count(item, digests)

    return work


def test_no_memory_for_one_picture_puts_it_aside(batch):
    refused = batch(work=failing("b.tif", MemoryError()))
    assert (refused[0].name, refused[0].code) == ("b.tif", "E_MEMORY")


def test_a_bug_in_one_picture_is_told_and_the_others_go_on(batch):
    refused = batch(work=failing("b.tif", ZeroDivisionError("x")), explain=repr)
    assert (refused[0].code, refused[0].reason) == (BUG, "ZeroDivisionError('x')")
    assert len(refused) == 2


@pytest.mark.parametrize("error", [EnvironmentFault("out", "E_IO", "full"), OSError(28, "full")])
def test_what_the_next_file_would_meet_ends_the_run(batch, tmp_path, error):
    with pytest.raises(type(error), match="full"):
        batch(work=failing("b.tif", error))
    assert not (tmp_path / "out/table.txt").exists()
    batch()
    batch("fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_full_disk_leaves_nothing_half_and_the_run_goes_on_later(batch, tmp_path, monkeypatch):
    batch("fresh")
    written = Path.write_bytes

    def full(path, data):
        if path.name.startswith(".b.bin"):
            written(path, data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(EnvironmentFault, match="No space left"):
            batch()
    assert not [n for n in tree(tmp_path / "out") if n.endswith(".tmp") or "b.bin" in n]
    batch()
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def killed_at(number, batch):
    """Carry a batch out in a child that dies just before the n-th change of the disk."""
    child = os.fork()
    if child == 0:
        seen = 0

        def counted(call):
            def wrapped(*args, **given):
                nonlocal seen
                seen += 1
                if seen == number:
                    os._exit(9)
                return call(*args, **given)

            return wrapped

        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (os, "rmdir")):
            setattr(owner, name, counted(getattr(owner, name)))
        Path.write_bytes = counted(Path.write_bytes)
        try:
            batch()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.slow
def test_killed_before_any_change_of_the_disk_the_run_goes_on_to_the_same_bytes(
    batch, tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # is about power, not about kills
    for name in "de":
        (batch.source / f"{name}.tif").unlink()
    batch("fresh")
    wanted = tree(tmp_path / "fresh")
    number, killed = 0, True
    while killed:
        number += 1
        here = partial(batch, f"at{number}")
        killed = killed_at(number, here)
        killed_at(number + 3, here)
        here()
        assert tree(tmp_path / f"at{number}") == wanted, number
    assert number > 30


def test_killed_while_a_file_goes_its_results_go_with_it(batch, tmp_path):
    batch()
    (batch.source / "d.tif").unlink()
    (batch.source / "b.tif").write_bytes(b"bad now")
    batch("fresh")
    number, killed = 0, True
    while killed:
        number += 1
        # Each time a little further: what was deleted stays deleted.
        killed = killed_at(number, batch)
    batch()
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_the_plan_names_no_place_of_the_machine(batch, tmp_path):
    batch()
    text = (tmp_path / "out/.work/plan.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["items"][0]["path"] == "../in/a.tif"
    assert (tmp_path / "out/.work/lock").read_bytes() == b""
