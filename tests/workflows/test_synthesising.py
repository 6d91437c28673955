"""The synthetic data folder: complete, honest about itself, the same bytes every time."""

import csv
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from defectops.dataset.manifest import read_manifest
from defectops.errors import EnvironmentFault, SettingsRefused
from defectops.workflows.synthesising import synthesise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    into = tmp_path_factory.mktemp("synthetic") / "data"
    synthesise(into, "small", 11)
    return into


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_arguments_same_bytes(folder, tmp_path):
    synthesise(tmp_path / "elsewhere", "small", 11)
    assert digests(tmp_path / "elsewhere") == digests(folder)
    synthesise(tmp_path / "other", "small", 12)
    assert digests(tmp_path / "other") != digests(folder)


def test_manifest_is_one_the_pipeline_reads(folder):
    assert len(read_manifest(folder / "manifest.csv", folder)) == 4
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["label_dislocations"] == "labels/dislocations/ht9_dislocations_1.png"
    assert rows[0]["label_voids"] == ""
    for row in rows:
        assert row["pixel_size_nm"] == "0.365"
        assert row["pixel_size_source"] == "synthesis"
        assert row["side"] == "auto"
        assert row["licence"] == "CC0-1.0"
        assert row["source"].startswith("synthetic")


def test_labels_instances_and_truth_belong_together(folder):
    found = sorted((folder / "labels").rglob("*.png"))
    assert len(found) == 6
    for path in found:
        defect, stem = path.parent.name, path.stem
        label = np.asarray(Image.open(path))
        numbers = np.asarray(Image.open(folder / "instances" / defect / path.name))
        picture = np.asarray(Image.open(folder / "micrographs" / path.name))
        truth = json.loads((folder / "truth" / f"{stem}.json").read_text())
        assert picture.shape == label.shape == numbers.shape == (256, 320)
        assert picture.dtype == np.uint8
        assert set(np.unique(label)) == {0, 255}
        assert numbers.dtype == np.uint16
        assert np.array_equal(label == 255, numbers > 0)
        assert numbers.max() <= max(o["id"] for o in truth["objects"][defect])


def test_says_that_it_is_synthetic_and_has_the_folders_a_stage_depends_on(folder):
    assert "# Synthetic data" in (folder / "README.md").read_text()
    assert "seed 11" in (folder / "README.md").read_text()
    for defect in ("dislocations", "precipitates", "voids"):
        assert (folder / "ignore" / defect / "README.txt").is_file()


@pytest.mark.parametrize(
    ("change", "word"),
    [({"preset": "huge"}, "huge"), ({"seed": -1}, "-1"), ({"line_width_px": 0}, "line width")],
)
def test_wrong_arguments_are_named(tmp_path, change, word):
    arguments = {"into": tmp_path / "data", "preset": "small", "seed": 1, **change}
    with pytest.raises(SettingsRefused, match=word):
        synthesise(**arguments)
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(EnvironmentFault):
        synthesise(tmp_path / "data", "small", 1)


@pytest.mark.slow
def test_the_bundled_size(tmp_path):
    synthesise(tmp_path, "paper", 20190905)
    total = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert total < 25e6
    truth = json.loads((tmp_path / "truth" / "ht9_dislocations_1.json").read_text())
    density = truth["quantities"]["dislocations"]["dislocation_density"]
    assert density == pytest.approx(8.91e14, rel=0.01)
