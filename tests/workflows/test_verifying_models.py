"""Verifying: a version, a file, a folder; each link that could be broken is noticed."""

import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from drawing import VOIDS, discs, field

from defectops.errors import IntegrityFault, ModelRefused
from defectops.experiments.champions import Champion, places_of, write_champion
from defectops.experiments.mlflow_model import write_mlflow_model
from defectops.experiments.registry import RecordingRegistry
from defectops.learning.bundle import Bundle, file_sha256, save_bundle
from defectops.learning.networks import NetworkSpec, build
from defectops.learning.verifying import freeze
from defectops.workflows.verifying_models import verify_path, verify_version

TINY = NetworkSpec(width=0.1)
MODEL = "defectops-voids"
TAGS = {"threshold": "0.4", "data_sha256": "d" * 64}


def made(seed=1, threshold=0.4):
    weights = build(TINY, seed).state_dict()
    training = {"data_sha256": "d" * 64}
    bundle = Bundle(TINY, weights, asdict(VOIDS), {}, threshold, {}, training)
    label = discs((40, 48), (10, 10), (20, 30))
    return freeze(bundle, [field(label, 2.0 * label)])


@pytest.fixture
def path(tmp_path):
    save_bundle(tmp_path / "model.safetensors", made())
    return tmp_path / "model.safetensors"


@pytest.fixture
def registry(path):
    registry = RecordingRegistry()
    registry.submit(MODEL, path, "run", {"iou": 0.5}, TAGS, "# Card\n")
    return registry


def champion(root, path, **changes):
    places = places_of(root, VOIDS.key)
    given = Champion(MODEL, 1, "run", file_sha256(path), 0.4, "pass", "j" * 64, 1)
    write_champion(places, replace(given, **changes))
    places.bundle.parent.mkdir(parents=True, exist_ok=True)
    return places


def checked(found):
    return {check.what: check.found for check in found.checks}


def verify(root, registry):
    return verify_version(root, VOIDS, registry.version(MODEL, 1), registry)


def test_a_file_and_a_folder_are_found_right(path, tmp_path):
    sha256 = file_sha256(path)
    found = verify_path(path, sha256)
    assert found.sha256 == sha256
    assert found.frozen_difference < 1e-6
    assert list(checked(found)) == ["safetensors", "digest", "frozen test"]
    folder = write_mlflow_model(path, tmp_path / "folder")
    assert "MLflow folder" in checked(verify_path(folder))
    assert "nothing recorded" in checked(verify_path(folder))["digest"]


def test_another_digest_is_noticed(path):
    with pytest.raises(IntegrityFault, match="E_DIGEST"):
        verify_path(path, "0" * 64)


def test_other_weights_under_a_good_digest_are_noticed(path):
    bundle = made()
    weights = build(TINY, 2).state_dict()
    save_bundle(path, replace(bundle, weights=weights))
    with pytest.raises(IntegrityFault, match=r"model.safetensors: E_FROZEN"):
        verify_path(path)


def test_a_bundle_without_its_test_is_refused(path):
    save_bundle(path, replace(made(), frozen=None))
    with pytest.raises(ModelRefused, match="E_MODEL_FROZEN"):
        verify_path(path)


def test_a_version_that_is_not_champion(registry, tmp_path):
    found = checked(verify(tmp_path, registry))
    assert found["tags"] == "threshold, data_sha256: as the bundle says"
    assert found["champion"] == "nobody"
    champion(tmp_path, tmp_path / "model.safetensors", sha256="0" * 64)
    assert checked(verify(tmp_path, registry))["champion"] == "is another version"


def test_a_version_that_is_champion(registry, path, tmp_path):
    places = champion(tmp_path, path)
    assert "its bundle is not here" in checked(verify(tmp_path, registry))["champion"]
    places.bundle.write_bytes(path.read_bytes())
    assert "file and bundle agree" in checked(verify(tmp_path, registry))["champion"]
    places.bundle.write_bytes(b"another")
    with pytest.raises(IntegrityFault, match=r"champions/voids/model.safetensors: E_DIGEST"):
        verify(tmp_path, registry)


def test_a_champion_file_with_another_threshold_is_noticed(registry, path, tmp_path):
    champion(tmp_path, path, threshold=0.7)
    with pytest.raises(IntegrityFault, match=r"E_CHAMPION: says threshold 0\.7"):
        verify(tmp_path, registry)


@pytest.mark.parametrize("tag", ["threshold", "data_sha256"])
def test_a_changed_tag_is_noticed(tag, registry, tmp_path):
    registry.set_tags(MODEL, 1, {tag: "0.9"})
    with pytest.raises(IntegrityFault, match=f"its tag {tag} is '0.9'"):
        verify(tmp_path, registry)


def test_a_changed_stored_bundle_is_noticed(registry, path, tmp_path):
    save_bundle(tmp_path / "other", made(seed=2))
    registry.stored[MODEL, 1] = (tmp_path / "other").read_bytes()
    with pytest.raises(IntegrityFault, match="defectops-voids/1: E_DIGEST"):
        verify(tmp_path, registry)


WITHOUT_MLFLOW = """
import sys
sys.modules["mlflow"] = None  # importing it raises
from pathlib import Path
import numpy as np
from defectops.cli.main import run
from defectops.learning.inference import load_model
for path in sys.argv[1:3]:
    assert run(["models", "verify", path]) == 0
    assert run(["models", "show", path, "--json"]) == 0
model = load_model(Path(sys.argv[1]))
np.save(sys.argv[3], model.probability(np.load(sys.argv[3])))
"""


@pytest.mark.slow
def test_our_own_loader_needs_no_mlflow(path, tmp_path):
    folder = write_mlflow_model(path, tmp_path / "folder")
    np.save(tmp_path / "plane.npy", np.ones((16, 24), np.float32))
    given = [str(path), str(folder), str(tmp_path / "plane.npy")]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, *given],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("nothing is wrong") == 2
    answer = np.load(tmp_path / "plane.npy")
    assert answer.shape == (16, 24)
    assert 0 <= answer.min() <= answer.max() <= 1
