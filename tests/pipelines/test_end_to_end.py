"""One real `dvc repro` in a repository of its own: what it leaves, what runs again, and a clone."""

import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from code_closure import ROOT, body
from PIL import Image
from ruamel.yaml import YAML

from defectops.workflows.synthesising import synthesise

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

DEFECTS = ("dislocations", "voids")
PARAMS = {
    "defects": {},
    "prepare": {"background_sigma_px": 32.0, "variance_sigma_px": 64.0},
    "split": {
        "scheme": "rectangles",
        "rectangles": {
            "train": [[0.0, 1.0, 0.0, 0.5]],
            "dev": [[0.0, 0.5, 0.5, 1.0]],
            "test": [[0.5, 1.0, 0.5, 1.0]],
        },
    },
    "train": {
        "epochs": 2,
        "patch_px": 64,
        "batch": 4,
        "patches_per_epoch": 8,
        "final_decay_epochs": 0,
        "learning_rate": 0.004,
        "threads": 1,
    },
    "promotion": {"floors": {"iou": 0.0}},
    "quantify": {},
    "material": {},
    "views": {},
}
# What belongs to nobody's outputs: our own state, the store of runs, what git and DVC write.
# Beside them the records under git that no stage puts out: what was decided on what, and how often
# the test side was opened.
RECORDS = (".evidence/", ".test-accesses.jsonl")
STATE = (".defectops/", "mlflow.db", "mlartifacts/", ".dvc/", ".git/", "dvc.lock", "data/")


TWIN = """
import dataclasses, sys
from pathlib import Path
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.learning.bundle import load_bundle, save_bundle
from defectops.settings import tracking_uri

root, defect = Path.cwd(), sys.argv[1]
bundle = load_bundle(root / "champions" / defect / "model.safetensors")
twin = root / ".defectops" / "twin.safetensors"
save_bundle(twin, dataclasses.replace(bundle, threshold=bundle.threshold + 0.01))
registry = MlflowRegistry(MlflowTracker(tracking_uri(root), root))
tags = {"threshold": repr(bundle.threshold + 0.01)}
assert registry.submit(f"defectops-{defect}", twin, "", {}, tags) == 2
"""
# What a crash between a move of the champion and its record leaves.
MOVE_UNRECORDED = """
from pathlib import Path
from defectops.cli.promotions import opened
from defectops.workflows import after_promotion, direct_promotion

direct_promotion.record = lambda root, defect: None
parameters, registry = opened(Path())
direct_promotion.roll_back(Path(), parameters.defect("voids"), registry, "killed")
"""
BEHIND_VOIDS = {"evaluate@voids", "quantify@voids", "report"}


class Project:
    """A checkout with everything that git tracks, and commands that run in it."""

    def __init__(self, root, trace=None):
        self.root = root
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        venv = str(Path(sys.executable).parent)
        self.env = clean | {
            "PATH": f"{venv}{os.pathsep}{clean['PATH']}",
            "DVC_NO_ANALYTICS": "true",
            "PYTHONPATH": str(Path(__file__).parent / "tracing"),
            **({"STAGE_TRACE": str(trace)} if trace else {}),
        }

    def run(self, *words):
        done = subprocess.run(
            words, cwd=self.root, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (
            f"{' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout

    def dvc(self, *words):
        return self.run(sys.executable, "-m", "dvc", *words)

    def defectops(self, *words):
        start = "import sys; from defectops.cli.main import run; sys.exit(run())"
        return self.run(sys.executable, "-c", start, *words)

    def git(self, *words):
        return self.run("git", "-c", "user.name=T", "-c", "user.email=t@example.org", *words)

    def status(self):
        """Return the names of the stages that `dvc repro` would look at again, and why."""
        return json.loads(self.dvc("status", "--json") or "{}")

    def files(self):
        found = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        return {n for n in found if not n.startswith(STATE) and "__pycache__" not in n}

    def json(self, name):
        return json.loads((self.root / name).read_text())

    def registry(self):
        with sqlite3.connect(self.root / "mlflow.db") as store:
            versions = store.execute("select name, version from model_versions").fetchall()
            aliases = store.execute(
                "select name, alias, version from registered_model_aliases"
            ).fetchall()
        store.close()
        return sorted(versions), sorted(aliases)

    def champions(self, but="nothing"):
        found = (p for p in sorted((self.root / "champions").rglob("*")) if p.is_file())
        return {
            p.relative_to(self.root).as_posix(): p.read_bytes()
            for p in found
            if not p.name.endswith(but)
        }

    def register_twin(self, defect):
        """Register the champion with another threshold, a version of its own without training."""
        self.run(sys.executable, "-c", TWIN, defect)

    def downstream(self):
        """Return what `dvc status` names and what `dvc repro` would run."""
        said = self.dvc("repro", "--dry")
        return set(self.status()), set(re.findall(r"Running stage '([^']+)'", said))

    def tell(self, section, defect, values):
        params = YAML(typ="safe").load(self.root / "params.yaml")
        params[section][defect] = values
        YAML().dump(params, self.root / "params.yaml")


def _write_project(root):
    for name in ("defectops", "pipelines"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    params = {s: {"default": v, **{d: {} for d in DEFECTS}} for s, v in PARAMS.items()}
    params["defects"] = {d: {} for d in DEFECTS}
    YAML().dump(params, root / "params.yaml")
    synthesise(root / "data", "small", 3)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that has run once, committed."""
    base = tmp_path_factory.mktemp("end-to-end")
    (base / "trace").mkdir()
    made = Project(base / "project", base / "trace")
    _write_project(made.root)
    made.git("init", "-q", "-b", "main")
    made.dvc("add", "-q", "data")
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "start")
    made.before = made.files()
    made.dvc("repro")
    made.after = made.files()
    made.trace = {p.stem: _opened(made.root, p) for p in base.glob("trace/*.txt")}
    made.git("add", "dvc.lock", "champions")
    made.git("commit", "-q", "-m", "champions")
    return made


def _opened(root, trace):
    """Return what a stage opened and what is there; a compiled file stands for its source."""
    names = {
        re.sub(r"__pycache__/(\w+)\.[\w-]+\.pyc", r"\1.py", name)
        for name in trace.read_text().splitlines()
    }
    return {name for name in names if (root / name).is_file()}


def _filled(rows, defect):
    paths = (next(iter(row)) if isinstance(row, dict) else row for row in rows)
    return [path.replace("${key}", defect) for path in paths]


def _instances():
    """Return for each stage as DVC names it what it declares, ``${key}`` filled in."""
    graph = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for name, stage in graph.items():
        for defect in DEFECTS if "foreach" in stage else ("",):
            yield (
                f"{name}@{defect}" if defect else name,
                {
                    kind: _filled(body(stage).get(kind, []), defect)
                    for kind in ("deps", "outs", "metrics", "plots")
                },
            )


def _written(declared):
    return declared["outs"] + declared["metrics"] + declared["plots"]


def _covered(path, declared):
    return any(path == d or path.startswith(f"{d}/") for d in declared)


def test_it_ends_with_a_page_and_every_declared_output(project):
    assert "<html" in (project.root / "report/index.html").read_text()[:500]
    missing = [
        path
        for _, declared in _instances()
        for path in _written(declared)
        if not (project.root / path).exists()
    ]
    assert missing == []


def test_every_file_that_appeared_is_a_declared_output(project):
    outs = [path for _, declared in _instances() for path in _written(declared)]
    new = project.after - project.before
    undeclared = {p for p in new if not _covered(p, outs) and not any(r in p for r in RECORDS)}
    assert undeclared == set()


@pytest.mark.parametrize("stage", [name for name, _ in _instances()])
def test_every_file_that_a_stage_opened_is_a_declared_dependency(project, stage):
    declared = dict(_instances())[stage]
    # A run's tags and the report name the data by what DVC wrote down of them.
    # Only drawn sets have a truth, and DVC knows no dependency that may be absent; what changes it
    # changes the pictures too.
    known = ["data/truth", *declared["deps"], *_written(declared), "params.yaml", "data.dvc"]
    opened = {p for p in project.trace[stage] if not p.startswith(STATE[:-1])}
    opened = {p for p in opened if not any(r in p for r in RECORDS)}
    assert sorted(p for p in opened if not _covered(p, known)) == []
    # The trace sees something: at least the code that did the work.
    assert f"pipelines/{stage.partition('@')[0]}.py" in opened


def test_no_stage_but_evaluate_opened_the_test_side(project):
    readers = {
        stage.partition("@")[0]
        for stage, opened in project.trace.items()
        if any(p.startswith("split/") and p.endswith("/test.npz") for p in opened)
    }
    assert readers == {"evaluate"}


def test_a_second_repro_runs_nothing_and_takes_no_time(project):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = project.dvc("repro")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The processor's seconds: those of the clock are a busy neighbour's as well.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5
    assert "Running stage" not in said
    assert project.git("status", "--porcelain") == ""


def test_the_records_of_champions_are_under_git_and_their_bundles_are_not(project):
    tracked = project.git("ls-files", "champions").splitlines()
    for defect in DEFECTS:
        (line,) = (project.root / f"champions/{defect}.journal.jsonl").read_text().splitlines()
        evidence = f"{defect}.evidence/{json.loads(line)['evidence_sha256']}.json"
        for name in ("json", "journal.jsonl", "test-accesses.jsonl"):
            assert f"champions/{defect}.{name}" in tracked
        assert f"champions/{evidence}" in tracked
    assert not any(name.endswith(".safetensors") for name in tracked)


def test_metrics_and_plots_can_be_shown(project):
    shown = json.loads(project.dvc("metrics", "show", "--json"))
    found = shown[""]["data"]
    for defect in DEFECTS:
        assert 0 <= found[f"results/train/{defect}.json"]["data"]["dev_iou"] <= 1
    project.dvc("plots", "show", "-o", str(project.root.parent / "plots"))
    page = (project.root.parent / "plots" / "index.html").read_text()
    for defect in DEFECTS:
        assert f"results/curves/{defect}.csv" in page or "dev_iou" in page


def test_a_comment_in_the_report_concerns_the_report_alone(project):
    page = project.root / "defectops/reporting/page.py"
    text = page.read_text()
    page.write_text(text + "# a comment\n")
    try:
        assert set(project.status()) == {"report"}
    finally:
        page.write_text(text)


def test_a_new_label_concerns_the_stages_of_its_defect_alone(project):
    path = sorted((project.root / "data/labels/voids").glob("*.png"))[0]
    before = path.read_bytes()
    label = np.array(Image.open(path))
    label[:20, :20] = 255
    path.unlink()  # DVC may have linked it to its cache
    Image.fromarray(label).save(path)
    try:
        # DVC names the stages whose own inputs differ; what follows from them comes with a repro.
        assert set(project.status()) == {"data.dvc", "prepare@voids", "report"}
        said = project.dvc("repro", "--dry", "split@voids", "split@dislocations")
        assert "split@voids" in said
        assert "Running stage 'split@dislocations'" not in said
    finally:
        path.unlink()
        path.write_bytes(before)
    assert project.status() == {}


def test_a_clone_without_cache_and_store_runs_through_to_the_same_champion(project, tmp_path):
    project.git("clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    shutil.copytree(project.root / "data", clone.root / "data")
    assert not (clone.root / "mlflow.db").exists()
    assert not (clone.root / "champions/voids").exists()
    clone.dvc("repro", "evaluate@voids", "quantify@voids")
    # It opened the test side once more, and that is all that it has to commit.
    ledger = f"champions/voids{RECORDS[1]}"
    assert clone.git("status", "--porcelain", "champions").splitlines() == [f" M {ledger}"]
    assert len((clone.root / ledger).read_text().splitlines()) == 2
    assert (clone.root / "champions/voids/model.safetensors").read_bytes() == (
        project.root / "champions/voids/model.safetensors"
    ).read_bytes()
    for name in ("quantities/voids.csv", "evaluation/voids.csv"):
        path = f"results/{name}"
        assert (clone.root / path).read_bytes() == (project.root / path).read_bytes()
    voids = "defectops-voids"
    marks = [(voids, alias, 1) for alias in ("candidate", "champion")]
    assert clone.registry() == ([(voids, 1)], marks)


def test_a_promotion_and_a_rollback_by_hand_concern_what_stands_behind_alone(project):
    assert project.downstream() == (set(), set())
    project.register_twin("voids")
    project.defectops("promote", "--defect", "voids", "--version", "2", "--force", "--reason", "a")
    assert project.json("champions/voids.json")["version"] == 2
    assert project.downstream() == (BEHIND_VOIDS, BEHIND_VOIDS)
    project.defectops("rollback", "--defect", "voids")
    assert project.json("champions/voids.json")["version"] == 1
    assert project.downstream() == (BEHIND_VOIDS, BEHIND_VOIDS)
    project.defectops("doctor")
    accesses = project.champions()["champions/voids.test-accesses.jsonl"]
    assert project.json("champions/voids.json")["journal_length"] == 3
    assert len(accesses.splitlines()) == len(
        project.git("show", "HEAD:champions/voids.test-accesses.jsonl").splitlines()
    )


def test_a_move_that_dvc_was_not_told_of_is_reported_and_not_undone(project):
    project.defectops("promote", "--defect", "voids", "--version", "2", "--force", "--reason", "b")
    project.run(sys.executable, "-c", MOVE_UNRECORDED)
    assert "promote@voids" in project.status()
    with pytest.raises(AssertionError, match="E_UNRECORDED"):  # it ends with 5
        project.defectops("doctor")
    before = project.champions()
    project.dvc("repro", "promote@voids")
    assert project.champions() == before
    assert project.downstream() == (BEHIND_VOIDS, BEHIND_VOIDS)
    project.defectops("doctor")


def test_a_floor_out_of_reach_keeps_the_champion_and_ends_well(project):
    before = project.champions(), project.registry()
    project.tell("promotion", "voids", {"floors": {"iou": 0.999}})
    project.dvc("repro", "promote@voids")
    verdict = project.json("results/promotion/voids.json")
    assert (verdict["outcome"], verdict["moved"]) == ("fail", False)
    assert (project.champions(), project.registry()) == before
    project.git("checkout", "-q", "params.yaml")


def test_an_experiment_moves_nothing_in_the_registry(project):
    before = project.champions(), project.registry()
    weights = (project.root / "models/voids/model.safetensors").read_bytes()
    project.dvc("exp", "run", "-S", "train.default.learning_rate=0.002", "promote@voids")
    assert (project.root / "models/voids/model.safetensors").read_bytes() != weights
    assert project.json("results/promotion/voids.json")["moved"] is False
    assert (project.champions(), project.registry()) == before
