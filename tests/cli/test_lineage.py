"""``defectops lineage``: the tree in a terminal and in a pipe, as JSON and as a figure."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

from defectops.cli.lineage import as_data, drawn, label, tree_lines
from defectops.cli.main import run
from defectops.experiments.lineage import Member
from defectops.experiments.registry import Version
from defectops.workflows.lineage import Lineage, Recorded

MEMBERS = (
    Member(0, 0, "complete", 0.614, 8, 8, None, "", "a" * 64, 30.2, 30.2),
    Member(1, 0, "complete", 0.5, 8, 8, None, "", "b" * 64),
    Member(2, 1, "complete", 0.83, 8, 16, 0, "a" * 64, "c" * 64, 29.6, 59.8),
    Member(3, 1, "pruned", None, 2, 10, 0, "a" * 64, ""),
)
FOUND = Lineage("voids", "voids", "iou", 2, MEMBERS)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []

    def fake(root, subject, registry, storage):
        calls.append(subject)
        return FOUND

    monkeypatch.setattr("defectops.workflows.lineage.find_lineage", fake)
    return calls


def test_a_label_says_value_epochs_seconds_and_digest():
    assert label(MEMBERS[0], "dev IoU") == (
        "trial 0, gen 0, dev IoU 0.614, 8 epochs, 30 s, aaaaaaaaaaaa"
    )
    assert label(MEMBERS[2], "error") == (
        "trial 2, gen 1, error 0.830, 8 of 16 epochs, 30 of 60 s, cccccccccccc"
    )
    assert label(MEMBERS[3], "dev IoU") == "trial 3, gen 1, pruned, 2 of 10 epochs"


def test_a_pipe_gets_the_family_with_the_line_marked(asked, capsys):
    assert run(["lineage", "voids/2"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "study voids",
        "* trial 0, gen 0, dev IoU 0.614, 8 epochs, 30 s, aaaaaaaaaaaa",
        "  * trial 2, gen 1, dev IoU 0.830, 8 of 16 epochs, 30 of 60 s, cccccccccccc",
        "  - trial 3, gen 1, pruned, 2 of 10 epochs",
    ]
    assert tree_lines(FOUND.trees[0], (), "dev IoU")[0].startswith("- trial 0")


def test_a_terminal_gets_a_tree_within_80_columns():
    console = Console(width=80, record=True, force_terminal=True, quiet=False, file=_Nowhere())
    console.print(drawn(FOUND, "study voids"))
    lines = console.export_text().splitlines()
    assert lines[0].strip() == "study voids"
    assert lines[2].startswith("    ├── trial 2")
    assert lines[3].startswith("    └── trial 3")
    assert len(lines) == 4


class _Nowhere:
    def write(self, text):
        return len(text)

    def flush(self):
        pass


def test_json_has_the_line_and_the_family(asked, capsys):
    assert run(["lineage", "voids/2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(json.dumps(as_data(FOUND)))
    assert shown["line"] == [0, 2]
    assert [t["index"] for t in shown["trials"]] == [0, 2, 3]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_figure_is_drawn(asked, tmp_path, suffix, capsys):
    assert run(["lineage", "voids/2", "--figure", f"tree.{suffix}"]) == 0
    assert (tmp_path / f"tree.{suffix}").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "subject"),
    [
        (["voids/7"], "voids/7"),
        (["voids"], "voids"),
        (["defectops-voids/3"], "defectops-voids/3"),
        (["--defect", "voids"], "voids"),
        (["--defect", "voids", "7"], "voids/7"),
        (["7", "--defect", "voids"], "voids/7"),
    ],
)
def test_ways_to_name_what_is_meant(asked, words, subject):
    assert run(["lineage", *words]) == 0
    assert asked == [subject]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["voids", "7"],
        ["--defect", "voids", "7", "8"],
        ["--defect", "voids", "x"],
        ["voids", "--figure", "tree.jpg"],
        ["voids", "x"],
    ],
)
def test_a_contradiction_is_one_line_and_2(asked, capsys, words):
    assert run(["lineage", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("defectops lineage: E_USAGE: ")
    assert shown.err.count("\n") == 1
    assert asked == []


def test_a_broken_link_is_shown_and_ends_with_5(tmp_path, monkeypatch, capsys):
    broken = Lineage("voids", "voids", "iou", 2, (MEMBERS[1], *MEMBERS[2:]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("defectops.workflows.lineage.find_lineage", lambda *_: broken)
    assert run(["lineage", "voids/2"]) == 5
    shown = capsys.readouterr()
    assert "* trial 2" in shown.out
    assert shown.err == ("voids: E_DIGEST: trial 2 started from trial 0, which is not listed\n")


def test_a_version_of_no_study_says_so(tmp_path, monkeypatch, capsys):
    version = Version("defectops-voids", 3, "run7", "d" * 64, {}, {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("defectops.workflows.lineage.find_lineage", lambda *_: Recorded(version))
    assert run(["lineage", "defectops-voids/3"]) == 0
    assert capsys.readouterr().out == (
        "defectops-voids/3: trained from random weights, in no study; dddddddddddd, run run7\n"
    )
    assert run(["lineage", "defectops-voids/3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] is None


def test_a_version_of_a_study_elsewhere_is_told_from_its_tags(tmp_path, monkeypatch, capsys):
    version = Version("defectops-voids", 3, "", "d" * 64, {}, {"study": "voids"})
    found = Recorded(version, ((0, "a" * 64), (4, "d" * 64)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("defectops.workflows.lineage.find_lineage", lambda *_: found)
    assert run(["lineage", "defectops-voids/3"]) == 0
    assert capsys.readouterr().out == (
        "defectops-voids/3: of a study voids that is not here; its line: trial 0 aaaaaaaaaaaa > "
        "trial 4 dddddddddddd\n"
    )
    assert run(["lineage", "defectops-voids/3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["line"][1] == {"trial": 4, "sha256": "d" * 64}


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "torch", "pandas", "mlflow", "optuna", "rich", "sqlalchemy", "matplotlib"}
    code = (
        "import sys\nfrom defectops.cli.main import run\n"
        "assert run(['lineage', '--help']) == 0\n"
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
