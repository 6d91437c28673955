"""A tiny network, and tiny labelled fields to train it on."""

import numpy as np

from defectops.learning.networks import NetworkSpec
from defectops.micrograph import Calibration, Field, Region

TINY = NetworkSpec(width=0.1)
PIXEL = Calibration(0.365, "manifest")


def field(intensity, label, ignore=None, name="a.png"):
    height, width = label.shape
    ignore = np.zeros_like(label) if ignore is None else ignore
    region = Region(0, height, 0, width)
    return Field(name, region, intensity.astype(np.float32), label, ignore, PIXEL)


def blobs(shape=(40, 56), seed=0):
    """Bright discs on noise, with their label."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    label = np.zeros(shape, bool)
    for row, column in random.integers(4, np.array(shape) - 4, (5, 2)):
        label |= (rows - row) ** 2 + (columns - column) ** 2 <= 9
    return field(2.5 * label + random.normal(0, 0.7, shape), label)
