"""``defectops label-next`` with a bundle of an untrained network: what it prints and refuses."""

import importlib
import json

import numpy as np
import pytest
import tifffile

from defectops.cli.main import run


@pytest.mark.slow
def test_a_choice_is_printed(tmp_path, capsys):
    # Loaded here: they bring PyTorch, which the other test does not need.
    bundle = importlib.import_module("defectops.learning.bundle")
    networks = importlib.import_module("defectops.learning.networks")
    spec = networks.NetworkSpec(width=0.1)
    kind = {"key": "voids", "shape": "particle", "polarity": "bright", "colour": "#8ac926"}
    path = tmp_path / "model.safetensors"
    weights = networks.build(spec, 1).state_dict()
    bundle.save_bundle(path, bundle.Bundle(spec, weights, kind, {}, 0.5))
    scans = tmp_path / "scans"
    scans.mkdir()
    pixels = np.random.default_rng(1).normal(1000, 50, (128, 96)).astype(np.uint16)
    tifffile.imwrite(scans / "a.tif", pixels)
    words = ["label-next", str(scans), "--model", str(path), "--window-px", "64", "--top", "2"]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n_windows"], len(found["windows"])) == (4, 2)
    assert run([*words, "--out", str(tmp_path / "out")]) == 0
    assert "voids: 4 fields" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"label_next.csv", "label_next.png"}


def test_a_model_is_needed(tmp_path, capsys):
    assert run(["label-next", str(tmp_path)]) == 2
    assert "E_USAGE" in capsys.readouterr().err
