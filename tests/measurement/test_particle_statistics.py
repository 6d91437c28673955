"""Percentiles, shapes, volumes, spacings and the histogram of drawn particles."""

import math

import numpy as np
import pytest

from defectops.measurement.particle_quantities import measure_particles, observe_particles
from defectops.measurement.particle_statistics import size_histogram, swelling
from defectops.measurement.pooling import pool
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

FOIL = Calibration(0.5, "option", 100.0, 10.0)
THIN_RULE = MeasureOptions(foil="t")
FURTHER = [
    "median_diameter",
    "diameter_p10",
    "diameter_p90",
    "lognormal_median_diameter",
    "lognormal_sigma",
    "lognormal_p_value",
    "mean_feret_max",
    "mean_feret_min",
    "mean_circularity",
    "nearest_neighbour_distance",
    "clark_evans_ratio",
    "volume_fraction",
    "obstacle_spacing",
    "neighbour_spacing",
]


def by_name(quantities):
    return {q.quantity: q for q in quantities}


@pytest.fixture(scope="module")
def instances(draw):
    return draw.discs((400, 520), 0.0006, lambda r, n: r.lognormal(2.9, 0.3, n).clip(6, 50), 1)


def test_the_full_set_has_all_with_intervals(instances):
    found = measure_particles(instances, FOIL)
    assert [q.quantity for q in found[5:]] == FURTHER
    for q in found:
        assert q.n > 60
        assert q.method
        assert q.value > 0
        if q.quantity != "lognormal_p_value":
            assert 0 <= q.low < q.value < q.high


def test_without_thickness_there_is_no_volume(instances):
    found = measure_particles(instances, Calibration(0.5, "option"))
    assert [q.quantity for q in found[4:]] == FURTHER[:-3]


def test_nothing_there():
    found = by_name(measure_particles(np.zeros((60, 80), dtype=np.int32), FOIL))
    for name in FURTHER:
        q = found[name]
        if name == "volume_fraction":
            assert (q.value, q.low) == (0, 0)
            assert math.isnan(q.high)
        else:
            assert math.isnan(q.value), name
            assert math.isnan(q.low), name
            assert math.isnan(q.high), name
        assert q.n == 0


def test_volume_and_spacings_follow_from_number_and_size(instances):
    found = by_name(measure_particles(instances, FOIL, THIN_RULE))
    number_nm3 = found["number_density"].value * 1e-27
    table = observe_particles(instances, FOIL, THIN_RULE).objects
    weights, d = table["counts_in_size"], table["equivalent_diameter_nm"]
    cube = float(np.average(d**3, weights=weights))
    assert found["volume_fraction"].value == pytest.approx(number_nm3 * math.pi / 6 * cube)
    assert found["obstacle_spacing"].value == pytest.approx(
        (number_nm3 * found["mean_diameter"].value) ** -0.5
    )
    assert found["neighbour_spacing"].value == pytest.approx(0.55396 * number_nm3 ** (-1 / 3), 1e-4)
    # A spacing is long where the density is low.
    high = found["number_density"].high * 1e-27
    assert found["neighbour_spacing"].low == pytest.approx(0.55396 * high ** (-1 / 3), 1e-4)


def test_points_in_space_are_as_far_apart_as_the_formula_says():
    random = np.random.default_rng(2)
    points = random.uniform(0, 1, (4000, 3))
    inner = points[(np.abs(points - 0.5) < 0.4).all(axis=1)]
    gaps = [np.sort(np.linalg.norm(points - p, axis=1))[1] for p in inner[:800]]
    assert np.mean(gaps) == pytest.approx(0.55396 * 4000 ** (-1 / 3), rel=0.03)


def test_swelling_by_hand(instances):
    quantities = measure_particles(instances, FOIL)
    f = by_name(quantities)["volume_fraction"]
    (found,) = swelling(quantities)
    assert found.value == pytest.approx(f.value / (1 - f.value))
    assert found.low == pytest.approx(f.low / (1 - f.low))
    assert found.high == pytest.approx(f.high / (1 - f.high))
    assert swelling(measure_particles(instances, Calibration(0.5, "option"))) == []


def test_shapes_of_bars():
    plane = np.zeros((100, 150), dtype=np.int32)
    for i in range(6):
        plane[10 + 14 * i : 14 + 14 * i, 20 : 50 + 10 * i] = i + 1
    found = by_name(measure_particles(plane, Calibration(None, "uncalibrated")))
    assert found["mean_feret_min"].value == pytest.approx(4, abs=0.3)
    assert 50 < found["mean_feret_max"].value < 65
    assert found["mean_circularity"].value < 0.4
    assert found["mean_feret_max"].unit == "px"


def test_pooled_fields_are_one_sample(instances):
    field = observe_particles(instances, FOIL)
    one, two = by_name(pool([field])), by_name(pool([field, field]))
    for name in FURTHER:
        # Unbiased standard deviations divide by n - 1, so copies move them a little.
        if name != "lognormal_p_value":
            assert two[name].value == pytest.approx(one[name].value, rel=0.01), name
            assert two[name].high - two[name].low < one[name].high - one[name].low, name


def test_units_scale(instances):
    nm, px = (
        by_name(measure_particles(instances, c))
        for c in (Calibration(0.25, "option"), Calibration(None, "uncalibrated"))
    )
    for name in FURTHER[:-3]:
        factor = 0.25 if nm[name].unit == "nm" else 1.0
        assert nm[name].value == pytest.approx(factor * px[name].value, rel=1e-6), name


def test_histogram_by_hand():
    d, w = np.array([1.0, 2.0, 2.5, 4.0, 9.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    table = size_histogram(d, w, np.array([0.0, 2.0, 3.0, 4.0]), unit="px")
    assert table["n"].tolist() == [1, 2, 1]
    assert table["count"].tolist() == [1.0, 2.0, 1.0]
    assert table["high"].tolist() == pytest.approx([5.572, 7.225, 5.572], rel=1e-3)
    assert list(table)[:2] == ["bin_low_px", "bin_high_px"]
    empty = size_histogram(d[:0], w[:0], np.array([0.0, 1.0]), unit="nm")
    assert (empty["count"][0], empty["low"][0]) == (0, 0)
    assert empty["high"][0] == pytest.approx(3.689, rel=1e-3)
    assert size_histogram(d[:0], w[:0], unit="nm").empty
    assert size_histogram(d, w, unit="nm")["n"].sum() == 4
