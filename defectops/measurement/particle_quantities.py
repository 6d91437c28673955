"""Particles of one field or several as densities, sizes, shapes and spacings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement.neighbours import nearest_distances
from defectops.measurement.objects import as_instances, is_mask, label_by_notches
from defectops.measurement.overlap import union_density
from defectops.measurement.particle_statistics import (
    neighbour_quantities,
    shape_quantities,
    size_quantities,
    volume_quantities,
)
from defectops.measurement.particles import (
    Foil,
    border_weights,
    box_table,
    frame_mask,
    particle_table,
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
from defectops.measurement.sizes import Sizes
from defectops.measurement.uncertainty import Interval, count_interval, sum_interval, widened

if TYPE_CHECKING:
    from defectops.micrograph import Calibration


@dataclass(frozen=True, eq=False)
class ParticleMeasurement:
    """What one field shows of particles; additive, so fields can be pooled.

    Parameters
    ----------
    objects : DataFrame
        `particles.particle_table` with ``counts_in_number``, ``counts_in_size``,
        ``nearest_neighbour_<unit>`` and ``counts_in_neighbours``.
    calibration : Calibration
    options : MeasureOptions
    frame_area : float
        Where particles are counted, in nm^2 (px^2 if uncalibrated), ignored pixels taken out.
    field_area, covered_area : float
        All pixels that count, and those of them on a particle, in the same unit.
    tiles : DataFrame
        Sums over 4 x 4 tiles, one row a tile: ``number, size, size_d, size_d2, size_d3, covered``;
        in the same unit, so that fields of different pixel size can be drawn together.
    union_count : float or None
        Particles in the frame's area by `overlap.union_density`; None where not asked for, or for
        instance labels.
    notch_count : float or None
        Particles counted if touching ones are separated at the notches of their outline; None for
        instance labels, or with ``detail="main"``.
    """

    objects: pd.DataFrame
    calibration: Calibration
    options: MeasureOptions
    frame_area: float
    field_area: float
    covered_area: float
    tiles: pd.DataFrame
    union_count: float | None = None
    notch_count: float | None = None


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
    seen = _mostly(instances, table["label"].to_numpy(), valid)
    table = counted(table, instances.shape, calibration, chosen)
    table[["counts_in_number", "counts_in_size"]] *= seen[:, None]
    table = table[seen].reset_index(drop=True)
    framed = valid & frame_mask(instances.shape, chosen.border, chosen.guard_px)
    if not framed.any():
        raise LabelRefused(
            "label",
            "E_EMPTY",
            f"a field of {instances.shape} pixels leaves nothing inside the border rule "
            f"{chosen.border!r}; give a larger field or the rule 'all'",
        )
    frame_px = float(framed.sum())
    covered = valid & (instances > 0)
    union = notches = None
    if is_mask(np.asarray(mask_or_instances)):
        if chosen.overlap == "union":
            union = union_density(instances > 0, valid) * frame_px
        if chosen.detail == "full":
            notches = _notch_count(mask_or_instances, valid, chosen)
    return ParticleMeasurement(
        objects=table,
        calibration=calibration,
        options=chosen,
        frame_area=frame_px * spacing**2,
        field_area=float(valid.sum()) * spacing**2,
        covered_area=float(covered.sum()) * spacing**2,
        tiles=_particle_tiles(table, covered, calibration),
        union_count=union,
        notch_count=notches,
    )


def counted(
    table: pd.DataFrame, shape: tuple[int, ...], calibration: Calibration, options: MeasureOptions
) -> pd.DataFrame:
    """Say what each particle of one field counts.

    Parameters
    ----------
    table : DataFrame
        From `particles.particle_table`.
    shape : (int, int)
        Of the field in pixels.
    calibration : Calibration
    options : MeasureOptions

    Returns
    -------
    DataFrame
        The table with ``counts_in_number, counts_in_size`` (see `particles.border_weights`),
        ``nearest_neighbour_<unit>, counts_in_neighbours`` (see `neighbours.nearest_distances`).
    """
    field = (shape[0], shape[1])
    number, size = border_weights(table, field, options.border, options.guard_px)
    centres = table[["centroid_row_px", "centroid_column_px"]].to_numpy(dtype=np.float64)
    distance, weight = nearest_distances(centres, field)
    return table.assign(
        **{
            "counts_in_number": number,
            "counts_in_size": size,
            f"nearest_neighbour_{calibration.length_unit}": distance * calibration.spacing,
            "counts_in_neighbours": weight,
        }
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
    objects = pd.concat([f.objects for f in fields], ignore_index=True)
    areal = _areal_density(fields, objects)
    foil = pooled_thickness([(f.frame_area, f.calibration) for f in fields])
    sizes = _sizes(fields, objects, foil)
    remark = _size_remark(sizes, foil, options)
    mean, spread = _diameters(sizes, unit, remark)
    found = [in_si(areal), mean, spread, _area_fraction(fields)]
    number = None
    if foil is not None:
        number = _number_density(areal, foil, sizes, options.foil)
        found.insert(1, number)
    if options.detail == "main":
        return found
    found += size_quantities(sizes, unit, remark)
    found += shape_quantities(objects, unit, options.border, options.level)
    found += neighbour_quantities(objects, areal, unit, options.level)
    found += _other_separation(fields, areal)
    if number is not None and foil is not None:
        found += volume_quantities(number, mean, sizes, foil)
    return found


def _areal_density(fields: Sequence[ParticleMeasurement], objects: pd.DataFrame) -> Quantity:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    weights = objects["counts_in_number"].to_numpy()
    area = sum(f.frame_area for f in fields)
    count = float(weights.sum())
    interval = sum_interval(weights, options.level, weight_if_empty=1.0)
    method = f"counted objects over area; border {options.border}; Garwood or Fay-Feuer interval"
    unions = [f.union_count for f in fields if f.union_count is not None]
    if len(unions) == len(fields) and count > 0 and sum(unions) > 0:
        factor = sum(unions) / count
        count, interval = sum(unions), interval.scaled(factor)
        method += f"; overlap corrected as a union of discs at random, factor {factor:.4g}"
    return material_quantity(
        "areal_density",
        count / area,
        interval.scaled(1 / area),
        f"{unit}^-2",
        int((weights > 0).sum()),
        method,
        level=options.level,
    )


def _other_separation(fields: Sequence[ParticleMeasurement], areal: Quantity) -> list[Quantity]:
    """Areal density with touching particles separated in another way, for masks only."""
    counts = [f.notch_count for f in fields if f.notch_count is not None]
    if len(counts) < len(fields):
        return []
    count, area = sum(counts), sum(f.frame_area for f in fields)
    interval = count_interval(round(count), areal.level).scaled(1 / area)
    method = (
        f"touching particles separated at notches of the outline: {count:.6g} counted, by "
        f"watershed {areal.value * area:.6g}; border {fields[0].options.border}; Garwood interval"
    )
    return [
        in_si(
            material_quantity(
                "areal_density_by_notches",
                count / area,
                interval,
                areal.unit,
                round(count),
                method,
                level=areal.level,
            )
        )
    ]


def _notch_count(mask: Array, valid: Array, options: MeasureOptions) -> float:
    instances = label_by_notches(mask, options.objects)
    table = box_table(instances)
    field = (instances.shape[0], instances.shape[1])
    number, _ = border_weights(table, field, options.border, options.guard_px)
    return float(number[_mostly(instances, np.arange(1, len(table) + 1), valid)].sum())


def _sizes(
    fields: Sequence[ParticleMeasurement], objects: pd.DataFrame, foil: PooledThickness | None
) -> Sizes:
    """Diameters of the particles that may be sized, and whether caps are corrected."""
    options, unit = fields[0].options, fields[0].calibration.length_unit
    weights = objects["counts_in_size"].to_numpy()
    used = weights > 0
    diameters = objects[f"equivalent_diameter_{unit}"].to_numpy()[used]
    thickness = None
    if foil is not None and options.foil == "t+d" and diameters.size:
        wide = float(np.average(diameters, weights=weights[used])) >= foil.nm
        thickness = None if wide else foil.nm
    smallest_px = math.sqrt(4 * options.objects.min_area_px / math.pi)
    smallest = smallest_px * max(f.calibration.spacing for f in fields)
    return Sizes(diameters, weights[used], thickness, smallest, options.level)


def _size_remark(sizes: Sizes, foil: PooledThickness | None, options: MeasureOptions) -> str:
    remark = "as seen, caps not corrected"
    if sizes.thickness is not None and foil is not None:
        remark = f"corrected for caps; {foil.remark}"
    return f"equivalent circles; border {options.border}; {remark}"


def _number_density(areal: Quantity, foil: PooledThickness, sizes: Sizes, rule: Foil) -> Quantity:
    """Density per volume: over t, or over the layer t + d in which centres are seen."""
    depth, unknown, formula = foil.nm, 0.0, "N/(A t)"
    if rule == "t+d":
        formula = "N/(A (t + d))"
        if sizes.n:
            depth = sizes.layer if sizes.thickness is not None else foil.nm + sizes.mean
            unknown = sizes.mean * sizes.mean_relative_sd if sizes.n > 1 else 0.0
    interval = widened(
        areal.value,
        Interval(areal.low, areal.high),
        math.hypot(foil.sd_nm, unknown) / depth,
        areal.level,
    ).scaled(PER_M**3 / depth)
    return material_quantity(
        "number_density",
        areal.value * PER_M**3 / depth,
        interval,
        "m^-3",
        areal.n,
        f"{formula}; {foil.remark}; {areal.method}",
        level=areal.level,
    )


def _diameters(sizes: Sizes, unit: str, remark: str) -> tuple[Quantity, Quantity]:
    method = f"{remark}; Student, logarithmic"
    return (
        material_quantity(
            "mean_diameter",
            sizes.mean,
            sizes.mean_interval(),
            unit,
            sizes.n,
            method,
            level=sizes.level,
        ),
        material_quantity(
            "sd_diameter",
            sizes.sd,
            sizes.sd_interval(),
            unit,
            sizes.n,
            f"{method}, kurtosis at least lognormal",
            level=sizes.level,
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
        "size_d3": size * d**3,
    }
    columns: dict[str, Array] = {
        k: np.bincount(tile, weights=v, minlength=TILES**2) for k, v in sums.items()
    }
    pixels = tile_numbers(np.argwhere(covered), covered.shape)
    columns["covered"] = np.bincount(pixels, minlength=TILES**2) * calibration.spacing**2
    return pd.DataFrame(columns)
