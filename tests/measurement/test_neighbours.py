"""Nearest neighbours: by hand, at random, on a lattice."""

import math

import numpy as np
import pytest

from defectops.measurement.neighbours import nearest_distances, neighbour_statistics


def test_distances_by_hand():
    centres = np.array([[10.0, 10.0], [10.0, 14.0], [30.0, 2.0]])
    distance, weight = nearest_distances(centres, (40, 60))
    np.testing.assert_allclose(distance, [4, 4, math.hypot(20, 8)])
    # The third lies nearer to the border than to its neighbour.
    assert weight[2] == 0
    assert weight[0] == pytest.approx(40 * 60 / (32 * 52))


@pytest.mark.parametrize("n", [0, 1])
def test_alone(n):
    distance, weight = nearest_distances(np.full((n, 2), 5.0), (20, 30))
    assert distance.shape == weight.shape == (n,)
    assert not weight.any()
    found = neighbour_statistics(distance, weight, n / 600, n, 0.95)
    assert math.isnan(found.distance)
    assert math.isnan(found.ratio_interval.low)
    assert found.n == 0


def test_a_square_lattice_has_twice_the_distance_of_chance():
    centres = np.stack(np.meshgrid(np.arange(5, 200, 10.0), np.arange(5, 300, 10.0)), -1)
    distance, weight = nearest_distances(centres.reshape(-1, 2), (200, 300))
    found = neighbour_statistics(distance, weight, 0.01, 600, 0.95)
    assert found.distance == pytest.approx(10)
    assert found.ratio == pytest.approx(2)


def test_points_at_random_have_the_ratio_one_in_spite_of_the_border():
    random = np.random.default_rng(1)
    ratios, plain = [], []
    for _ in range(200):
        n = random.poisson(40)
        centres = random.uniform(-0.5, [149.5, 199.5], (n, 2))
        distance, weight = nearest_distances(centres, (150, 200))
        found = neighbour_statistics(distance, weight, n / 30_000, n, 0.95)
        ratios.append((found.ratio, found.ratio_interval.low < 1 < found.ratio_interval.high))
        plain.append(distance.mean() * 2 * math.sqrt(n / 30_000))
    mean, covered = np.mean(ratios, axis=0)
    assert mean == pytest.approx(1, abs=0.025)
    assert np.mean(plain) > 1.03
    assert covered > 0.9
