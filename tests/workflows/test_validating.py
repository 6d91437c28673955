"""data validate: pairs, manifests, sidecars and folders, as training would read them."""

import json
from functools import partial

import numpy as np
import pytest
import tifffile

from defectops.cli.main import run
from defectops.errors import InputRefused
from defectops.imaging.reading import read_micrograph
from defectops.workflows.validating import line_width, validate

H, W = 40, 56
TAGS = {"resolution": (2e8, 2e8), "resolutionunit": "CENTIMETER"}


def image(path, seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 900, (H, W)).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, **{**TAGS, **options})
    return path


def label(path, mask=None):
    if mask is None:
        mask = np.zeros((H, W), np.uint8)
        mask[5:15, 5:15] = mask[30, 30] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, mask)
    return path


@pytest.fixture
def pair(tmp_path):
    image(tmp_path / "set" / "images" / "a.tif")
    label(tmp_path / "set" / "labels" / "a.tif")
    return tmp_path / "set"


def code(path, **options):
    with pytest.raises(InputRefused) as caught:
        validate(path, partial(read_micrograph, **options))
    return caught.value.code, caught.value.subject


def test_a_pair(pair):
    found = validate(pair)
    (one,), (mask,) = found.images, found.labels
    assert (one.path, one.shape, one.dtype) == ("images/a.tif", (H, W), "uint16")
    assert (one.pixel_size_nm, one.pixel_size_source) == (pytest.approx(0.05), "tags")
    assert (mask.path, mask.image, mask.objects, mask.specks) == (
        "labels/a.tif",
        "images/a.tif",
        2,
        1,
    )
    assert mask.defect_fraction == pytest.approx(101 / (H * W))
    assert mask.line_width_px is None
    data = found.as_json()
    assert data["shape"] == (H, W)
    assert data["warnings"] == ["labels/a.tif: 1 specks of fewer than 4 px"]


def test_an_empty_label_is_valid(pair):
    label(pair / "labels" / "a.tif", np.zeros((H, W), np.uint8))
    (mask,) = validate(pair).labels
    assert (mask.objects, mask.defect_fraction) == (0, 0)
    assert mask.warnings == ("empty: no defect is marked",)


def test_names_that_do_not_pair(pair):
    image(pair / "images" / "b.tif", 1)
    assert code(pair) == ("E_LABEL_MISSING", "images/b.tif")
    label(pair / "labels" / "b.tif")
    label(pair / "labels" / "c.tif")
    assert code(pair) == ("E_IMAGE_MISSING", "labels/c.tif")
    (pair / "labels" / "c.tif").unlink()
    image(pair / "images" / "b.png.tif", 2).rename(pair / "images" / "b.png")
    assert code(pair)[0] == "E_DUPLICATE"


def test_a_missing_side(pair):
    (pair / "labels" / "a.tif").rename(pair / "a.tif")
    assert code(pair) == ("E_LABEL_MISSING", "images/a.tif")
    (pair / "labels").rmdir()
    assert code(pair) == ("E_LABEL_MISSING", "images/a.tif")
    (pair / "images" / "a.tif").unlink()
    assert code(pair)[0] == "E_IMAGE_MISSING"


def test_shape_and_values_name_the_label(pair):
    label(pair / "labels" / "a.tif", np.zeros((W, H), np.uint8))
    assert code(pair) == ("E_SHAPE", "labels/a.tif")
    label(pair / "labels" / "a.tif", np.full((H, W), 3, np.uint8))
    assert code(pair) == ("E_LABEL_VALUES", "labels/a.tif")


def test_one_picture_under_two_names(pair):
    image(pair / "images" / "b.tif", compression="zlib")
    label(pair / "labels" / "b.tif")
    assert code(pair) == ("E_DUPLICATE", "images/b.tif")


def test_labels_by_type_and_the_width_of_lines(pair):
    (pair / "labels" / "a.tif").unlink()
    lines = np.zeros((H, W), np.uint8)
    lines[10:13, 5:50] = 255
    label(pair / "labels" / "dislocations" / "a.tif", lines)
    wide = np.zeros((H, W), np.uint8)
    wide[10:19, 5:50] = 255
    image(pair / "images" / "b.tif", 1)
    label(pair / "labels" / "dislocations" / "b.tif", wide)
    image(pair / "images" / "c.tif", 2)
    label(pair / "labels" / "voids" / "c.tif")
    found = {one.path: one for one in validate(pair).labels}
    assert found["labels/dislocations/a.tif"].line_width_px == 3
    assert found["labels/dislocations/a.tif"].warnings == ()
    assert "9 px wide" in found["labels/dislocations/b.tif"].warnings[0]
    assert found["labels/voids/c.tif"].line_width_px is None


@pytest.mark.parametrize("width", [1, 3, 5])
def test_line_width_is_exact_for_odd_widths(width):
    mask = np.zeros((H, W), bool)
    mask[:, 20 : 20 + width] = True
    assert line_width(mask) == width


def test_a_project_with_a_manifest(tmp_path):
    data = tmp_path / "data"
    image(data / "micrographs" / "a.tif", metadata=None, resolution=None, resolutionunit=None)
    image(data / "micrographs" / "extra.tif", 1)
    label(data / "labels" / "voids" / "a.png.tif").rename(data / "labels" / "voids" / "a.tif")
    (data / "manifest.csv").write_text(
        "image,label_voids,pixel_size_nm,pixel_size_source\na.tif,labels/voids/a.tif,0.4,synthesis\n"
    )
    for path in (data, data / "manifest.csv"):
        found = validate(path)
        assert found.images[0].pixel_size_nm == 0.4
        assert found.images[0].pixel_size_source == "synthesis"
        assert found.labels[0].defect == "voids"
        assert found.warnings == ("micrographs/extra.tif is not in the manifest",)
    (data / "manifest.csv").write_text(
        "image,pixel_size_nm,pixel_size_source\na.tif,,uncalibrated\n"
    )
    assert validate(data).images[0].pixel_size_nm is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("image,label,split\n../../secret.tif,labels/a.tif,train\n", "E_PATH"),
        ("image\n/etc/passwd\n", "E_PATH"),
        ("image\nb.tif\n", "E_IMAGE_MISSING"),
        ("image,label\na.tif,b.tif\n", "E_LABEL_MISSING"),
        ("image,ignore\na.tif,b.tif\n", "E_LABEL_MISSING"),
        ("image\na.tif\na.tif\n", "E_DUPLICATE"),
        ("image,pixel_size_nm\na.tif,0.5\n", "E_PX_CONFLICT"),
        ("image,pixel_size_nm\na.tif,5000\n", "E_PX_INVALID"),
        ("image\nl.tif\n", "E_PATH"),
        ("image\na.tif\ntwin.tif\n", "E_DUPLICATE"),
    ],
)
def test_bad_manifests(tmp_path, table, expected):
    folder = tmp_path / "set"
    image(folder / "a.tif")
    image(folder / "twin.tif")
    image(tmp_path / "outside.tif", 3)
    (folder / "l.tif").symlink_to(tmp_path / "outside.tif")
    (folder / "manifest.csv").write_text(table)
    found, subject = code(folder / "manifest.csv")
    assert found == expected
    assert subject.startswith("manifest.csv")


def test_a_sidecar(tmp_path):
    image(tmp_path / "a.tif")
    (tmp_path / "a.json").write_text('{"pixel_size_nm": 0.05}')
    assert validate(tmp_path / "a.json").images[0].pixel_size_source == "sidecar"
    (tmp_path / "a.json").write_text('{"pixel_size_nm": 0.5}')
    assert code(tmp_path / "a.json")[0] == "E_PX_CONFLICT"
    (tmp_path / "b.json").write_text('{"thickness_nm": 5}')
    assert validate(tmp_path / "b.json").warnings == ("no picture b beside it",)
    (tmp_path / "b.json").write_text("{}")
    assert code(tmp_path / "b.json")[0] == "E_PX_MISSING"


def test_an_array_needs_no_pixel_size_to_be_checked(tmp_path):
    pixels = np.arange(H * W, dtype=np.float32).reshape(H, W)
    np.save(tmp_path / "a.npy", pixels)
    (one,) = validate(tmp_path / "a.npy").images
    assert (one.shape, one.pixel_size_nm) == ((H, W), None)
    assert "no pixel size" in one.warnings[0]
    np.save(tmp_path / "a.npy", np.empty((H, W), object))
    assert code(tmp_path / "a.npy")[0] == "E_DTYPE"


def test_folders_of_pictures_and_of_nothing(tmp_path):
    assert code(tmp_path)[0] == "E_IO"
    image(tmp_path / "a.tif")
    image(tmp_path / ".hidden.tif")
    image(tmp_path / "b.tif", 1, metadata=None, resolution=None, resolutionunit=None)
    assert code(tmp_path) == ("E_PX_MISSING", "b.tif")
    found = validate(tmp_path, partial(read_micrograph, uncalibrated=True))
    assert [i.pixel_size_source for i in found.images] == ["tags", "uncalibrated"]
    assert found.as_json()["pixel_size_nm"] is None


def test_the_command_prints_tables_json_and_a_page(pair, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert run(["data", "validate", str(pair), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split("\t")[:3] == ["images/a.tif", str(H), str(W)]
    assert "warning: labels/a.tif" in out
    assert "images/a.tif" in page.read_text()
    assert "http" not in page.read_text()
    assert run(["data", "validate", str(pair), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["shape"] == [H, W]
    assert data["pixel_size_source"] == "tags"


def test_the_page_escapes_names(tmp_path, capsys):
    name = "<script>alert(1)<\u2044script>.tif"
    image(tmp_path / name)
    page = tmp_path / "page.html"
    assert run(["data", "validate", str(tmp_path / name), "--html", str(page)]) == 0
    assert "<script>" not in page.read_text()
    assert capsys.readouterr().out.count(name) == 1
