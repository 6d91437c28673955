"""`defectops measure` and `plausible` as one types them: tables, JSON, one line an error."""

import json
import os
import pty
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from defectops.cli.main import run
from defectops.measurement.quantities import COLUMNS

PAPER = [
    "plausible",
    "--field-px",
    "1024x1024",
    "--count",
    "125",
    "--number-density-m3",
    "6.56e21",
    "--diameter-nm",
    "10.2",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, columns = np.indices((80, 100))
    mask = np.zeros((80, 100), np.uint8)
    for r, c in ((20, 20), (20, 60), (50, 30), (60, 80)):
        mask[(rows - r) ** 2 + (columns - c) ** 2 <= 25] = 255
    tifffile.imwrite("LABEL.tif", mask)


def measure(*words):
    return run(["measure", "LABEL.tif", "--pixel-size-nm", "0.365", "--defect", "voids", *words])


@pytest.mark.parametrize("thickness", ["136±10", "136+-10", "136 ± 10", "136+/-10"])
def test_json_is_one_list_of_the_rows(capsys, thickness):
    assert measure("--thickness-nm", thickness, "--json") == 0
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert isinstance(rows, list)
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {"number_density", "mean_diameter", "area_fraction"} <= {r["quantity"] for r in rows}
    assert {r["interval"] for r in rows} == {"material"}
    assert {r["source"] for r in rows} == {"label"}
    assert "note:" not in out
    assert "thickness 136 nm with sd 10 nm" in str(rows)
    assert err == ""


def test_a_pipe_gets_one_table_separated_by_tabs(capsys):
    assert measure("--thickness-nm", "136") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert len({line.count("\t") for line in lines}) == 1
    assert "where the true value of the material lies" in err


def test_without_a_thickness_areal_values_only_and_said_so(capsys):
    assert measure() == 0
    out, err = capsys.readouterr()
    assert "number_density" not in out
    assert "areal values only" in err


def test_tables_and_figures_are_written(capsys, tmp_path):
    assert measure("--out", "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "quantities.csv",
        "budget.csv",
        "objects.csv",
        "histogram.csv",
        "budget.png",
        "sizes.png",
    }
    assert "written: out/quantities.csv" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_drawn_tables_that_fit(width):
    code = "import sys; from defectops.cli.main import run; sys.exit(run(sys.argv[1:]))"
    words = [
        "measure",
        "LABEL.tif",
        "--pixel-size-nm",
        "0.365",
        "--thickness-nm",
        "136+-10",
        "--defect",
        "voids",
    ]
    ours, theirs = pty.openpty()
    env = dict(os.environ, COLUMNS=str(width), TERM="dumb")
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=theirs, env=env, check=True)
    os.close(theirs)
    text = _all_of(ours).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "number_density" in text
    assert "95 % interval" in text
    assert "in quadrature" in text
    assert max(len(line) for line in text.splitlines()) <= width


def _all_of(terminal):
    """Read what a program wrote to a terminal; the system hands it out in pieces."""
    pieces = []
    while True:
        try:
            pieces.append(os.read(terminal, 100_000))
        except OSError:  # the other end is closed, and nothing is left
            return b"".join(pieces)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--thickness-nm", "1.8"], 2, "E_IMPLAUSIBLE"),
        (["--thickness-nm", "136,5"], 2, "decimal comma"),
        (["--thickness-nm", "-3"], 2, "positive"),
        (["--border", "none"], 2, "border must be"),
        (["--as", "picture"], 2, "E_USAGE"),
        (["missing.tif"], 2, "missing.tif"),
        (["--labels", "LABEL.tif", "--manifest", "m.csv"], 2, "give masks, or --manifest"),
        (["--label-index", "7", "--threshold", "2"], 2, "between 0 and 1"),
        (["--ignore", "nowhere"], 2, "nowhere"),
    ],
)
def test_an_error_is_one_line(capsys, words, code, said):
    given = ["measure", "LABEL.tif", "--pixel-size-nm", "3.2", "--defect", "voids", *words]
    assert run(given) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


def test_the_paper_with_the_printed_pixel_size_is_refused(capsys):
    assert run([*PAPER, "--pixel-size-nm", "3.2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for part in ("E_IMPLAUSIBLE", "3.2 nm per pixel", "1.8 nm thick", "10.2 nm", "0.19 to 1.3 nm"):
        assert part in err


def test_the_paper_with_the_pixel_size_of_its_scale_bar_passes(capsys):
    assert run([*PAPER, "--pixel-size-nm", "0.365"]) == 0
    assert capsys.readouterr().out == "no contradiction\n"


def test_odd_claims_are_listed(capsys):
    words = ["plausible", "--thickness-nm", "40", "--diameter-nm", "55"]
    assert run(words) == 0
    assert capsys.readouterr().out.startswith("suspicious: particles of 55 nm are wider")
    assert run([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "suspicious"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing claimed"),
        (["--field-px", "1024"], "rows x columns"),
        (["--area-fraction", "1.5"], "at most 1"),
        (["--count", "nan"], "count must be positive"),
    ],
)
def test_claims_that_are_none_are_refused(capsys, words, said):
    assert run(["plausible", *words]) == 2
    assert said in capsys.readouterr().err
