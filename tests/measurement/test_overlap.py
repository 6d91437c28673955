"""Particles that hide each other: their number from the union of their outlines."""

import math

import numpy as np
import pytest

from defectops.measurement.objects import label_particles
from defectops.measurement.overlap import union_density
from defectops.measurement.particle_quantities import measure_particles, observe_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

PIXELS = Calibration(None, "uncalibrated")
UNION = MeasureOptions(overlap="union", detail="main")


def areal(plane, options=UNION):
    return measure_particles(plane, PIXELS, options)[0]


def test_pieces_less_holes_by_hand():
    # One square of 4 x 4 in 40 x 50: chi = 1, outline by Crofton in four directions.
    mask = np.zeros((40, 50), dtype=bool)
    mask[10:14, 20:24] = True
    windows, share = 39 * 49, 16 / 2000
    outline = math.pi / 8 * (8 + 8 + 2 * 14 / math.sqrt(2)) / windows
    expected = 1 / windows / (1 - share) + (outline / (1 - share)) ** 2 / (4 * math.pi)
    assert union_density(mask) == pytest.approx(expected)


def test_nothing_and_everything():
    assert union_density(np.zeros((9, 7), dtype=bool)) == 0
    assert math.isnan(union_density(np.ones((9, 7), dtype=bool)))
    assert math.isnan(union_density(np.zeros((1, 7), dtype=bool)))


def test_ignored_pixels_do_not_count(draw):
    mask = draw.discs((150, 200), 0.001, lambda r, n: np.full(n, 14.0), 2) > 0
    valid = np.ones(mask.shape, dtype=bool)
    valid[:, 90:] = False
    assert union_density(mask, valid) == pytest.approx(union_density(mask[:, :90]))


def test_turning_and_mirroring_change_nothing(draw):
    mask = draw.discs((150, 200), 0.001, lambda r, n: r.uniform(8, 20, n), 4) > 0
    for other in (mask.T, mask[::-1], np.rot90(mask)):
        assert union_density(other) == pytest.approx(union_density(mask), rel=0.005)


def test_a_mask_is_corrected_and_instance_labels_are_not(draw):
    discs = draw.discs((300, 400), 0.0005, lambda r, n: np.full(n, 20.0), 6)
    plain = areal(discs > 0, MeasureOptions(detail="main"))
    corrected = areal(discs > 0)
    assert corrected.value > 1.02 * plain.value
    assert corrected.low / corrected.value == pytest.approx(plain.low / plain.value)
    assert "overlap corrected" in corrected.method
    assert areal(discs).value == areal(discs, MeasureOptions(detail="main")).value
    assert "overlap" not in areal(discs).method
    assert observe_particles(discs, PIXELS, UNION).union_count is None


def test_an_empty_mask_stays_empty():
    found = areal(np.zeros((40, 50), dtype=bool))
    assert found.value == 0
    assert found.high > 0


@pytest.mark.slow
def test_at_ten_percent_cover_the_number_is_right(draw):
    d, cover, fields = 24.0, 0.105, 60
    density = cover / (math.pi / 4 * d * d * 1.16)
    sigma = math.sqrt(math.log(1.16))
    pieces, unions = [], []
    for seed in range(fields):
        mask = (
            draw.discs(
                (500, 600),
                density,
                lambda r, n: r.lognormal(math.log(d) - sigma**2 / 2, sigma, n).clip(4, 90),
                seed,
            )
            > 0
        )
        clean = label_particles(mask)
        unions.append(union_density(clean > 0) / density)
        pieces.append(measure_particles(mask, PIXELS, MeasureOptions(detail="main"))[0].value)
    # 4,000 particles: the standard error is 1.7 %.
    assert np.mean(unions) == pytest.approx(1, abs=0.05)
    assert np.mean(pieces) / density < 0.95
