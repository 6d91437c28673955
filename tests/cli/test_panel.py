"""``defectops panel compare``: what is printed, written and refused."""

import json

import pytest

from defectops.cli.main import run

ROWS = """image,rater,kind,quantity,value,unit,minutes
a,gold,truth,mean_diameter,10,nm,
a,anna,expert,mean_diameter,11,nm,30
a,model,machine,mean_diameter,10.5,nm,0.1
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "panel.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_the_published_tables_are_checked(capsys):
    assert run(["panel", "compare", "--published"]) == 0
    said = capsys.readouterr().out
    assert "human error: 14 of 14" in said
    assert "machine error: 13 of 14" in said
    assert "dislocations_2 follows from the printed values as 0.04 (0.0446)" in said
    assert "machine rank: 14 of 14" in said
    assert "mean time: 6 of 6" in said


def test_json_has_every_table_and_no_nan(table, capsys):
    assert run(["panel", "compare", str(table), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"cells", "raters", "correlations", "limits", "differences", "times"} < set(found)
    (cell,) = found["cells"]
    assert (cell["rank"], cell["of"], cell["expert_sd"]) == (1, 2, None)
    assert found["remarks"] == []


@pytest.mark.slow
def test_out_holds_tables_and_figures(table, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["panel", "compare", str(table), "--out", str(out)]) == 0
    capsys.readouterr()
    assert {p.name for p in out.iterdir()} == {
        "cells.csv",
        "raters.csv",
        "correlations.csv",
        "limits.csv",
        "differences.csv",
        "times.csv",
        "bars.png",
        "bland_altman.png",
    }
    assert "None" not in (out / "cells.csv").read_text("utf-8")


@pytest.mark.parametrize("words", [[], ["panel.csv", "--published"]])
def test_one_of_the_two_is_needed(words, capsys):
    assert run(["panel", "compare", *words]) == 2
    assert "E_USAGE" in capsys.readouterr().err
