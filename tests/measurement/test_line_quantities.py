"""What lines are worth: merging, width, ratio of densities, directions, ends, junctions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.dataset.synthesis_segments import SegmentOptions, capsules, draw_segments
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.line_merging import expected_ratio, hidden_by_merging, shared_length
from defectops.measurement.line_quantities import (
    line_quantities,
    measure_lines,
    rose_of_directions,
)
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

PIXELS = Calibration(None, "uncalibrated")
FOIL = Calibration(0.365, "synthesis", 136.0, 0.0)
SHAPE = (200, 240)


def by_name(quantities):
    return {q.quantity: q for q in quantities}


def star(angles_deg, width=3.0, shape=SHAPE):
    """Lines through the middle at some angles."""
    middle = np.array(shape) / 2 + 0.2
    v = 500 * np.array([[np.sin(a), np.cos(a)] for a in np.radians(angles_deg)])
    return capsules(middle - v, middle + v, width, shape)


def parallel(spacing=12):
    rows = np.arange(20.3, SHAPE[0] - 10, spacing)
    start = np.column_stack([rows, np.full(rows.size, -50.0)])
    return capsules(start, start + np.array([0, 400.0]), 3.0, SHAPE)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    density=st.floats(0.5e14, 3e14),
    widths=st.tuples(st.sampled_from([2.0, 3.0]), st.sampled_from([4.0, 5.0])),
)
def test_widening_the_mask_does_not_change_the_density(seed, density, widths):
    """Within 10 % of one small field: wider lines hide ends that narrow ones show, by chance."""
    found = []
    for width in widths:
        options = SegmentOptions(density, shape=(256, 256), width_px=width)
        mask = draw_segments(np.random.default_rng(seed), options).mask
        found.append(by_name(measure_lines(mask, FOIL))["projected_line_density"].value)
    lone = 12 / 256**2 / 0.365  # a line of a dozen pixels that only one of the two widths shows
    assert abs(found[0] - found[1]) <= 0.1 * max(found) + lone


@pytest.mark.slow
def test_widening_leaves_the_mean_density_alone():
    """Over fields of the same segments, drawn from 2 to 6 px wide, within 1.5 %."""
    total = {}
    for width in (2.0, 3.0, 4.5, 6.0):
        options = SegmentOptions(2e14, shape=(400, 400), width_px=width)
        fields = [
            observe_lines(draw_segments(np.random.default_rng(s), options).mask, PIXELS)
            for s in range(12)
        ]
        total[width] = by_name(line_quantities(fields))["projected_line_density"].value
    assert max(total.values()) / min(total.values()) < 1.015


@pytest.mark.parametrize("width", [3.0, 5.0])
@pytest.mark.parametrize("angle", [6, 10, 15, 25, 45, 80])
def test_crossings_are_resolved_at_any_angle(width, angle):
    crossed = observe_lines(star([12.0, 12.0 + angle], width), PIXELS)
    apart = [observe_lines(star([a], width), PIXELS) for a in (12.0, 12.0 + angle)]
    assert crossed.lengths.size == 2
    expected = sum(a.lengths.sum() for a in apart)
    assert crossed.lengths.sum() == pytest.approx(expected, abs=1.0)
    assert crossed.tiles["meetings"].sum() == 1
    assert crossed.objects["ends"].sum() == 0


def test_lines_that_never_meet_hide_nothing():
    field = observe_lines(parallel(), PIXELS)
    assert shared_length(field) == 0
    hidden = hidden_by_merging([field], "corrected")
    assert hidden.factor == 1
    assert hidden.line_share > 0.2


def test_what_a_meeting_hides_is_width_over_the_mean_sine():
    field = observe_lines(star([10, 100]), PIXELS)
    width = field.covered / field.lengths.sum()
    assert shared_length(field) == pytest.approx(width, rel=0.03)
    hidden = hidden_by_merging([field], "corrected")
    assert 1 < hidden.factor < 1 + width / field.lengths.sum()
    assert hidden_by_merging([field], "as seen").factor == 1


def test_the_correction_is_said_and_can_be_left_out():
    mask = draw_segments(np.random.default_rng(0), SegmentOptions(5e14, shape=(300, 300))).mask
    plain = by_name(measure_lines(mask, FOIL, MeasureOptions(merging="as seen")))
    corrected = by_name(measure_lines(mask, FOIL))
    for name in ("dislocation_density_skeleton", "dislocation_density_grid"):
        factor = corrected[name].value / plain[name].value
        assert f"times {factor:.4f} for lines that merge" in corrected[name].method
        assert "not corrected for lines that merge" in plain[name].method
        assert 1 < factor < 1.05


def test_the_alarm_rings_for_lines_along_the_grid():
    """Lines of one direction are crossed by half of the grid only, pi/4 of what it should be."""
    found = by_name(measure_lines(parallel(), PIXELS))
    q = found["grid_skeleton_ratio"]
    assert q.value == pytest.approx(np.pi / 4, rel=0.03)
    assert q.high < expected_ratio(0.25)
    assert "ALARM" in q.method
    assert found["anisotropy_index"].value > 0.95
    turned = by_name(measure_lines(parallel(), PIXELS, MeasureOptions(probe="random")))
    assert turned["grid_skeleton_ratio"].value == pytest.approx(1, abs=0.03)


def test_the_alarm_keeps_silent_for_lines_at_random():
    options = SegmentOptions(3e14, shape=(400, 400))
    fields = [
        observe_lines(draw_segments(np.random.default_rng(s), options).mask, FOIL)
        for s in range(30)
    ]
    rung = sum(
        "ALARM" in by_name(line_quantities([f]))["grid_skeleton_ratio"].method for f in fields
    )
    assert rung <= 5  # more than five of 30 at 5 % each happen once in 300 times
    assert "ALARM" not in by_name(line_quantities(fields))["grid_skeleton_ratio"].method


def test_the_rose_adds_up_and_points_where_lines_run():
    field = observe_lines(star([20]), FOIL)
    rose = rose_of_directions([field])
    assert rose["density_per_nm"].sum() == pytest.approx(field.lengths.sum() / field.field_area)
    best = rose.loc[rose["density_per_nm"].idxmax()]
    assert best["from_deg"] <= 20 < best["to_deg"]
    assert (rose["low"] <= rose["density_per_nm"]).all()
    assert (rose["density_per_nm"] <= rose["high"]).all()


def test_ends_and_segments_by_hand():
    start = np.array([[30.0, 30.0], [80.0, 40.0], [150.0, -20.0]])
    stop = np.array([[30.0, 130.0], [120.0, 140.0], [150.0, 90.0]])
    found = by_name(measure_lines(capsules(start, stop, 3.0, SHAPE), PIXELS))
    area = SHAPE[0] * SHAPE[1]
    assert found["line_end_density"].value == pytest.approx(5 / area)
    assert found["segment_density"].value == pytest.approx(2.5 / area)
    length = 100 + np.hypot(40, 100) + 90
    assert found["mean_segment_length"].value == pytest.approx(length / 2.5, rel=0.02)
    assert found["junction_density"].value == 0


def test_junctions_by_hand():
    found = by_name(measure_lines(star([0, 60, 120]) | parallel(300), PIXELS))
    # Three lines through one point meet twice; the one along the rows meets two of them.
    assert found["junction_density"].value * SHAPE[0] * SHAPE[1] == pytest.approx(4)


def test_every_count_is_kept():
    field = observe_lines(star([10, 100]), FOIL, MeasureOptions(probe="random", grid_spacing_px=16))
    table = field.probes
    assert list(table.columns) == ["family", "test_line", "length_nm", "crossings"]
    assert set(table["family"]) == set(field.families)
    for family in field.families:
        rows = table[table["family"] == family]
        assert rows["crossings"].sum() == field.objects[f"crossings_{family}"].sum()
        assert rows["crossings"].sum() == field.tiles[f"crossings_{family}"].sum()


def test_nothing_in_a_crowded_mask_breaks():
    noise = np.random.default_rng(0).random((120, 150)) < 0.5
    for q in measure_lines(noise, FOIL):
        assert np.isfinite(q.value)
        assert q.low <= q.high or "no interval" in q.method
