"""The check-me list of a batch: ranked over micrographs, drawn, the same every time."""

import csv
import io
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from small_batch import SHAPE, bench, carry_out, picture, write_pictures

from defectops.imaging.appearance import appearance, envelope_of
from defectops.imaging.conditioning import ConditioningOptions, condition

KEYS = ("voids", "dislocations")


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A batch of two micrographs and two types, with two pictures drawn."""
    root = tmp_path_factory.mktemp("check")
    write_pictures(root / "pictures")
    carry_out(root / "pictures", root / "out", bench(root, *KEYS, check=2))
    return root


def rows(out, name="check.csv"):
    with (out / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def content(out):
    """Return what the list consists of."""
    files = sorted([*out.glob("check.*"), *(out / "check").iterdir()])
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def test_doubts_are_ranked_over_all_micrographs(batch):
    found = rows(batch / "out")
    assert [int(row["rank"]) for row in found] == list(range(1, len(found) + 1))
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    assert {row["image"] for row in found} == {"p0.tif", "p1.tif"}
    for row in found:
        effect = max(abs(float(row["density_percent"])), abs(float(row["diameter_percent"])))
        assert float(row["score"]) == pytest.approx(float(row["chance"]) * effect, rel=1e-4)


def test_ids_lead_to_the_other_tables(batch):
    images = {row["value_id"]: row for row in rows(batch / "out", "images.csv")}
    objects = {row["object_id"]: row for row in rows(batch / "out", "objects.csv")}
    for row in rows(batch / "out"):
        assert images[row["value_id"]]["image"] == row["image"]
        if row["object_id"] != "null":
            assert objects[row["object_id"]]["label"] == row["label"]
        else:
            assert row["label"] == "0"


def test_the_faint_void_is_doubted_where_it_is(batch):
    found = [d for d in rows(batch / "out") if d["image"] == "p0.tif"]
    row, column = 120, 30
    inside = [
        doubt
        for doubt in found
        if doubt["defect"] == "voids"
        and int(doubt["top_px"]) <= row < int(doubt["bottom_px"])
        and int(doubt["left_px"]) <= column < int(doubt["right_px"])
    ]
    assert inside


def test_as_many_pictures_as_asked_named_by_rank(batch):
    names = sorted(p.name for p in (batch / "out/check").iterdir())
    assert len(names) == 2
    first = rows(batch / "out")[0]
    assert names[0] == f"001_{first['image'].removesuffix('.tif')}_{first['defect']}.png"
    assert Image.open(io.BytesIO((batch / "out/check" / names[0]).read_bytes())).size == (968, 480)
    assert (batch / "out/check.html").read_text().count("<img ") == 2


@pytest.mark.slow
def test_the_same_bytes_again_and_no_picture_of_an_earlier_list(batch, tmp_path):
    again = shutil.copytree(batch, tmp_path / "again")
    (again / "out/check/007_old_voids.png").write_bytes(b"")
    (again / "out/check/notes.png").write_bytes(b"mine")
    carry_out(again / "pictures", again / "out", bench(again, *KEYS, check=2))
    assert content(again / "out") == {**content(batch / "out"), "check/notes.png": b"mine"}


@pytest.mark.slow
def test_no_pictures_if_none_are_asked_for(tmp_path):
    write_pictures(tmp_path / "pictures", count=1)
    carry_out(tmp_path / "pictures", tmp_path / "out", bench(tmp_path, check=0))
    assert rows(tmp_path / "out")
    assert not list(tmp_path.glob("out/check/*"))


@pytest.fixture(scope="module")
def envelope():
    """What the model learned from: pictures of the same kind."""
    options = ConditioningOptions(background_sigma_px=0.0, variance_sigma_px=0.0)
    planes = [condition(picture(seed), "bright", options) for seed in range(6)]
    return envelope_of([appearance(plane) for plane in planes], [0.5])


CHANGES = {
    "inverted": lambda plane: 255 - plane,
    "blurred": lambda plane: ndimage.gaussian_filter(plane, 3),
    "enlarged": lambda plane: np.kron(plane[:50, :64], np.ones((3, 3), np.uint8)),
    "noisy": lambda plane: np.clip(
        plane + np.random.default_rng(0).normal(0, 25, SHAPE), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_unlike_those_of_training_is_kept_out(change, envelope, tmp_path):
    write_pictures(tmp_path / "pictures")
    tifffile.imwrite(tmp_path / "pictures/p1.tif", CHANGES[change](picture(1)))
    tools = bench(tmp_path, envelope=envelope)
    summary = carry_out(tmp_path / "pictures", tmp_path / "out", tools)
    good, odd = rows(tmp_path / "out", "images.csv")
    assert (good["status"], good["pooled"], good["flags"]) == ("ok", "True", "null")
    assert (odd["status"], odd["pooled"]) == ("out_of_range", "False")
    assert "allowed" in odd["flags"]
    assert summary.counts["out_of_range"] == 1
    assert {row["image"] for row in rows(tmp_path / "out")} == {"p0.tif"}
    alone = [q for q in summary.pooled[0].values if q.quantity.quantity == "areal_density"]
    assert alone[0].images == 1
    accepted = bench(tmp_path, envelope=envelope, accept_out_of_range=True)
    summary = carry_out(tmp_path / "pictures", tmp_path / "out", accepted)
    assert [row["pooled"] for row in rows(tmp_path / "out", "images.csv")] == ["True", "True"]
    assert summary.pooled[0].images == 2


@pytest.mark.slow
def test_another_magnification_is_told_by_the_pixel_size(envelope, tmp_path):
    write_pictures(tmp_path / "pictures", count=1)
    side = tmp_path / "pictures/p0.json"
    side.write_text(side.read_text().replace("0.5", "1.5"))
    carry_out(tmp_path / "pictures", tmp_path / "out", bench(tmp_path, envelope=envelope))
    (row,) = rows(tmp_path / "out", "images.csv")
    assert row["status"] == "out_of_range"
    assert row["flags"].startswith("pixel size is 1.5 nm, allowed 0.4 to 0.625 nm")


@pytest.mark.slow
def test_an_uncalibrated_picture_is_not_flagged_for_its_pixel_size(envelope, tmp_path):
    write_pictures(tmp_path / "pictures", count=1, sidecar=False)
    tools = bench(tmp_path, envelope=envelope, uncalibrated=True)
    carry_out(tmp_path / "pictures", tmp_path / "out", tools)
    (row,) = rows(tmp_path / "out", "images.csv")
    assert (row["status"], row["pooled"], row["flags"]) == ("uncalibrated", "True", "null")
