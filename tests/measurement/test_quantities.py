"""Densities and diameters of drawn fields: values, units, scaling laws, the empty case, pooling."""

import dataclasses
import math

import numpy as np
import pytest

from defectops.errors import CalibrationRefused, LabelRefused, SettingsRefused
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.line_quantities import measure_lines
from defectops.measurement.objects import ObjectOptions
from defectops.measurement.particle_quantities import measure_particles, observe_particles
from defectops.measurement.pooling import pool
from defectops.measurement.quantities import COLUMNS, MeasureOptions, table_rows, why_no_volume
from defectops.micrograph import Calibration

SHAPE = (200, 260)
FOIL = Calibration(0.5, "option", 100.0, 10.0)
FLAT = Calibration(0.5, "option")
PIXELS = Calibration(None, "uncalibrated")


def by_name(quantities):
    return {q.quantity: q for q in quantities}


@pytest.fixture(scope="module")
def instances(draw):
    return draw.discs(SHAPE, 0.0008, lambda r, n: np.clip(r.normal(16, 4, n), 6, 30), 1)


@pytest.fixture(scope="module")
def lines(draw):
    random = np.random.default_rng(3)
    mask = np.zeros(SHAPE, dtype=bool)
    for _ in range(12):
        start = random.uniform(0, 1, 2) * SHAPE
        angle = random.uniform(0, np.pi)
        mask |= draw.line(SHAPE, start, start + 90 * np.array([np.sin(angle), np.cos(angle)]))
    return mask


def test_particles_by_hand(draw):
    mask = np.zeros(SHAPE, dtype=bool)
    for centre in ((40, 60), (100, 60), (100, 160), (160, 210)):
        mask |= draw.disc(SHAPE, centre, 20)
    found = by_name(measure_particles(mask, FOIL, MeasureOptions(border="all", foil="t")))
    area_nm2 = SHAPE[0] * SHAPE[1] * 0.25
    one = draw.disc(SHAPE, (40, 60), 20).sum()
    d = math.sqrt(4 * one / math.pi) * 0.5
    assert found["areal_density"].value == pytest.approx(4 / area_nm2 * 1e18)
    assert found["number_density"].value == pytest.approx(4 / (area_nm2 * 100) * 1e27)
    assert found["mean_diameter"].value == pytest.approx(d)
    assert found["sd_diameter"].value == pytest.approx(0, abs=1e-9)
    assert found["area_fraction"].value == pytest.approx(4 * one / mask.size)
    main = list(found.values())[:5]
    assert [q.unit for q in main] == ["m^-2", "m^-3", "nm", "nm", "1"]
    assert {q.n for q in main} == {4}
    only = measure_particles(mask, FOIL, MeasureOptions(border="all", foil="t", detail="main"))
    assert only == main
    # With t + d: spheres whose caps read small are larger, and their centres fill t + d.
    seen_all = MeasureOptions(border="all", objects=ObjectOptions(min_area_px=0))
    deep = by_name(measure_particles(mask, FOIL, seen_all))
    true = deep["mean_diameter"].value
    assert true > d
    assert deep["number_density"].value == pytest.approx(4 / (area_nm2 * (100 + true)) * 1e27)


def test_a_line_by_hand(draw):
    mask, true = draw.through(SHAPE, 0.0, np.array([90.0, 100.0]))
    found = by_name(measure_lines(mask, FOIL, MeasureOptions(grid_spacing_px=20)))
    per_nm = true * 0.5 / (mask.size * 0.25)
    assert found["projected_line_density"].value == pytest.approx(per_nm, rel=0.002)
    assert found["dislocation_density_skeleton"].value == pytest.approx(
        4 / math.pi * per_nm / 100 * 1e18, rel=0.002
    )
    # 13 vertical grid lines of 200 px are crossed once each, horizontal ones never.
    assert found["dislocation_density_grid"].value == pytest.approx(13 / (13 * 100) / 100 * 1e18)
    assert found["dislocation_density_grid"].n == 13
    units = [q.unit for q in found.values()]
    assert units == ["nm^-1", "nm^-1", "m^-2", "m^-2", "1", "1", "m^-2", "nm", "m^-2", "m^-2"]
    # A line through the whole picture ends nowhere and meets none.
    assert [found[k].value for k in ("line_end_density", "junction_density")] == [0, 0]
    assert math.isnan(found["mean_segment_length"].value)
    main = measure_lines(mask, FOIL, MeasureOptions(grid_spacing_px=20, detail="main"))
    assert main == list(found.values())[:4]


def test_without_thickness_nothing_is_said_per_volume(instances, lines):
    found = by_name([*measure_particles(instances, FLAT), *measure_lines(lines, FLAT)])
    assert "number_density" not in found
    assert not [name for name in found if name.startswith("dislocation_density")]
    assert found["areal_density"].unit == "m^-2"
    assert "no foil thickness for 1 of 2" in why_no_volume([FOIL, FLAT])
    assert "no pixel size" in why_no_volume([PIXELS])
    assert why_no_volume([FOIL, FOIL]) is None


def test_uncalibrated_results_are_in_pixels(instances, lines):
    main = MeasureOptions(detail="main")
    particles, found = measure_particles(instances, PIXELS, main), measure_lines(lines, PIXELS)
    found = by_name([*particles, *found])
    assert {name: q.unit for name, q in found.items()} == {
        "areal_density": "px^-2",
        "mean_diameter": "px",
        "sd_diameter": "px",
        "area_fraction": "1",
        "projected_line_density": "px^-1",
        "projected_line_density_grid": "px^-1",
        "grid_skeleton_ratio": "1",
        "anisotropy_index": "1",
        "segment_density": "px^-2",
        "mean_segment_length": "px",
        "line_end_density": "px^-2",
        "junction_density": "px^-2",
    }


@pytest.mark.parametrize(
    ("name", "power"),
    [("areal_density", -2), ("mean_diameter", 1), ("sd_diameter", 1), ("area_fraction", 0)],
)
def test_pixel_size_scales_particles(instances, name, power):
    one = by_name(measure_particles(instances, FLAT))[name]
    two = by_name(measure_particles(instances, Calibration(1.5, "option")))[name]
    for part in ("value", "low", "high"):
        assert getattr(two, part) == pytest.approx(getattr(one, part) * 3.0**power)


def test_pixel_size_and_thickness_scale_lines(lines):
    one = by_name(measure_lines(lines, FOIL))
    two = by_name(measure_lines(lines, Calibration(1.5, "option", 200.0, 20.0)))
    for name in ("dislocation_density_grid", "dislocation_density_skeleton"):
        for part in ("value", "low", "high"):
            assert getattr(two[name], part) == pytest.approx(getattr(one[name], part) / 6)


def test_nothing_there():
    empty = np.zeros((64, 48), dtype=bool)
    particles = by_name(measure_particles(empty, FOIL))
    assert particles["number_density"].value == 0
    frame_nm2 = 63 * 47 * 0.25
    assert particles["areal_density"].high == pytest.approx(3.689 / frame_nm2 * 1e18, rel=1e-3)
    assert particles["number_density"].high > 3.689 / frame_nm2 / 100 * 1e27  # thickness adds
    for name in ("mean_diameter", "sd_diameter"):
        q = particles[name]
        assert (math.isnan(q.value), math.isnan(q.low), math.isnan(q.high), q.n) == (1, 1, 1, 0)
    found = by_name(measure_lines(empty, FOIL))
    undefined = {"grid_skeleton_ratio", "anisotropy_index", "mean_segment_length"}
    assert {name for name, q in found.items() if math.isnan(q.value)} == undefined
    for name in undefined:
        assert math.isnan(found.pop(name).low)
    assert {q.value for q in found.values()} == {0.0}
    assert {q.low for q in found.values()} == {0.0}
    assert all(q.high > 0 for q in found.values())


def test_thickness_uncertainty_widens_volumes_only(instances):
    exact = by_name(measure_particles(instances, Calibration(0.5, "option", 100.0, 0.0)))
    loose = by_name(measure_particles(instances, Calibration(0.5, "option", 100.0, 30.0)))
    assert loose["areal_density"] == exact["areal_density"]
    assert loose["number_density"].value == exact["number_density"].value
    assert loose["number_density"].low < exact["number_density"].low
    assert loose["number_density"].high > exact["number_density"].high
    untold = by_name(measure_particles(instances, Calibration(0.5, "option", 100.0)))
    assert "taken as exact" in untold["number_density"].method


def test_ignored_area_is_taken_out(instances, lines):
    ignore = np.zeros(SHAPE, dtype=bool)
    ignore[:, 130:] = True
    half = observe_particles(instances, FLAT, ignore=ignore)
    assert half.field_area == SHAPE[0] * 130 * 0.25
    assert half.frame_area == (SHAPE[0] - 1) * 129 * 0.25
    assert (half.objects["centroid_column_px"] < 140).all()
    seen = MeasureOptions(merging="as seen")
    whole = by_name(measure_lines(lines, FLAT, seen))["projected_line_density"].value
    parts = [observe_lines(lines, FLAT, seen, ignore=i) for i in (ignore, ~ignore)]
    assert pool(parts)[0].value == pytest.approx(whole)
    with pytest.raises(LabelRefused, match="whole field"):
        observe_lines(lines, FLAT, ignore=np.ones(SHAPE, dtype=bool))
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        observe_particles(instances, FLAT, ignore=ignore.T)


def test_an_object_mostly_ignored_is_dropped_and_one_mostly_seen_keeps_its_size(draw):
    instances = draw.disc(SHAPE, (60, 60), 20) * 1 + draw.disc(SHAPE, (140, 60), 20) * 2
    ignore = np.zeros(SHAPE, dtype=bool)
    ignore[:65, 64:] = True
    ignore[100:, 57:] = True
    found = observe_particles(instances, FLAT, ignore=ignore).objects
    assert found["label"].tolist() == [1]
    assert found["area_nm2"].tolist() == [draw.disc(SHAPE, (60, 60), 20).sum() * 0.25]


def test_pooling_adds_counts_areas_and_volumes(draw, instances):
    other = draw.discs((150, 180), 0.0012, lambda r, n: np.clip(r.normal(16, 4, n), 6, 30), 9)
    thick = Calibration(0.5, "option", 160.0, 8.0)
    options = MeasureOptions(foil="t")
    fields = [
        observe_particles(instances, FOIL, options),
        observe_particles(other, thick, options),
    ]
    pooled = by_name(pool(fields))
    n = sum(f.objects["counts_in_number"].sum() for f in fields)
    volume = fields[0].frame_area * 100 + fields[1].frame_area * 160
    assert pooled["number_density"].value == pytest.approx(n / volume * 1e27)
    single = [by_name(pool([f]))["number_density"] for f in fields]
    relative = [(q.high - q.low) / q.value for q in (pooled["number_density"], *single)]
    assert relative[0] < min(relative[1:])
    means = sorted(by_name(pool([f]))["mean_diameter"].value for f in fields)
    assert means[0] < pooled["mean_diameter"].value < means[1]


def test_two_copies_of_a_field_are_the_same_value(lines):
    once, twice = pool([observe_lines(lines, FOIL)]), pool([observe_lines(lines, FOIL)] * 2)
    for a, b in zip(once, twice, strict=True):
        if a.quantity == "anisotropy_index":
            continue  # takes lines for independent, which copies are not
        assert b.value == pytest.approx(a.value)
        assert b.high - b.low < a.high - a.low


def test_what_cannot_be_pooled_is_refused(instances, lines):
    one = observe_particles(instances, FOIL)
    with pytest.raises(LabelRefused, match="at least one"):
        pool([])
    with pytest.raises(CalibrationRefused, match="E_PX_MISSING"):
        pool([one, observe_particles(instances, PIXELS)])
    with pytest.raises(LabelRefused, match="lines and particles"):
        pool([one, observe_lines(lines, FOIL)])
    with pytest.raises(LabelRefused, match="different options"):
        pool([one, observe_particles(instances, FOIL, MeasureOptions(border="all"))])


def test_a_field_of_one_row_is_refused_for_particles_and_measured_for_lines():
    row = np.ones((1, 30), dtype=bool)
    with pytest.raises(LabelRefused, match="larger field"):
        measure_particles(row, FLAT)
    assert by_name(measure_particles(row, FLAT, MeasureOptions(border="all")))[
        "area_fraction"
    ].value == pytest.approx(1)
    found = by_name(measure_lines(row, FLAT))
    assert math.isnan(found["projected_line_density_grid"].value)
    assert found["projected_line_density"].value == pytest.approx(1 / 0.5, rel=0.1)


def test_a_full_mask_is_one_particle():
    found = by_name(measure_particles(np.ones((40, 50), dtype=bool), FLAT))
    assert found["area_fraction"].value == 1
    assert found["areal_density"].value == 0  # it touches the top edge
    assert found["mean_diameter"].n == 0


def test_options_are_checked():
    with pytest.raises(SettingsRefused, match="gundersen"):
        MeasureOptions(border="some")
    with pytest.raises(SettingsRefused, match="grid_spacing_px"):
        MeasureOptions(grid_spacing_px=1)


def test_particles_wider_than_the_foil_are_not_corrected(instances):
    thin = by_name(measure_particles(instances, Calibration(0.5, "option", 5.0)))
    plain = by_name(measure_particles(instances, FLAT))
    assert thin["mean_diameter"].value == plain["mean_diameter"].value
    assert "not corrected" in thin["mean_diameter"].method


def test_the_same_input_gives_the_same_rows(lines):
    assert measure_lines(lines, FOIL) == measure_lines(lines.copy(), FOIL)
    other = MeasureOptions(seed=1)
    a, b = (by_name(measure_lines(lines, FOIL, o)) for o in (None, other))
    assert a["dislocation_density_skeleton"].value == b["dislocation_density_skeleton"].value
    assert a["dislocation_density_grid"].value != b["dislocation_density_grid"].value


def test_rows_of_the_table(instances):
    found = measure_particles(instances, FOIL)
    rows = table_rows(found, image="a.png", region="dev", source="label")
    assert [tuple(row) for row in rows] == [COLUMNS] * len(found)
    assert rows[0]["image"] == "a.png"
    assert rows[0]["interval"] == "material"
    assert rows[1]["quantity"] == "number_density"


def test_options_round_trip_as_plain_values():
    options = MeasureOptions(objects=ObjectOptions(min_area_px=5), seed=3)
    plain = dataclasses.asdict(options)
    assert MeasureOptions(**{**plain, "objects": ObjectOptions(**plain["objects"])}) == options


def random_lines(seed, n, length, shape):
    """Isotropic segments, uniform also around the plane; returns mask and true length inside."""
    random = np.random.default_rng(seed)
    points, true = [], 0.0
    at = np.linspace(0, 1, 4 * int(length) + 1)[:, None]
    count = random.poisson(n)
    for _ in range(count):
        middle = random.uniform(-length / 2, np.array(shape) + length / 2)
        angle = random.uniform(0, np.pi)
        walk = middle + (at - 0.5) * length * np.array([np.sin(angle), np.cos(angle)])
        walk = walk[((walk >= -0.5) & (walk < np.array(shape) - 0.5)).all(axis=1)]
        true += len(walk) / len(at) * length
        points.append(np.floor(walk + 0.5).astype(int))
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(np.concatenate(points).T)] = True
    return np.asarray(mask), true


@pytest.mark.slow
def test_grid_and_skeleton_agree_with_the_drawn_length_on_isotropic_lines():
    """One-pixel lines, a little below the paper's 0.011 px of line a square pixel."""
    shape, fields, n = (256, 320), 120, 12
    expected = n * 120 / ((256 + 120) * (320 + 120))
    skeleton, grid, covered = [], [], 0
    for seed in range(fields):
        mask, true = random_lines(seed, n, 120, shape)
        found = by_name(measure_lines(mask, PIXELS))
        skeleton.append(found["projected_line_density"].value * mask.size / true)
        grid.append(found["projected_line_density_grid"].value * mask.size / true)
        q = found["projected_line_density"]
        covered += q.low <= expected <= q.high
    assert np.mean(skeleton) == pytest.approx(1, abs=0.01)
    assert np.mean(grid) == pytest.approx(1, abs=0.03)
    assert covered >= 0.89 * fields  # 0.95 less three standard errors


def test_the_interval_of_a_mean_of_two_unlike_particles_is_wide_and_positive():
    plane = np.zeros((60, 80), dtype=np.int32)
    plane[10:13, 10:13], plane[20:50, 30:60] = 1, 2
    mean = {q.quantity: q for q in measure_particles(plane, Calibration(0.5, "option"))}[
        "mean_diameter"
    ]
    assert 0 < mean.low < 0.01 * mean.value
    assert mean.high > 100 * mean.value
