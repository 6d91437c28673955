"""Each foreign label form against drawings counted by hand, and against the real sets."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from defectops.dataset import label_formats as formats
from defectops.errors import LabelRefused

BLUE, RED, GREY, BLACK = (0, 0, 255), (255, 0, 0), (90, 90, 90), (0, 0, 0)


def coloured(rows):
    return np.array(rows, np.uint8)


def refused(code, words, call, *arguments):
    with pytest.raises(LabelRefused) as caught:
        call(*arguments)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_colours_are_matched_exactly_and_grey_is_the_micrograph():
    mask = coloured([[BLUE, RED, GREY], [BLACK, BLUE, (255, 255, 255)]])

    planes = formats.by_colour("m", mask, {"second": [BLUE], "third": [RED]})

    assert planes["second"].tolist() == [[True, False, False], [False, True, False]]
    assert planes["third"].tolist() == [[False, True, False], [False, False, False]]


def test_a_colour_without_a_type_is_refused_and_named():
    mask = coloured([[BLUE, (0, 255, 0), (1, 254, 0), (0, 255, 0)]])
    refused(
        "E_LABEL_VALUES",
        "3 label pixels in 2 colour(s)",
        formats.by_colour,
        "m",
        mask,
        {"a": [BLUE]},
    )
    refused("E_LABEL_VALUES", "0,255,0", formats.by_colour, "m", mask, {"a": [BLUE]})
    named = {"a": [BLUE], formats.BACKGROUND: [(0, 255, 0), (1, 254, 0)]}
    assert set(formats.by_colour("m", mask, named)) == {"a"}


def test_when_a_type_is_grey_other_greys_are_not_background():
    mask = coloured([[(255, 255, 255), GREY, BLACK]])
    refused("E_LABEL_VALUES", "90,90,90", formats.by_colour, "m", mask, {"a": [(255, 255, 255)]})


def test_transparent_is_background_and_soft_edges_are_refused():
    mask = coloured([[(*BLUE, 255), (*BLUE, 0), (0, 255, 0, 0)]])
    assert formats.by_colour("m", mask, {"a": [BLUE]})["a"].tolist() == [[True, False, False]]
    hidden = coloured([[(*BLUE, 0)]])
    refused("E_LABEL_VALUES", "whole label", formats.by_colour, "m", hidden, {"a": [BLUE]})
    soft = coloured([[(*BLUE, 120)]])
    refused("E_LABEL_VALUES", "half-transparent", formats.by_colour, "m", soft, {"a": [BLUE]})


def test_a_grey_mask_is_no_coloured_one_and_the_reverse():
    grey, rgb = np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3), np.uint8)
    refused("E_LABEL_CHANNELS", "--label-index", formats.by_colour, "m", grey, {"a": [BLUE]})
    refused("E_LABEL_CHANNELS", "--label-colour", formats.by_index, "m", rgb, {"a": [1]})
    deep = np.zeros((3, 4, 3), np.uint16)
    refused("E_LABEL_VALUES", "8-bit", formats.by_colour, "m", deep, {"a": [BLUE]})


def test_indices():
    mask = np.array([[0, 1, 2], [3, 2, 1]])
    planes = formats.by_index("m", mask, {"a": [1, 3], "b": [2]})
    assert planes["a"].tolist() == [[False, True, False], [True, False, True]]
    assert planes["b"].tolist() == [[False, False, True], [False, True, False]]
    refused("E_LABEL_VALUES", "the first 3", formats.by_index, "m", mask, {"a": [1], "b": [2]})
    assert set(formats.by_index("m", mask, {"a": [1], formats.BACKGROUND: [2, 3]})) == {"a"}


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 3)))
def test_indexed_planes_partition_the_mask(mask):
    planes = formats.by_index("m", mask, {"a": [1], "b": [2], "c": [3]})
    total = sum(plane.astype(int) for plane in planes.values())
    assert (total == (mask > 0)).all()


def test_a_yolo_polygon_is_filled_corner_to_corner(tmp_path):
    # A rectangle of rows 1..3 and columns 2..6 of a 5 x 10 image: 3 x 5 pixel centres.
    path = tmp_path / "a.txt"
    path.write_text("0 0.2 0.2 0.6 0.2 0.6 0.6 0.2 0.6\n\n")
    outlines = formats.read_yolo(path, (5, 10))
    plane = formats.outline_planes("a", outlines, (5, 10), {"x": [0]})["x"]
    assert plane.sum() == 15
    assert plane[1:4, 2:7].all()


def test_overlapping_polygons_merge_and_classes_stay_apart(tmp_path):
    path = tmp_path / "a.txt"
    square = "0.0 0.0 0.4 0.0 0.4 0.4 0.0 0.4"
    path.write_text(f"0 {square}\n0 {square}\n3 {square}\n")
    outlines = formats.read_yolo(path, (10, 10))
    planes = formats.outline_planes("a", outlines, (10, 10), {"x": [0], "y": [3]})
    assert (planes["x"] == planes["y"]).all()
    assert planes["x"].sum() == 25
    refused("E_LABEL_VALUES", "class 3", formats.outline_planes, "a", outlines, (9, 9), {"x": [0]})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.1 0.1", "a box"),
        ("0 0.1 0.1 0.2 0.2 0.3", "three corners"),
        ("0 0.1 0.1 0.2 0.2 1.3 0.1", "from 0 to 1"),
        ("0 0.1 0.1 0.2 nan 0.3 0.1", "from 0 to 1"),
        ("void 0.1 0.1 0.2 0.2 0.3 0.1", "not 'class"),
        ("0", "three corners"),
    ],
)
def test_other_yolo_lines_are_refused_with_their_number(tmp_path, line, words):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0 0 0.5 0 0 0.5\n{line}\n")
    refused("E_LABEL_VALUES", "a.txt line 2", formats.read_yolo, path, (9, 9))
    refused("E_LABEL_VALUES", words, formats.read_yolo, path, (9, 9))


def test_an_empty_yolo_file_is_an_image_without_defects(tmp_path):
    (tmp_path / "a.txt").touch()
    outlines = formats.read_yolo(tmp_path / "a.txt", (4, 6))
    assert not formats.outline_planes("a", outlines, (4, 6), {"x": [0]})["x"].any()


def coco_file(tmp_path, **changes):
    data = {
        "images": [
            {"id": 1, "file_name": "sub/a.png", "height": 5, "width": 10},
            {"id": 2, "file_name": "b.png", "height": 5, "width": 10},
        ],
        "categories": [{"id": 7, "name": "loop"}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "segmentation": [[2, 1, 6, 1, 6, 3, 2, 3]]}
        ],
        **changes,
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(data))
    return path


def test_coco_polygons(tmp_path):
    coco = formats.read_coco(coco_file(tmp_path))
    assert coco.categories == {7: "loop"}
    plane = formats.coco_planes(coco, "a.png", (5, 10), {"x": [7]})["x"]
    assert plane.sum() == 15
    assert plane[1:4, 2:7].all()
    assert not formats.coco_planes(coco, "b.png", (5, 10), {"x": [7]})["x"].any()
    refused("E_SHAPE", "5 x 10", formats.coco_planes, coco, "a.png", (10, 5), {"x": [7]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": None}, "not a COCO file"),
        ({"images": [{"id": 1, "file_name": "a.png", "height": 5, "width": 10}] * 2}, "twice"),
        ({"annotations": [{"image_id": 9, "category_id": 7, "segmentation": [[0]]}]}, "image 9"),
        ({"annotations": [{"image_id": 1, "category_id": 7, "segmentation": []}]}, "a box"),
    ],
)
def test_broken_coco_files_are_refused(tmp_path, changes, words):
    refused("E_LABEL_VALUES", words, formats.read_coco, coco_file(tmp_path, **changes))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 2, 3]], "three corners"),
        ([[1, 2, 3, 4, "x", 6]], "finite"),
        ({"size": [10, 5], "counts": [50]}, "size"),
        ({"size": [5, 10], "counts": [49]}, "cover 49"),
        ({"size": [5, 10], "counts": "zz"}, "not allowed"),
        ({"size": [5, 10], "counts": "P"}, "truncated"),
    ],
)
def test_broken_segmentations_are_refused(tmp_path, segmentation, words):
    row = {"image_id": 1, "category_id": 7, "segmentation": segmentation}
    coco = formats.read_coco(coco_file(tmp_path, annotations=[row]))
    refused("E_LABEL_VALUES", words, formats.coco_planes, coco, "a.png", (5, 10), {"x": [7]})


def test_run_lengths_go_down_the_columns():
    plane = formats.decode_runs("m", [1, 2, 3], (3, 2))
    assert plane.tolist() == [[False, False], [True, False], [True, False]]


def encoded(runs):
    """COCO's text form, written from its description: differences from the third run on."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            done = value == (-1 if bits & 16 else 0)
            text += chr((bits if done else bits | 32) + 48)
            if done:
                break
    return text


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_compressed_run_lengths_come_back(mask):
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    assert (formats.decode_runs("m", encoded(runs), mask.shape) == mask).all()
    assert (formats.decode_runs("m", runs, mask.shape) == mask).all()


def test_real_polygons_give_the_published_mask(shared):
    folder = shared / "data" / "ti-loops-insitu-tem"
    mask = np.asarray(Image.open(folder / "masks_round2" / "frame-1743.png")) > 0
    outlines = formats.read_yolo(folder / "polygons_round2" / "frame-1743.txt", mask.shape)
    plane = formats.outline_planes("frame", outlines, mask.shape, {"loops": [0]})["loops"]
    # Corners within the rounding of six digits are put on the grid; that may move a pixel.
    assert (plane != mask).sum() <= 2
    assert mask.sum() > 100_000


def test_real_coco_polygons_agree_with_the_authors_masks(shared):
    folder = shared / "data" / "creme-316l-loops" / "tiles_upsampled_4x"
    coco = formats.read_coco(folder / "clean.json")
    both = either = 0
    for name in coco.images:
        mask = np.asarray(Image.open(folder / "masks1" / name)) > 0
        plane = formats.coco_planes(coco, name, mask.shape, {"loops": [1]})["loops"]
        both, either = both + (mask & plane).sum(), either + (mask | plane).sum()
    assert both / either > 0.92  # the outlines are simplified; 0.93 at pixel centres


def test_real_colours_and_indices_say_the_same(shared):
    folder = shared / "data" / "nasa-ni-superalloy"
    rgba = np.asarray(Image.open(folder / "masks_rgba" / "spot1_180d_6_mask.tif"))
    index = np.asarray(Image.open(folder / "labels_index" / "spot1_180d_6.png"))
    by_colour = formats.by_colour("m", rgba, {"second": [BLUE], "third": [RED]})
    by_index = formats.by_index("m", index, {"second": [1], "third": [2]})
    assert all((by_colour[t] == by_index[t]).all() for t in ("second", "third"))
    assert by_index["second"].sum() == 124293
