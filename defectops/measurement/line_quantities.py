"""Lines of one field or several as dislocation densities, by length and by grid intersection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.measurement.lines import (
    grid_crossings,
    grid_positions,
    join_paths,
    line_table,
    steps,
    trace,
)
from defectops.measurement.objects import thin_lines
from defectops.measurement.quantities import (
    PER_M,
    TILES,
    Array,
    MeasureOptions,
    PooledThickness,
    Quantity,
    counted_pixels,
    material_quantity,
    pooled_thickness,
    tile_numbers,
)
from defectops.measurement.uncertainty import UNDEFINED, Interval, sum_interval, widened

if TYPE_CHECKING:
    from defectops.micrograph import Calibration


@dataclass(frozen=True, eq=False)
class LineMeasurement:
    """What one field shows of lines; additive, so fields can be pooled.

    Parameters
    ----------
    objects : DataFrame
        `lines.line_table`, with the crossings of each line with the grid as ``crossings_rows``
        and ``crossings_columns`` (lines of the grid along rows, along columns).
    calibration : Calibration
    options : MeasureOptions
    field_area : float
        Pixels that count, in nm^2 (px^2 if uncalibrated).
    grid_rows, grid_columns : float
        Length of the grid's lines along rows and along columns, in nm (px).
    chord : float
        Mean chord of the field, ``pi area / perimeter``: the line assumed for the upper bound of
        an empty field.
    tiles : DataFrame
        Sums over 4 x 4 tiles, one row a tile: ``length, crossings_rows, crossings_columns``.
    """

    objects: pd.DataFrame
    calibration: Calibration
    options: MeasureOptions
    field_area: float
    grid_rows: float
    grid_columns: float
    chord: float
    tiles: pd.DataFrame


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
        True where nothing counts: that area and those stretches of lines and grid are taken out.
        Lines are thinned before, so that a line is not frayed where the ignored area begins.

    Returns
    -------
    LineMeasurement

    Raises
    ------
    LabelRefused
        Shapes differ, or everything is ignored.
    """
    chosen = options or MeasureOptions()
    centre = thin_lines(mask, chosen.objects)
    valid = counted_pixels(centre.shape, ignore)
    spacing, unit = calibration.spacing, calibration.length_unit
    lines = trace(centre)
    joined = join_paths(lines)
    cut = steps(lines, joined, ~valid)
    offset = _grid_offset(centre.shape, chosen)
    crossings = grid_crossings(cut, centre.shape, chosen.grid_spacing_px, offset)
    table = line_table(lines, joined, cut, spacing, unit)
    line = joined.line[cut.path]
    length = np.bincount(line, weights=cut.length_px)
    for name, found in zip(("crossings_rows", "crossings_columns"), crossings, strict=True):
        table[name] = np.bincount(line, weights=found)[length > 0].astype(np.int64)
    at = [
        grid_positions(n, chosen.grid_spacing_px, o)
        for n, o in zip(centre.shape, offset, strict=True)
    ]
    return LineMeasurement(
        objects=table,
        calibration=calibration,
        options=chosen,
        field_area=float(valid.sum()) * spacing**2,
        grid_rows=float(valid[at[0].astype(np.int64), :].sum()) * spacing,
        grid_columns=float(valid[:, at[1].astype(np.int64)].sum()) * spacing,
        chord=math.pi * centre.size / (2 * sum(centre.shape)) * spacing,
        tiles=_line_tiles(cut.middle, centre.shape, cut.length_px * spacing, *crossings),
    )


def measure_lines(
    mask: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> list[Quantity]:
    """Return the quantities of the lines of one field; see `observe_lines` and `pool`."""
    return line_quantities([observe_lines(mask, calibration, options, ignore)])


def line_quantities(fields: Sequence[LineMeasurement]) -> list[Quantity]:
    """Draw the quantities of lines from fields of the same options; see `pooling.pool`."""
    options, unit = fields[0].options, fields[0].calibration.length_unit
    area = sum(f.field_area for f in fields)
    chord = float(np.average([f.chord for f in fields], weights=[f.field_area for f in fields]))
    length = np.concatenate([f.objects[f"length_{unit}"].to_numpy() for f in fields])
    skeleton = material_quantity(
        "projected_line_density",
        float(length.sum()) / area,
        sum_interval(length, options.level, chord).scaled(1 / area),
        f"{unit}^-1",
        length.size,
        "smoothed length of the centre line over area; Fay-Feuer interval over lines",
        level=options.level,
    )
    grid = _grid_density(fields, chord / area)
    foil = pooled_thickness([(f.field_area, f.calibration) for f in fields])
    volume = []
    if foil is not None:
        volume = [
            _per_foil(skeleton, "dislocation_density_skeleton", foil, options.level),
            _per_foil(grid, "dislocation_density_grid", foil, options.level),
        ]
    return [skeleton, grid, *volume]


def _grid_density(fields: Sequence[LineMeasurement], chord_per_area: float) -> Quantity:
    """Crossings with both families of grid lines, each over its own length."""
    options, unit = fields[0].options, fields[0].calibration.length_unit
    along_rows, along_columns = (
        np.concatenate([f.objects[c].to_numpy() for f in fields])
        for c in ("crossings_rows", "crossings_columns")
    )
    rows, columns = sum(f.grid_rows for f in fields), sum(f.grid_columns for f in fields)
    value, interval = float("nan"), UNDEFINED
    if rows > 0 and columns > 0:
        per_line = np.pi / 4 * (along_rows / rows + along_columns / columns)
        value = float(per_line.sum())
        interval = sum_interval(per_line, options.level, chord_per_area)
    return material_quantity(
        "projected_line_density_grid",
        value,
        interval,
        f"{unit}^-1",
        int(along_rows.sum() + along_columns.sum()),
        f"crossings with an orthogonal grid of {options.grid_spacing_px} px, seed {options.seed}; "
        "Fay-Feuer interval over lines",
        level=options.level,
    )


def _per_foil(projected: Quantity, name: str, foil: PooledThickness, level: float) -> Quantity:
    factor = 4 / np.pi * PER_M**2 / foil.nm
    interval = widened(
        projected.value, Interval(projected.low, projected.high), foil.sd_nm / foil.nm, level
    ).scaled(factor)
    return material_quantity(
        name,
        projected.value * factor,
        interval,
        "m^-2",
        projected.n,
        f"4/pi times projected density over t; {foil.remark}; {projected.method}",
        level=level,
    )


def _grid_offset(shape: tuple[int, ...], options: MeasureOptions) -> tuple[int, int]:
    random = np.random.default_rng(options.seed)
    bounds = [max(1, min(options.grid_spacing_px, n - 1)) for n in shape]
    return int(random.integers(bounds[0])), int(random.integers(bounds[1]))


def _line_tiles(
    middle: Array, shape: tuple[int, ...], length: Array, along_rows: Array, along_columns: Array
) -> pd.DataFrame:
    tile = tile_numbers(middle, shape)
    sums = {"length": length, "crossings_rows": along_rows, "crossings_columns": along_columns}
    return pd.DataFrame(
        {k: np.bincount(tile, weights=v, minlength=TILES**2) for k, v in sums.items()}
    )
