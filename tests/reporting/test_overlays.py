"""Outlines lie on their objects, in their colour, however large the micrograph is."""

import io

import numpy as np
import pytest
from PIL import Image

from defectops.micrograph import Calibration
from defectops.reporting.overlays import MAX_SIDE_PX, overlay_png

COLOUR = "#8ac926"
RGB = (0x8A, 0xC9, 0x26)


def drawn(pixels, labels, size_nm=0.5):
    scale = Calibration(size_nm, "tags" if size_nm else "uncalibrated")
    with Image.open(io.BytesIO(overlay_png(pixels, labels, COLOUR, scale))) as picture:
        return np.asarray(picture.convert("RGB"))


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 60_000, shape).astype(np.uint16)


def test_the_outline_of_an_object_is_coloured_and_its_inside_is_not():
    labels = np.zeros((120, 200), np.int32)
    labels[40:60, 50:90] = 7
    picture = drawn(noise(labels.shape), labels)
    coloured = (picture == RGB).all(axis=2)
    assert picture.shape == (120, 200, 3)
    assert coloured[40, 50:90].all()
    assert not coloured[43:57, 53:87].any()
    assert not coloured[:30].any()


def test_touching_objects_have_a_line_between_them():
    labels = np.zeros((100, 100), np.int32)
    labels[20:40, 20:40], labels[20:40, 40:60] = 1, 2
    coloured = (drawn(noise(labels.shape), labels) == RGB).all(axis=2)
    assert coloured[25:35, 39:41].any(axis=1).all()


def test_a_large_micrograph_is_reduced_by_a_whole_factor():
    shape = (70, 2 * MAX_SIDE_PX + 5)
    labels = np.zeros(shape, np.int32)
    labels[30:45, 3000:3060] = 1
    picture = drawn(noise(shape), labels)
    assert picture.shape == (70 // 3, shape[1] // 3, 3)
    rows, columns = np.nonzero((picture == RGB).all(axis=2))
    assert abs(rows.mean() * 3 - 37) < 4
    assert abs(columns.mean() * 3 - 3030) < 6


@pytest.mark.parametrize("size_nm", [0.5, None])
def test_a_bar_is_drawn_in_white_where_nothing_else_is(size_nm):
    empty = np.zeros((200, 300), np.int32)
    pixels = np.tile(np.arange(300, dtype=np.uint8), (200, 1))
    corner = drawn(pixels, empty, size_nm)[150:, :120]
    assert (corner >= 250).all(axis=2).sum() > 40


def test_the_same_picture_gives_the_same_bytes():
    labels = np.zeros((64, 64), np.int32)
    scale = Calibration(0.5, "tags")
    pixels = noise(labels.shape)
    assert overlay_png(pixels, labels, COLOUR, scale) == overlay_png(pixels, labels, COLOUR, scale)
