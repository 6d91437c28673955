"""How far a prediction's outlines and centre lines run from the label's, in nm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from defectops.errors import LabelRefused
from defectops.measurement.agreement import ratio, refuse_unlike_shapes
from defectops.measurement.objects import ObjectOptions, thin_lines
from defectops.measurement.quantities import TILES, tile_numbers

Array = npt.NDArray[Any]

_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class LineAgreement:
    """Centre lines that run together within a tolerance.

    Parameters
    ----------
    completeness : float or None
        Share of the label's centre line that has the prediction's nearby; None without label.
    correctness : float or None
        Share of the prediction's centre line that has the label's nearby; None without prediction.
    centre_line_dice : float or None
        Harmonic mean of the share of the prediction's centre line inside the label's mask and the
        share of the label's inside the prediction's mask; None if either is empty, 0 for two that
        never meet.
    tolerance : float
        In the unit of the spacing.
    """

    completeness: float | None
    correctness: float | None
    centre_line_dice: float | None
    tolerance: float


@dataclass(frozen=True)
class BoundaryAgreement:
    """Distances between the outlines of prediction and label, in the unit of the spacing.

    All are None where either side has no outline: no distance to nothing.

    Parameters
    ----------
    mean : float or None
        Mean distance from an outline pixel of one to the nearest of the other, both ways pooled.
    hausdorff_95 : float or None
        The larger of the two 95th percentiles, one each way.
    n_label, n_prediction : int
        Outline pixels.
    """

    mean: float | None
    hausdorff_95: float | None
    n_label: int
    n_prediction: int


def line_agreement(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    tolerance: float = 3.0,
    spacing: float = 1.0,
    options: ObjectOptions | None = None,
) -> LineAgreement:
    """Compare the centre lines of two masks of lines.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Non-zero on lines, of any width.
    ignore : ndarray of bool, shape (H, W), optional
        Centre lines there are not asked for, but those nearby may be found there.
    tolerance : float
        Greatest distance at which lines run together, in the unit of `spacing`.
    spacing : float
        Length of a pixel: nm, or 1 for a tolerance in pixels.
    options : ObjectOptions, optional

    Raises
    ------
    LabelRefused
        Shapes differ, or the tolerance is negative.

    References
    ----------
    Heipke, C. et al., Int. Arch. Photogramm. Remote Sens. 32 (3-4W2), 151 (1997) (no DOI).
    Shit, S. et al., CVPR 2021, doi:10.1109/CVPR46437.2021.01629 (centre-line Dice).
    """
    if not tolerance >= 0:
        raise LabelRefused(
            "tolerance", "E_CONFIG", f"a distance of zero or more is needed, got {tolerance}"
        )
    found, true = thin_lines(prediction, options), thin_lines(label, options)
    refuse_unlike_shapes(found, true, ignore)
    valid = _valid(true.shape, ignore)
    asked_true, asked_found = true & valid, found & valid
    return LineAgreement(
        completeness=_near(asked_true, found, tolerance / spacing),
        correctness=_near(asked_found, true, tolerance / spacing),
        centre_line_dice=_harmonic(
            ratio(int((asked_true & (np.asarray(prediction) != 0)).sum()), int(asked_true.sum())),
            ratio(int((asked_found & (np.asarray(label) != 0)).sum()), int(asked_found.sum())),
        ),
        tolerance=tolerance,
    )


def line_tiles(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    tolerance_px: float = 3.0,
    options: ObjectOptions | None = None,
) -> pd.DataFrame:
    """Count the centre-line pixels behind completeness and correctness where they lie.

    Parameters
    ----------
    prediction, label, ignore, options
        As for `line_agreement`.
    tolerance_px : float

    Returns
    -------
    DataFrame
        One row for each of 4 x 4 tiles (`quantities.tile_numbers`), pixels of centre line:
        ``label_px`` and, of them, ``label_found_px`` with the prediction's nearby;
        ``prediction_px`` and, of them, ``prediction_true_px`` with the label's nearby. Sums of
        columns give the ratios of `line_agreement`.

    Raises
    ------
    LabelRefused
        Shapes differ.
    """
    found, true = thin_lines(prediction, options), thin_lines(label, options)
    refuse_unlike_shapes(found, true, ignore)
    valid = _valid(true.shape, ignore)
    columns = {}
    for name, met, asked, other in (
        ("label_px", "label_found_px", true & valid, found),
        ("prediction_px", "prediction_true_px", found & valid, true),
    ):
        for column, plane in ((name, asked), (met, asked & _close(other, tolerance_px))):
            at = tile_numbers(np.argwhere(plane), plane.shape)
            columns[column] = np.bincount(at, minlength=TILES**2)
    return pd.DataFrame(columns)


def boundary_agreement(
    prediction: Array, label: Array, ignore: Array | None = None, *, spacing: float = 1.0
) -> BoundaryAgreement:
    """Measure how far apart the outlines of two masks run.

    The outline of a mask is its pixels with a neighbour (of four) outside; the picture's edge makes
    no outline, since the object may go on there.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Non-zero inside.
    ignore : ndarray of bool, shape (H, W), optional
        Outline pixels there are not asked for.
    spacing : float
        Length of a pixel, for distances in nm.

    Raises
    ------
    LabelRefused
        Shapes differ.

    Notes
    -----
    A whole object that is missed or invented counts with its distance to the nearest other one,
    so the result mixes detection and drawing: read it with recall and precision.

    References
    ----------
    Huttenlocher, D. P. et al., IEEE Trans. Pattern Anal. Mach. Intell. 15, 850 (1993),
    doi:10.1109/34.232073; Taha, A. A. and Hanbury, A., BMC Med. Imaging 15, 29 (2015),
    doi:10.1186/s12880-015-0068-x (its 95th percentile).
    """
    found, true = np.asarray(prediction) != 0, np.asarray(label) != 0
    refuse_unlike_shapes(found, true, ignore)
    valid = _valid(true.shape, ignore)
    here, there = _outline(found), _outline(true)
    n_found, n_true = int((here & valid).sum()), int((there & valid).sum())
    if not n_found or not n_true:
        return BoundaryAgreement(None, None, n_true, n_found)
    out = ndimage.distance_transform_edt(~there)[here & valid] * spacing
    back = ndimage.distance_transform_edt(~here)[there & valid] * spacing
    return BoundaryAgreement(
        mean=float(np.concatenate([out, back]).mean()),
        hausdorff_95=float(max(np.percentile(out, 95), np.percentile(back, 95))),
        n_label=n_true,
        n_prediction=n_found,
    )


def _outline(mask: Array) -> Array:
    return np.asarray(mask & ~ndimage.binary_erosion(mask, _CROSS, border_value=1))


def _valid(shape: tuple[int, ...], ignore: Array | None) -> Array:
    return np.ones(shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)


def _near(asked: Array, other: Array, tolerance_px: float) -> float | None:
    if not asked.any():
        return None
    return float(_close(other, tolerance_px)[asked].mean())


def _close(other: Array, tolerance_px: float) -> Array:
    """Where a pixel of a plane is no further than the tolerance; nowhere for an empty plane."""
    if not other.any():
        return np.zeros(other.shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(~other) <= tolerance_px)


def _harmonic(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 2 * one * other / (one + other) if one + other else 0.0
