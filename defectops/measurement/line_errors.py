"""Which stretches of line a prediction missed, invented, broke, widened or merged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from defectops.measurement.agreement import refuse_unlike_shapes
from defectops.measurement.line_fields import LineMeasurement, observe_lines
from defectops.measurement.lines import TracedLines, trace
from defectops.measurement.objects import thin_lines

if TYPE_CHECKING:
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]

LINE_CAUSES = ("invented", "merged", "widened", "broken", "missed")
INVENTED, MERGED, WIDENED, BROKEN, MISSED = range(1, 1 + len(LINE_CAUSES))


@dataclass(frozen=True, eq=False)
class LineErrors:
    """One field: two masks of lines, and for each pixel in which they differ, why.

    Parameters
    ----------
    label, prediction : ndarray of bool, shape (H, W)
    cause : ndarray of uint8, shape (H, W)
        0 where both agree, else one plus the place of the cause in `LINE_CAUSES`.
    calibration : Calibration
    options : MeasureOptions or None
    ignore : ndarray of bool, shape (H, W), or None
    """

    label: Array
    prediction: Array
    cause: Array
    calibration: Calibration
    options: MeasureOptions | None
    ignore: Array | None

    @property
    def present(self) -> set[str]:
        """Causes that occur."""
        return {LINE_CAUSES[code - 1] for code in np.unique(self.cause) if code}


@dataclass(frozen=True, eq=False)
class _Centre:
    """A mask's centre line, the pixels of its paths, and for each pixel the nearest of them."""

    plane: Array
    lines: TracedLines
    distance: Array
    nearest: Array
    half_width: Array


def compare_lines(
    prediction: Array,
    label: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
    *,
    tolerance_px: float = 3.0,
) -> LineErrors:
    """Find out why two masks of lines differ, pixel by pixel.

    A path is a stretch of centre line between ends and junctions. A pixel of the label's centre
    line is lost if the prediction neither covers it nor has its own centre line within the
    tolerance; one of the prediction's is extra if it is further from the label's than the
    tolerance and than half its own width.

    ``missed``
        Label only, nearest to a lost pixel of a path of which more than half is lost.
    ``broken``
        The same on a path of which at most half is lost: a gap.
    ``invented``
        Prediction only, nearest to an extra pixel of a path of which more than half is extra.
    ``merged``
        Prediction only, filling the whole gap between two paths of the label.
    ``widened``
        All other differences: lines drawn wider, narrower or longer, and spurs.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Non-zero on lines, of any width.
    calibration : Calibration
    options : MeasureOptions, optional
    ignore : ndarray of bool, shape (H, W), optional
        As for `line_quantities.observe_lines`.
    tolerance_px : float
        In px; for nm divide by the pixel size.

    Returns
    -------
    LineErrors
        For `error_budget.error_budget`.

    Raises
    ------
    LabelRefused
        Shapes differ.
    """
    found, true = np.asarray(prediction) != 0, np.asarray(label) != 0
    refuse_unlike_shapes(found, true, ignore)
    of_label, of_found = _centre(true, options), _centre(found, options)
    lost = of_label.plane & ~found & (of_found.distance > tolerance_px)
    reach = np.maximum(tolerance_px, of_found.half_width)
    extra = of_found.plane & (of_label.distance > reach)
    cause = np.zeros(true.shape, dtype=np.uint8)
    cause[true != found] = WIDENED
    fewer, more = true & ~found, found & ~true
    for differs, centre, odd, mostly, partly in (
        (fewer, of_label, lost, MISSED, BROKEN),
        (more, of_found, extra, INVENTED, WIDENED),
    ):
        code = np.where(odd, np.where(_mostly(centre, odd), mostly, partly), 0)
        nearest = code.ravel()[centre.nearest[differs]]
        cause[differs] = np.where(nearest > 0, nearest, cause[differs])
    cause[more & _between(of_label, more)] = MERGED
    return LineErrors(true, found, cause, calibration, options, ignore)


def switched_lines(errors: LineErrors, causes: Collection[str]) -> LineMeasurement:
    """Measure the label with some causes of error brought in; with all of them the prediction.

    Parameters
    ----------
    errors : LineErrors
    causes : collection of str
        Of `LINE_CAUSES`.
    """
    codes = [1 + LINE_CAUSES.index(cause) for cause in causes]
    mask = errors.label ^ np.isin(errors.cause, codes)
    return observe_lines(mask, errors.calibration, errors.options, errors.ignore)


def _centre(mask: Array, options: MeasureOptions | None) -> _Centre:
    plane = thin_lines(mask, None if options is None else options.objects)
    if not plane.any():
        far, itself = np.full(mask.shape, np.inf), np.arange(mask.size).reshape(mask.shape)
        return _Centre(plane, trace(plane), far, itself, np.zeros(mask.shape))
    distance, (rows, columns) = ndimage.distance_transform_edt(~plane, return_indices=True)
    nearest = rows.astype(np.int64) * mask.shape[1] + columns
    width = ndimage.distance_transform_edt(mask)
    return _Centre(plane, trace(plane), distance, nearest, width)


def _mostly(centre: _Centre, odd: Array) -> Array:
    """Whether each centre pixel lies on a path of which more than half is odd."""
    lines = centre.lines
    pixel = lines.pixels[lines.node]
    length = np.bincount(lines.path, minlength=lines.n_paths)
    count = np.bincount(lines.path, weights=odd.ravel()[pixel], minlength=lines.n_paths)
    result = np.zeros(odd.size, dtype=bool)
    result[pixel[(2 * count > length)[lines.path]]] = True
    return result.reshape(odd.shape)


def _between(label: _Centre, more: Array) -> Array:
    """Where a gap between two paths is filled right across.

    The ridges between the cells of nearest paths run along the middle of the gaps. Where such a
    pixel is filled, so is the gap, and all that is filled as near to it as the lines belongs to it.
    """
    lines = label.lines
    owner = np.full(more.size, -1, dtype=np.int64)
    owner[lines.pixels[lines.node]] = lines.path
    cell = owner[label.nearest]
    ridge = ndimage.maximum_filter(cell, 3) != ndimage.minimum_filter(cell, 3)
    seeds = ridge & more
    if not seeds.any():
        return np.zeros(more.shape, dtype=bool)
    distance, (rows, columns) = ndimage.distance_transform_edt(~seeds, return_indices=True)
    return np.asarray(distance <= label.distance[rows, columns] + 1)
