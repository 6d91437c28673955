"""Stretches of line that a model may have missed, invented, merged or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from defectops.measurement.doubt_rows import INVENTED, MISSED, Array, Doubt, Effect, Seen
from defectops.measurement.lines import trace
from defectops.measurement.objects import thin_lines

# Masks at these chances are the lenient and the strict reading of the same field.
_LENIENT, _STRICT = 0.1, 0.9
_TOLERANCE_PX = 3.0


@dataclass(frozen=True, eq=False)
class _Reading:
    """A mask's centre line, the distance of each pixel to it, and half the width of the mask."""

    centre: Array
    distance: Array
    half_width: Array


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
    total = float(trace(found.centre).path_length_px.sum())
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
    far = ndimage.distance_transform_edt(~centre) if centre.any() else np.full(mask.shape, np.inf)
    return _Reading(centre, far, ndimage.distance_transform_edt(mask))


def _stretches(one: _Reading, other: _Reading, least_px: float) -> Iterator[tuple[Array, float]]:
    """Return pixels and length of each stretch of a centre line that another reading lacks."""
    apart = one.centre & (other.distance > np.maximum(_TOLERANCE_PX, one.half_width))
    lines = trace(apart)
    bounds = np.searchsorted(lines.path, np.arange(lines.n_paths + 1))
    for k, length in enumerate(lines.path_length_px):
        if length >= least_px:
            yield lines.pixels[lines.node[bounds[k] : bounds[k + 1]]], float(length)
