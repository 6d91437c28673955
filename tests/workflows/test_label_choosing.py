"""Which field to label next, with a model whose doubts are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from defectops.errors import InputRefused, ModelRefused, SettingsRefused
from defectops.learning.bundle import Bundle
from defectops.learning.networks import NetworkSpec
from defectops.workflows import label_choosing
from defectops.workflows.label_choosing import COLUMNS, choose_labels, model_in_use

KIND = {"key": "voids", "shape": "particle", "polarity": "bright", "colour": "#8ac926"}


def model(trained=()):
    """A model that is sure of discs of height 1 and cannot decide on those of half the height."""
    bundle = Bundle(
        NetworkSpec(), {}, KIND, {}, 0.5, training={"train_regions": [list(r) for r in trained]}
    )

    def probability(height):
        return (1 / (1 + np.exp(-12 * (height - 0.5)))).astype(np.float32)

    return SimpleNamespace(bundle=bundle, probability=probability)


def picture(folder, name, heights, seed=0):
    """Discs of given heights on a grid, over noise."""
    plane = np.random.default_rng(seed).normal(0, 0.02, (192, 256))
    rows, columns = np.indices(plane.shape)
    for k, height in enumerate(heights):
        place = 24 + 40 * (k // 6), 24 + 40 * (k % 6)
        plane[(rows - place[0]) ** 2 + (columns - place[1]) ** 2 <= 64] += height
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / name, ((plane + 1) * 1000).astype(np.uint16))


@pytest.fixture
def scans(tmp_path, monkeypatch):
    # Conditioning would stretch a picture of faint discs until they are bright ones.
    monkeypatch.setattr(label_choosing, "condition", lambda pixels, *_: pixels / 1000.0 - 1)
    folder = tmp_path / "scans"
    picture(folder, "a_certain.tif", [1.0] * 18, 1)
    picture(folder, "b_ambiguous.tif", [0.5] * 18, 2)
    picture(folder, "c_copy.tif", [0.5] * 18, 2)
    picture(folder, "d_some.tif", [0.5] * 6 + [1.0] * 12, 3)
    return folder


def test_the_ambiguous_field_is_first_and_its_copy_not_second(scans):
    found = choose_labels(scans, model(), top=4, window_px=0)
    order = found.windows["image"].tolist()
    assert order[0] == "b_ambiguous.tif"
    assert order[1] == "d_some.tif"
    assert (found.n_windows, tuple(found.windows.columns)) == (4, COLUMNS)
    widths = [found.half_width_percent, *found.windows["half_width_percent"]]
    assert widths == sorted(widths, reverse=True)


def test_the_same_choice_and_the_same_bytes(scans, tmp_path):
    for name in ("one", "two"):
        choose_labels(scans, model(), top=2, window_px=128, out=tmp_path / name)
    for file in ("label_next.csv", "label_next.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    found = choose_labels(scans, model(), top=2, window_px=128)
    assert found.n_windows == 4 * 2 * 2
    assert (found.windows["bottom"] - found.windows["top"]).tolist() == [96, 96]


def test_what_the_model_was_trained_on_is_left_out(scans):
    seen = model([("b_ambiguous.tif", 0, 192, 0, 256), ("c_copy.tif", 0, 96, 0, 128)])
    found = choose_labels(scans, seen, top=9, window_px=96)
    names = found.windows["image"].tolist()
    assert "b_ambiguous.tif" not in names
    copies = found.windows[found.windows["image"] == "c_copy.tif"]
    assert not ((copies["top"] == 0) & (copies["left"] == 0)).any()
    everything = model([(p.name, 0, 192, 0, 256) for p in scans.iterdir()])
    with pytest.raises(InputRefused, match="E_EMPTY"):
        choose_labels(scans, everything)


def test_labelled_pictures_of_a_data_folder_are_left_out(scans, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    scans.rename(data / "micrographs")
    rows = ["image,label_voids,pixel_size_nm,pixel_size_source"]
    rows += ["b_ambiguous.tif,labels/voids/b_ambiguous.png,0.5,manifest"]
    rows += [f"{n}.tif,,0.5,manifest" for n in ("a_certain", "c_copy", "d_some")]
    (data / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = choose_labels(data, model(), top=1, window_px=0)
    assert found.windows["image"].tolist() == ["c_copy.tif"]


def test_json_without_nan(scans):
    found = choose_labels(scans, model(), top=1).as_json()
    assert found["defect"] == "voids"
    assert list(found["windows"][0]) == list(COLUMNS)


def test_one_model_is_needed(tmp_path):
    for key, path in ((None, None), ("voids", tmp_path / "a.safetensors")):
        with pytest.raises(SettingsRefused, match="E_USAGE"):
            model_in_use(tmp_path, key, path)
    (tmp_path / "params.yaml").write_text("defects: {voids: }\n", encoding="utf-8")
    with pytest.raises(ModelRefused, match="E_NO_BUNDLE"):
        model_in_use(tmp_path, "voids", None)
