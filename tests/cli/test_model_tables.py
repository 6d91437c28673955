"""How models are shown: numbers with their intervals, digests short, what is undefined a dash."""

import pytest

from defectops.cli import model_tables, output
from defectops.workflows.comparing_models import Comparison

SCORES = [
    {
        "score": "iou",
        "unit": "1",
        "a": 0.61234,
        "a_low": 0.5,
        "a_high": 0.7,
        "b": 0.6,
        "b_low": None,
        "b_high": None,
        "change": -0.01,
        "change_low": -0.1,
        "change_high": 0.1,
        "change_unit": "1",
        "n": 32,
        "over": "tiles",
    },
    {
        "score": "number_density_error_percent",
        "unit": "%",
        "a": 4.04,
        "a_low": -1.0,
        "a_high": 9.0,
        "b": None,
        "b_low": None,
        "b_high": None,
        "change": None,
        "change_low": None,
        "change_high": None,
        "change_unit": "percentage points",
        "n": 32,
        "over": "tiles",
    },
]
QUANTITIES = [{"quantity": "mean_diameter", "unit": "nm", "label": 19.07, "label_low": 16.0}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        ("a" * 64, "a" * 12),
        ("a" * 63, "a" * 63),
        (None, ""),
        (True, "True"),
        ([96, 96], "96, 96"),
        ([{"image": "a.png", "top": 0, "bottom": 8, "left": 2, "right": 9}], "a.png 0-8 x 2-9"),
    ],
)
def test_a_value_in_a_cell(value, shown):
    assert model_tables.cell(value) == shown


def test_scores_and_quantities_stand_side_by_side(capsys):
    found = Comparison(SCORES, QUANTITIES, ["a.png"], 0, 1000)
    model_tables.show_comparison(found, "defectops-voids/1", "x.safetensors")
    out, err = capsys.readouterr()
    assert out.split("\n")[:4] == [
        "score\tvoids/1\tx.safetensors\tchange",
        "iou\t0.612 [0.500,0.700]\t0.600 [-,-]\t-0.010 [-0.100,+0.100]",
        "number density error\t+4.0 % [-1.0,+9.0]\t-\t-",
        "quantity\tunit\tlabel\tvoids/1\tx.safetensors",
    ]
    assert out.split("\n")[4] == "mean diameter\tnm\t19.1 [16, -]\t-\t-"
    assert err.startswith("95 % intervals, bootstrap over tiles, 1000 draws, seed 0")


def test_what_was_not_measured_says_why(capsys):
    model_tables.show_comparison(Comparison([], [], [], 0, 1000, "no gate pack"), "a", "b")
    assert capsys.readouterr().out == "not measured: no gate pack\n"


def test_models_without_a_difference_say_so(capsys):
    model_tables.show_differences([], "voids/1", "voids/2")
    assert "voids/1 and voids/2 are the same" in capsys.readouterr().out


@pytest.mark.parametrize(("terminal", "second"), [(False, "network"), (True, "")])
def test_a_person_reads_a_section_once_a_machine_in_each_row(terminal, second, monkeypatch, capsys):
    rows = []
    monkeypatch.setattr(output, "is_terminal", lambda: terminal)
    monkeypatch.setattr(output, "table", lambda columns, cells, title="": rows.extend(cells))
    facts = {"version": {"name": "v/1"}, "network": {"width": 1.0, "dropout": 0.0}, "tags": {}}
    model_tables.show_facts(facts)
    assert [row[0] for row in rows] == ["version", "network", second]
