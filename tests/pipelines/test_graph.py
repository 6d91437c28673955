"""The graph in dvc.yaml says the truth: what a stage reads and whom an edit concerns."""

import ast
import re
from pathlib import Path

import pytest
from code_closure import FILES, ROOT, STAGES, body, closure, declared_code, rewritten
from ruamel.yaml import YAML

from defectops.dataset.splits import SplitOptions
from defectops.experiments.promotion import PromotionOptions
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.views import ViewOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.parameters import load_parameters
from defectops.workflows.train_settings import read_train_settings

SECTIONS = {
    "prepare": "prepare",
    "split": "split",
    "train": "train",
    "promote": "promotion",
    "quantify": "quantify",
    "tune": "tune",
}


def _yaml(name):
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text())


GRAPH = {name: stage for file in FILES for name, stage in _yaml(file)["stages"].items()}
PARAMS = _yaml("params.yaml")


def _paths(stage, kind):
    rows = body(GRAPH[stage]).get(kind, [])
    return [next(iter(row)) if isinstance(row, dict) else row for row in rows]


def test_stages_are_the_files_in_pipelines():
    files = {p.stem for p in (ROOT / "pipelines").glob("*.py")} - {"__init__"}
    assert set(GRAPH) == files == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_runs_the_file_of_its_name(stage):
    words = body(GRAPH[stage])["cmd"].split()
    assert words[:3] == ["python", "-m", f"pipelines.{stage}"]
    assert words[3:] == ([] if stage == "report" else ["${key}"])


@pytest.mark.parametrize("stage", STAGES)
def test_the_declared_code_is_the_code_that_runs(stage):
    declared, runs = declared_code(GRAPH[stage]), closure(stage)
    missing, surplus = sorted(set(runs) - set(declared)), sorted(set(declared) - set(runs))
    assert declared == runs, (
        f"stage {stage}: missing {missing}, surplus {surplus}; "
        "run `python tests/pipelines/code_closure.py --write`"
    )


@pytest.mark.parametrize("file", FILES)
def test_rewriting_changes_nothing_but_the_lists_of_code(file):
    text = (ROOT / file).read_text()
    damaged = text.replace("        - defectops/defects.py\n", "", 1)
    assert damaged != text
    assert rewritten(damaged) == text


def test_the_closure_follows_late_imports_templates_and_tables():
    assert "defectops/experiments/mlflow_model.py" in closure("promote")  # named in text
    assert "defectops/reporting/templates/report.html.j2" in closure("report")
    assert "defectops/measurement/reference" in closure("report")


@pytest.mark.parametrize("folder", ["reporting", "measurement"])
def test_an_edit_in_reporting_or_measurement_never_trains_again(folder):
    for stage in ("prepare", "split", "train"):
        assert [p for p in closure(stage) if p.startswith(f"defectops/{folder}/")] == []


def test_only_evaluate_is_handed_the_test_side():
    def reads_test(stage):
        return any(d == "split/${key}" or "test" in d for d in _data_deps(stage))

    # The report depends on `split` for its split.json; that it opens no side of it is traced in
    # test_end_to_end.py.
    assert [s for s in STAGES if reads_test(s)] == ["evaluate"]


def _data_deps(stage):
    return [d for d in _paths(stage, "deps") if d not in declared_code(GRAPH[stage])]


def test_only_evaluate_names_the_test_side_in_its_code():
    named = re.compile(r"test\.npz")
    workflows = (ROOT / "defectops" / "workflows").glob("*.py")
    naming = [p.stem for p in workflows if named.search(_without_docstrings(p))]
    assert naming == []  # evaluate builds the name from SIDES, splitting from its own
    users = [s for s in STAGES if "defectops/workflows/evaluating.py" in closure(s)]
    assert users == ["evaluate"]


def _without_docstrings(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(value=None)
    return ast.unparse(tree)


@pytest.mark.parametrize(("stage", "section"), SECTIONS.items())
def test_each_section_has_a_default_and_every_defect(stage, section):
    assert sorted(PARAMS[section]) == sorted(["default", *PARAMS["defects"]])
    declared = body(GRAPH[stage])["params"]
    for name in ("defects.${key}", f"{section}.default", f"{section}.${{key}}"):
        assert name in declared


def test_params_has_no_section_that_nobody_reads():
    assert set(PARAMS) == {"defects", "material", "views", *SECTIONS.values()}


@pytest.mark.parametrize("defect", list(PARAMS["defects"]))
def test_the_parameters_as_shipped_are_accepted(defect):
    parameters = load_parameters(ROOT)
    owners = {
        "material": Material,
        "prepare": ConditioningOptions,
        "split": SplitOptions,
        "promotion": PromotionOptions,
        "quantify": MeasureOptions,
        "views": ViewOptions,
    }
    for section, owner in owners.items():
        assert isinstance(parameters.options(section, defect, owner), owner)
    assert read_train_settings(parameters.merged("train", defect), "here").preset == "quick"


def test_a_stage_depends_on_the_sections_that_it_reads():
    # Training stores the conditioning in its bundle, so it depends on `prepare` as well.
    call = re.compile(r'(?:options|merged)\("(\w+)"')
    read = {s: set(call.findall((ROOT / f"pipelines/{s}.py").read_text())) for s in STAGES}
    # A study is worked on by processes of its own, which read the rest.
    read["tune"] |= set(call.findall((ROOT / "defectops/workflows/study_worker.py").read_text()))
    declared = {
        stage: {p.split(".")[0] for p in body(GRAPH[stage])["params"]} - {"defects"}
        for stage in STAGES
    }
    assert declared == read


def test_a_repro_never_starts_a_search():
    assert "tune" not in _yaml("dvc.yaml")["stages"]
    assert list(_yaml("studies/dvc.yaml")["stages"]) == ["tune"]


def test_no_two_stages_write_the_same_place():
    outs = [
        Path(p) for s in STAGES for kind in ("outs", "metrics", "plots") for p in _paths(s, kind)
    ]
    nested = [(a, b) for a in outs for b in outs if a is not b and (a == b or a in b.parents)]
    assert nested == []
