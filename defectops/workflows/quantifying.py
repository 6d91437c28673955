"""Measure one defect type: label, prediction and truth of every region, with intervals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectops.atomic import replacing, write_text
from defectops.dataset.synthesis_truth import true_quantities
from defectops.learning import machine
from defectops.learning.views import ViewOptions, mirrored
from defectops.measurement.budget import COLUMNS as BUDGET_COLUMNS
from defectops.measurement.budget import (
    MIRRORED,
    SEGMENTATION,
    Alternative,
    Known,
    budget_rows,
    itemised,
)
from defectops.measurement.consequences import consequences
from defectops.measurement.error_budget import COLUMNS as ERROR_COLUMNS
from defectops.measurement.error_budget import compare_masks, error_budget, error_rows
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.paired import model_quantities
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.quantities import COLUMNS, MeasureOptions, table_rows
from defectops.measurement.strength import Material, constants_sd
from defectops.micrograph import Array, Calibration, Field, Region, load_fields
from defectops.workflows.champions import load_champion

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.learning.inference import LoadedModel
    from defectops.measurement.pooling import Measurement

POOLED = "pooled"
_BINS = 20
# How far off the operating point might be, as probability.
_SHIFTS = (-0.1, 0.1)
_SHIFTED = tuple(f"threshold {shift:+g}" for shift in _SHIFTS)
# Columns of objects that are positions along the rows' and along the columns' axis.
_PLACES = (
    ["centroid_row_px", "top_px", "bottom_px"],
    ["centroid_column_px", "left_px", "right_px"],
)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One connected field of a region: what label and prediction show, and where it lies."""

    field: Field
    label: Measurement | None
    prediction: Measurement
    others: tuple[Measurement, ...]
    views: Mapping[str, Measurement]


@dataclass(frozen=True)
class _Reports:
    """Draws quantities with their budgets, and keeps the items of the budgets."""

    defect: DefectType
    material: Material
    budget: list[dict[str, object]]

    def material_rows(
        self,
        fields: Sequence[Measurement],
        alternatives: Sequence[Alternative] = (),
        *,
        image: str,
        region: str,
        source: str = "prediction",
    ) -> list[dict[str, object]]:
        """Return the rows of several fields together, with the interval ``material``."""
        key, material = self.defect.key, self.material
        known = Known(constants_relative_sd=constants_sd(key, material), alternatives=alternatives)
        found = itemised(fields, known, lambda given: consequences(given, key, material))
        items = budget_rows(found.components, image=image, region=region, source=source)
        self.budget.extend(items)
        return table_rows(found.quantities, image=image, region=region, source=source)


def quantify(
    root: Path,
    defect: DefectType,
    options: MeasureOptions,
    conditioning: ConditioningOptions | None = None,
    material: Material | None = None,
    views: ViewOptions | None = None,
) -> pd.DataFrame:
    """Measure what `evaluate` segmented, and whole micrographs, with the champion of one defect.

    Regions ``dev``, ``test`` and ``dev+test`` compare the prediction with the label of the same
    field; fields of one image that join to a rectangle are measured as one, so that no particle
    is cut between them. ``whole`` is the prediction on the complete micrograph, most of which the
    model may have been trained on. Rows of the image ``pooled`` take all images together.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    options : MeasureOptions
    conditioning : ConditioningOptions, optional
        What the fields went through; checked against what the champion was trained with.
    material : Material, optional
        Constants for the hardening by this type of defect.
    views : ViewOptions, optional
        As `evaluate` was given, which segments the fields mirrored.

    Returns
    -------
    DataFrame
        ``results/quantities/<defect>.csv``; empty without a champion.

    Notes
    -----
    Also written: ``results/budget/<defect>.csv`` (what each interval is made of),
    ``results/error_budget/<defect>.csv`` (which errors lead from label to prediction),
    ``results/objects/<defect>.parquet`` (one row an object of dev+test),
    ``results/histograms/<defect>.csv`` and ``results/timing/<defect>.csv``.
    """
    machine.settle()
    results = root / "results"
    champion = load_champion(root, defect, conditioning)
    rows: list[dict[str, object]] = []
    errors: list[dict[str, object]] = []
    reports = _Reports(defect, material or Material(), [])
    seen: dict[str, list[_Seen]] = {}
    timing: list[dict[str, object]] = []
    if champion is not None:
        looks = (views or ViewOptions()).names
        masks = results / "masks" / defect.key
        threshold = champion.bundle.threshold
        turned = {view: _measured(defect, masks / view, threshold, options) for view in looks}
        regions = _regions(masks)
        for region, fields in regions.items():
            seen[region] = [
                _see(defect, f, {v: turned[v][region][i] for v in looks}, threshold, options)
                for i, f in enumerate(fields)
            ]
        seen["whole"] = list(_whole(root, defect, champion, options, looks, timing))
        truths = _truths(root, defect, seen["whole"])
        for region, fields_seen in seen.items():
            rows += _region_rows(region, fields_seen, truths, reports)
        errors = _error_rows(defect, regions["dev+test"], threshold, options)
    budget = pd.DataFrame(reports.budget, columns=list(BUDGET_COLUMNS))
    write_text(results / "budget" / f"{defect.key}.csv", budget.to_csv(index=False))
    moved = pd.DataFrame(errors, columns=list(ERROR_COLUMNS))
    write_text(results / "error_budget" / f"{defect.key}.csv", moved.to_csv(index=False))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_text(results / "quantities" / f"{defect.key}.csv", table.to_csv(index=False))
    compared = seen.get("dev+test", [])
    _write_objects(results / "objects" / f"{defect.key}.parquet", compared)
    _write_histogram(results / "histograms" / f"{defect.key}.csv", compared, defect)
    times = pd.DataFrame(timing, columns=["image", "step", "seconds"])
    write_text(results / "timing" / f"{defect.key}.csv", times.to_csv(index=False))
    return table


def joined(fields: Sequence[Field]) -> list[Field]:
    """Join the fields of each image that fill a rectangle without overlap; leave others alone."""
    found = []
    for image in dict.fromkeys(f.image for f in fields):
        own = [f for f in fields if f.image == image]
        box = Region(
            min(f.region.top for f in own),
            max(f.region.bottom for f in own),
            min(f.region.left for f in own),
            max(f.region.right for f in own),
        )
        area = sum(f.intensity.size for f in own)
        apart = not any(a.region.overlaps(b.region) for i, a in enumerate(own) for b in own[:i])
        if len(own) > 1 and apart and area == box.shape[0] * box.shape[1]:
            found.append(_mosaic(own, box))
        else:
            found += own
    return found


def _mosaic(fields: Sequence[Field], box: Region) -> Field:
    intensity = np.zeros(box.shape, np.float32)
    label, ignore = np.zeros(box.shape, bool), np.zeros(box.shape, bool)
    for field in fields:
        r = field.region
        inside = Region(r.top - box.top, r.bottom - box.top, r.left - box.left, r.right - box.left)
        intensity[inside.slices] = field.intensity
        label[inside.slices] = field.label
        ignore[inside.slices] = field.ignore
    return replace(fields[0], region=box, intensity=intensity, label=label, ignore=ignore)


def _regions(folder: Path) -> dict[str, list[Field]]:
    """Return the segmented fields of dev, test and both, joined."""
    sides = {side: load_fields(folder / f"{side}.npz") for side in ("dev", "test")}
    regions = {**sides, "dev+test": sides["dev"] + sides["test"]}
    return {region: joined(fields) for region, fields in regions.items()}


def _measured(
    defect: DefectType, folder: Path, threshold: float, options: MeasureOptions
) -> dict[str, list[Measurement]]:
    """Measure the prediction of every field, by region; only numbers are kept."""
    return {
        region: [
            _observe(defect, f.intensity >= threshold, f.calibration, options, f.ignore)
            for f in fields
        ]
        for region, fields in _regions(folder).items()
    }


def _see(
    defect: DefectType,
    field: Field,
    views: Mapping[str, Measurement],
    threshold: float,
    options: MeasureOptions,
) -> _Seen:
    """Measure label and prediction; `field.intensity` holds the probability."""
    label = _observe(defect, field.label, field.calibration, options, field.ignore)
    prediction, *others = (
        _observe(defect, field.intensity >= at, field.calibration, options, field.ignore)
        for at in (threshold, *_shifted(threshold))
    )
    return _Seen(field, label, prediction, tuple(others), views)


def _shifted(threshold: float) -> list[float]:
    """Return thresholds that would have been as good."""
    return [float(np.clip(threshold + shift, 0.01, 0.99)) for shift in _SHIFTS]


def _observe(
    defect: DefectType,
    mask: Array,
    calibration: Calibration,
    options: MeasureOptions,
    ignore: Array,
) -> Measurement:
    observe = observe_lines if defect.shape == "line" else observe_particles
    return observe(mask, calibration, options, ignore)


def _prepared(root: Path, defect: DefectType) -> list[Path]:
    """Return the files of whole micrographs, one each."""
    return sorted((root / "prepared" / defect.key).glob("*.npz"))


def _whole(
    root: Path,
    defect: DefectType,
    champion: LoadedModel,
    options: MeasureOptions,
    looks: Sequence[str],
    timing: list[dict[str, object]],
) -> Iterator[_Seen]:
    for path in _prepared(root, defect):
        (field,) = load_fields(path)
        started = time.perf_counter()
        probability = champion.probability(field.intensity)
        segmented = time.perf_counter()
        threshold = champion.bundle.threshold
        scale = field.calibration
        measured = _observe(defect, probability >= threshold, scale, options, field.ignore)
        done = time.perf_counter()
        for step, seconds in (
            ("segmentation", segmented - started),
            ("quantification", done - segmented),
        ):
            timing.append({"image": field.image, "step": step, "seconds": round(seconds, 4)})
        others = [
            _observe(defect, probability >= at, scale, options, field.ignore)
            for at in _shifted(threshold)
        ]
        views = {
            look: _observe(
                defect,
                mirrored(champion.probability, field.intensity, look) >= threshold,
                scale,
                options,
                field.ignore,
            )
            for look in looks
        }
        yield _Seen(field, None, measured, tuple(others), views)


def _region_rows(
    region: str,
    seen: Sequence[_Seen],
    truths: Mapping[str, Any],
    reports: _Reports,
) -> list[dict[str, object]]:
    rows = []
    defect = reports.defect
    images = list(dict.fromkeys(s.field.image for s in seen))
    for image in images:
        own = [s for s in seen if s.field.image == image]
        rows += _group_rows(image, region, own, reports)
        if image in truths:
            regions = [s.field.region for s in seen if s.field.image == image]
            rows += _truth_rows(image, region, [(truths[image], r) for r in regions], defect)
    one_scale = len({s.field.calibration.calibrated for s in seen}) == 1
    if len(images) > 1 and one_scale:
        rows += _group_rows(POOLED, region, seen, reports)
        if all(image in truths for image in images):
            parts = [(truths[s.field.image], s.field.region) for s in seen]
            rows += _truth_rows(POOLED, region, parts, defect)
    return rows


def _group_rows(
    image: str, region: str, seen: Sequence[_Seen], reports: _Reports
) -> list[dict[str, object]]:
    predicted = [s.prediction for s in seen]
    labelled = [s.label for s in seen if s.label is not None]
    rows = []
    if labelled:
        rows += reports.material_rows(labelled, image=image, region=region, source="label")
    rows += reports.material_rows(predicted, _alternatives(seen), image=image, region=region)
    if labelled:
        model = model_quantities(labelled, predicted)
        rows += table_rows(model, image=image, region=region, source="prediction")
    return rows


def _error_rows(
    defect: DefectType, fields: Sequence[Field], threshold: float, options: MeasureOptions
) -> list[dict[str, object]]:
    """Lead from label to prediction, all images together; no row if they have no common scale.

    Of dev+test only, the region of the headline: lines are measured anew for every cause.
    """
    if len({f.calibration.calibrated for f in fields}) != 1:
        return []
    compared = [
        compare_masks(defect, f.intensity >= threshold, f.label, f.calibration, options, f.ignore)
        for f in fields
    ]
    images = {f.image for f in fields}
    image = POOLED if len(images) > 1 else images.pop()
    return error_rows(error_budget(compared), image=image, region="dev+test")


def _alternatives(seen: Sequence[_Seen]) -> list[Alternative]:
    """Return the same fields segmented at thresholds a little off, and mirrored."""
    thresholds = [
        Alternative(SEGMENTATION, said, [s.others[i] for s in seen])
        for i, said in enumerate(_SHIFTED)
    ]
    views = [Alternative(MIRRORED, view, [s.views[view] for s in seen]) for view in seen[0].views]
    return thresholds + views


def _truths(root: Path, defect: DefectType, whole: Sequence[_Seen]) -> dict[str, Any]:
    """Return what a synthetic micrograph was drawn from, by image, of all that were measured."""
    truths = {}
    for path, seen in zip(_prepared(root, defect), whole, strict=True):
        file = path.parent / "truth" / f"{path.stem}.json"
        if file.is_file():
            truths[seen.field.image] = json.loads(file.read_text(encoding="utf-8"))
    return truths


def _truth_rows(
    image: str, region: str, parts: Sequence[tuple[Mapping[str, Any], Region]], defect: DefectType
) -> list[dict[str, object]]:
    """Return the true quantities of several regions together, under the names of the measured."""
    volumes = np.array([_volume_m3(truth, r) for truth, r in parts])
    areas = np.array([_area_m2(truth, r) for truth, r in parts])
    true = pd.DataFrame([true_quantities(truth, defect.key, r) for truth, r in parts])
    if defect.shape == "line":
        density = float(true["dislocation_density"] @ volumes / volumes.sum())
        values = {
            "dislocation_density_skeleton": (density, "m^-2"),
            "dislocation_density_grid": (density, "m^-2"),
        }
        count, method = 0, "length of visible lines in region and foil / volume"
    else:
        counts = (true["number_density"] * volumes).round()
        mean, sd = _pooled_moments(counts, true["mean_diameter"], true["sd_diameter"])
        values = {
            "number_density": (float(counts.sum() / volumes.sum()), "m^-3"),
            "areal_density": (float(counts.sum() / areas.sum()), "m^-2"),
            "mean_diameter": (mean, "nm"),
            "sd_diameter": (sd, "nm"),
        }
        count, method = int(counts.sum()), "particles with their centre in region and foil"
    return [
        {
            "image": image,
            "region": region,
            "source": "truth",
            "quantity": name,
            "value": value,
            "unit": unit,
            "n": count or None,
            "method": method,
        }
        for name, (value, unit) in values.items()
    ]


def _pooled_moments(
    counts: pd.Series[float], means: pd.Series[float], sds: pd.Series[float]
) -> tuple[float, float]:
    """Return mean and sample standard deviation of samples put together."""
    total = counts.sum()
    if total < 2:
        return float(means.max()), float("nan")
    mean = float((counts * means.fillna(0)).sum() / total)
    within = ((counts - 1).clip(lower=0) * sds.fillna(0) ** 2).sum()
    between = (counts * (means.fillna(mean) - mean) ** 2).sum()
    return mean, float(np.sqrt((within + between) / (total - 1)))


def _area_m2(truth: Mapping[str, Any], region: Region) -> float:
    return region.shape[0] * region.shape[1] * (float(truth["pixel_size_nm"]) * 1e-9) ** 2


def _volume_m3(truth: Mapping[str, Any], region: Region) -> float:
    return _area_m2(truth, region) * float(truth["thickness_nm"]) * 1e-9


def _write_objects(path: Path, seen: Sequence[_Seen]) -> None:
    """Write one row an object of label and prediction, with positions in the whole micrograph."""
    parts = []
    for item in seen:
        for source, measured in (("label", item.label), ("prediction", item.prediction)):
            if measured is None:
                continue
            table = measured.objects.copy()
            corner = item.field.region.top, item.field.region.left
            for names, start in zip(_PLACES, corner, strict=True):
                for name in table.columns.intersection(names):
                    table[name] = table[name] + start
            table.insert(0, "image", item.field.image)
            table.insert(1, "source", source)
            parts.append(table)
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"image": []})
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def _write_histogram(path: Path, seen: Sequence[_Seen], defect: DefectType) -> None:
    """Count label and prediction over the same bins of diameter (lines: of length).

    Where some images have a pixel size and some have none, those that have one are counted.
    """
    stem = "length" if defect.shape == "line" else "equivalent_diameter"
    units = {item.field.calibration.length_unit for item in seen}
    unit = "px" if units == {"px"} else "nm"
    sizes: dict[str, list[float]] = {"label": [], "prediction": []}
    for item in seen:
        if item.field.calibration.length_unit != unit:
            continue
        if item.label is not None:
            sizes["label"] += item.label.objects[f"{stem}_{unit}"].tolist()
        sizes["prediction"] += item.prediction.objects[f"{stem}_{unit}"].tolist()
    top = max((max(s) for s in sizes.values() if s), default=0.0)
    edges = np.linspace(0, top, _BINS + 1)
    columns = ["source", f"bin_low_{unit}", f"bin_high_{unit}", "count"]
    rows = [
        (source, low, high, count)
        for source, found in (sizes.items() if top > 0 else ())
        for low, high, count in zip(
            edges[:-1].round(4),
            edges[1:].round(4),
            np.histogram(found, edges)[0].tolist(),
            strict=True,
        )
    ]
    write_text(path, pd.DataFrame(rows, columns=columns).to_csv(index=False))
