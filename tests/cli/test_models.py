"""From registered versions to a champion and back, through the command line and MLflow."""

import dataclasses
import json

import numpy as np
import pytest

from defectops.cli.main import run
from defectops.defects import register
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.inference import load_model
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.verifying import freeze
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration, Field, Region, save_fields
from defectops.settings import tracking_uri
from defectops.workflows.gate_measuring import gate_scores, measure_on_gate

VOIDS = register({"voids": {}})["voids"]
TINY = NetworkSpec(width=0.1)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return filled(tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One project for all tests that change nothing in it: to fill it takes long."""
    return filled(tmp_path_factory.mktemp("kept"))


def filled(tmp_path):
    """Register two versions of an untrained network, and write a gate pack."""
    (tmp_path / "params.yaml").write_text(
        "defects: {voids: {}}\npromotion: {default: {floors: {iou: 0.0}, margins: {iou: 1.0}}}\n"
    )
    rows, columns = np.indices((48, 64))
    label = (rows - 20) ** 2 + (columns - 30) ** 2 < 80
    calibration = Calibration(0.5, "manifest")
    gate = [Field("a.png", Region(0, 48, 0, 64), 1.0 * label, label, label & False, calibration)]
    save_fields(tmp_path / "split/voids/gate.npz", gate)
    (tmp_path / "split/voids/split.json").write_text('{"pieces": []}')
    registry = MlflowRegistry(MlflowTracker(tracking_uri(tmp_path), tmp_path))
    for seed in (1, 2):
        training = {"train_regions": [], "settings": {"preset": "quick"}}
        kind = dataclasses.asdict(VOIDS)
        weights = build(TINY, seed).state_dict()
        path = tmp_path / f"{seed}.safetensors"
        made = freeze(Bundle(TINY, weights, kind, {}, 0.01, {}, training), gate)
        sha256 = save_bundle(path, made)
        model = load_model(path, sha256)
        scores = gate_scores(measure_on_gate(VOIDS, model, gate, MeasureOptions()))
        found = {k: v for k, v in scores.items() if v is not None}
        registry.submit(VOIDS.model_name, path, "", found, {"threshold": "0.01"}, f"# {seed}\n")
    return tmp_path


@pytest.mark.slow
def test_promote_twice_then_roll_back(project, capsys):
    assert run(["promote", "--defect", "voids", "--version", "1", "--dry-run"]) == 0
    assert "dry run, nothing moved" in capsys.readouterr().out
    for version in ("1", "2"):
        assert run(["promote", "--defect", "voids", "--version", version]) == 0
    assert "champion 1 -> 2" in capsys.readouterr().out
    lost = ["promote", "--defect", "voids", "--version", "1", "--expect-champion", "1"]
    assert run(lost) == 3
    assert run(["rollback", "--defect", "voids", "--reason", "doubles"]) == 0
    capsys.readouterr()
    assert run(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["version"], "champion" in r["aliases"]) for r in rows] == [(1, True), (2, False)]
    assert run(["models", "history", "--defect", "voids", "--json"]) == 0
    moves = [(r["from"], r["to"], r["verdict"]) for r in json.loads(capsys.readouterr().out)]
    assert moves == [(None, 1, "pass"), (1, 2, "pass"), (2, 1, "rollback")]


def said(capsys, *words):
    assert run(["models", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_models_are_shown_compared_checked_and_handed_on(project, capsys):
    facts = json.loads(said(capsys, "show", "models:/defectops-voids/2", "--json"))
    assert (facts["version"]["number"], facts["card"]) == (2, "# 2\n")
    assert said(capsys, "show", "voids/1", "--card") == "# 1\n"
    assert "operation\tthreshold\t0.01" in said(capsys, "show", "1.safetensors").split("\n")
    compared = json.loads(said(capsys, "diff", "voids/1", "defectops-voids/2", "--json"))
    assert {r["name"] for r in compared["differences"]} >= {"number", "sha256"}
    assert compared["gate"]["reason"] == ""
    assert {r["score"] for r in compared["gate"]["scores"]} >= {"iou", "object_f1"}
    assert said(capsys, "export", "voids/2", "--out", "given").startswith("defectops-voids/2: ")
    for name in ("voids/2", "given"):
        found = json.loads(said(capsys, "verify", name, "--json"))
        assert found["sha256"] == facts["version"]["sha256"]
        assert found["frozen_difference"] < 1e-5
    assert (project / "given/MODEL_CARD.md").read_text() == "# 2\n"
    stored = next(project.glob("mlartifacts/**/model.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-1] + b"\0")
    codes = [run(["models", "verify", f"voids/{number}"]) for number in (1, 2)]
    assert sorted(codes) == [0, 5]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["promote", "--defect", "voids", "--version", "9"], 2, "E_VERSION"),
        (["promote", "--defect", "voids", "--version", "1", "--run", "x"], 2, "E_USAGE"),
        (["promote", "--defect", "vods"], 2, "did you mean 'voids'"),
        (["promote", "--defect", "voids", "--version", "1", "--force"], 2, "--reason"),
        (["rollback", "--defect", "voids"], 2, "E_NO_EARLIER"),
        (["models", "list", "--defect", "vods"], 2, "E_CONFIG"),
        (["models", "show", "vods/1"], 2, "did you mean 'voids'"),
        (["models", "verify", "voids@champion"], 2, "no version of defectops-voids is 'champion'"),
        (["models", "diff", "voids/1", "voids/9"], 2, "E_VERSION"),
        (["models", "export", "voids/1", "--out", "split"], 2, "E_EXISTS"),
    ],
)
@pytest.mark.slow
def test_a_refusal_is_one_line(kept, capsys, monkeypatch, words, code, said):
    monkeypatch.chdir(kept)
    assert run(words) == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
