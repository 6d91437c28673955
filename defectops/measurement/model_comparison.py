"""What a model scores on labelled fields, how it compares with another, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from defectops.errors import LabelRefused
from defectops.measurement import quantiles
from defectops.measurement.agreement import refuse_unlike_shapes
from defectops.measurement.line_fields import observe_lines
from defectops.measurement.object_agreement import object_tiles
from defectops.measurement.objects import as_instances
from defectops.measurement.outline_agreement import line_tiles
from defectops.measurement.paired import percent_error, tile_statistics
from defectops.measurement.particle_quantities import observe_particles
from defectops.measurement.pooling import Measurement, pool
from defectops.measurement.quantities import TILES, MeasureOptions, tile_numbers
from defectops.measurement.uncertainty import LEVEL, UNDEFINED, Interval, resampled
from defectops.micrograph import UNCALIBRATED, Calibration, Field

if TYPE_CHECKING:
    from defectops.defects import Shape

Array = npt.NDArray[Any]

# From here on whole images are resampled instead of tiles: with fewer, the spread between images
# is known too badly to be of use.
FEWEST_IMAGES = 8
_PERCENT = "%"
_ONE = "1"
_POINTS = "percentage points"
_PIXELS = ("tp", "fp", "fn", "tn")
_ERROR = "_error_percent"
# Which quantity an error is of: the first of these that can be drawn.
_QUANTITIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "particle": {
        f"number_density{_ERROR}": ("number_density", "areal_density"),
        f"mean_diameter{_ERROR}": ("mean_diameter",),
        f"sd_diameter{_ERROR}": ("sd_diameter",),
    },
    "line": {
        f"dislocation_density{_ERROR}": (
            "dislocation_density_grid",
            "projected_line_density_grid",
        )
    },
}
# Numerator and denominator of each score, as sums of columns of the tiles.
_RATIOS: Mapping[str, Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "particle": {
        # Matched counts twice: 2 TP / (2 TP + FP + FN).
        "object_f1": (("matched", "matched"), ("matched", "matched", "invented", "missed")),
    },
    "line": {
        "line_completeness": (("label_found_px",), ("label_px",)),
        "line_correctness": (("prediction_true_px",), ("prediction_px",)),
    },
}
_PIXEL_RATIOS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "iou": (("tp",), ("tp", "fp", "fn")),
    "precision": (("tp",), ("tp", "fp")),
    "recall": (("tp",), ("tp", "fn")),
    "pixel_accuracy": (("tp", "tn"), _PIXELS),
}


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn.

    Parameters
    ----------
    draws : int
        Resamples, 1000 unless asked otherwise.
    seed : int
    level : float
        Two-sided coverage.
    """

    draws: int = 1000
    seed: int = 0
    level: float = LEVEL


@dataclass(frozen=True)
class Change:
    """A number, or the change of one, with its interval.

    Parameters
    ----------
    estimate, low, high : float
        NaN where undefined.
    n : int
        Tiles or images that were resampled, those that show nothing left out.
    unit : str
        ``1``, ``%`` (of the label's value) or ``percentage points``.
    over : {"tiles", "images"}
        What was resampled. ``tiles``: the interval holds for these images; another image may
        differ by more. ``images``: it holds for images like these.
    one_object : float
        What one labelled object more or less changes; part of each half of the interval.
    """

    estimate: float
    low: float
    high: float
    n: int
    unit: str
    over: str
    one_object: float = 0.0


@dataclass(frozen=True, eq=False)
class GateSample:
    """What one model shows on labelled fields, in sums over tiles.

    Parameters
    ----------
    shape : {"line", "particle"}
        Of the type of defect.
    label, prediction : tuple of Measurement
        One a field.
    agreement : DataFrame
        One row a tile, 16 a field in the order of the fields: pixels ``tp, fp, fn, tn``; of
        particles ``matched, missed, invented``; of lines ``label_px, label_found_px,
        prediction_px, prediction_true_px``.
    images : tuple of str
        Image of each field.
    """

    shape: Shape
    label: tuple[Measurement, ...]
    prediction: tuple[Measurement, ...]
    agreement: pd.DataFrame
    images: tuple[str, ...]

    @cached_property
    def n_objects(self) -> int:
        """Labelled objects, lines counted each once."""
        return sum(len(m.objects) for m in self.label)

    @cached_property
    def sums(self) -> dict[str, Array]:
        """Columns of `agreement`."""
        return {str(c): self.agreement[c].to_numpy(np.float64) for c in self.agreement}

    @cached_property
    def image_of_tile(self) -> Array:
        """Number of the image of each tile."""
        names = list(dict.fromkeys(self.images))
        return np.repeat([names.index(i) for i in self.images], TILES**2)

    @cached_property
    def errors(self) -> dict[str, float]:
        """Signed error of each material quantity in percent of the label's; NaN if undefined."""
        if not self.label:
            return {}
        label, prediction = pool(self.label), pool(self.prediction)
        found = percent_error(label, prediction)
        # A mean of one particle, a spread of fewer than five, has no interval of its own.
        few = {q.quantity for side in (label, prediction) for q in side if math.isnan(q.low)}
        return {k: math.nan if k in few else v for k, v in found.items()}


def observe_sample(
    shape: Shape, fields: Sequence[Field], masks: Sequence[Array], options: MeasureOptions
) -> GateSample:
    """Measure a model's masks and the labels of the same fields.

    Parameters
    ----------
    shape : {"line", "particle"}
    fields : sequence of Field
        May be empty; then every score is undefined.
    masks : sequence of ndarray of bool, shape (H, W)
        What the model found in each field.
    options : MeasureOptions
        As in the stage ``quantify``, so that both speak of the same objects.

    Raises
    ------
    LabelRefused
        Numbers or shapes differ, or a field is ignored altogether.

    Notes
    -----
    Where some fields have a pixel size and some have none, all are measured in pixels: an error
    in percent needs no scale, but one that all share.
    """
    if len(fields) != len(masks):
        raise LabelRefused(
            "prediction", "E_PAIR", f"{len(masks)} masks of {len(fields)} fields: give one for each"
        )
    chosen = replace(options, detail="main")
    see = _see_lines if shape == "line" else _see_particles
    seen = [
        see(replace(field, calibration=scale), np.asarray(mask, dtype=bool), chosen)
        for field, scale, mask in zip(fields, _common_scales(fields), masks, strict=True)
    ]
    tiles = [s.tiles for s in seen]
    return GateSample(
        shape,
        tuple(s.label for s in seen),
        tuple(s.prediction for s in seen),
        pd.concat(tiles, ignore_index=True) if tiles else pd.DataFrame(),
        tuple(f.image for f in fields),
    )


def score_names(shape: Shape) -> tuple[str, ...]:
    """Return the names of all that `scores` tells of a kind of shape."""
    return (*_PIXEL_RATIOS, *_RATIOS[shape], *_QUANTITIES[shape])


def scores(sample: GateSample) -> dict[str, float | None]:
    """Return what a model scores on all fields together.

    Returns
    -------
    dict
        ``iou, precision, recall, pixel_accuracy``; of particles ``object_f1,
        number_density_error_percent, mean_diameter_error_percent, sd_diameter_error_percent``; of
        lines ``line_completeness, line_correctness, dislocation_density_error_percent``. Errors are
        signed: prediction over label minus one. Rounded to 6 digits; None where undefined.
    """
    values = [(name, find(_once(sample))[0]) for name, find in _statistics(sample).items()]
    return {n: round(float(v), 6) if math.isfinite(v) else None for n, v in values}


def score_intervals(sample: GateSample, how: Resampling) -> dict[str, Change]:
    """Return every score with its interval; errors signed, in percent of the label's value.

    See Also
    --------
    paired_change : for how intervals are made.
    size_of : an error without its sign.
    """
    units = _units([sample])
    draws = units.drawn(how)
    found = {}
    for name, statistic in _statistics(sample).items():
        estimate = float(statistic(_once(sample))[0])
        event = _event(sample, name)
        interval = _interval(estimate, statistic(draws), units.n, event, how.level)
        if is_error(name):
            found[name] = _change(estimate, interval, units, _PERCENT, event)
        else:
            found[name] = _change(estimate, _clipped(interval, 0.0, 1.0), units, _ONE, event)
    return found


def paired_change(
    champion: GateSample, challenger: GateSample, how: Resampling
) -> dict[str, Change]:
    """Return by how much a challenger differs from a champion on the same fields.

    Parameters
    ----------
    champion, challenger : GateSample
        Of the same fields in the same order.
    how : Resampling

    Returns
    -------
    dict of str to Change
        By the names of `scores`. Of scores challenger minus champion: positive is better. Of
        material errors the change of their *size*, ``|challenger's error| - |champion's error|``,
        in percentage points: positive is worse. A model that counts 4 % too few and replaces one
        that counted 6 % too many has improved by 2 points, though its value fell by 10 %.

    Raises
    ------
    LabelRefused
        The samples are of different fields.

    Notes
    -----
    Both models and the label are resampled together: whole images where there are at least
    `FEWEST_IMAGES`, else tiles (4 x 4 a field), percentile bootstrap. Percentiles of few units
    are too close together; they are moved away from the estimate by ``sqrt(n / (n - 1)) t / z``
    (Hesterberg's expansion, as a factor, so that it needs no far percentiles). A bootstrap knows
    only what happened: if both models found all of 20 voids, every draw says that they are equal,
    while a loss of one void in 20 shows nothing in 36 of 100 such fields. So each interval also
    holds one object that was not lost, but could have been: with d what one labelled object more
    or less changes, each half h becomes ``d + sqrt(h^2 + (z d)^2)``; without any other scatter
    that is 2.96 d, and to see none of 2.96 losses that were to be expected has a chance of
    ``exp(-2.96)`` = 5 % (the rule of three).

    Errors are folded, and a fold is not smooth where an error is near 0. The interval therefore
    comes from those of the difference D and the sum S of both signed errors, which are: ``|c| - |p|
    = max(min(D, S), min(-D, -S))``, and the same of the ends. Where an error is near 0 either of
    the two may miss, so each is drawn at half the risk (97.5 % of 95 %, Bonferroni).

    References
    ----------
    Hesterberg, T. C., Am. Stat. 69, 371 (2015), doi:10.1080/00031305.2015.1089789.
    Hanley, J. A. and Lippman-Hand, A., JAMA 249, 1743 (1983),
    doi:10.1001/jama.1983.03330370053031 (rule of three).
    """
    if champion.images != challenger.images:
        raise LabelRefused(
            "comparison", "E_PAIR", "two models are compared on the same fields in the same order"
        )
    units = _units([champion, challenger])
    draws = units.drawn(how)
    before, after = _statistics(champion), _statistics(challenger)
    found = {}
    for name in before:
        one, two = _Drawn.of(before[name], draws), _Drawn.of(after[name], draws)
        event = max(_event(champion, name), _event(challenger, name))
        level = (1 + how.level) / 2 if is_error(name) else how.level
        difference = _paired(two, one, -1.0, units.n, event, level)
        if is_error(name):
            total = _paired(two, one, 1.0, units.n, event, level)
            estimate = abs(two.estimate) - abs(one.estimate)
            found[name] = _change(estimate, _folded(difference, total), units, _POINTS, event)
        else:
            clipped = _clipped(difference, -1.0, 1.0)
            found[name] = _change(two.estimate - one.estimate, clipped, units, _ONE, event)
    return found


def size_of(error: Change) -> Change:
    """Return the size of a signed error; its interval holds the sizes of all in the other.

    Undefined for an undefined one.
    """
    if math.isnan(error.low):
        return replace(error, estimate=abs(error.estimate))
    ends = sorted((abs(error.low), abs(error.high)))
    low = 0.0 if error.low <= 0 <= error.high else ends[0]
    return replace(error, estimate=abs(error.estimate), low=low, high=ends[1])


def is_error(name: str) -> bool:
    """Whether a score is a signed error in percent, of which less is better."""
    return name.endswith(_ERROR)


def one_object(sample: GateSample) -> dict[str, float]:
    """Return what one labelled object more or less changes in each score, in the score's unit."""
    return {name: _event(sample, name) for name in score_names(sample.shape)}


Statistic = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class _Units:
    """What is resampled: tiles or whole images."""

    of_tile: Array
    total: int
    n: int
    over: str

    def drawn(self, how: Resampling) -> Array:
        """Return how often each tile is taken in each draw, shape (draws, tiles)."""
        if not self.total:
            return np.zeros((how.draws, 0))
        return resampled(self.total, how.draws, how.seed)[:, self.of_tile].astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A statistic of one model: its estimate and its value in each draw."""

    estimate: float
    values: Array

    @classmethod
    def of(cls, statistic: Statistic, draws: Array) -> _Drawn:
        return cls(float(statistic(np.ones((1, draws.shape[1])))[0]), statistic(draws))


def _units(samples: Sequence[GateSample]) -> _Units:
    first = samples[0]
    image = first.image_of_tile
    n_images = len(set(first.images))
    busy = np.zeros(image.size, dtype=bool)
    for sample in samples:
        # True negatives are everywhere and tell nothing.
        busy |= sample.agreement.drop(columns="tn", errors="ignore").to_numpy().any(axis=1)
    if n_images >= FEWEST_IMAGES:
        return _Units(image, n_images, len(set(image[busy])), "images")
    return _Units(np.arange(image.size), image.size, int(busy.sum()), "tiles")


def _common_scales(fields: Sequence[Field]) -> list[Calibration]:
    if all(f.calibration.calibrated for f in fields):
        return [f.calibration for f in fields]
    return [Calibration(None, UNCALIBRATED) for _ in fields]


@dataclass(frozen=True, eq=False)
class _Seen:
    """One field: both measurements, and where both agree by tiles."""

    label: Measurement
    prediction: Measurement
    tiles: pd.DataFrame


def _see_particles(field: Field, mask: Array, options: MeasureOptions) -> _Seen:
    pixels = _pixel_tiles(mask, field)
    # Told apart once: that is most of the work. The correction for overlap needs the mask itself.
    planes = [as_instances(plane, options.objects) for plane in (field.label, mask)]
    given = planes if options.overlap == "none" else [field.label, mask]
    label, prediction = (
        observe_particles(plane, field.calibration, options, field.ignore) for plane in given
    )
    objects = object_tiles(planes[1], planes[0], field.ignore)
    return _Seen(label, prediction, pd.concat([pixels, objects], axis="columns"))


def _see_lines(field: Field, mask: Array, options: MeasureOptions) -> _Seen:
    pixels = _pixel_tiles(mask, field)
    label, prediction = (
        observe_lines(plane, field.calibration, options, field.ignore)
        for plane in (field.label, mask)
    )
    centres = line_tiles(mask, field.label, field.ignore, options=options.objects)
    return _Seen(label, prediction, pd.concat([pixels, centres], axis="columns"))


def _pixel_tiles(mask: Array, field: Field) -> pd.DataFrame:
    """Count pixels as `agreement.confusion` does, tile by tile."""
    refuse_unlike_shapes(mask, field.label, field.ignore)
    rows, columns = (np.arange(n) for n in mask.shape)
    place = np.zeros((max(mask.shape), 2))
    place[: rows.size, 0], place[: columns.size, 1] = rows, columns
    down = tile_numbers(place[: rows.size] * (1, 0), mask.shape)
    across = tile_numbers(place[: columns.size] * (0, 1), mask.shape)
    code = 4 * (down[:, None] + across[None, :]) + 2 * field.label + mask
    counts = np.bincount(code[~field.ignore], minlength=4 * TILES**2).reshape(-1, 4)
    tn, fp, fn, tp = counts.T
    return pd.DataFrame({"tp": tp, "fp": fp, "fn": fn, "tn": tn})


def _once(sample: GateSample) -> Array:
    return np.ones((1, len(sample.agreement)))


def _statistics(sample: GateSample) -> dict[str, Statistic]:
    """Return how each score follows from how often each tile is drawn."""
    ratios = {**_PIXEL_RATIOS, **_RATIOS[sample.shape]}
    found = {name: _ratio(sample, *parts) for name, parts in ratios.items()}
    kinds = _QUANTITIES[sample.shape]
    return found | {name: _error(sample, among) for name, among in kinds.items()}


def _ratio(sample: GateSample, part: Sequence[str], whole: Sequence[str]) -> Statistic:
    if not sample.label:
        return lambda draws: np.full(len(draws), math.nan)
    above, below = (np.sum([sample.sums[c] for c in columns], axis=0) for columns in (part, whole))

    def statistic(draws: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _finite((draws @ above) / (draws @ below))

    return statistic


def _error(sample: GateSample, among: Sequence[str]) -> Statistic:
    """Return the percent error of a quantity, by the sums of tiles it follows.

    What hardly differs between label and prediction (the ``+ d`` of a foil correction, the caps)
    is in the estimate and left out of the scatter about it, as in `paired.paired_interval`.
    """
    name = next((q for q in among if q in sample.errors), None)
    if name is None:
        return lambda draws: np.full(len(draws), math.nan)
    error = sample.errors[name]
    truth = pd.concat([m.tiles for m in sample.label], ignore_index=True)
    found = pd.concat([m.tiles for m in sample.prediction], ignore_index=True)
    follow = tile_statistics(sample.label)[name]

    def statistic(draws: Array) -> Array:
        once = np.ones((1, len(truth)))
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = follow(once, found) / follow(once, truth)
            ratio = follow(draws, found) / follow(draws, truth) / centre
        return _finite(100 * ((1 + error / 100) * ratio - 1))

    return statistic


def _finite(values: Array) -> Array:
    """Make undefined what was divided by nothing: a draw without a labelled object."""
    return np.where(np.isfinite(values), values, np.nan)


def _event(sample: GateSample, name: str) -> float:
    """Return what one labelled object more or less changes in a score."""
    share = 1 / max(sample.n_objects, 1)
    if not is_error(name):
        part, whole = {**_PIXEL_RATIOS, **_RATIOS[sample.shape]}[name]
        # Its pixels out of what counts as right; those of the background are no object's.
        value = float(_ratio(sample, [c for c in part if c != "tn"], whole)(_once(sample))[0])
        return share * value if math.isfinite(value) else share
    if name.startswith("mean_diameter"):
        return 100 * share * _relative_spread(sample)
    if name.startswith("sd_diameter"):
        # The standard deviation of one object's influence on a spread, for sizes about normal.
        return 100 * share / math.sqrt(2)
    return 100 * share


def _relative_spread(sample: GateSample) -> float:
    values = {q.quantity: q.value for q in pool(sample.label)} if sample.label else {}
    spread = values.get("sd_diameter", math.nan) / values.get("mean_diameter", math.nan)
    return spread if math.isfinite(spread) else 0.0


def _paired(two: _Drawn, one: _Drawn, sign: float, n: int, event: float, level: float) -> Interval:
    estimate = two.estimate + sign * one.estimate
    return _interval(estimate, two.values + sign * one.values, n, event, level)


def _interval(estimate: float, drawn: Array, n: int, event: float, level: float) -> Interval:
    """Percentile bootstrap, widened for few units and for one object that was not lost."""
    finite = drawn[np.isfinite(drawn)]
    if not math.isfinite(estimate) or n < 2 or 2 * finite.size < drawn.size:
        return UNDEFINED
    tail = (1 - level) / 2
    z, t = quantiles.normal(1 - tail), quantiles.student(1 - tail, n - 1)
    few = t / z * math.sqrt(n / (n - 1))
    low, high = np.quantile(finite, (tail, 1 - tail))
    below, above = (
        event + math.hypot(few * max(float(half), 0.0), z * event)
        for half in (estimate - low, high - estimate)
    )
    return Interval(estimate - below, estimate + above)


def _folded(difference: Interval, total: Interval) -> Interval:
    """Return the interval of |c| - |p| from those of c - p and c + p; see `paired_change`."""
    d, s = difference, total
    if math.isnan(d.low) or math.isnan(s.low):
        return UNDEFINED
    return Interval(
        max(min(d.low, s.low), min(-d.high, -s.high)),
        max(min(d.high, s.high), min(-d.low, -s.low)),
    )


def _clipped(interval: Interval, least: float, most: float) -> Interval:
    return Interval(max(interval.low, least), min(interval.high, most))


def _change(estimate: float, interval: Interval, units: _Units, unit: str, event: float) -> Change:
    return Change(estimate, interval.low, interval.high, units.n, unit, units.over, event)
