"""Every item of the budget against what it must be by dimension, by simulation, by hand."""

import math
import statistics

import numpy as np
import pytest

from defectops.measurement.budget import (
    COLUMNS,
    COMPONENTS,
    Alternative,
    Known,
    budget_rows,
    itemised,
)
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.pooling import pool
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material, constants_sd, hardening
from defectops.micrograph import UNCALIBRATED, Calibration

SHAPE = (240, 300)
EXACT = Calibration(0.5, "option", 100.0)
FOIL = Calibration(0.5, "option", 100.0, 8.0)


@pytest.fixture(scope="module")
def discs(draw):
    return draw.discs(SHAPE, 40 / 72000, lambda r, n: r.normal(14, 2, n), seed=3)


@pytest.fixture(scope="module")
def lines(draw):
    random = np.random.default_rng(1)
    mask = np.zeros(SHAPE, bool)
    for _ in range(14):
        start = random.uniform(0, 240, 2)
        angle = random.uniform(0, np.pi)
        mask |= draw.line(SHAPE, start, start + 60 * np.array([np.sin(angle), np.cos(angle)]))
    return mask


def items(budget, component):
    return {c.quantity: c.relative_sd for c in budget.components if c.component == component}


def values(budget):
    return {q.quantity: q for q in budget.quantities}


def test_alone_the_counting_interval_stays_as_it_is(discs):
    field = observe_particles(discs, EXACT)
    budget = itemised([field])
    for q, plain in zip(budget.quantities, pool([field]), strict=True):
        scatter = items(budget, "fields").get(q.quantity, 0.0)
        if scatter == 0:
            assert (q.low, q.high) == pytest.approx((plain.low, plain.high), nan_ok=True)
    assert set(items(budget, "counting")) == set(values(budget))
    assert set(items(budget, "thickness").values()) == {0.0}
    assert items(budget, "pixel size") == {}


def test_powers_of_pixel_size_and_thickness_of_particles(discs):
    # In the paper's mode nothing but A and t enters: N/(A t).
    field = observe_particles(discs, FOIL, MeasureOptions(foil="t"))
    budget = itemised([field], Known(pixel_size_relative_sd=0.03))
    pixel, foil = items(budget, "pixel size"), items(budget, "thickness")
    assert pixel["areal_density"] == pytest.approx(0.06)
    assert pixel["number_density"] == pytest.approx(0.06)
    assert pixel["mean_diameter"] == pytest.approx(0.03)
    assert pixel["sd_diameter"] == pytest.approx(0.03)
    assert "area_fraction" not in pixel
    assert foil["number_density"] == pytest.approx(0.08)
    assert "mean_diameter" not in foil
    # With t + d the pixel size moves d too: power -2 - d/(t + d), thickness t/(t + d).
    budget = itemised([observe_particles(discs, FOIL)], Known(pixel_size_relative_sd=0.03))
    d = values(budget)["mean_diameter"].value
    layer = 100.0 / (100.0 + d)
    assert items(budget, "thickness")["number_density"] == pytest.approx(0.08 * layer, rel=0.03)
    assert items(budget, "pixel size")["number_density"] == pytest.approx(
        0.03 * (3 - layer), rel=0.01
    )


def test_the_pixel_size_power_is_what_another_pixel_size_gives(discs):
    one, other = (
        {
            q.quantity: q.value
            for q in pool([observe_particles(discs, Calibration(p, "option", 60.0))])
        }
        for p in (0.5, 0.505)
    )
    budget = itemised(
        [observe_particles(discs, Calibration(0.5, "option", 60.0))],
        Known(pixel_size_relative_sd=math.log(1.01)),
    )
    for name, sd in items(budget, "pixel size").items():
        assert sd == pytest.approx(abs(math.log(other[name] / one[name])), rel=0.02), name


def test_powers_of_lines_and_of_strength(lines):
    material = Material()
    budget = itemised(
        [observe_lines(lines, FOIL)],
        Known(0.02, constants_sd("dislocations", material)),
        lambda found: hardening(found, "dislocations", material),
    )
    pixel, foil = items(budget, "pixel size"), items(budget, "thickness")
    assert pixel["projected_line_density"] == pytest.approx(0.02)
    assert pixel["dislocation_density_skeleton"] == pytest.approx(0.02)
    assert foil["dislocation_density_grid"] == pytest.approx(0.08)
    assert pixel["taylor_hardening"] == pytest.approx(0.01)
    assert foil["taylor_hardening"] == pytest.approx(0.04)
    counting, twin = items(budget, "counting"), items(budget, "estimator")
    assert counting["taylor_hardening"] == pytest.approx(
        counting["dislocation_density_skeleton"] / 2
    )
    assert twin["taylor_hardening"] == pytest.approx(twin["dislocation_density_grid"] / 2)
    assert set(items(budget, "constants")) == {"taylor_hardening"}
    found = values(budget)
    ratio = found["dislocation_density_grid"].value / found["dislocation_density_skeleton"].value
    assert twin["dislocation_density_skeleton"] == pytest.approx(
        abs(math.log(ratio)) / math.sqrt(12)
    )


def test_components_add_in_quadrature_around_the_counting_interval(discs):
    field = observe_particles(discs, FOIL)
    budget = itemised([field], Known(pixel_size_relative_sd=0.05))
    plain = {q.quantity: q for q in pool([observe_particles(discs, EXACT)])}
    found = values(budget)["number_density"]
    more = [c.relative_sd for c in budget.components if c.quantity == "number_density"][1:]
    z = 1.959963984540054
    for end in ("low", "high"):
        counting = math.log(getattr(plain["number_density"], end) / found.value)
        combined = math.log(getattr(found, end) / found.value)
        assert abs(combined) == pytest.approx(math.hypot(counting, z * math.hypot(*more)))


def test_the_method_names_the_thickness_with_its_uncertainty(discs):
    found = values(itemised([observe_particles(discs, FOIL)]))
    assert "thickness 100 nm with sd 8 nm" in found["number_density"].method
    found = values(itemised([observe_particles(discs, EXACT)]))
    assert "taken as exact" in found["number_density"].method


def test_alternatives_span_a_range(discs):
    field = observe_particles(discs, EXACT)
    half = observe_particles(np.where(discs % 2 == 0, discs, 0), EXACT)
    alternative = Alternative("segmentation", "every second", [half])
    budget = itemised([field], Known(alternatives=[alternative]))
    many, few = (pool([f])[0].value for f in (field, half))
    found = items(budget, "segmentation")
    assert found["areal_density"] == pytest.approx(math.log(many / few) / math.sqrt(12))
    (item,) = (
        c
        for c in budget.components
        if (c.quantity, c.component) == ("areal_density", "segmentation")
    )
    assert "every second" in item.method


def _readings(fields, component="mirrored views"):
    return [Alternative(component, f"reading {i}", [f]) for i, f in enumerate(fields)]


def _dots(count):
    mask = np.zeros((60, 80), bool)
    for at in range(count):
        row, column = divmod(at, 4)
        mask[10 + 20 * row :, 10 + 20 * column :][:6, :6] = True
    return observe_particles(mask, EXACT)


def test_repeated_readings_scatter_by_their_standard_deviation():
    budget = itemised([_dots(4)], Known(alternatives=_readings([_dots(5), _dots(4), _dots(6)])))
    found = items(budget, "mirrored views")
    logs = [math.log(n) for n in (4, 5, 4, 6)]
    assert found["areal_density"] == pytest.approx(statistics.stdev(logs))
    assert "segmentation" not in {c.component for c in budget.components}
    (item,) = (
        c
        for c in budget.components
        if (c.quantity, c.component) == ("areal_density", "mirrored views")
    )
    assert item.method.startswith("reading 0: ")
    assert item.method.count("; reading") == 2


@pytest.mark.parametrize("count", [0, 1, 7])
def test_equal_readings_add_nothing_to_the_last_bit(count):
    given = _dots(count)
    plain, same = itemised([given]), itemised([given], Known(alternatives=_readings([given] * 3)))
    for q, p in zip(same.quantities, plain.quantities, strict=True):
        assert repr(q) == repr(p)
    assert {s for s in items(same, "mirrored views").values() if math.isfinite(s)} <= {0.0}


def test_thresholds_and_views_are_items_of_their_own():
    thresholds = _readings([_dots(3), _dots(5)], "segmentation")
    views = _readings([_dots(4), _dots(4), _dots(5)])
    apart = [itemised([_dots(4)], Known(alternatives=a)) for a in (thresholds, views)]
    both = itemised([_dots(4)], Known(alternatives=[*thresholds, *views]))
    for component, alone in zip(("segmentation", "mirrored views"), apart, strict=True):
        assert items(both, component) == pytest.approx(items(alone, component), nan_ok=True)
    highs = [values(b)["areal_density"].high for b in (*apart, both)]
    assert highs[2] > max(highs[:2])


def test_a_reading_that_shows_nothing_counts_as_half_an_object():
    found = items(
        itemised([_dots(4)], Known(alternatives=_readings([_dots(4), _dots(0), _dots(4)]))),
        "mirrored views",
    )
    logs = [math.log(n) for n in (4, 4, 0.5, 4)]
    assert found["areal_density"] == pytest.approx(statistics.stdev(logs))
    assert found["mean_diameter"] == pytest.approx(0.0, abs=1e-12)  # of the three that have one


def test_objects_in_other_readings_only_raise_the_upper_end():
    plain = values(itemised([_dots(0)]))["areal_density"]
    known = Known(alternatives=_readings([_dots(3), _dots(0), _dots(6)]))
    found = values(itemised([_dots(0)], known))["areal_density"]
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high > plain.high > 0


def test_two_ways_to_part_touching_particles_are_an_item(draw):
    mask = np.zeros(SHAPE, bool)
    for row in range(30, 220, 60):
        mask |= draw.disc(SHAPE, (row, 60), 24) | draw.disc(SHAPE, (row, 72), 24)
        mask |= draw.disc(SHAPE, (row, 200), 20)
    material = Material()
    budget = itemised(
        [observe_particles(mask, EXACT)], None, lambda given: hardening(given, "voids", material)
    )
    item, found = items(budget, "estimator"), values(budget)
    ratio = found["areal_density"].value / found["areal_density_by_notches"].value
    assert ratio == pytest.approx(1.5)
    assert item["areal_density"] == pytest.approx(math.log(1.5) / math.sqrt(12))
    assert item["number_density"] == item["areal_density"]
    assert item["barrier_hardening"] == pytest.approx(item["number_density"] / 2)
    # Instance labels were parted by whoever drew them.
    instances = observe_particles(mask.astype(np.int32) * 7, EXACT)
    assert items(itemised([instances]), "estimator") == {}


def test_random_objects_are_not_counted_twice_and_colonies_are_noticed(draw):
    random = np.random.default_rng(0)
    excess = []
    for seed in range(12):
        field = draw.discs(SHAPE, 60 / 72000, lambda r, n: np.full(n, 9.0), seed=seed)
        excess.append(items(itemised([observe_particles(field, EXACT)]), "fields")["areal_density"])
    assert sum(e > 0 for e in excess) <= 2
    colony = np.zeros(SHAPE, int)
    for number, (row, column) in enumerate(random.uniform(10, 70, (40, 2)), 1):
        colony[draw.disc(SHAPE, (row, column), 5.0)] = number
    budget = itemised([observe_particles(colony, EXACT)])
    assert items(budget, "fields")["areal_density"] > 0.5


def test_six_fields_are_resampled_whole(draw):
    dense = draw.discs(SHAPE, 80 / 72000, lambda r, n: np.full(n, 9.0), seed=1)
    thin = draw.discs(SHAPE, 10 / 72000, lambda r, n: np.full(n, 9.0), seed=2)
    fields = [observe_particles(f, EXACT) for f in (dense, thin) * 3]
    (item,) = (
        c
        for c in itemised(fields).components
        if (c.quantity, c.component) == ("areal_density", "fields")
    )
    assert "6 fields" in item.method
    assert item.relative_sd > 0.1


def test_nothing_there_keeps_zero_and_an_upper_bound():
    empty = np.zeros(SHAPE, bool)
    budget = itemised([observe_particles(empty, FOIL)], Known(pixel_size_relative_sd=0.02))
    found = values(budget)["number_density"]
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high > 0
    assert math.isnan(items(budget, "counting")["number_density"])
    line = itemised([observe_lines(empty, FOIL)])
    assert values(line)["dislocation_density_skeleton"].high > 0


def test_uncalibrated_fields_have_neither_pixel_size_nor_thickness(discs):
    field = observe_particles(discs, Calibration(None, UNCALIBRATED))
    budget = itemised([field], Known(pixel_size_relative_sd=0.05))
    assert items(budget, "pixel size") == items(budget, "thickness") == {}


def test_rows_hold_percent():
    field = observe_particles(np.eye(60, dtype=int) * 0, EXACT)
    components = itemised([field]).components
    rows = budget_rows(components, image="a.tif", region="whole", source="label")
    assert all(tuple(row) == COLUMNS for row in rows)
    assert {row["component"] for row in rows} <= set(COMPONENTS)
