"""Serving: what MLflow loads answers as direct inference does, and needs no pickle."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from defectops.errors import MicrographRefused, ModelRefused, SettingsRefused
from defectops.experiments.mlflow_model import write_mlflow_model
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.learning.bundle import Bundle, save_bundle
from defectops.learning.inference import predict
from defectops.learning.networks import NetworkSpec, build
from defectops.workflows.serving import ServedModel, _load_pyfunc

SPEC = NetworkSpec(width=0.1)
OPTIONS = {"background_sigma_px": 8.0, "variance_sigma_px": 16.0, "clip_sd": 4.0}


@pytest.fixture(autouse=True)
def _settings_of_torch_come_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(0)


@pytest.fixture
def bundle():
    kind = {"key": "precipitates", "shape": "particle", "polarity": "dark", "colour": "#2e86ab"}
    return Bundle(SPEC, build(SPEC, 0).state_dict(), kind, OPTIONS, 0.5)


@pytest.fixture
def path(bundle, tmp_path):
    save_bundle(tmp_path / "model.safetensors", bundle)
    return tmp_path / "model.safetensors"


@pytest.fixture
def recorded():
    return np.random.default_rng(0).normal(1000, 30, (33, 47))


def test_a_served_model_answers_as_direct_inference(bundle, path, recorded):
    wanted = predict(bundle.network(), condition(recorded, "dark", ConditioningOptions(**OPTIONS)))
    found = _load_pyfunc(str(path)).predict(recorded, params=None)
    assert found.shape == (33, 47)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_polarity_is_that_of_the_defect(bundle, recorded):
    bright = replace(bundle, defect=bundle.defect | {"polarity": "bright"})
    dark = ServedModel(bundle).predict(recorded)
    np.testing.assert_allclose(ServedModel(bright).predict(-recorded), dark, atol=1e-4)
    assert np.abs(ServedModel(bright).predict(recorded) - dark).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_lists_and_any_dtype_are_taken(bundle, recorded, dtype):
    pixels = recorded.astype(dtype)
    model = ServedModel(bundle)
    np.testing.assert_array_equal(model.predict(pixels.tolist()), model.predict(pixels))


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.zeros((8, 8)), "E_CONSTANT"),
        (np.zeros((1, 8, 8)), "E_CHANNELS"),
        (np.full((8, 8), np.nan), "E_NONFINITE"),
    ],
)
def test_what_is_no_micrograph_is_refused(bundle, pixels, code):
    with pytest.raises(MicrographRefused, match=code):
        ServedModel(bundle).predict(pixels)


def test_a_pickle_is_not_loaded(tmp_path):
    (tmp_path / "m").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ModelRefused, match="E_MODEL_UNSAFE"):
        _load_pyfunc(str(tmp_path / "m"))


def test_conditioning_that_nobody_knows_is_refused(bundle, recorded):
    odd = replace(bundle, conditioning={"sharpen": 2.0})
    with pytest.raises(SettingsRefused, match="model: conditioning: E_CONFIG: unknown key"):
        ServedModel(odd).predict(recorded)


@pytest.mark.slow
def test_mlflow_models_predict_answers_as_we_do(bundle, path, recorded, tmp_path):
    """Serving takes the same way: the folder's loader, and a plane of numbers as JSON."""
    folder = write_mlflow_model(path, tmp_path / "folder", card="# Card\n")
    given, answer = tmp_path / "given.json", tmp_path / "answer.json"
    given.write_text(json.dumps({"inputs": recorded.astype(np.float32).tolist()}))
    words = ["models", "predict", "-m", str(folder), "--env-manager", "local", "-t", "json"]
    ran = subprocess.run(
        [sys.executable, "-m", "mlflow", *words, "-i", str(given), "-o", str(answer)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert ran.returncode == 0, ran.stderr
    found = np.array(json.loads(answer.read_text())["predictions"])
    wanted = ServedModel(bundle).predict(recorded.astype(np.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


SERVE = """
import pickle, sys
import numpy as np
import mlflow

def forbidden(*args, **kwargs):
    raise SystemExit("something was unpickled")

import torch
torch.load = pickle.load = pickle.loads = forbidden
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
"""


@pytest.mark.slow
def test_mlflow_loads_and_serves_the_folder_without_pickle(bundle, path, recorded, tmp_path):
    folder = write_mlflow_model(path, tmp_path / "folder")
    plane, answer = tmp_path / "plane.npy", tmp_path / "answer.npy"
    np.save(plane, recorded.astype(np.float32))
    command = [sys.executable, "-c", SERVE, str(folder), str(plane), str(answer)]
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert ran.returncode == 0, ran.stderr
    wanted = ServedModel(bundle).predict(recorded.astype(np.float32))
    np.testing.assert_allclose(np.load(answer), wanted, atol=1e-5)
