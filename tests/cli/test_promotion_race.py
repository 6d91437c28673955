"""Eight people promote at once by the command line: one wins, the others are told so."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from defectops.cli.main import run
from defectops.cli.promotions import opened
from defectops.defects import register
from defectops.experiments.champions import Places, checked_champion
from defectops.experiments.journal import read
from defectops.experiments.registry import CHAMPION, PREVIOUS
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.micrograph import Calibration, Field, Region, save_fields

VOIDS = register({"voids": {}})["voids"]
START = "import sys; from defectops.cli.main import run; sys.exit(run())"


@pytest.mark.kills
def test_of_eight_commands_one_wins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text(
        "defects: {voids: {}}\n"
        "promotion: {default: {floors: {iou: 0.0}, margins: {iou: 1.0}, resamples: 100}}\n"
    )
    rows, columns = np.indices((48, 64))
    label = (rows - 20) ** 2 + (columns - 30) ** 2 < 80
    calibration = Calibration(0.5, "manifest")
    gate = [Field("a.png", Region(0, 48, 0, 64), 1.0 * label, label, label & False, calibration)]
    save_fields(tmp_path / "split/voids/gate.npz", gate)
    (tmp_path / "split/voids/split.json").write_text('{"pieces": []}')
    registry = opened(tmp_path)[1]
    spec = NetworkSpec(width=0.1)
    for number in range(1, 10):
        threshold = number / 1000
        training = {"train_regions": [], "settings": {"preset": "quick"}}
        kind, weights = dataclasses.asdict(VOIDS), build(spec, 1).state_dict()
        path = tmp_path / f"{number}.safetensors"
        save_bundle(path, Bundle(spec, weights, kind, {}, threshold, {}, training))
        tags = {"threshold": repr(threshold)}
        assert registry.submit(VOIDS.model_name, path, "", {}, tags) == number
    assert run(["promote", "--defect", "voids", "--version", "1"]) == 0
    words = (sys.executable, "-c", START, "promote", "--defect", "voids", "--expect-champion", "1")
    together = [
        subprocess.Popen(
            [*words, "--version", str(number)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2, 10)
    ]
    said = [process.communicate()[1] for process in together]
    codes = [process.returncode for process in together]
    assert sorted(codes) == [0] + [3] * 7, said
    lost = [text for text, code in zip(said, codes, strict=True) if code]
    assert all("E_CHAMPION_MOVED: version 1 was expected" in text for text in lost)
    assert all(text.count("\n") == 1 for text in lost)
    winner = 2 + codes.index(0)
    places = Places(tmp_path, "voids", VOIDS.model_name)
    assert checked_champion(places).version == winner
    assert [e.to_version for e in read(places.journal)] == [1, winner]
    assert registry.alias(VOIDS.model_name, CHAMPION) == winner
    assert registry.alias(VOIDS.model_name, PREVIOUS) == 1
    capsys.readouterr()
    assert run(["doctor"]) == 0
