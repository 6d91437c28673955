"""Names of a batch: each file once, each name different, whatever lies in a folder."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.batch.items import digest_of, find_items, named, with_sidecars
from defectops.errors import MicrographRefused

SUFFIXES = (".tif", ".png")


@pytest.fixture
def folder(tmp_path):
    for name in ("a.tif", "B.TIF", ".hidden.tif", "notes.txt", "sub/a.tif", "sub/deep/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def find(folder, *places):
    return find_items([str(p) for p in places], SUFFIXES, folder.parent / "out")


def test_a_folder_is_what_lies_in_it_with_a_known_suffix(folder):
    assert [i.name for i in find(folder, folder)] == ["B.TIF", "a.tif"]


def test_a_pattern_reaches_any_folder_and_equal_names_get_their_folder(folder):
    found = find(folder, f"{folder}/**/*.[tp][in][fg]")
    assert [i.name for i in found] == ["c.png", "in/a.tif", "sub/a.tif"]
    assert len({i.stem for i in found}) == 3
    assert found[0].stem == "c"


def test_a_file_is_taken_once_however_often_it_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = find(folder, "a.tif", folder / "a.tif", "sub/../a.tif", ".")
    assert [i.name for i in found] == ["B.TIF", "a.tif"]


def test_what_is_no_file_is_listed_to_be_refused_by_name(folder):
    (folder / "dir.tif").mkdir()
    (folder / "loop.tif").symlink_to("loop.tif")
    os.mkfifo(folder / "pipe.tif")
    assert {"dir.tif", "loop.tif", "pipe.tif"} <= {i.name for i in find(folder, folder)}
    for name, why in (("loop.tif", "loop"), ("pipe.tif", "named pipe"), ("dir.tif", "directory")):
        (item,) = (i for i in find(folder, folder) if i.name == name)
        with pytest.raises(MicrographRefused, match=why):
            item.digests()


def test_a_folder_of_links_to_one_file_keeps_every_name(folder):
    (folder / "link.tif").symlink_to("a.tif")
    assert [i.name for i in find(folder, folder)] == ["B.TIF", "a.tif", "link.tif"]


def test_results_are_never_taken_for_micrographs(folder):
    (folder.parent / "out/labels").mkdir(parents=True)
    (folder.parent / "out/labels/a_voids.tif").write_bytes(b"x")
    names = [i.name for i in find(folder, f"{folder.parent}/**/*.tif")]
    assert names == ["in/a.tif", "sub/a.tif"]


@pytest.mark.parametrize(
    ("place", "said"), [("empty", "a directory without"), ("in/*.dm4", "matches none")]
)
def test_a_folder_or_pattern_that_stands_for_nothing_is_refused(folder, place, said):
    (folder.parent / "empty").mkdir()
    with pytest.raises(MicrographRefused, match=f"E_IO: {said}"):
        find(folder, folder.parent / place)


def test_a_file_that_is_not_there_is_an_item_that_is_refused(folder):
    (item,) = find(folder, folder / "missing.tif")
    with pytest.raises(MicrographRefused, match="no such file"):
        item.digests()


def test_a_file_whose_name_is_a_pattern_is_that_file(folder):
    (folder / "a[1].tif").write_bytes(b"x")
    assert [i.name for i in find(folder, folder / "a[1].tif")] == ["a[1].tif"]


def test_line_feeds_are_escaped_in_names_and_keep_off_stems(folder):
    (folder / "a\nERROR b.tif").write_bytes(b"x")
    (item,) = find(folder, f"{folder}/*ERROR*")
    assert item.name == "a\\nERROR b.tif"
    assert item.stem.isprintable()
    assert "\\" not in item.stem


WORDS = st.text(st.sampled_from("aAäÄé\u0301. -=+'\n/\\x"), min_size=1, max_size=8)


@given(st.sets(WORDS.filter(lambda w: w.strip("/") == w and w not in (".", "..")), max_size=8))
def test_names_and_stems_differ_even_where_case_does_not_count(words):
    places = [Path("/data") / f"{w}.tif" for w in sorted(words)]
    places = list({str(p): p for p in places}.values())
    items = named(places, places)
    folded = [unicodedata.normalize("NFC", i.stem).casefold() for i in items]
    assert len(set(folded)) == len(items)
    assert all(i.name.isprintable() and "/" not in i.stem for i in items)


def test_names_do_not_depend_on_what_else_is_there_unless_it_has_the_same(folder):
    alone = find(folder, folder / "a.tif")
    more = find(folder, folder)
    assert alone[0] == more[1]
    assert alone[0].key == more[1].key


def test_a_sidecar_counts_whether_it_is_there_or_not(folder):
    (item,) = with_sidecars(find(folder, folder / "a.tif"))
    without = item.digests()
    (folder / "a.json").write_text("{}")
    assert item.digests() != without
    assert set(without) == {"image", "beside_1"}


def test_very_long_names_leave_room_for_a_suffix(folder):
    name = "ü" * 120 + ".tif"
    (folder / name).write_bytes(b"x")
    (item,) = find(folder, folder / name)
    assert len(f"{item.stem}_precipitates.tif".encode()) < 255
    (folder / f"{item.stem}_precipitates.tif").write_bytes(b"")


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})
