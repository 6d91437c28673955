"""What is done with one micrograph of a batch: read once, segmented and measured for each type."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defectops.errors import InputRefused, MicrographRefused
from defectops.imaging.appearance import appearance, outside
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.imaging.label_files import label_tiff
from defectops.imaging.reading import read_micrograph
from defectops.learning.bundle import file_sha256
from defectops.learning.views import mirrored
from defectops.measurement.budget import MIRRORED, SEGMENTATION, Alternative, Known, itemised
from defectops.measurement.consequences import consequences
from defectops.measurement.label_maps import label_map
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.strength import constants_sd
from defectops.micrograph import UNCALIBRATED
from defectops.reporting.overlays import overlay_png
from defectops.workflows.batch_records import as_bytes
from defectops.workflows.doubting import add_doubts
from defectops.workflows.measuring import plausible
from defectops.workflows.preparing import calibrated, digest_of, read_mask

if TYPE_CHECKING:
    from defectops.dataset.manifest import ManifestRow
    from defectops.measurement.pooling import Measurement
    from defectops.measurement.quantities import Quantity
    from defectops.micrograph import Array, Calibration, Micrograph
    from defectops.workflows.batch_choosing import BatchRequest, Bench, Segmenter

OK, OUT_OF_RANGE = "ok", "out_of_range"
_LOWEST, _HIGHEST = 0.01, 0.99


@dataclass(frozen=True)
class Source:
    """One micrograph as it is given: where it is, what it is called, what is told of it.

    Parameters
    ----------
    path : Path
    name : str
        In the tables.
    stem : str
        Of the files written for it.
    sha256 : str
        Of the file.
    row : ManifestRow or None
    """

    path: Path
    name: str
    stem: str
    sha256: str
    row: ManifestRow | None = None


@dataclass(frozen=True, eq=False)
class Seen:
    """What one model sees in one micrograph.

    Parameters
    ----------
    segmenter : Segmenter
    pixels : ndarray, shape (H, W)
        As recorded.
    conditioned, probability : ndarray of float32, shape (H, W)
    ignore : ndarray of bool, shape (H, W), or None
    measured : Measurement
        At the model's threshold.
    others : list of Measurement
        At thresholds that might as well have been chosen, then of the mirrored views.
    labels : ndarray of int32, shape (H, W)
        The number of the object at each pixel, as in the table of objects.
    """

    segmenter: Segmenter
    pixels: Array
    conditioned: Array
    probability: Array
    ignore: Array | None
    measured: Measurement
    others: list[Measurement]
    labels: Array

    @property
    def calibration(self) -> Calibration:
        """Scale and thickness."""
        return self.measured.calibration


@dataclass
class ImageResult:
    """What is left of one micrograph.

    Parameters
    ----------
    record : dict
        Plain values: the image itself, and one entry a type of defect under ``defects``.
    files : dict of str to bytes
        Label images and overlays, by path in the output folder.
    kept : dict of str to bytes
        ``<defect>.npz``: the measurements, for pooling and for the table of objects.
    timing : list of (str, str, float)
        Type of defect, step, seconds.
    """

    record: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)
    timing: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def timed(self, defect: str, step: str) -> Iterator[None]:
        """Note how long a block takes."""
        started = time.perf_counter()
        yield
        self.timing.append((defect, step, time.perf_counter() - started))


def result_files(stem: str, bench: Bench) -> list[str]:
    """Return the paths in the output folder that an image may write."""
    keys = [s.defect.key for s in bench.segmenters]
    return [name for key in keys for name in (_labels_name(stem, key), _overlay_name(stem, key))]


def measure_image(source: Source, bench: Bench) -> ImageResult:
    """Segment and measure one micrograph with every model of a batch.

    The picture is read once and conditioned once for models that want the same. Of each model a
    probability and a label image are in memory at once, so that they can be compared.

    Parameters
    ----------
    source : Source
    bench : Bench

    Raises
    ------
    InputRefused
        The picture, its calibration or its ignore mask cannot be used, or what was measured
        cannot be true with that calibration.
    """
    result = ImageResult({})
    with result.timed("", "reading"):
        micrograph = _read(source, bench.request)
    flat: dict[ConditioningOptions, Array] = {}
    seen = []
    for segmenter in bench.segmenters:
        key = segmenter.defect.key
        ignore = _ignore(source, key, micrograph.pixels.shape)
        with result.timed(key, "conditioning"):
            conditioned = _conditioned(source, micrograph, segmenter, flat)
        with result.timed(key, "segmentation"):
            probability = segmenter.model.probability(conditioned)
        with result.timed(key, "quantification"):
            planes = conditioned, probability, ignore
            seen.append(_see(segmenter, micrograph, planes, bench.request))
        with result.timed(key, "mirrored views"):
            seen[-1].others.extend(_mirrored(seen[-1], micrograph))
    result.record = _record(source, micrograph, bench)
    for one in seen:
        _add(result, source, one, bench.request)
    add_doubts(result, seen)
    return result


def known_of(
    segmenter: Segmenter,
    calibrations: Sequence[Calibration],
    others: Sequence[Sequence[Measurement]],
    request: BatchRequest,
) -> Known:
    """Return what is known besides the fields: scale, constants, other segmentations.

    Parameters
    ----------
    segmenter : Segmenter
    calibrations : sequence of Calibration
        Of the fields.
    others : sequence of sequence of Measurement
        For each field its measurements at the other thresholds and mirrored, as `Seen` has them.
    request : BatchRequest
    """
    sizes = [c.pixel_size_nm for c in calibrations if c.pixel_size_nm is not None]
    relative = (request.pixel_size_sd_nm or 0.0) / float(np.mean(sizes)) if sizes else 0.0
    constants = constants_sd(segmenter.defect.key, segmenter.material)
    names = [(SEGMENTATION, f"threshold {at:g}") for at in _thresholds(segmenter, request)]
    names += [(MIRRORED, view) for view in segmenter.views.names]
    alternatives = [
        Alternative(component, said, [own[i] for own in others])
        for i, (component, said) in enumerate(names)
    ]
    return Known(relative, constants, alternatives)


def _read(source: Source, request: BatchRequest) -> Micrograph:
    row = source.row
    told = None if row is None else row.pixel_size_nm
    micrograph = read_micrograph(
        source.path,
        max_pixels=request.max_pixels,
        pixel_size_nm=told if request.pixel_size_nm is None else request.pixel_size_nm,
        uncalibrated=request.uncalibrated or (row is not None and row.uncalibrated),
    )
    scale = micrograph.calibration
    if row is not None and request.pixel_size_nm is None:
        scale = calibrated(micrograph, row)
    elif row is not None and row.thickness_nm is not None:
        scale = replace(scale, thickness_nm=row.thickness_nm, thickness_sd_nm=row.thickness_sd_nm)
    if request.thickness is not None:
        nm, sd_nm = request.thickness
        scale = replace(scale, thickness_nm=nm, thickness_sd_nm=sd_nm)
    return replace(micrograph, calibration=scale)


def ignore_path(source_path: Path, row: ManifestRow | None, defect: str) -> Path | None:
    """Return the mask of pixels that do not count for a type, as the manifest names it."""
    if row is None or not row.ignore:
        return None
    own = row.ignore_for(defect)
    if own is None and len(row.ignore) == 1 and "/" not in row.ignore[0]:
        own = row.ignore[0]
    if own is None:
        return None
    home = source_path.parent
    return (home.parent if home.name == "micrographs" else home) / own


def _ignore(source: Source, defect: str, shape: tuple[int, ...]) -> Array | None:
    path = ignore_path(source.path, source.row, defect)
    return None if path is None else read_mask(path, shape)


def _conditioned(
    source: Source,
    micrograph: Micrograph,
    segmenter: Segmenter,
    flat: dict[ConditioningOptions, Array],
) -> Array:
    """Return the plane with the defect bright; a dark defect's is the same plane, reversed."""
    options = segmenter.conditioning
    if options not in flat:
        flat.clear()
        try:
            flat[options] = condition(micrograph.pixels, "bright", options)
        except MicrographRefused as error:
            raise MicrographRefused(source.path.name, error.code, error.message) from error
    plane = flat[options]
    return plane if segmenter.model.bundle.defect["polarity"] == "bright" else -plane


def _see(
    segmenter: Segmenter,
    micrograph: Micrograph,
    planes: tuple[Array, Array, Array | None],
    request: BatchRequest,
) -> Seen:
    """Measure at the model's threshold, and at those that might as well have been chosen."""
    conditioned, probability, ignore = planes
    mask = probability >= segmenter.model.bundle.threshold
    measured, *others = (
        _observe(segmenter, micrograph, plane, ignore)
        for plane in (mask, *(probability >= at for at in _thresholds(segmenter, request)))
    )
    labels = label_map(mask, measured, ignore)
    pixels = micrograph.pixels
    return Seen(segmenter, pixels, conditioned, probability, ignore, measured, others, labels)


def _mirrored(seen: Seen, micrograph: Micrograph) -> list[Measurement]:
    """Measure what the model sees in the micrograph mirrored; one view is in memory at once."""
    model = seen.segmenter.model
    return [
        _observe(
            seen.segmenter,
            micrograph,
            mirrored(model.probability, seen.conditioned, view) >= model.bundle.threshold,
            seen.ignore,
        )
        for view in seen.segmenter.views.names
    ]


def _observe(
    segmenter: Segmenter, micrograph: Micrograph, mask: Array, ignore: Array | None
) -> Measurement:
    observe = observe_lines if segmenter.defect.shape == "line" else observe_particles
    try:
        return observe(mask, micrograph.calibration, segmenter.options, ignore)
    except InputRefused as error:  # which knows no file
        told = f"{error.subject}: {error.message}"
        raise MicrographRefused(micrograph.name, error.code, told) from error


def _record(source: Source, micrograph: Micrograph, bench: Bench) -> dict[str, Any]:
    keys = [s.defect.key for s in bench.segmenters]
    masks = {key: ignore_path(source.path, source.row, key) for key in keys}
    return {
        "image": source.name,
        "image_sha256": source.sha256,
        "pixels_sha256": digest_of(micrograph.pixels),
        "shape": list(micrograph.pixels.shape),
        "calibration": list(astuple(micrograph.calibration)),
        "masks": {k: relpath(p, source.path.parent) for k, p in masks.items() if p is not None},
        "masks_sha256": {k: file_sha256(p) for k, p in masks.items() if p is not None},
        "git_commit": bench.git_commit,
        "warnings": list(micrograph.warnings),
        "defects": {},
    }


def _add(result: ImageResult, source: Source, seen: Seen, request: BatchRequest) -> None:
    """Add what one model saw: numbers, pictures, and what is needed to pool it."""
    key = seen.segmenter.defect.key
    with result.timed(key, "quantities"):
        quantities = _quantities(seen, request)
        odd = plausible(source.path.name, seen.measured, quantities)
    with result.timed(key, "pictures"):
        _draw(result, source.stem, seen)
    result.kept[f"{key}.npz"] = as_bytes([seen.measured, *seen.others])
    result.record["defects"][key] = {
        **_judged(seen),
        "odd": odd,
        "objects": len(seen.measured.objects),
        "quantities": [_plain(q) for q in quantities],
    }


def _thresholds(segmenter: Segmenter, request: BatchRequest) -> list[float]:
    threshold, spread = segmenter.model.bundle.threshold, request.threshold_spread
    if not spread:
        return []
    return [max(threshold - spread, _LOWEST), min(threshold + spread, _HIGHEST)]


def _quantities(seen: Seen, request: BatchRequest) -> list[Quantity]:
    key, material = seen.segmenter.defect.key, seen.segmenter.material
    known = known_of(seen.segmenter, [seen.calibration], [seen.others], request)
    found = itemised([seen.measured], known, lambda q: consequences(q, key, material))
    return found.quantities


def _judged(seen: Seen) -> dict[str, Any]:
    """Say whether the numbers of an image count among the pooled ones, and why not.

    Returns
    -------
    dict
        ``status``: ``out_of_range`` where the picture is unlike those that the model learned from,
        else ``uncalibrated`` or ``ok``; ``flags``: one sentence a doubt.
    """
    scale = seen.calibration
    envelope = dict(seen.segmenter.model.bundle.envelope)
    if not scale.calibrated:  # which the status says
        envelope |= {"pixel_size_nm_low": None, "pixel_size_nm_high": None}
    look = appearance(seen.conditioned, seen.ignore)
    flags = outside(envelope, look, scale.pixel_size_nm)
    status = OUT_OF_RANGE if flags else OK if scale.calibrated else UNCALIBRATED
    return {"status": status, "flags": flags}


def _draw(result: ImageResult, stem: str, seen: Seen) -> None:
    defect, scale = seen.segmenter.defect, seen.calibration
    result.files[_labels_name(stem, defect.key)] = label_tiff(seen.labels, scale)
    picture = overlay_png(seen.pixels, seen.labels, defect.colour, scale)
    result.files[_overlay_name(stem, defect.key)] = picture


def _labels_name(stem: str, defect: str) -> str:
    return f"labels/{stem}_{defect}.tif"


def _overlay_name(stem: str, defect: str) -> str:
    return f"overlays/{stem}_{defect}.png"


def _plain(q: Quantity) -> list[Any]:
    """Return a quantity as plain values; what is undefined or unbounded is null."""
    return [
        None if isinstance(v, float) and not math.isfinite(v) else v
        for v in (v.item() if isinstance(v, np.generic) else v for v in astuple(q))
    ]
