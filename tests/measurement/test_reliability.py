"""Probabilities that come true as often as they say, and those that do not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.reliability import reliability


def test_bins_by_hand():
    chance = np.array([[0.1, 0.1, 0.1, 0.1, 1.0], [0.6, 0.6, 0.6, 0.6, 0.6]])
    label = np.array([[0, 0, 0, 1, 1], [1, 1, 0, 0, 0]], dtype=bool)
    found = reliability(chance, label, n_bins=2)
    assert found.bins["n"].tolist() == [4, 6]
    assert found.bins["mean_probability"].tolist() == pytest.approx([0.1, 4 / 6])
    assert found.bins["defect_fraction"].tolist() == pytest.approx([0.25, 0.5])
    assert found.expected_calibration_error == pytest.approx(0.4 * 0.15 + 0.6 * (4 / 6 - 0.5))
    brier = (3 * 0.01 + 0.81 + 0 + 2 * 0.16 + 3 * 0.36) / 10
    assert found.brier == pytest.approx(brier)


def test_honest_probabilities_have_no_error():
    random = np.random.default_rng(1)
    chance = random.uniform(size=(300, 500))
    label = random.uniform(size=chance.shape) < chance
    found = reliability(chance, label)
    assert found.expected_calibration_error < 0.01
    assert found.brier == pytest.approx(1 / 6, abs=0.005)
    assert reliability(np.sqrt(chance), label).expected_calibration_error > 0.15


def test_nothing_to_judge():
    nothing = reliability(np.full((3, 4), 0.5), np.zeros((3, 4), bool), np.ones((3, 4), bool))
    assert (nothing.n, nothing.expected_calibration_error, nothing.brier) == (0, None, None)
    some = reliability(np.full((3, 4), 0.55), np.ones((3, 4), bool))
    assert some.bins["n"].sum() == 12
    assert math.isnan(some.bins["defect_fraction"][0])


@pytest.mark.parametrize("chance", [np.full((3, 4), 1.1), np.full((3, 4), np.nan)])
def test_what_is_no_probability_is_refused(chance):
    with pytest.raises(LabelRefused, match="E_CONFIG"):
        reliability(chance, np.zeros((3, 4), dtype=bool))


planes = hnp.arrays(float, (5, 7), elements=st.floats(0, 1))


@given(chance=planes, label=hnp.arrays(bool, (5, 7)))
def test_laws_of_reliability(chance, label):
    found = reliability(chance, label)
    assert found.bins["n"].sum() == chance.size
    assert 0 <= found.expected_calibration_error <= 1
    assert found.expected_calibration_error**2 <= found.brier + 1e-12  # Jensen, twice
    perfect = reliability(label.astype(float), label)
    assert (perfect.expected_calibration_error, perfect.brier) == (0, 0)
