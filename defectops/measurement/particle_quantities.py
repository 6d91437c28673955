"""Particles of one field or several as densities, diameters and an area fraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement.objects import as_instances
from defectops.measurement.particles import (
    border_weights,
    frame_mask,
    particle_table,
    seen_moments,
    true_moments,
)
from defectops.measurement.quantities import (
    PER_M,
    TILES,
    Array,
    MeasureOptions,
    PooledThickness,
    Quantity,
    counted_pixels,
    in_si,
    material_quantity,
    pooled_thickness,
    tile_numbers,
)
from defectops.measurement.uncertainty import (
    UNDEFINED,
    Interval,
    mean_interval,
    spread_interval,
    sum_interval,
    widened,
)

if TYPE_CHECKING:
    from defectops.micrograph import Calibration


@dataclass(frozen=True, eq=False)
class ParticleMeasurement:
    """What one field shows of particles; additive, so fields can be pooled.

    Parameters
    ----------
    objects : DataFrame
        `particles.particle_table` with ``counts_in_number`` and ``counts_in_size``.
    calibration : Calibration
    options : MeasureOptions
    frame_area : float
        Where particles are counted, in nm^2 (px^2 if uncalibrated), ignored pixels taken out.
    field_area, covered_area : float
        All pixels that count, and those of them on a particle, in the same unit.
    tiles : DataFrame
        Sums over 4 x 4 tiles, one row a tile: ``number, size, size_d, size_d2, covered``; in the
        same unit, so that fields of different pixel size can be drawn together.
    """

    objects: pd.DataFrame
    calibration: Calibration
    options: MeasureOptions
    frame_area: float
    field_area: float
    covered_area: float
    tiles: pd.DataFrame


def observe_particles(
    mask_or_instances: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> ParticleMeasurement:
    """Measure the particles of one field.

    Parameters
    ----------
    mask_or_instances : ndarray, shape (H, W)
        Bool mask, or instance labels as integers (see `objects.as_instances`).
    calibration : Calibration
        Its spacing; the thickness is used only when quantities are drawn.
    options : MeasureOptions, optional
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts: that area is taken out, and a particle with more than half of
        its pixels there is dropped; one with less keeps its full size.

    Returns
    -------
    ParticleMeasurement

    Raises
    ------
    LabelRefused
        Shapes differ, or no pixel is left to count in.
    """
    chosen = options or MeasureOptions()
    instances = as_instances(mask_or_instances, chosen.objects)
    valid = counted_pixels(instances.shape, ignore)
    spacing, unit = calibration.spacing, calibration.length_unit
    table = particle_table(instances, spacing, unit)
    number, size = border_weights(table, instances.shape, chosen.border)
    seen = _mostly(instances, table["label"].to_numpy(), valid)
    table = table.assign(counts_in_number=number * seen, counts_in_size=size * seen)
    table = table[seen].reset_index(drop=True)
    framed = valid & frame_mask(instances.shape, chosen.border)
    if not framed.any():
        raise LabelRefused(
            "label",
            "E_EMPTY",
            f"a field of {instances.shape} pixels leaves nothing inside the border rule "
            f"{chosen.border!r}; give a larger field or the rule 'all'",
        )
    return ParticleMeasurement(
        objects=table,
        calibration=calibration,
        options=chosen,
        frame_area=float(framed.sum()) * spacing**2,
        field_area=float(valid.sum()) * spacing**2,
        covered_area=float((valid & (instances > 0)).sum()) * spacing**2,
        tiles=_particle_tiles(table, valid & (instances > 0), calibration),
    )


def measure_particles(
    mask_or_instances: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> list[Quantity]:
    """Return the quantities of the particles of one field; see `observe_particles` and `pool`."""
    return particle_quantities([observe_particles(mask_or_instances, calibration, options, ignore)])


def particle_quantities(fields: Sequence[ParticleMeasurement]) -> list[Quantity]:
    """Draw the quantities of particles from fields of the same options; see `pooling.pool`."""
    options, unit = fields[0].options, fields[0].calibration.length_unit
    number = np.concatenate([f.objects["counts_in_number"].to_numpy() for f in fields])
    area = sum(f.frame_area for f in fields)
    count = sum_interval(number, options.level, weight_if_empty=1.0)
    border = f"border {options.border}"
    density = material_quantity(
        "areal_density",
        float(number.sum()) / area,
        count.scaled(1 / area),
        f"{unit}^-2",
        int((number > 0).sum()),
        f"counted objects over area; {border}; Garwood or Fay-Feuer interval",
        level=options.level,
    )
    foil = pooled_thickness([(f.frame_area, f.calibration) for f in fields])
    mean, spread = _diameters(fields, foil)
    found = [in_si(density), mean, spread, _area_fraction(fields)]
    if foil is not None:
        found.insert(1, _number_density(density, foil, mean.value, options))
    return found


def _number_density(
    areal: Quantity, foil: PooledThickness, mean_nm: float, options: MeasureOptions
) -> Quantity:
    if options.foil == "t":
        return _per_depth(areal, foil.nm, foil, options.level, "N/(A t)")
    layer = foil.nm + (mean_nm if math.isfinite(mean_nm) else 0.0)
    return _per_depth(areal, layer, foil, options.level, "N/(A (t + d))")


def _per_depth(
    areal: Quantity, depth_nm: float, foil: PooledThickness, level: float, formula: str
) -> Quantity:
    interval = widened(
        areal.value, Interval(areal.low, areal.high), foil.sd_nm / depth_nm, level
    ).scaled(PER_M**3 / depth_nm)
    return material_quantity(
        "number_density",
        areal.value * PER_M**3 / depth_nm,
        interval,
        "m^-3",
        areal.n,
        f"{formula}; {foil.remark}; {areal.method}",
        level=level,
    )


def _diameters(
    fields: Sequence[ParticleMeasurement], foil: PooledThickness | None
) -> tuple[Quantity, Quantity]:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    d = np.concatenate([f.objects[f"equivalent_diameter_{unit}"].to_numpy() for f in fields])
    w = np.concatenate([f.objects["counts_in_size"].to_numpy() for f in fields])
    d, w = d[w > 0], w[w > 0]
    seen_mean, seen_sd, _ = seen_moments(d, w)
    mean, sd, remark = seen_mean, seen_sd, "as seen, caps not corrected"
    if foil is not None and options.foil == "t+d" and d.size and foil.nm > seen_mean:
        mean, sd = true_moments(d, w, foil.nm)
        remark = f"corrected for caps; {foil.remark}"
    method = f"equivalent circles; border {options.border}; {remark}"
    of_mean = mean_interval(d, w, options.level).scaled(mean / seen_mean)
    if of_mean.low < 0:  # Student knows nothing of what a diameter can be
        of_mean = replace(of_mean, low=0.0)
    of_sd = spread_interval(d, options.level)
    if of_sd is not UNDEFINED:
        of_sd = of_sd.scaled(sd / float(np.std(d, ddof=1)))
    return (
        material_quantity(
            "mean_diameter", mean, of_mean, unit, d.size, f"{method}; Student", level=options.level
        ),
        material_quantity(
            "sd_diameter", sd, of_sd, unit, d.size, f"{method}; Bonett", level=options.level
        ),
    )


def _area_fraction(fields: Sequence[ParticleMeasurement]) -> Quantity:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    value = sum(f.covered_area for f in fields) / sum(f.field_area for f in fields)
    areas = np.concatenate([f.objects[f"area_{unit}2"].to_numpy() for f in fields])
    interval = Interval(0.0, float("nan"))
    if areas.size:
        interval = sum_interval(areas, options.level).scaled(value / float(areas.sum()))
        interval = Interval(interval.low, min(interval.high, 1.0))
    return material_quantity(
        "area_fraction",
        value,
        interval,
        "1",
        areas.size,
        "covered over all pixels; Fay-Feuer interval over objects",
        level=options.level,
    )


def _mostly(instances: Array, names: Array, valid: Array) -> Array:
    """Whether at least half of each object's pixels count."""
    inside = instances > 0
    index = np.searchsorted(names, instances[inside])
    share = np.bincount(index, weights=valid[inside], minlength=names.size)
    return np.asarray(share * 2 >= np.bincount(index, minlength=names.size))


def _particle_tiles(table: pd.DataFrame, covered: Array, calibration: Calibration) -> pd.DataFrame:
    centres = table[["centroid_row_px", "centroid_column_px"]].to_numpy()
    tile = tile_numbers(centres, covered.shape)
    size = table["counts_in_size"].to_numpy()
    d = table[f"equivalent_diameter_{calibration.length_unit}"].to_numpy()
    sums = {
        "number": table["counts_in_number"].to_numpy(),
        "size": size,
        "size_d": size * d,
        "size_d2": size * d**2,
    }
    columns: dict[str, Array] = {
        k: np.bincount(tile, weights=v, minlength=TILES**2) for k, v in sums.items()
    }
    pixels = tile_numbers(np.argwhere(covered), covered.shape)
    columns["covered"] = np.bincount(pixels, minlength=TILES**2) * calibration.spacing**2
    return pd.DataFrame(columns)
