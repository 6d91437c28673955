"""Spheres in a foil: their discs, labels and tables agree with what is known of them."""

import math

import numpy as np
import pytest

from defectops.dataset.synthesis_spheres import Spheres, disc_labels, disc_table, seen_discs
from defectops.measurement.particles import particle_table

SHAPE = (300, 420)
SPHERES = Spheres(8e-6, 24.0, 8.0, 200.0)


@pytest.mark.parametrize("sizes", ["lognormal", "normal"])
def test_many_fields_show_what_the_formulas_say(sizes):
    spheres = Spheres(8e-6, 24.0, 6.0, 200.0, sizes)
    random = np.random.default_rng(1)
    fields = [seen_discs(random, SHAPE, spheres, 0) for _ in range(200)]
    inside = [
        ((f.rows >= 0) & (f.rows < SHAPE[0]) & (f.columns >= 0) & (f.columns < SHAPE[1]))
        for f in fields
    ]
    area = len(fields) * SHAPE[0] * SHAPE[1]
    count = sum(i.sum() for i in inside)
    # 45,000 discs: three standard errors are 1.4 %.
    assert count / area == pytest.approx(spheres.seen_density, rel=0.015)
    seen = np.concatenate([f.diameters[i] for f, i in zip(fields, inside, strict=True)])
    assert seen.mean() == pytest.approx(spheres.seen_mean, rel=0.01)
    areas = math.pi / 4 * float((seen**2).sum()) / area
    assert -math.expm1(-areas) == pytest.approx(spheres.cover, rel=0.03)


def test_moments_are_those_of_the_distribution():
    for spheres in (SPHERES, Spheres(1e-6, 24.0, 4.0, 100.0, "normal")):
        assert spheres.moment(1) == pytest.approx(24)
        assert spheres.moment(2) - 24**2 == pytest.approx(spheres.sd**2)
    assert SPHERES.median < 24
    random = np.random.default_rng(2).standard_normal(400_000)
    drawn = SPHERES.median * np.exp(SPHERES.sigma * random)
    for power in (3, 4):
        assert SPHERES.moment(power) == pytest.approx((drawn**power).mean(), rel=0.05)


def test_the_table_is_that_of_the_labels():
    discs = seen_discs(np.random.default_rng(3), SHAPE, Spheres(1e-6, 30.0, 6.0, 150.0))
    table = disc_table(discs, SHAPE)
    drawn = particle_table(disc_labels(discs, SHAPE), 1.0, "px")
    assert set(table) == set(drawn)
    both = table.merge(drawn, on="label", suffixes=("", "_drawn"))
    assert len(both) > 5
    hidden = (both["area_px2_drawn"] / both["area_px2"] - 1).abs() > 0.03
    alone = both[~both["touches_border"] & ~hidden]
    for name in ("equivalent_diameter_px", "feret_max_px", "perimeter_px"):
        assert (alone[f"{name}_drawn"] / alone[name] - 1).abs().max() < 0.05, name
    for name in ("top_px", "bottom_px", "left_px", "right_px"):
        assert (both[f"{name}_drawn"] - both[name])[~hidden].abs().max() <= 1, name
    for name in ("centroid_row_px", "centroid_column_px"):
        assert (alone[f"{name}_drawn"] - alone[name]).abs().max() < 0.5, name


def test_no_spheres():
    discs = seen_discs(np.random.default_rng(0), SHAPE, Spheres(0.0, 24.0, 8.0, 100.0))
    assert discs.rows.size == 0
    assert not disc_labels(discs, SHAPE).any()
    assert disc_table(discs, SHAPE).empty


def test_the_same_seed_gives_the_same_discs():
    one, two = (seen_discs(np.random.default_rng(4), SHAPE, SPHERES) for _ in range(2))
    np.testing.assert_array_equal(one.diameters, two.diameters)
    assert (one.diameters >= math.sqrt(48 / math.pi)).all()
