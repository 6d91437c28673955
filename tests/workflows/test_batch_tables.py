"""Tables that a spreadsheet opens without harm and that hold the same as their Parquet."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ArrowInvalid

from defectops.workflows.batch_tables import Table, cell, column_of, write_csv

COLUMNS = {"image": "text", "n": "whole", "size_nm": "real", "cut": "truth"}


def test_both_files_hold_the_same(tmp_path):
    rows = [
        {"image": "=1+1.tif", "n": 3, "size_nm": 2.5e21, "cut": True},
        {"image": 'a "b", c.tif', "n": -1, "size_nm": float("nan")},
        {"image": "µm ü.tif", "size_nm": 1 / 3, "cut": False},
    ]
    with Table(tmp_path / "t.csv", COLUMNS) as table:
        table.write(rows[:2])
        table.write([])
        table.write(rows[2:])
    text = pd.read_csv(tmp_path / "t.csv")
    binary = pd.read_parquet(tmp_path / "t.parquet")
    assert list(text.columns) == list(binary.columns) == list(COLUMNS)
    assert list(binary["image"]) == [r["image"] for r in rows]
    assert list(text["image"]) == ["'=1+1.tif", *list(binary["image"])[1:]]
    assert list(text["size_nm"])[2] == binary["size_nm"][2] == 1 / 3
    for column in ("n", "size_nm", "cut"):
        assert list(text[column].isna()) == list(binary[column].isna())


def test_csv_is_that_of_the_standard(tmp_path):
    write_csv(tmp_path / "t.csv", ("a", "b"), [["x,y", 1.5], ["-", -1.5], ["", None]])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\r\n"x,y",1.5\r\n\'-,-1.5\r\nnull,null\r\n'


@given(st.lists(st.text(), min_size=2))
def test_no_cell_is_a_formula_and_every_text_comes_back(texts):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow([cell(t) for t in texts])
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    for text, found in zip(texts, row, strict=True):
        assert found
        assert found[0] not in "=+-@\t\r"
        assert found in (text, f"'{text}") or (text == "" and found == "null")


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("m^-3", "q_per_m3"),
        ("nm^-1", "q_per_nm"),
        ("px^-2", "q_per_px2"),
        ("nm", "q_nm"),
        ("1", "q"),
        ("MPa", "q_mpa"),
    ],
)
def test_a_column_ends_in_its_unit(unit, name):
    assert column_of("q", unit) == name
    assert column_of("q", unit, "high") == name.replace("q", "q_high", 1)


def test_a_table_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "t.csv").write_text("old")

    def fail():
        with Table(tmp_path / "t.csv", COLUMNS) as table:
            table.write([{"image": "a"}])
            table.write([{"n": "no number"}])

    with pytest.raises(ArrowInvalid):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "old"
