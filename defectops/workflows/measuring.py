"""Measure anyone's masks without a model: quantities with budgets, objects, sizes, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectops import settings
from defectops.atomic import write_text
from defectops.defects import BUILT_IN, DefectType
from defectops.errors import LabelRefused, SettingsRefused
from defectops.measurement import budget as budgets
from defectops.measurement.budget import Alternative, Known, itemised
from defectops.measurement.consequences import consequences
from defectops.measurement.error_budget import COLUMNS as ERROR_COLUMNS
from defectops.measurement.error_budget import (
    FieldErrors,
    compare_masks,
    error_budget,
    error_rows,
    read_error_rows,
)
from defectops.measurement.line_fields import LineMeasurement, observe_lines
from defectops.measurement.line_quantities import rose_of_directions
from defectops.measurement.paired import model_quantities
from defectops.measurement.particle_quantities import ParticleMeasurement, observe_particles
from defectops.measurement.particle_statistics import size_histogram
from defectops.measurement.plausibility import Claims, refuse_impossible
from defectops.measurement.quantities import (
    COLUMNS,
    MeasureOptions,
    Quantity,
    table_rows,
    why_no_volume,
)
from defectops.measurement.strength import Material, constants_sd
from defectops.reporting.budget import bars, save_bars
from defectops.reporting.error_budget import leading, save_waterfalls
from defectops.reporting.rose import save_rose
from defectops.reporting.sizes import save_counts
from defectops.workflows.mask_sources import (
    Mask,
    MaskSource,
    MeasureRequest,
    find_masks,
    read_mask,
)
from defectops.workflows.mask_variants import variants
from defectops.workflows.parameters import Parameters, load_parameters

if TYPE_CHECKING:
    from defectops.measurement.pooling import Measurement
    from defectops.micrograph import Array

POOLED = "pooled"
REGION = "whole"
_ALARM = "ALARM: "


@dataclass(frozen=True)
class Choices:
    """How to measure: the type of defect, the options, the constants of the material."""

    defect: DefectType
    options: MeasureOptions
    material: Material
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Measured:
    """What `measure` found.

    Parameters
    ----------
    choices : Choices
    rows : list of dict
        Keys `quantities.COLUMNS`, one row an interval.
    budget : list of dict
        Keys `budget.COLUMNS`, one row an item.
    objects : DataFrame
        One row an object, with its image and source.
    histogram : DataFrame
        `particle_statistics.size_histogram` of all images: particles by diameter, lines by length;
        no rows without objects.
    rose : DataFrame or None
        Lines only: `line_quantities.rose_of_directions` of all images in one unit.
    errors : list of dict or None
        Against labels only: keys `error_budget.COLUMNS`, all images together; no rows where some
        have a pixel size and some have none.
    notes : tuple of str
        What the user should know: doubts about calibration, suspicious values, what is missing.
    """

    choices: Choices
    rows: list[dict[str, object]]
    budget: list[dict[str, object]]
    objects: pd.DataFrame
    histogram: pd.DataFrame
    rose: pd.DataFrame | None
    errors: list[dict[str, object]] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Seen:
    """One mask measured, also in other ways that are as good, and the label it is held against."""

    name: str
    field: Measurement
    others: tuple[tuple[str, str, Measurement], ...] = ()
    label: Measurement | None = None
    errors: FieldErrors | None = None


def measure(root: Path, request: MeasureRequest) -> Measured:
    """Measure masks, each alone and all together.

    Parameters
    ----------
    root : Path
        Where a ``params.yaml`` may be: its types of defect, options and material are then used.
    request : MeasureRequest

    Returns
    -------
    Measured
        With rows of the image ``pooled`` if there are several masks, all calibrated or all not.

    Raises
    ------
    InputRefused
        A file, option or calibration that cannot be used; ``E_IMPLAUSIBLE`` if what was measured
        cannot be true with the pixel size and thickness given.
    """
    choices = choose(root, request)
    notes = list(choices.notes)
    seen = []
    for source in find_masks(request):
        mask = read_mask(source, request, choices.defect.shape)
        seen.append(_see(source, mask, request, choices))
        notes += [f"{source.name}: {w}" for w in mask.warnings]
    rows: list[dict[str, object]] = []
    items: list[dict[str, object]] = []
    for one in seen:
        quantities = _report(one.name, [one], request, choices, (rows, items))
        odd = plausible(one.name, one.field, quantities)
        notes += [*(f"{one.name}: {said}" for said in odd), *_alarms(one.name, quantities)]
    if len(seen) > 1 and len({s.field.calibration.calibrated for s in seen}) == 1:
        _report(POOLED, seen, request, choices, (rows, items))
    why = why_no_volume(s.field.calibration for s in seen)
    notes += [why] if why else []
    return Measured(
        choices,
        rows,
        items,
        _objects(seen, request),
        _histogram(seen, choices),
        _rose(seen),
        _errors(seen),
        tuple(notes),
    )


def choose(root: Path, request: MeasureRequest) -> Choices:
    """Return type of defect, options and material, from ``params.yaml`` if there is one.

    Raises
    ------
    SettingsRefused
        A type that is neither built in nor declared, and no shape given; options out of range.
    """
    notes: tuple[str, ...] = ()
    parameters = Parameters({}, {})
    if (root / settings.PARAMS).exists():
        parameters = load_parameters(root)
    key = request.defect
    known: Mapping[str, DefectType] = {**BUILT_IN, **parameters.defects}
    if key in known:
        defect = known[key]
        if request.shape is not None and request.shape != defect.shape:
            raise SettingsRefused(
                "--shape", "E_USAGE", f"{key} is a {defect.shape}; leave --shape out, or rename"
            )
    elif request.shape is not None:
        defect = DefectType(key, request.shape, "bright")  # type: ignore[arg-type]
    else:
        raise SettingsRefused(
            "--defect",
            "E_USAGE",
            f"{key!r} is not known; known are {', '.join(known)}; for another say --shape line or "
            "--shape particle",
        )
    if key not in parameters.defects:
        options, material = MeasureOptions(), Material()
    else:
        options = parameters.options("quantify", key, MeasureOptions)
        material = parameters.options("material", key, Material)
        notes = (f"options and material of {key} as {settings.PARAMS} says",)
    return Choices(defect, replace(options, **_changes(options, request.options)), material, notes)


def write_tables(measured: Measured, folder: Path) -> list[Path]:
    """Write ``quantities.csv``, ``budget.csv``, ``objects.csv``, ``histogram.csv``.

    Lines have a ``rose.csv``, too; what is measured against labels an ``error_budget.csv``.

    Returns
    -------
    list of Path
        The files written; the same bytes for the same masks and options.
    """
    tables = {
        "quantities.csv": pd.DataFrame(measured.rows, columns=list(COLUMNS)),
        "budget.csv": pd.DataFrame(measured.budget, columns=list(budgets.COLUMNS)),
        "objects.csv": measured.objects,
        "histogram.csv": measured.histogram,
    }
    if measured.rose is not None:
        tables["rose.csv"] = measured.rose
    if measured.errors is not None:
        tables["error_budget.csv"] = pd.DataFrame(measured.errors, columns=list(ERROR_COLUMNS))
    for name, table in tables.items():
        write_text(folder / name, table.to_csv(index=False, lineterminator="\n"))
    return [folder / name for name in tables]


def write_figures(measured: Measured, folder: Path) -> list[Path]:
    """Draw ``budget.png``, ``sizes.png`` and, of lines, ``rose.png``, of all masks together.

    Against labels also ``error_budget.png``.

    Returns
    -------
    list of Path
        The files written.
    """
    last = measured.budget[-1]["image"]
    table = pd.DataFrame(measured.budget)
    save_bars(bars(table[table["image"] == last]), folder / "budget.png")
    save_counts(measured.histogram, measured.choices.defect, folder / "sizes.png")
    drawn = [folder / "budget.png", folder / "sizes.png"]
    if measured.rose is not None:
        drawn.append(folder / "rose.png")
        save_rose(measured.rose, measured.choices.defect, drawn[-1])
    if measured.errors is not None:
        drawn.append(folder / "error_budget.png")
        found = read_error_rows(pd.DataFrame(measured.errors))
        save_waterfalls(leading(found, measured.choices.defect), drawn[-1])
    return drawn


def plausible(name: str, field: Measurement, quantities: Sequence[Quantity]) -> list[str]:
    """Refuse what cannot be true of a field; return sentences on what is odd.

    Parameters
    ----------
    name : str
        Of the image, for the error.
    field : Measurement
    quantities : sequence of Quantity
        What was drawn from it.

    Raises
    ------
    InputRefused
        ``E_IMPLAUSIBLE``
    """
    value = {q.quantity: q.value for q in quantities if q.value > 0}
    calibration = field.calibration
    found = {"area_fraction": value.get("area_fraction")}
    if calibration.calibrated:
        found |= {
            "pixel_size_nm": calibration.pixel_size_nm,
            "thickness_nm": calibration.thickness_nm,
            "diameter_nm": value.get("mean_diameter"),
            "diameter_sd_nm": value.get("sd_diameter"),
            "largest_diameter_nm": _widest(field),
            "number_density_m3": value.get("number_density"),
            "dislocation_density_m2": value.get("dislocation_density_skeleton"),
        }
    claims = Claims(**found)  # type: ignore[arg-type] # all of these are numbers
    return refuse_impossible(claims, name)


def _changes(options: MeasureOptions, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return replaced fields; those of objects go into their own section."""
    inner = {k: v for k, v in given.items() if hasattr(options.objects, k)}
    outer = {k: v for k, v in given.items() if k not in inner}
    return {**outer, "objects": replace(options.objects, **inner)} if inner else outer


def _see(source: MaskSource, mask: Mask, request: MeasureRequest, choices: Choices) -> _Seen:
    values = mask.values
    plane = values if request.threshold is None else values >= request.threshold
    label = errors = None
    if source.against is not None:
        beside = MaskSource(source.name, source.against, source.row)
        truth = read_mask(beside, replace(request, threshold=None), choices.defect.shape)
        label = _observe(truth.values, mask, choices)
        errors = compare_masks(
            choices.defect, plane, truth.values, mask.calibration, choices.options, mask.ignore
        )
    others = variants(values, plane, request)
    return _Seen(
        source.name,
        _observe(plane, mask, choices),
        tuple((component, said, _observe(p, mask, choices)) for component, said, p in others),
        label,
        errors,
    )


def _observe(plane: Array, scale: Mask, choices: Choices) -> Measurement:
    observe = observe_lines if choices.defect.shape == "line" else observe_particles
    try:
        return observe(plane, scale.calibration, choices.options, scale.ignore)
    except LabelRefused as error:  # which knows no file
        raise LabelRefused(scale.name, error.code, f"{error.subject}: {error.message}") from error


def _report(
    image: str,
    seen: Sequence[_Seen],
    request: MeasureRequest,
    choices: Choices,
    into: tuple[list[dict[str, object]], list[dict[str, object]]],
) -> list[Quantity]:
    """Add the rows of one image or of all together; return the quantities."""
    rows, items = into
    source = _source(request)
    found = itemised([s.field for s in seen], _known(seen, request, choices), _derive(choices))
    labels = [s.label for s in seen if s.label is not None]
    if labels:
        exact = itemised(
            labels, replace(_known(seen, request, choices), alternatives=()), _derive(choices)
        )
        rows += table_rows(exact.quantities, image=image, region=REGION, source="label")
    rows += table_rows(found.quantities, image=image, region=REGION, source=source)
    items += budgets.budget_rows(found.components, image=image, region=REGION, source=source)
    if labels:
        model = model_quantities(labels, [s.field for s in seen])
        rows += table_rows(model, image=image, region=REGION, source=source)
    return found.quantities


def _source(request: MeasureRequest) -> str:
    return "prediction" if request.against or request.threshold is not None else "label"


def _derive(choices: Choices) -> budgets.Derive:
    return lambda found: consequences(found, choices.defect.key, choices.material)


def _known(seen: Sequence[_Seen], request: MeasureRequest, choices: Choices) -> Known:
    sizes = [s.field.calibration.pixel_size_nm for s in seen]
    known = [p for p in sizes if p is not None]
    relative = (request.pixel_size_sd_nm or 0.0) / float(np.mean(known)) if known else 0.0
    alternatives = [
        Alternative(component, said, [s.others[i][2] for s in seen])
        for i, (component, said, _) in enumerate(seen[0].others)
    ]
    constants = constants_sd(choices.defect.key, choices.material)
    return Known(relative, constants, alternatives)


def _widest(field: Measurement) -> float | None:
    """Return the largest diameter of the particles of a calibrated field; None for lines."""
    if not isinstance(field, ParticleMeasurement) or field.objects.empty:
        return None
    return float(field.objects["equivalent_diameter_nm"].max())


def _alarms(image: str, quantities: Sequence[Quantity]) -> list[str]:
    """Return what the estimators themselves find odd, as it stands in their methods."""
    return [
        f"{image}: {q.quantity} {q.value:.3g}: {q.method.split(_ALARM, 1)[1]}"
        for q in quantities
        if _ALARM in q.method
    ]


def _objects(seen: Sequence[_Seen], request: MeasureRequest) -> pd.DataFrame:
    tables = []
    for s in seen:
        for source, field in (("label", s.label), (_source(request), s.field)):
            if field is not None:
                tables.append(field.objects.assign(image=s.name, source=source))
    found = pd.concat(tables, ignore_index=True)
    first = ["image", "source"]
    return found[first + [c for c in found.columns if c not in first]]


def _histogram(seen: Sequence[_Seen], choices: Choices) -> pd.DataFrame:
    """Sizes of all images; of those in the unit of the first if some have no pixel size."""
    unit = seen[0].field.calibration.length_unit
    own = pd.concat([s.field.objects for s in seen if s.field.calibration.length_unit == unit])
    if choices.defect.shape == "line":
        sizes = own[f"length_{unit}"].to_numpy()
        weights = np.ones(sizes.size)
    else:
        sizes = own[f"equivalent_diameter_{unit}"].to_numpy()
        weights = own["counts_in_size"].to_numpy()
    return size_histogram(sizes, weights, unit=unit, level=choices.options.level)


def _errors(seen: Sequence[_Seen]) -> list[dict[str, object]] | None:
    """Lead from the labels to the predictions, all together; None without labels."""
    errors = [s.errors for s in seen if s.errors is not None]
    if not errors:
        return None
    if len({s.field.calibration.calibrated for s in seen}) > 1:
        return []
    image = POOLED if len(seen) > 1 else seen[0].name
    return error_rows(error_budget(errors), image=image, region=REGION)


def _rose(seen: Sequence[_Seen]) -> pd.DataFrame | None:
    """Line density by direction, of the images in the unit of the first; None for particles."""
    unit = seen[0].field.calibration.length_unit
    lines = [s.field for s in seen if isinstance(s.field, LineMeasurement)]
    own = [f for f in lines if f.calibration.length_unit == unit]
    return rose_of_directions(own) if own else None
