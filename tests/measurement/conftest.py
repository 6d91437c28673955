"""Fields drawn from known objects, for the tests of this folder."""

from types import SimpleNamespace

import numpy as np
import pytest


def _line(shape, start, stop, width=3.0):
    """A straight line of a width in px with round ends beyond `start` and `stop`."""
    at = np.stack(np.indices(shape), axis=-1).astype(float)
    begin, along = np.asarray(start, float), np.subtract(stop, start).astype(float)
    place = np.clip((at - begin) @ along / max(along @ along, 1e-12), 0, 1)
    return np.linalg.norm(at - begin - place[..., None] * along, axis=-1) <= width / 2


def _through(shape, angle_deg, centre, width=3.0):
    """A line across the whole plane, and its true length inside it in px."""
    angle = np.radians(angle_deg)
    v = np.array([np.sin(angle), np.cos(angle)])
    far = 2.0 * sum(shape)
    mask = _line(shape, centre - far * v, centre + far * v, width)
    low, high = -np.inf, np.inf
    for axis in (0, 1):
        if abs(v[axis]) > 1e-12:
            ends = sorted(
                ((-0.5 - centre[axis]) / v[axis], (shape[axis] - 0.5 - centre[axis]) / v[axis])
            )
            low, high = max(low, ends[0]), min(high, ends[1])
    return mask, high - low


def _disc(shape, centre, diameter):
    rows, columns = np.indices(shape)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= diameter**2 / 4


def _discs(shape, density, diameters, seed):
    """Instance labels of discs at random centres, `density` a px^2, also around the plane.

    Later discs hide earlier ones; `diameters(random, n)` draws sizes.
    """
    random = np.random.default_rng(seed)
    margin = 60
    extent = np.array(shape) + 2 * margin
    n = random.poisson(density * extent.prod())
    centres = random.uniform(0, 1, (n, 2)) * extent - margin
    instances = np.zeros(shape, dtype=np.int32)
    for i, (centre, diameter) in enumerate(
        zip(centres, diameters(random, n), strict=True), start=1
    ):
        low = np.clip(np.floor(centre - diameter / 2).astype(int), 0, shape)
        high = np.clip(np.ceil(centre + diameter / 2).astype(int) + 1, 0, shape)
        if (high > low).all():
            window = instances[low[0] : high[0], low[1] : high[1]]
            window[_disc(window.shape, centre - low, diameter)] = i
    return instances


@pytest.fixture(scope="session")
def draw():
    """Functions that draw fields from known objects."""
    return SimpleNamespace(line=_line, through=_through, disc=_disc, discs=_discs)
