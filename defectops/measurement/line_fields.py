"""What one field shows of lines, in sums that add up over fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.measurement.line_crossings import join_paths
from defectops.measurement.line_probes import TestLines, lay_test_lines
from defectops.measurement.line_widths import line_widths
from defectops.measurement.lines import Steps, line_ends, line_table, steps, trace
from defectops.measurement.objects import centre_lines, clean_lines
from defectops.measurement.quantities import (
    TILES,
    Array,
    MeasureOptions,
    counted_pixels,
    tile_numbers,
)

if TYPE_CHECKING:
    from defectops.micrograph import Calibration

ROSE_BINS = 12


@dataclass(frozen=True, eq=False)
class LineMeasurement:
    """What one field shows of lines; additive, so fields can be pooled.

    Parameters
    ----------
    objects : DataFrame
        `lines.line_table`, with the crossings of each line with each family of test lines as
        ``crossings_<family>``, its ``ends`` inside the counted area and how many lines it
        ``meets``.
    calibration : Calibration
    options : MeasureOptions
    field_area : float
        Pixels that count, in nm^2 (px^2 if uncalibrated).
    covered : float
        Area of the mask in it, in the same unit.
    chord : float
        Mean chord of the field, ``pi area / perimeter``: the line assumed for the upper bound of
        an empty field.
    families : tuple of str
        Of test lines, also those of which none fits into the field.
    probes : DataFrame
        Every count, one row a test line: ``family, test_line, length_<unit>, crossings``.
    rose : ndarray of float64, shape (number of lines, 12)
        Length of each line by its local direction in bins of 15 degrees, the first from 0 degrees,
        the columns' axis, towards the rows'; in nm (px).
    tiles : DataFrame
        Sums over 4 x 4 tiles, one row a tile: ``length``, ``cosine`` and ``sine`` (length times
        those of twice the direction), ``crossings_<family>``, ``ends, meetings``.
    """

    objects: pd.DataFrame
    calibration: Calibration
    options: MeasureOptions
    field_area: float
    covered: float
    chord: float
    families: tuple[str, ...]
    probes: pd.DataFrame
    rose: Array
    tiles: pd.DataFrame

    @property
    def lengths(self) -> Array:
        """Counted length of each line in nm (px)."""
        return np.asarray(self.objects[f"length_{self.calibration.length_unit}"])

    def test_length(self, family: str) -> float:
        """Length of all test lines of a family in nm (px)."""
        rows = self.probes["family"] == family
        return float(self.probes.loc[rows, f"length_{self.calibration.length_unit}"].sum())


def observe_lines(
    mask: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> LineMeasurement:
    """Measure the lines of one field.

    Parameters
    ----------
    mask : ndarray, shape (H, W)
        Non-zero on lines, of any width.
    calibration : Calibration
    options : MeasureOptions, optional
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts: that area and those stretches of lines and test lines are taken
        out. Lines are thinned before, so that a line is not frayed where the ignored area begins.

    Returns
    -------
    LineMeasurement

    Raises
    ------
    LabelRefused
        Shapes differ, or everything is ignored.
    """
    chosen = options or MeasureOptions()
    clean = clean_lines(mask, chosen.objects)
    valid = counted_pixels(clean.shape, ignore)
    spacing, unit = calibration.spacing, calibration.length_unit
    lines = trace(centre_lines(clean, chosen.objects))
    joined = join_paths(lines, *line_widths(lines, clean))
    cut = steps(lines, joined, None if ignore is None else ~valid)
    laid = lay_test_lines(chosen.probe, valid, chosen.grid_spacing_px, chosen.seed)
    counted = [test.crossings(cut) for test in laid]
    objects = line_table(lines, joined, cut, spacing, unit)
    shown = np.bincount(cut.line, weights=cut.length_px, minlength=joined.n_lines) > 0
    tiles = _length_tiles(cut, clean.shape) * spacing
    for test, (crosses, _) in zip(laid, counted, strict=True):
        name = f"crossings_{test.family}"
        objects[name] = np.bincount(cut.line[crosses], minlength=joined.n_lines)[shown]
        tiles[name] = _per_tile(cut.middle[crosses], clean.shape)
    end_of, end = line_ends(lines, joined)
    counts = _counts(end, valid)
    objects["ends"] = np.bincount(end_of[counts], minlength=joined.n_lines)[shown]
    objects["meets"] = joined.met[shown]
    tiles["ends"] = _per_tile(end[counts], clean.shape)
    tiles["meetings"] = _per_tile(joined.meeting[_counts(joined.meeting, valid)], clean.shape)
    return LineMeasurement(
        objects=objects,
        calibration=calibration,
        options=chosen,
        field_area=float(valid.sum()) * spacing**2,
        covered=float((clean & valid).sum()) * spacing**2,
        chord=math.pi * clean.size / (2 * sum(clean.shape)) * spacing,
        families=tuple(test.family for test in laid),
        probes=_probe_table(laid, [c[1] for c in counted], spacing, unit),
        rose=_rose(cut, joined.n_lines)[shown] * spacing,
        tiles=tiles,
    )


def _probe_table(
    laid: Sequence[TestLines], crossings: Sequence[Array], spacing: float, unit: str
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "family": np.repeat([t.family for t in laid], [t.length_px.size for t in laid]),
            "test_line": np.concatenate([np.arange(1, t.length_px.size + 1) for t in laid]),
            f"length_{unit}": np.concatenate([t.length_px for t in laid]) * spacing,
            "crossings": np.concatenate(crossings),
        }
    )


def _rose(cut: Steps, n_lines: int) -> Array:
    """Length of each line by direction in px; the smoothed path has all directions."""
    along = cut.stop - cut.start
    turn = np.arctan2(along[:, 0], along[:, 1]) / np.pi % 1.0
    place = cut.line * ROSE_BINS + np.minimum(turn * ROSE_BINS, ROSE_BINS - 1).astype(np.int64)
    size = n_lines * ROSE_BINS
    return np.bincount(place, weights=cut.length_px, minlength=size).reshape(-1, ROSE_BINS)


def _length_tiles(cut: Steps, shape: tuple[int, ...]) -> pd.DataFrame:
    """Length in px, and length times cosine and sine of twice the direction."""
    along = cut.stop - cut.start
    angle = 2 * np.arctan2(along[:, 0], along[:, 1])
    sums = {"length": 1.0, "cosine": np.cos(angle), "sine": np.sin(angle)}
    tile = tile_numbers(cut.middle, shape)
    return pd.DataFrame(
        {
            name: np.bincount(tile, weights=cut.length_px * factor, minlength=TILES**2)
            for name, factor in sums.items()
        }
    )


def _per_tile(position: Array, shape: tuple[int, ...]) -> Array:
    return np.bincount(tile_numbers(position, shape), minlength=TILES**2)


def _counts(position: Array, valid: Array) -> Array:
    """Whether each (row, column) lies in the counted area."""
    row, column = np.floor(position + 0.5).astype(np.int64).T
    return np.asarray(valid[row, column])
