"""The number at a pixel is the number in the table."""

import numpy as np
import pytest

from defectops.measurement.label_maps import label_map
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.micrograph import Calibration

PIXEL = Calibration(0.5, "tags")


def blocks(*places, shape=(80, 100), side=10):
    mask = np.zeros(shape, bool)
    for row, column in places:
        mask[row : row + side, column : column + side] = True
    return mask


def test_each_particle_has_its_number_and_its_area():
    mask = blocks((10, 10), (40, 60), (60, 20))
    measured = observe_particles(mask, PIXEL)
    found = label_map(mask, measured)
    assert found.dtype == np.int32
    for _, row in measured.objects.iterrows():
        own = found == row["label"]
        assert own.sum() * 0.25 == pytest.approx(row["area_nm2"])
        assert np.nonzero(own)[0].mean() == pytest.approx(row["centroid_row_px"])
    np.testing.assert_array_equal(found > 0, mask)


def test_a_particle_that_is_ignored_has_no_number():
    mask = blocks((10, 10), (40, 60))
    ignore = np.zeros_like(mask)
    ignore[:30, :30] = True
    measured = observe_particles(mask, PIXEL, ignore=ignore)
    found = label_map(mask, measured, ignore)
    assert sorted(set(found.flat) - {0}) == sorted(measured.objects["label"])
    assert not found[:30, :30].any()


def lines():
    mask = np.zeros((120, 140), bool)
    mask[30:33] = True  # whole width
    mask[80:83, 20:90] = True
    mask[90:115, 110:113] = True
    return mask


def test_each_line_has_its_number_where_it_lies():
    mask = lines()
    measured = observe_lines(mask, PIXEL)
    found = label_map(mask, measured)
    assert len(measured.objects) == 3
    for _, row in measured.objects.iterrows():
        at = np.nonzero(found == row["line"])
        assert at[0].mean() == pytest.approx(row["centroid_row_px"], abs=1)
        assert at[1].mean() == pytest.approx(row["centroid_column_px"], abs=1)
    np.testing.assert_array_equal(found > 0, mask)


def test_a_speck_without_a_line_belongs_to_none():
    mask = lines()
    mask[60:64, 60:64] = True
    measured = observe_lines(mask, PIXEL)
    assert len(measured.objects) == 3
    np.testing.assert_array_equal(label_map(mask, measured) > 0, lines())


def test_crossing_lines_keep_their_numbers_beyond_the_crossing():
    mask = np.zeros((121, 121), bool)
    mask[59:62] = mask[:, 59:62] = True
    found = label_map(mask, observe_lines(mask, PIXEL))
    assert found[60, 5] == found[60, 115] != found[5, 60] == found[115, 60]


def test_lines_without_counted_length_have_no_number():
    mask = lines()
    ignore = np.zeros_like(mask)
    ignore[20:40] = True
    measured = observe_lines(mask, PIXEL, ignore=ignore)
    found = label_map(mask, measured, ignore)
    assert not found[30:33].any()
    assert sorted(set(found.flat) - {0}) == sorted(measured.objects["line"])


@pytest.mark.parametrize("observe", [observe_lines, observe_particles])
def test_an_empty_mask_gives_zeros(observe):
    mask = np.zeros((64, 70), bool)
    found = label_map(mask, observe(mask, PIXEL))
    assert found.shape == (64, 70)
    assert not found.any()
