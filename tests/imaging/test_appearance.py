"""Appearance: numbers with known values on known pictures, and ranges that tell pictures apart."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, zoom

from defectops.imaging.appearance import (
    Appearance,
    allowed_ranges,
    appearance,
    appearances,
    envelope_of,
    outside,
)
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.imaging.reading import read_micrograph

PIXEL_NM = 0.365


def noise(shape=(256, 384), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def discs(shape, seed=0):
    """Dark discs of 12 px radius on a noisy ground, as recorded."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    plane = random.normal(100, 6, shape)
    for row, column in random.integers(0, shape, (12, 2)):
        plane -= 30.0 * ((rows - row) ** 2 + (columns - column) ** 2 < 144)
    return plane


def seen(recorded):
    return appearance(condition(recorded, "dark", ConditioningOptions()))


def test_white_noise_has_noise_1_and_no_asymmetry():
    found = appearance(noise())
    assert found.noise == pytest.approx(1.0, abs=0.02)
    assert found.asymmetry == pytest.approx(0.0, abs=0.05)
    assert found.fine_structure > found.coarse_structure > 0


@given(st.floats(-3, 3), st.floats(-0.1, 0.1), st.floats(0.2, 5))
def test_a_plane_does_not_count_and_spreads_scale(offset, slope, factor):
    plane = noise((64, 72))
    rows = np.indices(plane.shape)[0].astype(np.float32)
    first, tilted = appearance(plane), appearance(plane + offset + slope * rows)
    assert tilted.noise == pytest.approx(first.noise, rel=1e-3)
    scaled = appearance(factor * plane)
    assert scaled.noise == pytest.approx(factor * first.noise, rel=1e-4)
    assert scaled.coarse_structure == pytest.approx(factor * first.coarse_structure, rel=1e-4)
    assert scaled.asymmetry == pytest.approx(first.asymmetry, abs=1e-4)


def test_reversing_changes_the_sign_of_the_asymmetry_alone():
    plane = condition(discs((256, 320)), "dark", ConditioningOptions())
    first, reversed_ = appearance(plane), appearance(-plane)
    assert reversed_.asymmetry == pytest.approx(-first.asymmetry, abs=1e-6)
    assert first.asymmetry > 0.1
    assert reversed_.noise == pytest.approx(first.noise)


def test_what_is_ignored_does_not_count():
    plane = noise((128, 192))
    spoilt, ignore = plane.copy(), np.zeros(plane.shape, bool)
    spoilt[:, 96:] = 9.0
    ignore[:, 80:] = True
    assert appearance(spoilt, ignore).noise == pytest.approx(appearance(plane).noise, rel=0.05)
    assert appearance(spoilt).noise < 0.8


@pytest.mark.parametrize("shape", [(63, 64), (7, 4096), (0, 0), (1, 1)])
def test_too_small_is_undefined_and_said(shape):
    found = appearance(np.zeros(shape, np.float32))
    assert math.isnan(found.noise)
    assert math.isnan(found.asymmetry)
    envelope = envelope_of([appearance(noise())], [None])
    assert outside(envelope, found, None) == [
        "too small to judge its appearance: 64 x 64 px are needed"
    ]


def test_a_flat_plane_is_no_division_by_zero():
    assert appearance(np.zeros((80, 80), np.float32)) == Appearance(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("shape", "pieces"), [((1024, 1536), 6), ((600, 700), 1), ((80, 1100), 2)])
def test_pieces_cover_the_plane(shape, pieces):
    found = appearances(noise(shape))
    assert len(found) == pieces
    assert all(a.noise == pytest.approx(1.0, abs=0.05) for a in found)


def test_the_envelope_is_the_range_of_the_pieces():
    rows = [Appearance(0.5, 0.1, 0.2, -0.3), Appearance(0.4, 0.3, 0.2, 0.1)]
    assert envelope_of([*rows, Appearance(*[math.nan] * 4)], [0.5, 0.25]) == {
        "noise_low": 0.4,
        "noise_high": 0.5,
        "fine_structure_low": 0.1,
        "fine_structure_high": 0.3,
        "coarse_structure_low": 0.2,
        "coarse_structure_high": 0.2,
        "asymmetry_low": -0.3,
        "asymmetry_high": 0.1,
        "pixel_size_nm_low": 0.25,
        "pixel_size_nm_high": 0.5,
    }


def test_nothing_known_judges_nothing():
    envelope = envelope_of([], [0.5, None])
    assert set(envelope.values()) == {None}
    assert outside(envelope, appearance(noise()), 99.0) == []
    assert outside({}, appearance(noise()), None) == []
    assert allowed_ranges(envelope) == []


def test_margins_are_as_stated():
    envelope = envelope_of([Appearance(0.4, 0.1, 0.1, -0.2), Appearance(0.8, 0.1, 0.1, 0.2)], [0.4])
    ranges = {words: (low, high) for words, low, high in allowed_ranges(envelope)}
    assert ranges["pixel size in nm"] == pytest.approx((0.32, 0.5))
    assert ranges["noise of single pixels"] == pytest.approx((0.4 / 2**0.25, 0.8 * 2**0.25))
    assert ranges["structure of about 10 px"] == pytest.approx((0.1 / 1.1, 0.11))
    assert ranges["balance of bright and dark"] == pytest.approx((-0.3, 0.3))
    inside = Appearance(0.9, 0.1, 0.1, 0.0)
    assert outside(envelope, inside, 0.5) == []
    assert outside(envelope, inside, 0.51) == ["pixel size is 0.51 nm, allowed 0.32 to 0.5 nm"]
    assert outside(envelope, inside, None) == ["pixel size is unknown, allowed 0.32 to 0.5 nm"]
    far = Appearance(0.99, 0.1, 0.1, -0.4)
    assert [s.split(" (")[0] for s in outside(envelope, far, 0.4)] == [
        "noise of single pixels",
        "balance of bright and dark",
    ]


CHANGES = {
    "reversed": lambda a: -a,
    "blurred": lambda a: gaussian_filter(a, 1.5),
    "enlarged": lambda a: zoom(a, 2, order=1),
    "noisier": lambda a: a + np.random.default_rng(9).normal(0, a.std(), a.shape),
}


@pytest.fixture(scope="module")
def envelope():
    return envelope_of([seen(discs((256, 384), s)) for s in range(6)], [PIXEL_NM])


@pytest.mark.parametrize("change", CHANGES)
def test_another_kind_of_picture_lies_outside(change, envelope):
    for s in (7, 8):
        assert outside(envelope, seen(discs((256, 384), s)), PIXEL_NM) == []
    assert outside(envelope, seen(CHANGES[change](discs((256, 384), 7))), PIXEL_NM)


BUNDLED = Path(__file__).parents[2] / "data" / "micrographs"
TRAIN = [np.s_[:1024, :1024], np.s_[:1024, 1024:], np.s_[1024:, :1024]]  # the paper's split
HELD_OUT = [np.s_[1024:1536, 1024:], np.s_[1536:, 1024:]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "polarity"),
    [("dislocations", "dark"), ("irradiated", "dark"), ("irradiated", "bright")],
)
def test_no_false_alarm_on_the_bundled_set_and_changes_are_seen(kind, polarity):
    paths = sorted(BUNDLED.glob(f"ht9_{kind}_*.png"))
    if not paths:
        pytest.skip("the bundled micrographs are not here (`dvc pull -r bundled`)")
    recorded = [
        read_micrograph(path, uncalibrated=True).pixels.astype(np.float32) for path in paths
    ]
    planes = [condition(r, polarity, ConditioningOptions()) for r in recorded]
    pieces = [a for p in planes for place in TRAIN for a in appearances(p[place])]
    envelope = envelope_of(pieces, [PIXEL_NM])
    for plane in planes:
        for place in (*TRAIN, *HELD_OUT, np.s_[:, :]):
            assert outside(envelope, appearance(plane[place]), PIXEL_NM) == []
    corner = recorded[0][:1024, :1024]
    for change in CHANGES.values():
        changed = condition(change(corner), polarity, ConditioningOptions())
        assert outside(envelope, appearance(changed), PIXEL_NM)
