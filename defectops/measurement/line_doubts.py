"""Stretches of line that a model may have missed, invented, merged or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from defectops.measurement.distances import edge_distance
from defectops.measurement.doubt_rows import INVENTED, MISSED, Array, Doubt, Effect, Seen
from defectops.measurement.lines import trace
from defectops.measurement.objects import thin_lines

# Masks at these chances are the lenient and the strict reading of the same field.
_LENIENT, _STRICT = 0.1, 0.9
_TOLERANCE_PX = 3.0


@dataclass(frozen=True, eq=False)
class _Reading:
    """The centre line of a mask: its pixels, and half the width of the mask at each."""

    shape: tuple[int, ...]
    points: Array
    half_width: Array

    def plane(self, keep: Array | slice = slice(None)) -> Array:
        """Return the pixels, or some of them, as a mask."""
        found = np.zeros(self.shape, dtype=bool)
        found[tuple(self.points[keep].T)] = True
        return found


def line_doubts(seen: Seen) -> list[Doubt]:
    """List the doubts about the lines of one field, in no order.

    The field is read three times: as found, leniently (all of at least one chance in ten) and
    strictly (nine in ten). A stretch of one reading's centre line that is further than 3 px, and
    than half the line's width, from that of another reading is a doubt. How wide a line is drawn is
    none, since it moves no length.

    ``missed``
        Of the lenient reading, not as found; the mean chance along it, squared, as for particles.
    ``invented``
        As found, not in the strict reading: ``2 (1 - mean along it)``, as all of it is above one
        half.
    """
    found, lenient, strict = (
        _reading(mask, seen)
        for mask in (seen.found, seen.chance >= _LENIENT, seen.chance >= _STRICT)
    )
    total = float(trace(found.plane()).path_length_px.sum())
    least = max(seen.options.objects.min_line_px, 1.0)
    doubts = []
    for at, length in _stretches(lenient, found, least):
        chance = seen.mean(at) ** 2
        doubts.append(Doubt(MISSED, at, chance, _effect(length, total)))
    for at, length in _stretches(found, strict, least):
        chance = min(2 * (1 - seen.mean(at)), 1.0)
        doubts.append(Doubt(INVENTED, at, chance, _effect(-length, total)))
    return [doubt for doubt in doubts if seen.counts(doubt.at)]


def _effect(length_px: float, total_px: float) -> Effect:
    percent = 100 * length_px / (total_px or abs(length_px))
    return Effect(length_px=length_px, density_percent=percent)


def _reading(mask: Array, seen: Seen) -> _Reading:
    centre = thin_lines(mask, seen.options.objects)
    width = edge_distance(mask)[centre] if centre.any() else np.zeros(0)
    return _Reading(mask.shape, np.argwhere(centre), width)


def _stretches(one: _Reading, other: _Reading, least_px: float) -> Iterator[tuple[Array, float]]:
    """Return pixels and length of each stretch of a centre line that another reading lacks."""
    far = np.full(len(one.points), np.inf)
    if len(other.points):
        far, _ = KDTree(other.points).query(one.points)
    lines = trace(one.plane(far > np.maximum(_TOLERANCE_PX, one.half_width)))
    bounds = np.searchsorted(lines.path, np.arange(lines.n_paths + 1))
    for k, length in enumerate(lines.path_length_px):
        if length >= least_px:
            yield lines.pixels[lines.node[bounds[k] : bounds[k + 1]]], float(length)
