"""Densities and diameters with their intervals, from one field of view or pooled over several."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import CalibrationRefused, LabelRefused, SettingsRefused
from defectops.measurement.lines import (
    grid_crossings,
    grid_positions,
    join_paths,
    line_table,
    steps,
    trace,
)
from defectops.measurement.objects import ObjectOptions, as_instances, thin_lines
from defectops.measurement.particles import (
    Border,
    Foil,
    border_weights,
    frame_mask,
    particle_table,
    seen_moments,
    true_moments,
)
from defectops.measurement.uncertainty import (
    LEVEL,
    UNDEFINED,
    Interval,
    mean_interval,
    spread_interval,
    sum_interval,
    widened,
)

if TYPE_CHECKING:
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]

MATERIAL: Literal["material"] = "material"
MODEL: Literal["model"] = "model"

COLUMNS = (
    "image",
    "region",
    "source",
    "quantity",
    "value",
    "unit",
    "low",
    "high",
    "level",
    "interval",
    "n",
    "method",
)

_PER_M = 1e9  # 1 / nm in 1 / m
_TILES = 4  # tiles along each side of a field, for the paired bootstrap


@dataclass(frozen=True)
class Quantity:
    """One measured number with its interval.

    Parameters
    ----------
    quantity : str
        ``number_density``, ``areal_density``, ``mean_diameter``, ``sd_diameter``,
        ``area_fraction``, ``dislocation_density_grid``, ``dislocation_density_skeleton``,
        ``projected_line_density`` or ``projected_line_density_grid``.
    value : float
        NaN where undefined: a diameter without particles.
    unit : str
        ``m^-3``, ``m^-2``, ``nm``, ``1``, ``nm^-1``; ``px``, ``px^-1``, ``px^-2`` if uncalibrated.
    low, high : float
        Ends of the interval; NaN where undefined.
    level : float
        Its nominal coverage.
    interval : {"material", "model"}
        ``material``: where the true value of the material lies. ``model``: where the value that
        this model gives lies, for fields like these with this label; the label's own value outside
        it means that model and label differ.
    n : int
        Objects, lines or crossings behind the value.
    method : str
        Which estimator, corrections and rules.
    """

    quantity: str
    value: float
    unit: str
    low: float
    high: float
    level: float
    interval: Literal["material", "model"]
    n: int
    method: str


@dataclass(frozen=True)
class MeasureOptions:
    """The choices that move results; each is written into the method of what it moves.

    Parameters
    ----------
    objects : ObjectOptions
    border : {"gundersen", "weighted", "exclude", "all"}
        See `particles.border_weights`.
    foil : {"t+d", "t"}
        ``t+d``: particles cut by the foil's surfaces are seen too, so centres lie in a layer of
        thickness t + d, and diameters are corrected for the caps; ``t``: neither (the paper's way).
    grid_spacing_px : int
        Distance of the grid lines that count crossings.
    seed : int
        Of the grid's offset and of the bootstrap.
    level : float
        Coverage of intervals.
    """

    objects: ObjectOptions = field(default_factory=ObjectOptions)
    border: Border = "gundersen"
    foil: Foil = "t+d"
    grid_spacing_px: int = 32
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.border not in get_args(Border) or self.foil not in get_args(Foil):
            raise SettingsRefused(
                "measure",
                "E_CONFIG",
                f"border must be one of {', '.join(get_args(Border))} and foil one of "
                f"{', '.join(get_args(Foil))}; got {self.border!r} and {self.foil!r}",
            )
        if self.grid_spacing_px < 2 or not 0 < self.level < 1:
            raise SettingsRefused(
                "measure",
                "E_CONFIG",
                "grid_spacing_px must be at least 2 and level between 0 and 1; got "
                f"{self.grid_spacing_px} and {self.level}",
            )


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


Measurement = ParticleMeasurement | LineMeasurement


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
    valid = _valid(instances.shape, ignore)
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
    valid = _valid(centre.shape, ignore)
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


def measure_particles(
    mask_or_instances: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> list[Quantity]:
    """Return the quantities of the particles of one field; see `observe_particles` and `pool`."""
    return pool([observe_particles(mask_or_instances, calibration, options, ignore)])


def measure_lines(
    mask: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> list[Quantity]:
    """Return the quantities of the lines of one field; see `observe_lines` and `pool`."""
    return pool([observe_lines(mask, calibration, options, ignore)])


def pool(measurements: Sequence[Measurement]) -> list[Quantity]:
    """Draw quantities from one or several fields together.

    Counts, lengths, areas and volumes add; diameters are taken from all particles as one sample.

    Parameters
    ----------
    measurements : sequence of ParticleMeasurement or of LineMeasurement
        Of one kind, all calibrated or all not, with the same options.

    Returns
    -------
    list of Quantity
        With the interval ``material``. Particles: ``areal_density, number_density, mean_diameter,
        sd_diameter, area_fraction``. Lines: ``projected_line_density,
        projected_line_density_grid, dislocation_density_skeleton, dislocation_density_grid``.
        Volume densities are absent where `why_no_volume` gives a reason. Nothing there: densities
        are 0 with an upper bound, diameters NaN.

    Raises
    ------
    LabelRefused
        No measurement, lines among particles, or different options.
    CalibrationRefused
        Calibrated among uncalibrated fields.
    """
    if not measurements:
        raise LabelRefused("measurement", "E_EMPTY", "nothing to pool: give at least one field")
    first = measurements[0]
    if len({m.calibration.calibrated for m in measurements}) > 1:
        raise CalibrationRefused(
            "measurement",
            "E_PX_MISSING",
            "some fields have a pixel size and some have none: pool them separately",
        )
    if any(m.options != first.options for m in measurements):
        raise LabelRefused(
            "measurement", "E_CONFIG", "fields measured with different options cannot be pooled"
        )
    particles = [m for m in measurements if isinstance(m, ParticleMeasurement)]
    lines = [m for m in measurements if isinstance(m, LineMeasurement)]
    if particles and lines:
        raise LabelRefused("measurement", "E_LABEL", "lines and particles cannot be pooled")
    return _particle_quantities(particles) if particles else _line_quantities(lines)


def why_no_volume(calibrations: Iterable[Calibration]) -> str | None:
    """Say why densities per volume cannot be given, or return None if they can."""
    given = list(calibrations)
    if not all(c.calibrated for c in given):
        return "no pixel size: results are in pixels, and nothing can be said per volume"
    missing = sum(c.thickness_nm is None for c in given)
    if missing:
        return (
            f"no foil thickness for {missing} of {len(given)} fields: "
            "areal values only; a thickness is never assumed"
        )
    return None


def table_rows(
    quantities: Iterable[Quantity], *, image: str, region: str, source: str
) -> list[dict[str, object]]:
    """Return rows of the quantities table, one an interval, with the keys `COLUMNS` in order.

    Parameters
    ----------
    quantities : iterable of Quantity
    image : str
        File name of the micrograph, or what several are called together.
    region : str
        ``dev``, ``test``, ``dev+test`` or ``whole``.
    source : str
        ``label``, ``prediction`` or ``truth``.
    """
    where = (image, region, source)
    return [dict(zip(COLUMNS, where + astuple(q), strict=True)) for q in quantities]


def _particle_quantities(fields: Sequence[ParticleMeasurement]) -> list[Quantity]:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    number = np.concatenate([f.objects["counts_in_number"].to_numpy() for f in fields])
    area = sum(f.frame_area for f in fields)
    count = sum_interval(number, options.level, weight_if_empty=1.0)
    border = f"border {options.border}"
    density = _quantity(
        "areal_density",
        float(number.sum()) / area,
        count.scaled(1 / area),
        f"{unit}^-2",
        int((number > 0).sum()),
        f"counted objects over area; {border}; Garwood or Fay-Feuer interval",
        level=options.level,
    )
    foil = _foil([(f.frame_area, f.calibration) for f in fields])
    mean, spread = _diameters(fields, foil)
    found = [_si(density), mean, spread, _area_fraction(fields)]
    if foil is not None:
        found.insert(1, _number_density(density, foil, mean.value, options))
    return found


def _line_quantities(fields: Sequence[LineMeasurement]) -> list[Quantity]:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    area = sum(f.field_area for f in fields)
    chord = float(np.average([f.chord for f in fields], weights=[f.field_area for f in fields]))
    length = np.concatenate([f.objects[f"length_{unit}"].to_numpy() for f in fields])
    skeleton = _quantity(
        "projected_line_density",
        float(length.sum()) / area,
        sum_interval(length, options.level, chord).scaled(1 / area),
        f"{unit}^-1",
        length.size,
        "smoothed length of the centre line over area; Fay-Feuer interval over lines",
        level=options.level,
    )
    grid = _grid_density(fields, chord / area)
    foil = _foil([(f.field_area, f.calibration) for f in fields])
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
    return _quantity(
        "projected_line_density_grid",
        value,
        interval,
        f"{unit}^-1",
        int(along_rows.sum() + along_columns.sum()),
        f"crossings with an orthogonal grid of {options.grid_spacing_px} px, seed {options.seed}; "
        "Fay-Feuer interval over lines",
        level=options.level,
    )


@dataclass(frozen=True)
class _Thickness:
    """Area-weighted thickness of the fields in nm, its standard uncertainty and how it is known."""

    nm: float
    sd_nm: float
    remark: str


def _foil(fields: Sequence[tuple[float, Calibration]]) -> _Thickness | None:
    """Pool thicknesses; errors of one method on one session are taken as fully correlated."""
    if why_no_volume(c for _, c in fields) is not None:
        return None
    area = sum(a for a, _ in fields)
    nm = sum(a * (c.thickness_nm or 0.0) for a, c in fields) / area
    sd_nm = sum(a * (c.thickness_sd_nm or 0.0) for a, c in fields) / area
    known = all(c.thickness_sd_nm is not None for _, c in fields)
    remark = f"thickness {nm:.6g} nm"
    remark += f" with sd {sd_nm:.6g} nm" if known else " taken as exact where no sd is given"
    return _Thickness(nm, sd_nm, remark)


def _number_density(
    areal: Quantity, foil: _Thickness, mean_nm: float, options: MeasureOptions
) -> Quantity:
    if options.foil == "t":
        return _per_depth(areal, foil.nm, foil, options.level, "N/(A t)")
    layer = foil.nm + (mean_nm if math.isfinite(mean_nm) else 0.0)
    return _per_depth(areal, layer, foil, options.level, "N/(A (t + d))")


def _per_depth(
    areal: Quantity, depth_nm: float, foil: _Thickness, level: float, formula: str
) -> Quantity:
    interval = widened(
        areal.value, Interval(areal.low, areal.high), foil.sd_nm / depth_nm, level
    ).scaled(_PER_M**3 / depth_nm)
    return _quantity(
        "number_density",
        areal.value * _PER_M**3 / depth_nm,
        interval,
        "m^-3",
        areal.n,
        f"{formula}; {foil.remark}; {areal.method}",
        level=level,
    )


def _per_foil(projected: Quantity, name: str, foil: _Thickness, level: float) -> Quantity:
    factor = 4 / np.pi * _PER_M**2 / foil.nm
    interval = widened(
        projected.value, Interval(projected.low, projected.high), foil.sd_nm / foil.nm, level
    ).scaled(factor)
    return _quantity(
        name,
        projected.value * factor,
        interval,
        "m^-2",
        projected.n,
        f"4/pi times projected density over t; {foil.remark}; {projected.method}",
        level=level,
    )


def _diameters(
    fields: Sequence[ParticleMeasurement], foil: _Thickness | None
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
        _quantity(
            "mean_diameter", mean, of_mean, unit, d.size, f"{method}; Student", level=options.level
        ),
        _quantity("sd_diameter", sd, of_sd, unit, d.size, f"{method}; Bonett", level=options.level),
    )


def _area_fraction(fields: Sequence[ParticleMeasurement]) -> Quantity:
    options, unit = fields[0].options, fields[0].calibration.length_unit
    value = sum(f.covered_area for f in fields) / sum(f.field_area for f in fields)
    areas = np.concatenate([f.objects[f"area_{unit}2"].to_numpy() for f in fields])
    interval = Interval(0.0, float("nan"))
    if areas.size:
        interval = sum_interval(areas, options.level).scaled(value / float(areas.sum()))
        interval = Interval(interval.low, min(interval.high, 1.0))
    return _quantity(
        "area_fraction",
        value,
        interval,
        "1",
        areas.size,
        "covered over all pixels; Fay-Feuer interval over objects",
        level=options.level,
    )


def _quantity(  # noqa: PLR0913 - one argument a column
    name: str,
    value: float,
    interval: Interval,
    unit: str,
    n: int,
    method: str,
    *,
    level: float,
) -> Quantity:
    return Quantity(
        name, float(value), unit, interval.low, interval.high, level, MATERIAL, n, method
    )


def _si(areal: Quantity) -> Quantity:
    """Turn nm^-2 into m^-2; leave pixels alone."""
    if areal.unit != "nm^-2":
        return areal
    low, high = areal.low * _PER_M**2, areal.high * _PER_M**2
    return replace(areal, value=areal.value * _PER_M**2, unit="m^-2", low=low, high=high)


def _valid(shape: tuple[int, ...], ignore: Array | None) -> Array:
    valid = np.ones(shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    if valid.shape != shape:
        raise LabelRefused(
            "ignore", "E_SHAPE", f"has shape {valid.shape}, the label {shape}; they must agree"
        )
    if not valid.any():
        raise LabelRefused("ignore", "E_EMPTY", "covers the whole field: nothing to measure")
    return valid


def _mostly(instances: Array, names: Array, valid: Array) -> Array:
    """Whether at least half of each object's pixels count."""
    inside = instances > 0
    index = np.searchsorted(names, instances[inside])
    share = np.bincount(index, weights=valid[inside], minlength=names.size)
    return np.asarray(share * 2 >= np.bincount(index, minlength=names.size))


def _grid_offset(shape: tuple[int, ...], options: MeasureOptions) -> tuple[int, int]:
    random = np.random.default_rng(options.seed)
    bounds = [max(1, min(options.grid_spacing_px, n - 1)) for n in shape]
    return int(random.integers(bounds[0])), int(random.integers(bounds[1]))


def _tile(position: Array, shape: tuple[int, ...]) -> Array:
    """Return the number of the tile that each (row, column) lies in, 0 to 15."""
    part = [
        np.clip(position[:, axis] * _TILES // shape[axis], 0, _TILES - 1).astype(np.int64)
        for axis in (0, 1)
    ]
    return np.asarray(part[0] * _TILES + part[1])


def _particle_tiles(table: pd.DataFrame, covered: Array, calibration: Calibration) -> pd.DataFrame:
    centres = table[["centroid_row_px", "centroid_column_px"]].to_numpy()
    tile = _tile(centres, covered.shape)
    size = table["counts_in_size"].to_numpy()
    d = table[f"equivalent_diameter_{calibration.length_unit}"].to_numpy()
    sums = {
        "number": table["counts_in_number"].to_numpy(),
        "size": size,
        "size_d": size * d,
        "size_d2": size * d**2,
    }
    columns: dict[str, Array] = {
        k: np.bincount(tile, weights=v, minlength=_TILES**2) for k, v in sums.items()
    }
    pixels = _tile(np.argwhere(covered), covered.shape)
    columns["covered"] = np.bincount(pixels, minlength=_TILES**2) * calibration.spacing**2
    return pd.DataFrame(columns)


def _line_tiles(
    middle: Array, shape: tuple[int, ...], length: Array, along_rows: Array, along_columns: Array
) -> pd.DataFrame:
    tile = _tile(middle, shape)
    sums = {"length": length, "crossings_rows": along_rows, "crossings_columns": along_columns}
    return pd.DataFrame(
        {k: np.bincount(tile, weights=v, minlength=_TILES**2) for k, v in sums.items()}
    )
