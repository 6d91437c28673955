"""What the split hands on: files for each side, and who can be told apart without opening them."""

import dataclasses
import json

import numpy as np
import pytest
from drawing import VOIDS
from PIL import Image

from defectops.dataset.splits import SplitOptions
from defectops.imaging.conditioning import ConditioningOptions
from defectops.micrograph import Region, load_fields, save_fields
from defectops.workflows.preparing import digest_of, prepare, read_summary
from defectops.workflows.splitting import split

HALVES = SplitOptions(
    scheme="rectangles",
    rectangles={
        "train": [(0.0, 1.0, 0.0, 0.5)],
        "dev": [(0.0, 0.5, 0.5, 1.0)],
        "test": [(0.5, 1.0, 0.5, 1.0)],
    },
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of two micrographs of noise, prepared and split."""
    root = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(5)
    rows = ["image,label_voids,pixel_size_nm,pixel_size_source"]
    for name in ("a", "b"):
        for folder in ("micrographs", "labels/voids"):
            (root / "data" / folder).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (48, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "data/micrographs" / f"{name}.png")
        label = np.uint8(255) * (pixels > 240)
        Image.fromarray(label).save(root / "data/labels/voids" / f"{name}.png")
        rows.append(f"{name}.png,labels/voids/{name}.png,0.5,manifest")
    (root / "data/manifest.csv").write_text("\n".join(rows) + "\n")
    prepare(root, VOIDS, ConditioningOptions(background_sigma_px=8, variance_sigma_px=16))
    split(root, VOIDS, HALVES)
    return root


def digest(project, name):
    return digest_of(np.asarray(Image.open(project / "data/micrographs" / name)))


def test_prepared_fields_carry_the_digest_of_the_pixels_as_recorded(project):
    for row in read_summary(project / "prepared/voids/summary.csv"):
        (whole,) = load_fields(project / "prepared/voids" / row.image.replace("png", "npz"))
        assert whole.pixels_sha256 == row.pixels_sha256 == digest(project, row.image)


@pytest.mark.parametrize("side", ["train", "dev", "test", "gate"])
def test_every_cut_carries_the_digest_of_its_whole_image(project, side):
    fields = load_fields(project / "split/voids" / f"{side}.npz")
    assert [f.image for f in fields] == ["a.png", "b.png"]
    assert [f.pixels_sha256 for f in fields] == [digest(project, n) for n in ("a.png", "b.png")]


def test_the_record_names_every_piece_with_place_side_and_digest(project):
    record = json.loads((project / "split/voids/split.json").read_text())
    assert len(record["pieces"]) == 6
    assert record["pieces"][5] == {
        "image": "b.png",
        "side": "test",
        "region": dataclasses.asdict(Region(24, 48, 32, 64)),
        "pixels_sha256": digest(project, "b.png"),
    }


def test_fields_written_before_there_were_digests_have_none(project, tmp_path):
    (field, _) = load_fields(project / "split/voids/dev.npz")
    save_fields(tmp_path / "new.npz", [field])
    with np.load(tmp_path / "new.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    head = json.loads(bytes(arrays["head"]))
    assert head[0].pop("pixels_sha256") == field.pixels_sha256
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", **arrays)
    assert load_fields(tmp_path / "old.npz")[0].pixels_sha256 == ""
