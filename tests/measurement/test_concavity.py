"""Touching particles separated at the notches of their outline."""

import numpy as np
import pytest

from defectops.measurement import concavity
from defectops.measurement.concavity import split_at_notches
from defectops.measurement.objects import label_by_notches
from defectops.measurement.paired import model_quantities
from defectops.measurement.particle_quantities import measure_particles, observe_particles
from defectops.measurement.quantities import MeasureOptions
from defectops.micrograph import Calibration

SHAPE = (90, 130)
PIXELS = Calibration(None, "uncalibrated")


def test_nothing():
    assert not split_at_notches(np.zeros(SHAPE, dtype=bool), 12).any()


@pytest.mark.parametrize("distance", [20, 22, 24])
def test_touching_discs_are_two(draw, distance):
    mask = draw.disc(SHAPE, (40, 40), 28) | draw.disc(SHAPE, (44, 40 + distance), 28)
    found = split_at_notches(mask, 12)
    assert found.max() == 2
    assert found[40, 35] != found[44, 45 + distance]
    np.testing.assert_array_equal(found > 0, mask)
    sizes = np.bincount(found.ravel())[1:]
    assert sizes.min() > 0.8 * sizes.max()


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0])
def test_one_ellipse_is_one(ratio):
    rows, columns = np.indices(SHAPE)
    ellipse = ((rows - 44) * ratio) ** 2 + (columns - 60.5) ** 2 <= 38**2
    assert split_at_notches(ellipse, 12).max() == 1


def test_apart_is_apart_and_the_whole_plane_is_one(draw):
    mask = draw.disc(SHAPE, (20, 20), 20) | draw.disc(SHAPE, (60, 90), 20)
    assert split_at_notches(mask, 12).max() == 2
    assert (split_at_notches(np.ones((20, 30), dtype=bool), 12) == 1).all()


def test_notches_are_the_same_whatever_the_tiles(draw, monkeypatch):
    mask = draw.discs((203, 310), 0.001, lambda r, n: r.uniform(12, 40, n), 5) > 0
    whole = split_at_notches(mask, 12)
    for tile_px in (7, 32, 100):
        monkeypatch.setattr(concavity, "_TILE_PX", tile_px)
        np.testing.assert_array_equal(split_at_notches(mask, 12), whole)
    monkeypatch.setattr(concavity, "_REACH_PX", 1)  # a halo that is too narrow shows
    assert (split_at_notches(mask, 12) != whole).any()


def test_no_cut_makes_a_speck(draw):
    mask = draw.disc(SHAPE, (40, 40), 28) | draw.disc(SHAPE, (44, 62), 28)
    assert split_at_notches(mask, 700).max() == 1


def test_both_counts_of_a_mask_are_told(draw):
    mask = draw.discs((300, 400), 0.0008, lambda r, n: r.uniform(12, 26, n), 6) > 0
    found = {q.quantity: q for q in measure_particles(mask, PIXELS)}
    notches, watershed = found["areal_density_by_notches"], found["areal_density"]
    assert notches.value == pytest.approx(watershed.value, rel=0.1)
    assert notches.low < notches.value < notches.high
    assert f"watershed {watershed.n}" in notches.method
    assert label_by_notches(mask).max() > notches.n
    for plane, options in (
        (mask, MeasureOptions(detail="main")),
        (label_by_notches(mask), MeasureOptions()),
    ):
        names = {q.quantity for q in measure_particles(plane, PIXELS, options)}
        assert "areal_density_by_notches" not in names


def test_a_mask_against_instance_labels_has_no_model_interval_of_the_notches(draw):
    labels = draw.discs((200, 250), 0.0008, lambda r, n: r.uniform(12, 26, n), 6)
    pair = [observe_particles(p, PIXELS) for p in (labels, labels > 0)]
    rows = {q.quantity: q for q in model_quantities(pair[:1], pair[1:])}
    assert np.isnan(rows["areal_density_by_notches"].low)
    assert np.isfinite(rows["areal_density"].low)
