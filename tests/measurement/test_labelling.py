"""Choosing what to label where the right answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defectops.errors import LabelRefused
from defectops.measurement.labelling import (
    candidates,
    choose_windows,
    half_width_percent,
    published_rates,
    relative_chance,
    window_edges,
    window_features,
    window_sums,
)

SHAPE = (128, 160)


def blobs(draw, chances, seed=0):
    """A probability map of discs on a grid, each with its chance, and a picture to it."""
    random = np.random.default_rng(seed)
    plane = np.full(SHAPE, 0.01)
    for k, chance in enumerate(chances):
        disc = draw.disc(SHAPE, (20 + 30 * (k // 5), 16 + 30 * (k % 5)), 16)
        plane[disc] = chance
    return plane, plane + random.normal(0, 0.1, SHAPE)


def windows(draw, *pictures, threshold=0.5):
    """One window a picture."""
    tables, features = [], []
    for chance, intensity in pictures:
        found = candidates(chance, threshold, "particle")
        edges = [window_edges(n, 0) for n in SHAPE]
        tables.append(window_sums(found, *edges))
        features.append(window_features(chance, intensity, threshold))
    table = pd.concat(tables, ignore_index=True)
    area = (table["bottom"] - table["top"]) * (table["right"] - table["left"])
    table["minutes"] = published_rates().minutes(area, table["expected"], "particle")
    return table.assign(window=range(len(table))), np.array(features)


def test_the_published_times_give_rates():
    rates = published_rates()
    # By hand: a line through (10, 17.0), (23, 15.0), (125, 43.6), (187, 41.2).
    assert rates.particle_min == pytest.approx(0.1675, abs=5e-4)
    assert rates.search_min_per_px * 1024**2 == pytest.approx(14.75, abs=0.05)
    assert rates.line_min_per_px * 1000 == pytest.approx(2.02, abs=0.02)
    assert rates.minutes(np.array([1024.0**2]), np.array([10.0]), "particle") == pytest.approx(
        14.75 + 1.675, abs=0.05
    )


def test_ambiguous_beats_certain_and_a_copy_is_not_second(draw):
    certain = blobs(draw, [0.99] * 12, 1)
    ambiguous = blobs(draw, [0.5] * 12, 2)
    some = blobs(draw, [0.5] * 4 + [0.99] * 8, 3)
    table, features = windows(draw, certain, ambiguous, ambiguous, some)
    chosen = choose_windows(table, features, 4)
    assert chosen["window"].tolist()[:2] == [1, 3]
    assert chosen["reduction_percent"].iloc[0] > 2 * chosen["reduction_percent"].iloc[1]
    copy = chosen[chosen["window"] == 2]["reduction_percent"].iloc[0]
    assert copy == pytest.approx(0, abs=1e-6)


def test_the_same_uncertainty_for_fewer_minutes_comes_first(draw):
    few, many = blobs(draw, [0.5] * 4, 1), blobs(draw, [0.5] * 4, 2)
    table, features = windows(draw, few, many)
    table["minutes"] = [20.0, 10.0]
    assert choose_windows(table, features, 1)["window"].tolist() == [1]


def test_chances_by_hand(draw):
    plane, _ = blobs(draw, [0.5, 0.99])
    found = candidates(plane, 0.5, "particle")
    assert found["chance"].tolist() == pytest.approx([0.5, 0.99], abs=1e-6)
    assert found[["row", "column"]].to_numpy() == pytest.approx(np.array([[20, 16], [20, 46]]))
    sums = window_sums(found, np.array([0, 128]), np.array([0, 30, 160]))
    assert sums["expected"].tolist() == pytest.approx([0.5, 0.99])
    assert sums["model_variance"].tolist() == pytest.approx([0.25, 0.0099])
    assert sums["counting_variance"].tolist() == pytest.approx([0.5, 0.99])
    assert sums[["left", "right"]].to_numpy().tolist() == [[0, 30], [30, 160]]


def test_a_line_counts_by_its_length(draw):
    plane = np.where(draw.line(SHAPE, (30, 20), (30, 120)), 0.5, 0.01)
    plane = np.where(draw.line(SHAPE, (90, 20), (90, 60)), 0.95, plane)
    found = candidates(plane, 0.5, "line").sort_values("row")
    assert found["amount"].tolist() == pytest.approx([100, 40], abs=2.5)
    assert found["chance"].tolist() == pytest.approx([0.5, 0.95], abs=1e-3)


def test_the_threshold_is_one_half():
    assert relative_chance(np.array([0.8]), 0.8) == pytest.approx([0.5])
    assert relative_chance(np.array([0.3, 0.9]), 0.5) == pytest.approx([0.3, 0.9])
    assert relative_chance(np.array([0.0, 1.0]), 0.9).tolist() == pytest.approx([0, 1], abs=1e-4)


@pytest.mark.parametrize("shape", ["line", "particle"])
def test_nothing_there(shape):
    nothing = candidates(np.zeros(SHAPE), 0.5, shape)
    assert len(nothing) == 0
    sums = window_sums(nothing, window_edges(128, 64), window_edges(160, 64)).assign(minutes=1.0)
    assert sums["expected"].tolist() == [0] * 4
    chosen = choose_windows(sums, np.zeros((4, 6)), 2)
    assert chosen["rank"].tolist() == [1, 2]
    assert math.isnan(chosen["reduction_percent"].iloc[0])


@pytest.mark.parametrize(("n", "top", "code"), [(0, 1, "E_EMPTY"), (3, 0, "E_CONFIG")])
def test_no_window_and_no_choice_are_refused(n, top, code):
    columns = ["expected", "model_variance", "counting_variance", "minutes"]
    table = pd.DataFrame(np.ones((n, 4)), columns=columns)
    with pytest.raises(LabelRefused, match=code):
        choose_windows(table, np.zeros((n, 6)), top)


def test_windows_cover_the_picture():
    assert window_edges(1000, 512).tolist() == [0, 500, 1000]
    assert window_edges(100, 512).tolist() == [0, 100]
    assert window_edges(100, 0).tolist() == [0, 100]


@given(
    variances=hnp.arrays(float, 6, elements=st.floats(0, 100)),
    features=hnp.arrays(float, (6, 3), elements=st.floats(-5, 5)),
)
def test_laws_of_choosing(variances, features):
    table = pd.DataFrame(
        {
            "window": range(6),
            "expected": 10.0,
            "model_variance": variances,
            "counting_variance": 10.0,
            "minutes": 5.0,
        }
    )
    chosen = choose_windows(table, features, 10)
    assert sorted(chosen["window"]) == list(range(6))
    reductions = chosen["reduction_percent"].to_numpy()
    assert (reductions >= -1e-6).all()
    widths = [half_width_percent(table, features), *chosen["half_width_percent"]]
    # Each step takes off what it says, and in the end only the material's own scatter is left.
    assert -np.diff(widths) == pytest.approx(reductions, abs=1e-5)
    assert widths[-1] == pytest.approx(100 * 1.959964 * math.sqrt(60) / 60, rel=1e-3)
