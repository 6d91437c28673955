"""An import is all or nothing, changes nothing it was not asked to, and may be repeated."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from defectops import settings
from defectops.dataset.manifest import read_manifest
from defectops.dataset.splits import SplitOptions
from defectops.errors import (
    Conflict,
    DefectopsError,
    EnvironmentFault,
    GateFailed,
    LabelRefused,
    SettingsRefused,
)
from defectops.imaging.conditioning import ConditioningOptions
from defectops.micrograph import load_fields
from defectops.workflows.gathering import ImportRequest
from defectops.workflows.importing import import_data
from defectops.workflows.leak_checking import leak_check
from defectops.workflows.parameters import load_parameters
from defectops.workflows.preparing import prepare, read_summary
from defectops.workflows.splitting import split

PARAMS = """\
# kept
defects:
  voids: {}

# of the split
split:
  default:
    scheme: paper
  voids: {}

# of training
train:
  default: {preset: quick}
  voids: {epochs: 3}
"""


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def project(tmp_path):
    """A project with params.yaml, and a user's folder with three images of 48 x 64."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "params.yaml").write_text(PARAMS)
    for i, name in enumerate("abc"):
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64)).astype(np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        mask[4 : 8 + i, 10:20] = 255
        picture(tmp_path / "in" / f"{name}.tif", pixels)
        picture(tmp_path / "masks" / f"{name}_mask.png", mask)
    return root


def request(project, **changes):
    home = project.parent
    values = {
        "images": (str(home / "in"),),
        "labels": (str(home / "masks"),),
        "defects": ("voids",),
        "pixel_size_nm": 0.365,
        "dvc": False,
        **changes,
    }
    return ImportRequest(**values)


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_what_is_imported_is_in_the_layout_of_the_pipeline(project):
    report = import_data(
        project, request(project, sides=("train", "c=dev"), thickness=(136.0, 10.0))
    )

    data = project / "data"
    assert sorted(tree(data)) == [
        "ignore/voids/README.txt",
        *(f"labels/voids/{n}.png" for n in "abc"),
        "manifest.csv",
        *(f"micrographs/{n}.tif" for n in "abc"),
    ]
    source = project.parent / "in" / "a.tif"
    assert (data / "micrographs" / "a.tif").read_bytes() == source.read_bytes()
    label = np.asarray(Image.open(data / "labels" / "voids" / "c.png"))
    assert label.dtype == np.uint8
    assert set(np.unique(label)) == {0, 255}
    assert (label > 0).sum() == 60
    rows = read_manifest(data / "manifest.csv", data)
    assert [r.side for r in rows] == ["train", "train", "dev"]
    assert (rows[0].pixel_size_nm, rows[0].pixel_size_source) == (0.365, "option")
    assert (rows[0].thickness_nm, rows[0].thickness_sd_nm) == (136.0, 10.0)
    assert report.pixels == {"voids": 40 + 50 + 60}
    assert report.commands[-2:] == ("git commit -m 'Import 3 micrographs of voids'", "dvc repro")


def test_the_same_import_twice_changes_nothing(project):
    import_data(project, request(project))
    before = tree(project)
    import_data(project, request(project))
    assert tree(project) == before


def test_the_pipeline_runs_on_what_was_imported(project):
    ignore = np.zeros((48, 64), np.uint8)
    ignore[:5] = 1
    picture(project.parent / "ignore" / "b.png", ignore)
    import_data(
        project,
        request(
            project,
            sides=("train", "c=dev"),
            ignore=(str(project.parent / "ignore"),),
            pixel_size_nm=None,
            uncalibrated=True,
        ),
    )
    parameters = load_parameters(project)
    voids = parameters.defect("voids")
    prepare(project, voids, ConditioningOptions())
    record = split(project, voids, parameters.options("split", "voids", SplitOptions))

    train = load_fields(project / "split" / "voids" / "train.npz")
    dev = load_fields(project / "split" / "voids" / "dev.npz")
    assert [f.image for f in train] == ["a.tif", "b.tif"]
    assert [int(f.ignore.sum()) for f in train] == [0, 5 * 64]
    assert [int(f.label.sum()) for f in (*train, *dev)] == [40, 50, 60]
    assert not train[0].calibration.calibrated
    assert load_fields(project / "split" / "voids" / "test.npz") == []
    assert [f.image for f in load_fields(project / "split" / "voids" / "gate.npz")] == ["c.tif"]
    assert record["gate_is"] == "dev"
    assert record["sides"]["dev"]["defect_pixels"] == 60


def test_preparing_and_splitting_twice_gives_the_same_bytes(project):
    import_data(project, request(project, sides=("train", "c=dev")))
    parameters = load_parameters(project)
    voids = parameters.defect("voids")

    def run():
        prepare(project, voids, ConditioningOptions())
        split(project, voids, parameters.options("split", "voids", SplitOptions))
        return {**tree(project / "prepared"), **tree(project / "split")}

    first = run()
    (project / "prepared" / "voids" / "stale.npz").touch()
    assert run() == first
    summary = read_summary(project / "prepared" / "voids" / "summary.csv")
    assert [(p.image, p.rows, p.columns) for p in summary] == [(f"{n}.tif", 48, 64) for n in "abc"]


def test_a_leak_by_content_stops_the_split(project):
    import_data(project, request(project, sides=("train", "c=dev")))
    data = project / "data"
    shutil.copy(data / "micrographs" / "a.tif", data / "micrographs" / "c.tif")
    parameters = load_parameters(project)
    voids = parameters.defect("voids")
    prepare(project, voids, ConditioningOptions())
    with pytest.raises(GateFailed, match=r"E_LEAK.*a\.tif and c\.tif have the same pixels"):
        split(project, voids, parameters.options("split", "voids", SplitOptions))
    assert not (project / "split").exists()


def test_leak_check_finds_a_turned_crop(project):
    import_data(project, request(project, sides=("train", "c=dev")))
    assert [c.leaks for c in leak_check(project)] == [()]

    crop = np.asarray(Image.open(project.parent / "in" / "a.tif"))[8:45, 5:60]
    picture(project.parent / "more" / "d.png", np.rot90(crop, 1))
    picture(project.parent / "more_masks" / "d.png", np.zeros((55, 37), np.uint8))
    import_data(
        project,
        request(
            project,
            images=(str(project.parent / "more"),),
            labels=(str(project.parent / "more_masks"),),
            sides=("dev",),
        ),
    )
    (checked,) = leak_check(project)
    assert len(checked.leaks) == 1
    assert "a.tif and d.png share pixels, turned or mirrored, on train and dev" in checked.leaks


def test_a_new_type_enters_every_section_and_comments_stay(project):
    import_data(
        project,
        request(
            project,
            defects=("loops",),
            shapes=("line",),
            polarities=("dark",),
            rectangles=(("train", (0, 0.5, 0, 1)), ("dev", (0.5, 1, 0, 1))),
        ),
    )
    text = (project / "params.yaml").read_text()
    assert text == (
        "# kept\n"
        "defects:\n"
        "  voids: {}\n"
        "  loops: {shape: line, polarity: dark, colour: '#40e0d0'}\n\n"
        "# of the split\n"
        "split:\n"
        "  default:\n"
        "    scheme: paper\n"
        "  voids: {}\n"
        "  loops: {scheme: rectangles, rectangles: "
        "{train: [[0, 0.5, 0, 1]], dev: [[0.5, 1, 0, 1]]}}\n\n"
        "# of training\n"
        "train:\n"
        "  default: {preset: quick}\n"
        "  voids: {epochs: 3}\n"
        "  loops: {}\n"
    )
    options = load_parameters(project).options("split", "loops", SplitOptions)
    assert options.rectangles["dev"] == [(0.5, 1.0, 0.0, 1.0)]


def test_replacing_starts_a_new_set_and_keeps_the_old_aside(project):
    import_data(project, request(project))
    new = request(
        project,
        defects=("loops",),
        shapes=("line",),
        polarities=("bright",),
        images=(str(project.parent / "in" / "b.tif"),),
        labels=(str(project.parent / "masks" / "b_mask.png"),),
        replace=True,
    )
    report = import_data(project, new)

    assert [r.image for r in read_manifest(project / "data" / "manifest.csv")] == ["b.tif"]
    assert not (project / "data" / "labels" / "voids").exists()
    assert (project / "data.replaced-1" / "micrographs" / "a.tif").exists()
    assert any("data.replaced-1" in c for c in report.commands)
    assert list(load_parameters(project).defects) == ["loops"]
    text = (project / "params.yaml").read_text()
    assert "voids" not in text
    assert "# of training" in text


def test_several_types_in_coloured_masks(project):
    for name in "abc":
        mask = np.full((48, 64, 3), 77, np.uint8)
        mask[:10, :10] = (0, 0, 255)
        mask[20:23, :10] = (255, 0, 0)
        picture(project.parent / "rgb" / f"{name}.png", mask)
    (project.parent / "s.json").write_text('{"S": {"train": ["a.tif"], "val": ["c.tif"]}}')
    report = import_data(
        project,
        request(
            project,
            labels=(str(project.parent / "rgb"),),
            defects=(),
            colours={"second": [(0, 0, 255)], "third": [(255, 0, 0)]},
            shapes=("particle",),
            polarities=("dark", "third=bright"),
            split_file=project.parent / "s.json",
            split_name="S",
        ),
    )
    assert report.pixels == {"second": 200, "third": 60}
    assert [(r.image, r.side, sorted(r.labels)) for r in report.rows] == [
        ("a.tif", "train", ["second", "third"]),
        ("c.tif", "dev", ["second", "third"]),
    ]
    assert "b.tif: not in the split file, left out" in report.notes
    kinds = load_parameters(project).defects
    assert (kinds["second"].polarity, kinds["third"].polarity) == ("dark", "bright")
    assert kinds["second"].colour != kinds["third"].colour
    assert load_parameters(project).merged("split", "third") == {"scheme": "manifest"}


def test_coco_and_yolo(project):
    square = [[10, 4, 19, 4, 19, 7, 10, 7]]
    coco = {
        "images": [
            {"id": i, "file_name": f"{n}.tif", "height": 48, "width": 64}
            for i, n in enumerate("abc")
        ],
        "categories": [{"id": 5, "name": "void"}],
        "annotations": [{"image_id": 0, "category_id": 5, "segmentation": square}],
    }
    (project.parent / "coco.json").write_text(json.dumps(coco))
    (project.parent / "yolo").mkdir()
    for n in "abc":
        (project.parent / "yolo" / f"{n}.txt").write_text(
            " ".join(["0", *(f"{v / (64, 48)[k % 2]:.6f}" for k, v in enumerate(square[0]))])
        )
    one = import_data(
        project,
        request(project, labels=(str(project.parent / "coco.json"),), into=project / "one"),
    )
    two = import_data(
        project, request(project, labels=(str(project.parent / "yolo"),), into=project / "two")
    )
    assert one.pixels == {"voids": 40}
    assert two.pixels == {"voids": 120}
    label = (project / "two" / "labels" / "voids" / "a.png").read_bytes()
    assert (project / "one" / "labels" / "voids" / "a.png").read_bytes() == label
    assert (project / "params.yaml").read_text() == PARAMS


def test_a_manifest_with_everything(project):
    home = project.parent
    (home / "m.csv").write_text(
        "image,label_voids,ignore,specimen,side,pixel_size_nm,thickness_nm,thickness_sd_nm\n"
        "in/a.tif,masks/a_mask.png,masks/b_mask.png,S1,train,0.5,45,5\n"
        "in/b.tif,masks/b_mask.png,,S2,dev,0.5,,\n"
    )
    report = import_data(
        project,
        request(project, images=(), labels=(), manifest=home / "m.csv", pixel_size_nm=None),
    )
    assert [
        (r.image, r.specimen, r.side, r.pixel_size_nm, r.thickness_nm) for r in report.rows
    ] == [
        ("a.tif", "S1", "train", 0.5, 45.0),
        ("b.tif", "S2", "dev", 0.5, None),
    ]
    assert report.rows[0].ignore == ("ignore/voids/a.png",)
    assert report.rows[0].pixel_size_source == "manifest"


def test_an_archive_of_a_data_folder_is_imported_as_it_is(project):
    import_data(project, request(project, into=project / "one", sides=("train", "c=dev")))
    archive = project.parent / "set.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for path in sorted((project / "one").rglob("*")):
            z.write(path, f"top/{path.relative_to(project / 'one')}")
    import_data(
        project,
        request(
            project,
            images=(str(archive),),
            labels=(),
            defects=(),
            pixel_size_nm=None,
            into=project / "two",
        ),
    )
    assert tree(project / "two") == tree(project / "one")


def test_an_archive_of_images_and_labels_needs_no_type_elsewhere(project):
    archive = project.parent / "set.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for n in "abc":
            z.write(project.parent / "in" / f"{n}.tif", f"images/{n}.tif")
            z.write(project.parent / "masks" / f"{n}_mask.png", f"labels/{n}.png")
    asked = request(project, images=(str(archive),), labels=(), defects=())
    (project / "out").mkdir()
    report = import_data(project, replace(asked, into=project / "out"))
    assert report.pixels == {"unnamed": 150}
    with pytest.raises(LabelRefused, match="E_USAGE"):
        import_data(project, asked)


def test_a_set_replaced_elsewhere_is_kept_and_named(project):
    asked = request(project, into=project / "one", replace=True)
    assert import_data(project, asked).commands == ()
    (said,) = import_data(project, asked).commands
    assert said == f"rm -r {project / 'one.replaced-1'}  # the set that was replaced"
    assert (project / "one.replaced-1" / "manifest.csv").is_file()


def test_a_sidecar_travels_with_its_image(project):
    (project.parent / "in" / "a.json").write_text('{"pixel_size_nm": 0.5, "thickness_nm": 80}')
    import_data(
        project, request(project, pixel_size_nm=None, uncalibrated=True, into=project / "one")
    )
    rows = read_manifest(project / "one" / "manifest.csv")
    assert [(r.pixel_size_nm, r.pixel_size_source, r.thickness_nm) for r in rows] == [
        (0.5, "sidecar", 80.0),
        (None, "uncalibrated", None),
        (None, "uncalibrated", None),
    ]
    assert (project / "one" / "micrographs" / "a.json").exists()


def break_label_values(project):
    grey = np.full((48, 64), 100, np.uint8)
    grey[0] = 0
    picture(project.parent / "masks" / "c_mask.png", grey)


def break_label_shape(project):
    picture(project.parent / "masks" / "c_mask.png", np.zeros((64, 48), np.uint8))


def break_image(project):
    (project.parent / "in" / "c.tif").write_bytes(b"no picture at all")


def break_duplicate(project):
    shutil.copy(project.parent / "in" / "a.tif", project.parent / "in" / "c.tif")


@pytest.mark.parametrize(
    ("broken", "changes", "code"),
    [
        (break_label_values, {}, "E_LABEL_VALUES"),
        (break_label_shape, {}, "E_SHAPE"),
        (break_image, {}, "E_UNREADABLE"),
        (break_duplicate, {}, "E_DUPLICATE"),
        (None, {"pixel_size_nm": None}, "E_PX_MISSING"),
        (None, {"defects": ()}, "E_USAGE"),
        (None, {"defects": ("voids", "loops")}, "E_USAGE"),
        (None, {"defects": ("loops",)}, "E_CONFIG"),
        (None, {"defects": ("Voids",)}, "E_CONFIG"),
        (None, {"defects": ("voids",), "polarities": ("dark",)}, "E_CONFIG"),
        (None, {"images": ()}, "E_USAGE"),
        (None, {"rectangles": (("train", (0, 2, 0, 1)),)}, "E_CONFIG"),
        (None, {"labels": (), "defects": (), "replace": True}, "E_LABEL_MISSING"),
    ],
)
def test_a_refused_import_leaves_everything_as_it_was(project, broken, changes, code):
    import_data(
        project,
        request(
            project,
            images=(str(project.parent / "in" / "b.tif"),),
            labels=(str(project.parent / "masks" / "b_mask.png"),),
        ),
    )
    if broken:
        broken(project)
    before = tree(project)
    with pytest.raises(DefectopsError) as caught:
        import_data(project, request(project, **changes))
    assert caught.value.code == code
    assert tree(project) == before


def test_other_contents_under_a_known_name_are_refused(project):
    import_data(project, request(project))
    before = tree(project)
    mask = np.zeros((48, 64), np.uint8)
    mask[30:40] = 255
    picture(project.parent / "masks" / "b_mask.png", mask)
    with pytest.raises(DefectopsError, match=r"labels/voids/b\.png: E_DUPLICATE"):
        import_data(project, request(project))
    shutil.move(project.parent / "in" / "a.tif", project.parent / "in" / "z.tif")
    shutil.move(project.parent / "masks" / "a_mask.png", project.parent / "masks" / "z.png")
    (project.parent / "masks" / "b_mask.png").write_bytes(before["data/labels/voids/b.png"])
    with pytest.raises(DefectopsError, match=r"already in the data as a\.tif"):
        import_data(project, request(project))
    assert tree(project) == before


def test_a_second_type_of_the_same_images_adds_up(project):
    import_data(project, request(project, sides=("train", "c=dev")))
    new = {"shapes": ("line",), "polarities": ("dark",)}
    import_data(project, request(project, defects=("loops",), **new))
    rows = read_manifest(project / "data" / "manifest.csv")
    assert [(r.side, sorted(r.labels)) for r in rows] == [
        ("train", ["loops", "voids"]),
        ("train", ["loops", "voids"]),
        ("dev", ["loops", "voids"]),
    ]
    with pytest.raises(DefectopsError, match=r"side 'train', now it is 'dev'"):
        import_data(project, request(project, defects=("loops",), sides=("dev",), **new))


def test_an_unlabelled_type_is_named_by_prepare(project):
    import_data(project, request(project))
    (project / "params.yaml").write_text(PARAMS.replace("defects:", "defects:\n  dislocations: {}"))
    with pytest.raises(LabelRefused, match="no label for dislocations"):
        prepare(project, load_parameters(project).defect("dislocations"), ConditioningOptions())


def test_a_split_without_a_dev_side_is_refused(project):
    import_data(project, request(project, sides=("train",)))
    voids = load_parameters(project).defect("voids")
    prepare(project, voids, ConditioningOptions())
    with pytest.raises(SettingsRefused, match="nothing is on the side dev"):
        split(project, voids, SplitOptions(scheme="manifest"))


def dvc(root, *words):
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=True, capture_output=True)


@pytest.mark.slow
def test_dvc_records_the_data_and_never_in_the_bundled_remote(project):
    dvc(project, "init", "-q", "--no-scm")
    import_data(project, request(project, dvc=True, sides=("train", "c=dev")))
    pointer = project / "data.dvc"
    dvc(project, "remote", "add", "bundled", str(project.parent / "remote"))
    pointer.write_text(pointer.read_text() + "  remote: bundled\n")

    picture(project / "data" / "labels" / "voids" / "stray.png", np.zeros((9, 9), np.uint8))
    with pytest.raises(Conflict, match="not recorded"):
        import_data(project, request(project, dvc=True, replace=True))
    (project / "data" / "labels" / "voids" / "stray.png").unlink()

    report = import_data(project, request(project, dvc=True, replace=True, sides=("train",)))
    assert report.commands[0] == "git add data.dvc params.yaml"
    assert "remote" not in pointer.read_text()
    assert not list(project.glob("data.replaced*"))

    (project / "dvc.yaml").write_text("a: b: c\n")
    with pytest.raises(EnvironmentFault, match=r"E_DVC.*dvc\.yaml.*is invalid"):
        import_data(project, request(project, dvc=True))
    (project / "dvc.yaml").unlink()

    shutil.rmtree(project / "data")
    with pytest.raises(Conflict, match="not here"):
        import_data(project, request(project, dvc=True))
    import_data(project, request(project, dvc=True, replace=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["superalloy", "nasa", "figure"])
def test_the_real_sets_are_imported_as_the_guide_says(shared, project, name):
    data = shared / "data"
    if name == "superalloy":
        asked = {
            "images": (str(data / "superalloy-sem-1070" / "*" / "original_sem.jpg"),),
            "labels": (str(data / "superalloy-sem-1070" / "*" / "GT.png"),),
            "name_from": "parent",
            "defects": ("gamma_prime",),
            "sides": ("train", "1070-500H=dev"),
        }
        fractions = {"gamma_prime": [0.612, 0.527, 0.569]}  # of that set's README
    elif name == "nasa":
        home = data / "nasa-ni-superalloy"
        asked = {
            "images": (str(home / "images"),),
            "labels": (str(home / "masks_rgba"),),
            "defects": (),
            "colours": {
                "gamma_prime_secondary": [(0, 0, 255)],
                "gamma_prime_tertiary": [(255, 0, 0)],
            },
            "split_file": home / "splits.json",
            "split_name": "Super1",
        }
        fractions = {"gamma_prime_secondary": [0.5442, 0.5052], "gamma_prime_tertiary": [0.0168]}
    else:
        home = data / "defectsegnet-figure-crops" / "dislocation_dev_half"
        asked = {
            "images": (str(home / "image.png"),),
            "labels": (str(home / "ground_truth.png"),),
            "ignore": (str(home / "ignore.png"),),
            "name_from": "parent",
            "defects": ("dislocations",),
            "rectangles": (("train", (0, 1, 0, 0.6)), ("dev", (0, 1, 0.6, 1))),
        }
        fractions = {"dislocations": [0.067]}
    if name != "figure":
        asked |= {"shapes": ("particle",), "polarities": ("dark",)}
    import_data(
        project,
        request(project, pixel_size_nm=None, uncalibrated=True, replace=True, **asked),
    )
    parameters = load_parameters(project)
    for key, expected in fractions.items():
        kind = parameters.defect(key)
        found = [p.defect_fraction for p in prepare(project, kind, ConditioningOptions())]
        assert found[: len(expected)] == pytest.approx(expected, abs=6e-4)
        split(project, kind, parameters.options("split", key, SplitOptions))
        assert load_fields(project / "split" / key / "dev.npz")
    assert settings.load_yaml(project / "params.yaml")["defects"].keys() == fractions.keys()
