"""Test lines: their length, their counts, and what they make of lines of one direction."""

import numpy as np
import pytest

from defectops.measurement.line_probes import lay_test_lines
from defectops.measurement.lines import Steps, as_traced, steps, trace
from defectops.measurement.objects import thin_lines

SHAPE = (200, 260)
EVERYWHERE = np.ones(SHAPE, dtype=bool)


def straight(start, stop, parts=400):
    """A line as steps without any mask."""
    points = np.linspace(start, stop, parts + 1)
    length = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return Steps(np.zeros(parts, np.int64), points[:-1], points[1:], length)


def density(laid, cut):
    """Length over area of the lines, from crossings."""
    per_length = [t.crossings(cut)[1].sum() / t.length_px.sum() for t in laid]
    return np.pi / 2 * np.mean(per_length)


def test_a_grid_is_counted_by_hand():
    rows, columns = lay_test_lines("grid", EVERYWHERE, 20, 0)
    assert (rows.family, columns.family) == ("rows", "columns")
    assert set(rows.length_px) == {260.0}
    assert rows.length_px.size == 10
    assert columns.length_px.size == 13
    cut = straight((90.0, -0.5), (90.0, 259.5))
    assert rows.crossings(cut)[1].sum() == 0
    assert columns.crossings(cut)[1].tolist() == [1] * 13
    of_steps, of_lines = columns.crossings(straight((199.0, 259.0), (0.0, 100.0)))
    assert of_steps.sum() == of_lines.sum() == np.count_nonzero(of_lines)


def test_a_grid_on_a_mask(draw):
    mask, _ = draw.through((60, 120), 0.0, np.array([30.0, 50.0]))
    lines = trace(thin_lines(mask))
    ignore = np.zeros((60, 120), dtype=bool)
    ignore[:, 40:70] = True
    cut = steps(lines, as_traced(lines), ignore)
    _, columns = lay_test_lines("grid", ~ignore, 10, 1)
    assert columns.crossings(cut)[1].sum() == 9  # twelve, but for three inside the ignored area
    assert columns.length_px.sum() == 9 * 60


@pytest.mark.parametrize("probe", ["grid", "circles", "random"])
@pytest.mark.parametrize("spacing", [8, 32])
def test_length_of_test_lines_is_about_area_over_spacing(probe, spacing):
    total = np.mean(
        [
            sum(t.length_px.sum() for t in lay_test_lines(probe, EVERYWHERE, spacing, s))
            for s in range(8)
        ]
    )
    # Only whole circles are laid, once and not in two directions: up to pi/4 of the plane.
    most = {"grid": 2.0, "random": 2.0, "circles": np.pi / 4}[probe] * EVERYWHERE.size / spacing
    assert 0.4 * most < total < 1.03 * most


@pytest.mark.parametrize("probe", ["grid", "circles", "random"])
def test_ignored_area_holds_no_test_lines(probe):
    half = EVERYWHERE.copy()
    half[:, :130] = False
    whole = sum(t.length_px.sum() for t in lay_test_lines(probe, EVERYWHERE, 8, 0))
    left = sum(t.length_px.sum() for t in lay_test_lines(probe, half, 8, 0))
    right = sum(t.length_px.sum() for t in lay_test_lines(probe, ~half, 8, 0))
    assert left + right == pytest.approx(whole)
    assert 0.35 * whole < left < 0.65 * whole


@pytest.mark.parametrize("angle", [0.0, 22.5, 45.0, 70.0, 90.0])
def test_lines_of_one_direction(angle):
    """Rows and columns depend on the direction by a known factor; the other probes do not."""
    v = 90 * np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
    edge = np.array(SHAPE) - 0.5
    centres = np.random.default_rng(1).uniform(-45, np.add(SHAPE, 45), (1500, 2))
    parts = [straight(centre - v / 2, centre + v / 2, 60) for centre in centres]
    columns = [np.concatenate(c) for c in zip(*(vars(p).values() for p in parts), strict=True)]
    middle = (columns[1] + columns[2]) / 2
    inside = (middle >= -0.5).all(axis=1) & (middle < edge).all(axis=1)
    cut = Steps(*(c[inside] for c in columns))
    ratio = {
        probe: density(lay_test_lines(probe, EVERYWHERE, 6, 0), cut) * EVERYWHERE.size
        for probe in ("grid", "circles", "random")
    }
    length = cut.length_px.sum()
    assert ratio["grid"] / length == pytest.approx(np.pi / 4 * np.abs(v).sum() / 90, abs=0.02)
    assert ratio["random"] / length == pytest.approx(1.0, abs=0.03)
    assert ratio["circles"] / length == pytest.approx(1.0, abs=0.07)  # a third of the test length


def test_the_place_is_drawn_by_the_seed():
    for probe in ("grid", "circles", "random"):
        cut = straight((3.0, 5.0), (190.0, 250.0))
        counts = [
            [t.crossings(cut)[1].tolist() for t in lay_test_lines(probe, EVERYWHERE, 16, s)]
            for s in (1, 1, 2)
        ]
        assert counts[0] == counts[1]
        assert counts[0] != counts[2]


def test_a_field_too_small_has_families_without_length():
    thin = np.ones((1, 30), dtype=bool)
    rows, columns = lay_test_lines("grid", thin, 32, 0)
    assert rows.length_px.sum() == 0
    assert columns.length_px.sum() >= 0
    for laid in lay_test_lines("circles", thin, 32, 0):
        assert laid.crossings(straight((0, 0), (0, 29)))[1].sum() >= 0


def test_steps_that_do_not_count_cross_nothing():
    cut = straight((90.0, 0.0), (90.0, 259.0))
    nothing = Steps(cut.line, cut.start, cut.stop, np.zeros_like(cut.length_px))
    for probe in ("grid", "circles", "random"):
        for laid in lay_test_lines(probe, EVERYWHERE, 16, 0):
            of_steps, of_lines = laid.crossings(nothing)
            assert not of_steps.any()
            assert of_lines.sum() == 0
