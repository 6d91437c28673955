"""Sizes of drawn particles, and which of them a field may count."""

import numpy as np
import pytest
from skimage.measure import regionprops_table

from defectops.errors import SettingsRefused
from defectops.measurement.particles import (
    border_weights,
    frame_mask,
    particle_table,
)

SHAPE = (120, 150)


@pytest.fixture(scope="module")
def field(draw):
    return draw.discs(SHAPE, 0.002, lambda r, n: r.uniform(6, 24, n), 5)


def test_the_table_agrees_with_scikit_image(field):
    ours = particle_table(field, 1.0, "px")
    theirs = regionprops_table(
        field, properties=("label", "area", "centroid", "bbox", "equivalent_diameter_area")
    )
    pairs = {
        "label": "label",
        "area_px2": "area",
        "centroid_row_px": "centroid-0",
        "centroid_column_px": "centroid-1",
        "top_px": "bbox-0",
        "left_px": "bbox-1",
        "bottom_px": "bbox-2",
        "right_px": "bbox-3",
        "equivalent_diameter_px": "equivalent_diameter_area",
    }
    assert len(ours) > 20
    for mine, yours in pairs.items():
        np.testing.assert_allclose(ours[mine], theirs[yours], err_msg=mine)


def test_lengths_scale_with_the_pixel_and_pixels_do_not(field):
    px, nm = particle_table(field, 1.0, "px"), particle_table(field, 0.365, "nm")
    np.testing.assert_allclose(nm["area_nm2"], px["area_px2"] * 0.365**2)
    for name in ("equivalent_diameter", "perimeter", "feret_max", "feret_min"):
        np.testing.assert_allclose(nm[f"{name}_nm"], px[f"{name}_px"] * 0.365)
    for name in ("circularity", "centroid_row_px", "top_px", "touches_border"):
        np.testing.assert_array_equal(nm[name], px[name])


@pytest.mark.parametrize("diameter", [16, 30, 60])
def test_a_disc_is_round(draw, diameter):
    row = particle_table(draw.disc(SHAPE, (60.3, 70.1), diameter).astype(int), 1.0, "px").iloc[0]
    assert row["equivalent_diameter_px"] == pytest.approx(diameter, rel=0.01)
    assert row["perimeter_px"] == pytest.approx(np.pi * diameter, rel=0.02)
    assert row["circularity"] > 0.97
    assert row["feret_max_px"] == pytest.approx(diameter, abs=1)
    assert row["feret_min_px"] == pytest.approx(diameter, abs=1)


def test_a_bar_is_not():
    bar = np.zeros(SHAPE, dtype=int)
    bar[40:50, 20:100] = 3
    row = particle_table(bar, 1.0, "px").iloc[0]
    # Four directions see a bar along an axis 6 % too short around.
    assert row["perimeter_px"] == pytest.approx(180, rel=0.065)
    assert row["circularity"] == pytest.approx(4 * np.pi * 800 / 180**2, rel=0.14)
    assert row["feret_max_px"] == pytest.approx(np.hypot(80, 10), abs=1)
    assert row["feret_min_px"] == pytest.approx(10, abs=0.1)


def test_no_particles_make_no_rows():
    table = particle_table(np.zeros((7, 9), dtype=int), 1.0, "px")
    assert table.empty
    assert "equivalent_diameter_px" in table


def test_border_rules_by_hand():
    plane = np.zeros((20, 30), dtype=int)
    boxes = {1: (0, 5), 2: (8, 0), 3: (8, 10), 4: (18, 20), 5: (8, 28), 6: (0, 28)}
    for name, (top, left) in boxes.items():
        plane[top : top + 2, left : left + 2] = name
    table = particle_table(plane, 1.0, "px")
    assert table["touches_border"].tolist() == [True, True, False, True, True, True]
    number = {b: border_weights(table, plane.shape, b)[0] for b in ("all", "exclude", "gundersen")}
    # Middles of 1 to 6: (1, 6), (9, 1), (9, 11), (19, 21), (9, 29), (1, 29).
    assert border_weights(table, plane.shape, "guard", 5)[0].tolist() == [0, 0, 1, 0, 0, 0]
    assert border_weights(table, plane.shape, "guard", 1)[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert border_weights(table, plane.shape, "guard", 1)[1].tolist() == [0, 0, 1, 0, 0, 0]
    assert frame_mask((20, 30), "guard", 5).sum() == 10 * 20
    assert number["all"].tolist() == [1] * 6
    assert number["exclude"].tolist() == [0, 0, 1, 0, 0, 0]
    # Not on the top or left edge: the inner one, bottom and right; not the top right corner.
    assert number["gundersen"].tolist() == [0, 0, 1, 1, 1, 0]
    weighted = border_weights(table, plane.shape, "weighted")[0]
    assert weighted[2] == pytest.approx(19 * 29 / (17 * 27))
    assert frame_mask((20, 30), "gundersen").sum() == 19 * 29
    assert frame_mask((20, 30), "all").all()


def test_an_unknown_rule_is_refused(field):
    with pytest.raises(SettingsRefused, match="gundersen"):
        border_weights(particle_table(field, 1.0, "px"), SHAPE, "some")


@pytest.mark.slow
def test_the_unbiased_rules_are_unbiased_and_the_others_are_as_biased_as_the_formula_says(draw):
    density, d, shape, fields = 12 / (150 * 190), 16.0, (150, 190), 600
    found = dict.fromkeys(("all", "exclude", "gundersen", "weighted", "guard"), 0.0)
    for seed in range(fields):
        table = particle_table(
            draw.discs(shape, density, lambda r, n, d=d: np.full(n, d), seed), 1.0, "px"
        )
        for rule in found:
            number, _ = border_weights(table, shape, rule, 10)
            found[rule] += number.sum() / frame_mask(shape, rule, 10).sum() / density / fields
    # Two standard errors of the mean of 600 fields of 12 particles are 2.4 %.
    assert found["gundersen"] == pytest.approx(1, abs=0.024)
    assert found["weighted"] == pytest.approx(1, abs=0.026)
    assert found["guard"] == pytest.approx(1, abs=0.03)
    area = shape[0] * shape[1]
    too_high = d * (shape[0] + shape[1]) / area + np.pi / 4 * d**2 / area
    assert found["all"] == pytest.approx(1 + too_high, abs=0.026)
    assert found["exclude"] < 0.86


def test_sizes_weighted_for_the_border_are_unbiased(draw):
    """Large particles are cut more often: whole ones unweighted read small."""
    sizes = {"exclude": [], "weighted": []}
    weights = {"exclude": [], "weighted": []}
    for seed in range(120):
        table = particle_table(
            draw.discs((100, 120), 0.0008, lambda r, n: r.choice([10.0, 40.0], n), seed), 1.0, "px"
        )
        for rule, values in sizes.items():
            values.append(table["equivalent_diameter_px"].to_numpy())
            weights[rule].append(border_weights(table, (100, 120), rule)[1])
    mean = {
        rule: np.average(np.concatenate(sizes[rule]), weights=np.concatenate(weights[rule]))
        for rule in sizes
    }
    assert mean["weighted"] - mean["exclude"] > 1.5
