"""Label images as ImageJ and other readers of TIFF take them: values and scale."""

import io

import numpy as np
import pytest
import tifffile

from defectops.imaging.label_files import label_tiff
from defectops.imaging.reading import read_calibrated_label
from defectops.micrograph import Calibration

LABELS = np.zeros((40, 50), np.int32)
LABELS[3:8, 4:20] = 1
LABELS[20:30, 40:] = 300


@pytest.mark.parametrize("size_nm", [0.365, 0.05, 12.5, 1 / 3, 1e-3])
def test_values_and_scale_come_back(tmp_path, size_nm):
    path = tmp_path / "a.tif"
    path.write_bytes(label_tiff(LABELS, Calibration(size_nm, "tags")))
    found = read_calibrated_label(path)
    np.testing.assert_array_equal(found.pixels, LABELS)
    assert found.pixels.dtype == np.uint16
    assert found.calibration.pixel_size_nm == pytest.approx(size_nm, rel=1e-6)
    assert found.calibration.pixel_size_source == "tags"


def test_it_says_what_imagej_reads():
    with tifffile.TiffFile(io.BytesIO(label_tiff(LABELS, Calibration(0.5, "tags")))) as file:
        (page,) = file.pages
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "nm"
        assert file.imagej_metadata["max"] == 300
        assert page.tags["XResolution"].value == page.tags["YResolution"].value == (2, 1)
        assert page.tags["ResolutionUnit"].value == 1  # none: the unit stands in the description
        assert page.compression == 8  # deflate, which ImageJ reads


def test_without_a_pixel_size_it_says_pixel():
    data = label_tiff(LABELS, Calibration(None, "uncalibrated"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert file.imagej_metadata["unit"] == "pixel"
        assert "ResolutionUnit" not in file.pages[0].tags or (
            file.pages[0].tags["XResolution"].value == (1, 1)
        )


def test_more_objects_than_16_bits_hold_are_whole_floats():
    labels = np.arange(70_000, dtype=np.int32).reshape(200, 350)
    found = tifffile.imread(io.BytesIO(label_tiff(labels, Calibration(1.0, "tags"))))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, labels)


def test_the_same_labels_give_the_same_bytes_and_none_is_a_valid_image():
    scale = Calibration(0.5, "tags")
    assert label_tiff(LABELS, scale) == label_tiff(LABELS.copy(), scale)
    empty = np.zeros((8, 9), np.int32)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(label_tiff(empty, scale))), empty)
