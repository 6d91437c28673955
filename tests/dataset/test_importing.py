"""Files are paired by name without guessing; options and split files say exactly what they say."""

from pathlib import Path

import pytest

from defectops.dataset import importing
from defectops.errors import LabelRefused, ManifestRefused, MicrographRefused


def paths(*names):
    return [Path(n) for n in names]


def paired(images, labels, masks=(), name_from="stem"):
    return [
        (s.name, str(s.label) if s.label else None, str(s.ignore) if s.ignore else None)
        for s in importing.pair(paths(*images), paths(*labels), paths(*masks), name_from)
    ]


def test_labels_go_with_images_by_stem_or_known_endings():
    labels = ["m/a.png", "m/b_mask.tif", "m/c.d-GT.png", "m/e_ground_truth.png", "m/f_label.png"]
    images = ["i/a.tif", "i/b.tif", "i/c.d.tif", "i/e.jpg", "i/f.png"]
    assert paired(images, labels, ["g/b.png"]) == [
        ("a.tif", "m/a.png", None),
        ("b.tif", "m/b_mask.tif", "g/b.png"),
        ("c.d.tif", "m/c.d-GT.png", None),
        ("e.jpg", "m/e_ground_truth.png", None),
        ("f.png", "m/f_label.png", None),
    ]


def test_an_image_whose_own_name_ends_like_a_label_keeps_its_label():
    labels = ["m/x_mask.png", "m/x.png"]
    assert paired(["i/x_mask.tif", "i/x.tif"], labels) == [
        ("x_mask.tif", "m/x_mask.png", None),
        ("x.tif", "m/x.png", None),
    ]


def test_files_of_one_folder_belong_together_when_told():
    assert paired(
        ["s/10H/sem.jpg", "s/300H/sem.jpg"],
        ["s/10H/GT.png", "s/300H/GT.png"],
        ["s/300H/ignore.png"],
        "parent",
    ) == [
        ("10H.jpg", "s/10H/GT.png", None),
        ("300H.jpg", "s/300H/GT.png", "s/300H/ignore.png"),
    ]


@pytest.mark.parametrize(
    ("images", "labels", "masks", "error", "code"),
    [
        (["a.tif", "b.tif"], ["m/a.png"], [], LabelRefused, "E_LABEL_MISSING"),
        (["a.tif"], ["m/a.png", "m/b.png"], [], LabelRefused, "E_IMAGE_MISSING"),
        (["a.tif"], ["m/a.png"], ["g/b.png"], LabelRefused, "E_IMAGE_MISSING"),
        (["a.tif", "a.png"], ["m/a.png"], [], MicrographRefused, "E_DUPLICATE"),
        (["a.tif", "x/A.tif"], ["m/a.png"], [], MicrographRefused, "E_DUPLICATE"),
        (["a.tif"], ["m/a.png", "m/a_mask.png"], [], LabelRefused, "E_DUPLICATE"),
        (["a;b.tif"], ["m/a;b.png"], [], MicrographRefused, "E_PATH"),
        (["a\nb.tif"], ["m/a.png"], [], MicrographRefused, "E_PATH"),
        ([".a.tif"], ["m/a.png"], [], MicrographRefused, "E_PATH"),
    ],
)
def test_what_does_not_pair_is_refused(images, labels, masks, error, code):
    with pytest.raises(error, match=code):
        paired(images, labels, masks)


def test_images_without_any_labels_are_fine():
    assert paired(["a.tif"], []) == [("a.tif", None, None)]


def test_places_are_folders_files_and_patterns(tmp_path):
    for name in ("a.tif", "b.PNG", "notes.txt", ".hidden.png", "x/c.tif", "y/c.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def find(*places):
        found = importing.find_files(
            [str(tmp_path / p) for p in places], importing.IMAGE_SUFFIXES, "images"
        )
        return [str(p.relative_to(tmp_path)) for p in found]

    assert find("") == ["a.tif", "b.PNG"]
    assert find("*/c.tif") == ["x/c.tif", "y/c.tif"]
    assert find("a.tif", "") == ["a.tif", "b.PNG"]
    for nowhere in ("nothing", "*.jpg"):
        with pytest.raises(MicrographRefused, match="no images here"):
            find(nowhere)


def test_split_files(tmp_path):
    table = tmp_path / "s.csv"
    table.write_text("image,side\na.tif,train\nb.tif,val\nc.tif,auto\n")
    assert importing.read_split_file(table) == {"a.tif": "train", "b.tif": "dev", "c.tif": "auto"}
    one = tmp_path / "s.json"
    one.write_text('{"train": ["a"], "test": ["b"]}')
    assert importing.read_split_file(one) == {"a": "train", "b": "test"}
    many = tmp_path / "m.json"
    many.write_text('{"S1": {"train": ["a"]}, "S2": {"val": ["a"]}}')
    assert importing.read_split_file(many, "S2") == {"a": "dev"}
    with pytest.raises(ManifestRefused, match=r"--split-name with one of S1, S2"):
        importing.read_split_file(many)
    with pytest.raises(ManifestRefused, match="no split named 'S3'"):
        importing.read_split_file(many, "S3")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("s.csv", "file,side\na,train\n", "columns image and side"),
        ("s.csv", "image,side\na,trian\n", "unknown side 'trian'"),
        ("s.csv", "image,side\na,train\na,dev\n", "two sides"),
        ("s.json", "[1]", "mapping of sides"),
        ("s.json", "{", "cannot be read"),
        ("s.json", '{"train": ["a"], "val": ["a"]}', "two sides"),
    ],
)
def test_broken_split_files_are_refused(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestRefused, match=words):
        importing.read_split_file(tmp_path / name)


def test_split_file_entries_match_by_name_stem_or_original_name():
    sources = [
        importing.Source("10H.jpg", Path("s/10H/sem.jpg")),
        importing.Source("b.tif", Path("s/b.tif")),
    ]
    assert importing.listed(sources, {"10H": "train", "b.tif": "dev"}) == {
        "10H.jpg": "train",
        "b.tif": "dev",
    }
    with pytest.raises(ManifestRefused, match="E_IMAGE_MISSING"):
        importing.listed(sources, {"c": "train"})


def test_options_hold_for_all_or_for_some():
    names = ["1070-10H.jpg", "1070-500H.jpg"]
    assert importing.chosen("--side", ["train", "1070-500H=dev"], names) == {
        "1070-10H.jpg": "train",
        "1070-500H.jpg": "dev",
    }
    assert importing.chosen("--side", ["*-5*=dev"], names) == {"1070-500H.jpg": "dev"}
    with pytest.raises(ManifestRefused, match="matches none"):
        importing.chosen("--side", ["x=dev"], names)


@pytest.mark.parametrize("text", ["", "0", "-3", "1,5", "136+-", "136 nm", "1+-2+-3"])
def test_impossible_thickness_is_refused(text):
    with pytest.raises(ManifestRefused, match="--thickness-nm"):
        importing.parse_thickness(text)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (importing.parse_rectangle, "train=0,1,0,1"),
        (importing.parse_rectangle, "0:1,0:1"),
        (importing.parse_colour, "voids=256,0,0"),
        (importing.parse_colour, "255,0,0"),
        (importing.parse_index, "voids=one"),
        (importing.parse_index, "1"),
    ],
)
def test_impossible_options_are_refused(call, text):
    with pytest.raises(ManifestRefused, match="is not"):
        call(text)
