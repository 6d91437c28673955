"""Crops: what is unsure is yellow, what is sure turquoise, large ones are thinned out."""

import numpy as np

from defectops.reporting.label_next import overlay


def test_colours_say_how_sure():
    intensity = np.zeros((4, 6))
    intensity[0, 0] = 1.0
    chance = np.zeros((4, 6))
    chance[1, 1], chance[2, 2] = 0.5, 0.95
    picture = overlay(intensity, chance)
    assert picture.shape == (4, 6, 3)
    assert picture[3, 3].tolist() == [0, 0, 0]
    assert picture[1, 1].tolist() == [128, 95, 0]
    assert picture[2, 2].tolist() == [32, 112, 104]
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_large_windows_are_thinned_out():
    plane = np.random.default_rng(1).normal(size=(700, 1100))
    assert overlay(plane, plane * 0).shape == (234, 367, 3)
