"""What a model scores on tiles, and intervals of its errors and of the change against another."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectops.errors import LabelRefused
from defectops.measurement import model_comparison
from defectops.measurement.agreement import confusion
from defectops.measurement.model_comparison import (
    FEWEST_IMAGES,
    Change,
    Resampling,
    observe_sample,
    one_object,
    paired_change,
    score_intervals,
    score_names,
    scores,
    size_of,
)
from defectops.measurement.object_agreement import object_agreement, object_tiles
from defectops.measurement.objects import ObjectOptions
from defectops.measurement.outline_agreement import line_agreement, line_tiles
from defectops.measurement.paired import percent_error
from defectops.measurement.particle_quantities import measure_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.uncertainty import Interval
from defectops.micrograph import Calibration, Field, Region

SHAPE = (96, 144)
CALIBRATION = Calibration(0.5, "manifest", 100.0, 5.0)
OPTIONS = MeasureOptions(objects=ObjectOptions(min_area_px=5))
HOW = Resampling(draws=200)
COUNT, SIZE = "number_density_error_percent", "mean_diameter_error_percent"
CENTRES = [(r, c) for r in range(8, 96, 16) for c in range(8, 144, 16)]
NOTHING = np.zeros(SHAPE, bool)


def discs(centres, more=0):
    """Discs of radius 4 and 5 in turn, and so much more."""
    rows, columns = np.indices(SHAPE)
    out = np.zeros(SHAPE, bool)
    for r, c in centres:
        radius = 4 + (r // 16 + c // 16) % 2 + more
        out |= (rows - r) ** 2 + (columns - c) ** 2 <= radius**2
    return out


def strokes(rows):
    out = np.zeros(SHAPE, bool)
    for r in rows:
        out[r - 1 : r + 2, 5:-5] = True
    return out


def field(label, image="a.png", ignore=NOTHING, calibration=CALIBRATION):
    region = Region(0, SHAPE[0], 0, SHAPE[1])
    return Field(image, region, np.zeros(SHAPE, np.float32), label, ignore, calibration)


def sample(pairs, shape="particle", **given):
    """Return the sample of (label, mask) pairs, each an image of its own."""
    fields = [field(label, f"{i}.png", **given) for i, (label, _) in enumerate(pairs)]
    return observe_sample(shape, fields, [mask for _, mask in pairs], OPTIONS)


WHOLE = discs(CENTRES)
ignored = np.zeros(SHAPE, bool)
ignored[:, :40] = True


@pytest.mark.parametrize("ignore", [NOTHING, ignored])
def test_tiles_add_up_to_what_fields_score(ignore):
    mask = np.roll(discs(CENTRES[3:]), 2, 0) | discs([(50, 71)])
    found = sample([(WHOLE, mask)], ignore=ignore)
    sums = found.agreement.sum()
    counts = confusion(mask, WHOLE, ignore)
    assert [sums[k] for k in ("tp", "fp", "fn", "tn")] == list(dataclasses.astuple(counts))
    objects = object_agreement(mask, WHOLE, ignore, options=OPTIONS.objects)
    assert [sums[k] for k in ("matched", "missed", "invented")] == [
        objects.matched,
        objects.missed,
        objects.invented,
    ]
    told = scores(found)
    assert told["object_f1"] == pytest.approx(objects.f1, abs=1e-6)
    assert told["iou"] == pytest.approx(counts.iou, abs=1e-6)


def test_objects_are_counted_where_they_lie():
    # 4 x 4 tiles of 24 x 36 px: one missed in the first, one invented in the last.
    tiles = object_tiles(discs([(90, 130)]), discs([(8, 8)]), options=OPTIONS.objects)
    assert tiles["missed"].to_numpy().nonzero()[0].tolist() == [0]
    assert tiles["invented"].to_numpy().nonzero()[0].tolist() == [15]
    assert tiles["matched"].sum() == 0


def test_centre_lines_are_counted_where_they_lie():
    label, mask = strokes([12, 60]), strokes([14, 84])
    tiles = line_tiles(mask, label)
    told = line_agreement(mask, label)
    sums = tiles.sum()
    assert sums["label_found_px"] / sums["label_px"] == pytest.approx(told.completeness)
    assert sums["prediction_true_px"] / sums["prediction_px"] == pytest.approx(told.correctness)
    # The stroke of row 60, in the third row of tiles, is not found; the one of row 12 is.
    lost = (tiles["label_px"] - tiles["label_found_px"]).to_numpy().reshape(4, 4).sum(axis=1)
    assert lost[2] > 0
    assert lost[[0, 1, 3]].tolist() == [0, 0, 0]


def test_errors_are_those_of_the_quantities():
    mask = discs(CENTRES[5:], 1)
    told = scores(sample([(WHOLE, mask)]))
    expected = percent_error(
        measure_particles(WHOLE, CALIBRATION, OPTIONS),
        measure_particles(mask, CALIBRATION, OPTIONS),
    )
    assert told[COUNT] == pytest.approx(expected["number_density"], abs=1e-6)
    assert told[SIZE] == pytest.approx(expected["mean_diameter"], abs=1e-6)


@pytest.mark.parametrize("shape", ["particle", "line"])
def test_every_score_has_its_name_and_nothing_measured_is_undefined(shape):
    found = observe_sample(shape, [], [], OPTIONS)
    assert scores(found) == dict.fromkeys(score_names(shape))
    assert all(math.isnan(c.low) for c in score_intervals(found, HOW).values())
    empty = sample([(NOTHING, NOTHING)], shape)
    told = scores(empty)
    assert (told["iou"], told["pixel_accuracy"]) == (None, 1.0)


def test_without_thickness_or_with_mixed_scales_errors_are_of_what_can_be_drawn():
    mask = discs(CENTRES[6:])
    flat = sample([(WHOLE, mask)], calibration=Calibration(0.5, "manifest"))
    lost = 100 * 6 / len(CENTRES)
    assert scores(flat)[COUNT] == pytest.approx(-lost, abs=2)
    fields = [
        field(WHOLE, "a.png"),
        field(WHOLE, "b.png", calibration=Calibration(None, "uncalibrated")),
    ]
    mixed = observe_sample("particle", fields, [mask, mask], OPTIONS)
    assert scores(mixed)[COUNT] == pytest.approx(scores(flat)[COUNT], abs=1e-6)


# Intervals ------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_interval():
    found = sample([(WHOLE, discs(CENTRES[3:]))])
    assert score_intervals(found, HOW) == score_intervals(found, HOW)
    other = score_intervals(found, Resampling(200, 1))
    assert other["iou"] != score_intervals(found, HOW)["iou"]


def test_intervals_hold_their_estimate_and_scores_stay_between_0_and_1():
    found = sample([(WHOLE, discs(CENTRES[3:]) | discs([(50, 71)]))] * 2)
    for name, c in score_intervals(found, HOW).items():
        assert c.low <= c.estimate <= c.high, name
        assert c.unit == ("%" if name.endswith("percent") else "1")
        if c.unit == "1":
            assert c.low >= 0
            assert c.high <= 1


def test_a_perfect_model_may_still_have_lost_an_object():
    """Nothing differs, so a bootstrap alone has no width; 2.96 objects may be lost unseen."""
    found = sample([(WHOLE, WHOLE)])
    interval = score_intervals(found, HOW)[COUNT]
    step = one_object(found)[COUNT]
    assert step == pytest.approx(100 / len(CENTRES))
    assert interval.low == pytest.approx(-2.96 * step, rel=1e-3)
    assert interval.high == pytest.approx(2.96 * step, rel=1e-3)
    change = paired_change(found, found, HOW)
    assert (change["iou"].estimate, change[COUNT].estimate) == (0, 0)
    assert change["iou"].low == pytest.approx(-2.96 / len(CENTRES), rel=1e-3)


def test_few_images_are_drawn_by_tiles_and_many_as_wholes():
    label, mask = discs(CENTRES[:9]), discs(CENTRES[1:9])
    few = score_intervals(sample([(label, mask)] * 2), HOW)["iou"]
    assert few.over == "tiles"
    # Nine discs in the first half-row of one image touch the tiles of one row only.
    assert few.n == len({c // 36 for _, c in CENTRES[:9]}) * 2
    many = score_intervals(sample([(label, mask)] * FEWEST_IMAGES), HOW)["iou"]
    assert (many.over, many.n) == ("images", FEWEST_IMAGES)


@pytest.mark.slow
def test_images_that_differ_widen_an_interval_of_images():
    good, bad = (WHOLE, WHOLE), (WHOLE, discs(CENTRES[20:]))
    mixed = score_intervals(sample([good, bad] * (FEWEST_IMAGES // 2)), HOW)["iou"]
    alike = score_intervals(sample([bad] * FEWEST_IMAGES), HOW)["iou"]
    assert mixed.high - mixed.low > 2 * (alike.high - alike.low)


def test_draws_without_a_labelled_object_are_left_out():
    """Two labelled discs of 16 tiles are in no draw once in eight times; invented ones are."""
    label = discs([(8, 8), (88, 136)])
    found = [sample([(label, label | discs(CENTRES[k::9]))]) for k in (1, 2)]
    change = paired_change(*found, HOW)[COUNT]
    assert math.isfinite(change.low)
    assert math.isfinite(change.high)


def test_one_tile_gives_no_interval():
    found = sample([(discs([(8, 8)]), discs([(8, 8)]))])
    assert math.isnan(score_intervals(found, HOW)["iou"].low)


# Changes --------------------------------------------------------------------------------------


def test_a_change_is_challenger_minus_champion_and_of_errors_that_of_their_size():
    worse, better = sample([(WHOLE, discs(CENTRES[6:]))]), sample([(WHOLE, WHOLE)])
    there, back = paired_change(worse, better, HOW), paired_change(better, worse, HOW)
    assert there["iou"].estimate > 0 > back["iou"].estimate
    assert there["iou"].low == pytest.approx(-back["iou"].high)
    assert there[COUNT].estimate == pytest.approx(-abs(scores(worse)[COUNT]), abs=1e-6)
    assert there[COUNT].high == pytest.approx(-back[COUNT].low)
    assert there[COUNT].unit == "percentage points"


def test_errors_of_opposite_sign_and_the_same_size_are_equal():
    label = discs(CENTRES[4:-4])
    more, fewer = discs(CENTRES), discs(CENTRES[8:-8])
    change = paired_change(sample([(label, more)]), sample([(label, fewer)]), HOW)[COUNT]
    assert abs(change.estimate) < 3  # 8 of 46 more, 8 fewer, and what the border rule makes of it
    assert change.low < 0 < change.high


def test_a_model_that_loses_a_quarter_is_told_from_one_that_loses_none():
    pairs = [(WHOLE, WHOLE)] * 3, [(WHOLE, discs(CENTRES[::4] + CENTRES[1::4] + CENTRES[2::4]))] * 3
    champion, challenger = (sample(p) for p in pairs)
    change = paired_change(champion, challenger, HOW)
    assert change["iou"].high < 0
    assert change[COUNT].low > 5


def test_samples_of_different_fields_are_refused():
    one, two = sample([(WHOLE, WHOLE)]), sample([(WHOLE, WHOLE)] * 2)
    with pytest.raises(LabelRefused, match="E_PAIR"):
        paired_change(one, two, HOW)
    with pytest.raises(LabelRefused, match="E_PAIR"):
        observe_sample("particle", [field(WHOLE)], [], OPTIONS)
    with pytest.raises(LabelRefused, match="E_SHAPE"):
        observe_sample("particle", [field(WHOLE)], [WHOLE[1:]], OPTIONS)


def test_lines_are_compared_by_centre_lines_and_density():
    label = strokes([12, 36, 60, 84])
    one, two = (sample([(label, m)] * 2, "line") for m in (label, strokes([12, 36, 60])))
    assert scores(two)["line_completeness"] == pytest.approx(0.75)
    change = paired_change(one, two, HOW)
    assert change["line_completeness"].estimate == pytest.approx(-0.25)
    assert change["dislocation_density_error_percent"].estimate == pytest.approx(25, abs=6)


finite = st.floats(-50, 50)
wide = st.floats(0, 20)


@given(finite, finite, wide, wide)
def test_a_change_of_sizes_is_held_if_difference_and_sum_are(c, p, below, above):
    difference = Interval(c - p - below, c - p + above)
    total = Interval(c + p - above, c + p + below)
    held = model_comparison._folded(difference, total)
    assert held.low - 1e-9 <= abs(c) - abs(p) <= held.high + 1e-9
    if min(abs(c), abs(p)) > 40:  # far from the fold it is the one that decides, and no wider
        assert held.high - held.low == pytest.approx(below + above)


@given(finite, finite)
def test_the_size_of_an_error_lies_in_the_interval_of_its_size(a, b):
    low, high = sorted((a, b))
    estimate = (low + high) / 2
    found = size_of(Change(estimate, low, high, 3, "%", "tiles"))
    assert 0 <= found.low <= found.estimate <= found.high == max(abs(a), abs(b))
    assert (found.low == 0) == (low <= 0 <= high)


def test_the_size_of_what_is_undefined_is_undefined():
    nan = math.nan
    assert math.isnan(size_of(Change(nan, nan, nan, 0, "%", "tiles")).high)
