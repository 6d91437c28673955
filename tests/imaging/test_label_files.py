"""Label images as ImageJ and other readers of TIFF take them: values and scale."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from defectops.imaging.label_files import label_tiff
from defectops.imaging.reading import read_calibrated_label
from defectops.micrograph import Calibration

JAR = Path("/usr/share/java/ij.jar")  # of Debian's package `imagej`
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
        assert page.predictor == 1  # none: ImageJ takes the differences for labels


@pytest.mark.slow
@pytest.mark.skipif(
    not JAR.exists() or shutil.which("javac") is None,
    reason="ImageJ and a JDK are not installed (apt-get install imagej default-jdk-headless)",
)
@pytest.mark.parametrize("highest", [300, 70_000])
def test_imagej_itself_reads_every_label_at_the_right_scale(tmp_path, highest):
    labels = np.where(LABELS == 300, highest, LABELS)
    path = tmp_path / "labels.tif"
    path.write_bytes(label_tiff(labels, Calibration(0.365, "tags")))
    java = ["java", "-Djava.awt.headless=true", "-cp", str(JAR)]
    words = [*java, str(Path(__file__).with_name("Values.java")), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    scale, *values = (line.split() for line in done.stdout.splitlines())
    assert scale[0] == "nm"
    assert float(scale[1]) == pytest.approx(0.365)
    counted = zip(*np.unique(labels, return_counts=True), strict=True)
    assert [(float(v), int(n)) for v, n in values] == [(float(v), int(n)) for v, n in counted]


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
