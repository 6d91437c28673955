"""Patches: exact cuts, turned as the square can be; each tile once; the same for the same key."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectops.dataset.patches import (
    PatchOptions,
    d4,
    epoch_batches,
    random_batches,
    tiled_batches,
)
from defectops.errors import SettingsRefused
from defectops.micrograph import Calibration, Field, Region

PIXEL = Calibration(0.365, "manifest")


def numbered(height, width, first=1, ignore=None):
    """A field whose pixels are all different, with the odd ones labelled."""
    plane = np.arange(first, first + height * width, dtype=np.float32).reshape(height, width)
    ignore = np.zeros((height, width), bool) if ignore is None else ignore
    return Field("a", Region(0, height, 0, width), plane, plane % 2 == 1, ignore, PIXEL)


def patches(batches):
    """All patches of an epoch as (image, label, valid) planes."""
    found = []
    for batch in batches:
        found += list(zip(*(t[:, 0].numpy() for t in vars(batch).values()), strict=True))
    return found


# The symmetries of the square --------------------------------------------------------------------


def test_the_eight_symmetries_are_distinct_and_the_first_is_none():
    plane = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(d4(plane, 0), plane)
    assert len({(d4(plane, e).shape, d4(plane, e).tobytes()) for e in range(8)}) == 8


def test_turns_are_clockwise_and_mirrors_left_to_right():
    plane = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(d4(plane, 1), [[3, 1], [4, 2]])
    np.testing.assert_array_equal(d4(plane, 4), [[2, 1], [4, 3]])
    np.testing.assert_array_equal(d4(plane, 5), [[1, 3], [2, 4]])


def test_the_symmetries_form_a_group():
    plane = np.arange(9).reshape(3, 3)
    known = {d4(plane, e).tobytes(): e for e in range(8)}
    table = [[known[d4(d4(plane, a), b).tobytes()] for b in range(8)] for a in range(8)]
    for line in (*table, *zip(*table, strict=True)):
        assert sorted(line) == list(range(8))  # closed, and each has an inverse
    for a, b, c in itertools.product(range(8), repeat=3):
        assert table[table[a][b]][c] == table[a][table[b][c]]


# Random patches ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.tuples(st.integers(3, 60), st.integers(3, 60)),
    st.integers(1, 4),
    st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_random_patches_are_exact_cuts_with_the_label_turned_alike(shape, batch, key):
    size = 32
    field = numbered(*shape)
    for image, label, valid in patches(
        random_batches([field], patch_px=size, batch=batch, count=5, key=key)
    ):
        assert image.shape == label.shape == valid.shape == (size, size)
        inside = valid > 0
        np.testing.assert_array_equal(label[inside], image[inside] % 2)
        assert (label[~inside] == 0).all()
        assert any(is_cut(d4(image, e), d4(valid, e), field) for e in range(8))


def is_cut(image, valid, field):
    """Whether the valid part of a patch is a rectangle of the field, unturned."""
    rows, columns = np.nonzero(valid.any(1))[0], np.nonzero(valid.any(0))[0]
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left = (int(i[0]) for i in np.nonzero(field.intensity == part[0, 0]))
    height, width = part.shape
    return np.array_equal(part, field.intensity[top : top + height, left : left + width])


def test_the_same_key_gives_the_same_patches_whatever_the_batch_size():
    fields = [numbered(50, 70), numbered(40, 90, 10_000)]

    def drawn(batch, key):
        rows = random_batches(fields, patch_px=32, batch=batch, count=13, key=key)
        return [p[0].tobytes() for p in patches(rows)]

    assert drawn(4, (1, 2)) == drawn(4, (1, 2)) == drawn(1, (1, 2)) == drawn(13, (1, 2))
    assert len(drawn(4, (1, 2))) == 13
    assert not set(drawn(4, (1, 2))) & set(drawn(4, (1, 3)))
    assert not set(drawn(4, (1, 2))) & set(drawn(4, (2, 2)))


def test_batches_are_full_but_the_last():
    rows = list(random_batches([numbered(40, 40)], patch_px=32, batch=4, count=10, key=(0,)))
    assert [b.image.shape[0] for b in rows] == [4, 4, 2]
    assert all(t.shape[1:] == (1, 32, 32) for b in rows for t in vars(b).values())


def test_all_places_and_all_symmetries_are_drawn():
    field = numbered(34, 33)
    rows = random_batches([field], patch_px=32, batch=50, count=600, key=(0,))
    corners = Counter(int(image.min()) for image, _, _ in patches(rows))
    assert set(corners) == {1 + 33 * top + left for top in range(3) for left in range(2)}
    turns = Counter(
        next(
            e
            for e in range(8)
            if d4(image, e)[0, 0] == image.min() < d4(image, e)[0, 1] < d4(image, e)[1, 0]
        )
        for image, _, _ in patches(
            random_batches([numbered(32, 32)], patch_px=32, batch=50, count=400, key=(1,))
        )
    )
    assert set(turns) == set(range(8))
    assert min(turns.values()) > 25


def test_fields_are_drawn_in_proportion_to_their_area():
    """A field smaller than a patch too, though it is extended to one."""
    large, small = numbered(96, 96), numbered(16, 24, 100_000)
    rows = random_batches([large, small], patch_px=32, batch=100, count=2000, key=(0,))
    share = np.mean([image.min() >= 100_000 for image, _, _ in patches(rows)])
    assert share == pytest.approx(16 * 24 / (96 * 96 + 16 * 24), abs=0.015)


def test_what_is_mirrored_or_ignored_does_not_count():
    ignore = np.zeros((20, 24), bool)
    ignore[:5] = True
    field = numbered(20, 24, ignore=ignore)
    for image, label, valid in patches(
        random_batches([field], patch_px=32, batch=3, count=9, key=(4,))
    ):
        assert valid.sum() == 15 * 24
        assert set(image[valid > 0]) == set(field.intensity[~ignore])
        assert (image > 0).all()  # extended by mirroring, not by zeros
        assert label[valid > 0].sum() == (field.label & ~ignore).sum()


# Tiles -------------------------------------------------------------------------------------------


def test_the_papers_augmentation_in_small():
    """Six fields of 64 x 64 stand for 1024 x 1024: 48 pairs, 192 patches of half the edge."""
    fields = [numbered(64, 64, 1 + 4096 * i) for i in range(6)]
    rows = list(tiled_batches(fields, patch_px=32, batch=16, key=(0, 0)))
    assert [b.image.shape[0] for b in rows] == [16] * 12
    seen = Counter(image.tobytes() for image, _, _ in patches(rows))
    wanted = Counter(
        d4(f.intensity[top : top + 32, left : left + 32], e).tobytes()
        for f in fields
        for top in (0, 32)
        for left in (0, 32)
        for e in range(8)
    )
    assert seen == wanted
    assert len(seen) == 192 == 4 * 48
    assert set(seen.values()) == {1}


def test_tiles_cover_a_field_that_is_no_multiple():
    rows = tiled_batches([numbered(40, 70)], patch_px=32, batch=7, key=(0,))
    found = patches(rows)
    assert len(found) == 2 * 3 * 8
    assert set(np.unique([p[0] for p in found])) == set(range(1, 40 * 70 + 1))


def test_tiles_come_in_another_order_each_epoch():
    def order(key):
        rows = tiled_batches([numbered(64, 64)], patch_px=32, batch=4, key=key)
        return [p[0].tobytes() for p in patches(rows)]

    assert order((1, 0)) == order((1, 0)) != order((1, 1))
    assert sorted(order((1, 0))) == sorted(order((1, 1)))


# Options -----------------------------------------------------------------------------------------


def test_options_choose_between_random_and_exact():
    field, key = numbered(64, 64), (1, 2)

    def same(found, wanted):
        return [p[0].tobytes() for p in patches(found)] == [p[0].tobytes() for p in patches(wanted)]

    options = PatchOptions(patch_px=32, batch=4, patches_per_epoch=6)
    assert same(
        epoch_batches([field], options, key),
        random_batches([field], patch_px=32, batch=4, count=6, key=key),
    )
    exact = PatchOptions(patch_px=32, batch=4, augmentation="exact")
    assert same(
        epoch_batches([field], exact, key),
        tiled_batches([field], patch_px=32, batch=4, key=key),
    )


@pytest.mark.parametrize("augmentation", ["random", "exact"])
def test_no_field_is_refused(augmentation):
    with pytest.raises(SettingsRefused, match="no labelled field to train on"):
        list(epoch_batches([], PatchOptions(augmentation=augmentation), (0,)))


@pytest.mark.parametrize(
    "wrong", [{"patch_px": 24}, {"patch_px": 100}, {"batch": 0}, {"patches_per_epoch": 0}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsRefused, match="E_CONFIG"):
        PatchOptions(**wrong)
