"""Particles that a model may have missed, invented, merged, split or drawn too wide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.morphology import convex_hull_image
from skimage.segmentation import watershed

from defectops.measurement.concavity import split_at_notches
from defectops.measurement.doubt_rows import (
    INVENTED,
    LEAST_CHANCE,
    MERGED,
    MISSED,
    SPLIT,
    WIDENED,
    Array,
    Doubt,
    Effect,
    Seen,
    box_of,
    pixels_by_number,
)
from defectops.measurement.objects import label_particles
from defectops.measurement.particles import border_weights

_EIGHT = np.ones((3, 3), dtype=bool)
# What lies below the threshold is looked for from the lowest chance upwards, so that a faint blob
# is taken as large as it is while still apart from what was found.
_LEVELS = (LEAST_CHANCE, 0.1, 0.2, 0.3, 0.4)
# A waist cuts off no sliver: each part has at least this share of the particle.
_LEAST_PART = 0.15
# Outlines are never sharper than this: a rim that moves the diameter by less is no doubt.
_LEAST_WIDER = 0.05


@dataclass(frozen=True, eq=False)
class _Counts:
    """What particles count in number and size by the border rule, and their diameters in px."""

    number: Array
    size: Array
    diameter: Array

    @staticmethod
    def of(seen: Seen, pixels: Sequence[Array]) -> _Counts:
        """Weigh particles that are given by the flat indices of their pixels."""
        shape = (seen.chance.shape[0], seen.chance.shape[1])
        boxes = np.array([box_of(at, shape[1]) for at in pixels], dtype=np.int64).reshape(-1, 4)
        table = pd.DataFrame(boxes, columns=["top_px", "bottom_px", "left_px", "right_px"])
        first = (boxes[:, [0, 2]] == 0).any(axis=1)
        table["touches_border"] = first | (boxes[:, [1, 3]] == shape).any(axis=1)
        number, size = border_weights(table, shape, seen.options.border, seen.options.guard_px)
        counted = np.array([at.size > 0 and seen.counts(at) for at in pixels], dtype=bool)
        area = np.array([at.size for at in pixels], dtype=np.float64)
        return _Counts(number * counted, size * counted, np.sqrt(4 / np.pi * area))

    def one(self, i: int) -> _Counts:
        """Return a single particle of them."""
        return _Counts(self.number[[i]], self.size[[i]], self.diameter[[i]])

    def effect(self, gone: Sequence[int], new: _Counts) -> Effect:
        """Return what it changes if the particles at some places go and others come."""
        out = list(gone)
        objects = float(new.number.sum() - self.number[out].sum())
        size, length = float(self.size.sum()), float(self.size @ self.diameter)
        later = size + float(new.size.sum() - self.size[out].sum())
        moved = length + float(new.size @ new.diameter - self.size[out] @ self.diameter[out])
        sized = min(size, later) > 1e-9
        count = float(self.number.sum()) or max(objects, 1.0)
        return Effect(
            objects=objects,
            density_percent=100 * objects / count,
            diameter_percent=100 * (moved / later * size / length - 1) if sized else 0.0,
        )


_NONE = _Counts(*np.zeros((3, 0)))


@dataclass(frozen=True, eq=False)
class _Field:
    """One field with its particles, numbered from 1: flat indices of their pixels, and counts."""

    seen: Seen
    instances: Array
    pixels: list[Array]
    counts: _Counts

    @property
    def width_px(self) -> int:
        """Columns of the plane."""
        return int(self.instances.shape[1])


def particle_doubts(seen: Seen) -> list[Doubt]:
    """List the doubts about the particles of one field, in no order.

    ``missed``
        A blob below the threshold that stays apart from what was found; the mean of its pixels,
        squared: most of what a network half sees is nothing, and on fields with known truth the
        square is about right. Its size is that of the part above half its highest chance.
    ``invented``
        A found particle: ``2 (1 - mean of its pixels)``, as all of them are above one half.
    ``split``
        Two found particles that are one if the bridge between them, their convex hull without
        both, is particle too: the mean of the bridge.
    ``merged``
        A particle with a waist, see `concavity.split_at_notches`. As likely as that another one has
        its centre there where they lie at random: ``1 - exp(-area * particles per area)``.
    ``widened``
        A particle with a rim of uncertain pixels: outside the mean of the rim, squared as for
        missed ones; inside one minus the mean.
    """
    instances = seen.instances
    if instances is None:
        instances = label_particles(seen.found, seen.options.objects)
    pixels = pixels_by_number(instances, int(instances.max(initial=0)))
    field = _Field(seen, instances, pixels, _Counts.of(seen, pixels))
    reach = watershed(-seen.chance, instances, mask=(seen.chance >= LEAST_CHANCE) | (instances > 0))
    split = list(_split(field, _bridges(field, reach)))
    known = dict.fromkeys(range(1, len(pixels) + 1), 0.0)
    for doubt in split:
        for label in (doubt.label, doubt.other_label):
            known[label] = max(known[label], doubt.score)
    # A piece of a particle that fell apart is neither one of its own nor too narrow.
    alone = [*_invented(field), *_widened(field, reach)]
    own = [doubt for doubt in alone if doubt.score > known[doubt.label]]
    return [*_missed(field), *split, *_merged(field), *own]


def _missed(field: _Field) -> Iterator[Doubt]:
    seen = field.seen
    chance = seen.chance.ravel()
    blobs = _faint(seen.chance, field.instances > 0, seen.options.objects.min_area_px)
    cores = [at[chance[at] >= chance[at].max() / 2] for at in blobs]
    counts = _Counts.of(seen, cores)
    for i, at in enumerate(blobs):
        yield Doubt(MISSED, at, field.seen.mean(at) ** 2, field.counts.effect([], counts.one(i)))


def _faint(chance: Array, found: Array, min_area_px: int) -> list[Array]:
    """Return the pixels of blobs below the threshold, each as large as it is while apart."""
    blobs = np.zeros(chance.shape, dtype=np.int32)
    taken = ndimage.binary_dilation(found, _EIGHT)
    count = 0
    for level in _LEVELS:
        pieces, n = ndimage.label(chance >= level, structure=_EIGHT)
        apart = np.bincount(pieces.ravel(), minlength=n + 1) >= max(min_area_px, 1)
        apart[pieces[taken]] = False
        apart[0] = False
        new = apart[pieces]
        blobs[new] = (np.cumsum(apart) + count)[pieces[new]]
        count += int(apart.sum())
        taken |= new
    return pixels_by_number(blobs, count)


def _invented(field: _Field) -> Iterator[Doubt]:
    for i, at in enumerate(field.pixels):
        if at.size:
            chance = min(2 * (1 - field.seen.mean(at)), 1.0)
            yield Doubt(INVENTED, at, chance, field.counts.effect([i], _NONE), i + 1)


@dataclass(frozen=True, eq=False)
class _Bridge:
    """Two particles that meet, by place, and the chance of the pixels between them."""

    one: int
    other: int
    chance: float


def _bridges(field: _Field, reach: Array) -> list[_Bridge]:
    """Return the pairs that meet in the plane of who reaches where, likeliest first."""
    found = [_bridge(field, one - 1, other - 1) for one, other in _meeting(reach)]
    return sorted(found, key=lambda b: -b.chance)


def _bridge(field: _Field, one: int, other: int) -> _Bridge:
    at = np.concatenate([field.pixels[one], field.pixels[other]])
    top, bottom, left, right = box_of(at, field.width_px)
    own = np.zeros((bottom - top, right - left), dtype=bool)
    rows, columns = np.divmod(at, field.width_px)
    own[rows - top, columns - left] = True
    between = convex_hull_image(own) & ~own
    chance = field.seen.chance[top:bottom, left:right][between]
    return _Bridge(one, other, float(chance.mean(dtype=np.float64)) if chance.size else 0.0)


def _meeting(reach: Array) -> list[tuple[int, int]]:
    """Return the pairs of numbers that are neighbours somewhere, smaller number first."""
    found: set[tuple[int, int]] = set()
    for here, there in (
        (reach[:-1], reach[1:]),
        (reach[:, :-1], reach[:, 1:]),
        (reach[:-1, :-1], reach[1:, 1:]),
        (reach[:-1, 1:], reach[1:, :-1]),
    ):
        meet = (here != there) & (here > 0) & (there > 0)
        pairs = np.sort(np.column_stack([here[meet], there[meet]]), axis=1)
        found.update((int(a), int(b)) for a, b in np.unique(pairs, axis=0))
    return sorted(found)


def _split(field: _Field, bridges: Sequence[_Bridge]) -> Iterator[Doubt]:
    """Join pairs, likeliest first; of a ring of pairs the last one adds nothing."""
    heap = list(range(len(field.pixels)))

    def top(i: int) -> int:
        while heap[i] != i:
            i = heap[i]
        return i

    counts = field.counts
    for b in bridges:
        if top(b.one) == top(b.other):
            continue
        heap[top(b.one)] = top(b.other)
        pair = [b.one, b.other]
        # The whole has the area of both, and counts where one of them does.
        whole = _Counts(
            counts.number[pair].max(keepdims=True),
            counts.size[pair].max(keepdims=True),
            np.sqrt((counts.diameter[pair] ** 2).sum(keepdims=True)),
        )
        at = np.concatenate([field.pixels[i] for i in pair])
        effect = counts.effect(pair, whole)
        yield Doubt(SPLIT, at, b.chance, effect, b.one + 1, b.other + 1)


def _merged(field: _Field) -> Iterator[Doubt]:
    if not field.pixels:
        return
    parts = split_at_notches(field.instances > 0, field.seen.options.objects.min_area_px)
    density = len(field.pixels) / field.instances.size
    counts = field.counts
    for i, at in enumerate(field.pixels):
        _, shares = np.unique(parts.ravel()[at], return_counts=True)
        if (shares >= _LEAST_PART * at.size).sum() < 2:
            continue
        chance = 1 - math.exp(-at.size * density)
        half = counts.one(i).diameter / math.sqrt(2)
        halves = _Counts(
            np.repeat(counts.number[[i]], 2), np.repeat(counts.size[[i]], 2), np.repeat(half, 2)
        )
        yield Doubt(MERGED, at, chance, counts.effect([i], halves), i + 1)


def _widened(field: _Field, reach: Array) -> Iterator[Doubt]:
    """Compare each particle with itself as far as it reaches, and as far as it is sure."""
    chance = field.seen.chance.ravel()
    counts = field.counts
    for i, (own, basin) in enumerate(
        zip(field.pixels, pixels_by_number(reach, len(field.pixels)), strict=True)
    ):
        outside = basin[field.instances.ravel()[basin] == 0]
        inside = own[chance[own] < 1 - LEAST_CHANCE]
        if 2 * inside.size > own.size:  # without a core it may be invented, but is not narrower
            inside = inside[:0]
        for rim, sign in ((outside, 1), (inside, -1)):
            wider = math.sqrt(1 + sign * rim.size / own.size) if own.size else 1.0
            if abs(wider - 1) < _LEAST_WIDER:
                continue
            mean = field.seen.mean(rim)
            chance_of = mean**2 if sign > 0 else 1 - mean
            other = _Counts(counts.number[[i]], counts.size[[i]], counts.diameter[[i]] * wider)
            effect = counts.effect([i], other)
            yield Doubt(WIDENED, own, chance_of, effect, i + 1)
