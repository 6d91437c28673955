"""Agreement of a prediction with a label, object by object: found, missed, split, merged, sized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csgraph

from defectops.measurement.agreement import ratio, refuse_unlike_shapes
from defectops.measurement.objects import ObjectOptions, as_instances
from defectops.measurement.quantities import TILES, tile_numbers

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ObjectAgreement:
    """Objects found, invented, missed, split and merged.

    Parameters
    ----------
    matched, invented, missed : int
        Objects of both, only of the prediction, only of the label.
    pairs : tuple of (int, int, float)
        Label number, prediction number and IoU of each match; both numbered from 1 among the
        objects that count.
    diameters_px : tuple of (float, float)
        Equivalent circle diameters, ``sqrt(4 area / pi)``, of label and prediction of each match.
    splits : int
        Labelled objects that hold most of the pixels of two predicted ones or more.
    merges : int
        Predicted objects that hold most of the pixels of two labelled ones or more.
    """

    matched: int
    invented: int
    missed: int
    pairs: tuple[tuple[int, int, float], ...]
    diameters_px: tuple[tuple[float, float], ...] = ()
    splits: int = 0
    merges: int = 0

    @property
    def precision(self) -> float | None:
        """Matched over predicted objects; None without predicted ones."""
        return ratio(self.matched, self.matched + self.invented)

    @property
    def recall(self) -> float | None:
        """Matched over labelled objects; None without labelled ones."""
        return ratio(self.matched, self.matched + self.missed)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both, also called recognition quality; None without any object."""
        return ratio(2 * self.matched, 2 * self.matched + self.invented + self.missed)

    @property
    def segmentation_quality(self) -> float | None:
        """Mean IoU of the matches; None without a match."""
        return ratio(sum(iou for _, _, iou in self.pairs), self.matched)

    @property
    def panoptic_quality(self) -> float | None:
        """Summed IoU over matched + (invented + missed) / 2; None without any object."""
        return ratio(
            sum(iou for _, _, iou in self.pairs),
            self.matched + (self.invented + self.missed) / 2,
        )


@dataclass(frozen=True)
class DiameterAgreement:
    """Diameters of matched objects, prediction minus label.

    Parameters
    ----------
    n : int
        Matches.
    mean_difference : float or None
        In the unit of the spacing; None without a match.
    sd_difference : float or None
        Sample standard deviation (N - 1); None below two matches.
    mean_relative : float or None
        Mean of difference over the label's diameter.
    """

    n: int
    mean_difference: float | None
    sd_difference: float | None
    mean_relative: float | None


def object_agreement(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    min_iou: float = 0.5,
    options: ObjectOptions | None = None,
) -> ObjectAgreement:
    """Match predicted with labelled objects.

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Bool masks or instance labels, see `objects.as_instances`.
    ignore : ndarray of bool, shape (H, W), optional
        Objects with more than half of their pixels there do not count; overlap there neither.
    min_iou : float
        Least intersection over union of a match. Above 0.5 a match is unique; at or below it the
        assignment with the largest summed IoU is taken.
    options : ObjectOptions, optional
        For masks.

    Returns
    -------
    ObjectAgreement
        Without an object on either side every score is None: undefined, not perfect.

    Raises
    ------
    LabelRefused
        Shapes differ.

    References
    ----------
    Kirillov, A. et al., CVPR 2019, doi:10.1109/CVPR.2019.00963 (matching at IoU 0.5, panoptic
    quality).
    """
    true, found = _counted_planes(prediction, label, ignore, options)
    met = overlaps(true, found)
    kept = _assigned(met, min_iou)
    pairs = zip(met.label[kept], met.prediction[kept], met.iou[kept], strict=True)
    areas = zip(
        met.label_area_px[met.label[kept]],
        met.prediction_area_px[met.prediction[kept]],
        strict=True,
    )
    return ObjectAgreement(
        matched=kept.size,
        invented=met.prediction_area_px.size - 1 - kept.size,
        missed=met.label_area_px.size - 1 - kept.size,
        pairs=tuple((int(i), int(j), float(iou)) for i, j, iou in pairs),
        diameters_px=tuple((_diameter(a), _diameter(b)) for a, b in areas),
        splits=_holders(met.label, met.pixels, met.prediction_area_px[met.prediction]),
        merges=_holders(met.prediction, met.pixels, met.label_area_px[met.label]),
    )


def object_tiles(
    prediction: Array,
    label: Array,
    ignore: Array | None = None,
    *,
    min_iou: float = 0.5,
    options: ObjectOptions | None = None,
) -> pd.DataFrame:
    """Count the objects of `object_agreement` where they lie.

    Parameters
    ----------
    prediction, label, ignore, min_iou, options
        As for `object_agreement`.

    Returns
    -------
    DataFrame
        One row for each of 4 x 4 tiles (`quantities.tile_numbers`): ``matched, missed`` by the
        centre of the labelled object, ``invented`` by that of the predicted one. Columns sum to
        the counts of `object_agreement`.
    """
    true, found = _counted_planes(prediction, label, ignore, options)
    met = overlaps(true, found)
    kept = _assigned(met, min_iou)
    of_label, of_found = _tiles_of(true), _tiles_of(found)
    known, seen = met.label[kept] - 1, met.prediction[kept] - 1
    tiles = {
        "matched": of_label[known],
        "missed": np.delete(of_label, known),
        "invented": np.delete(of_found, seen),
    }
    return pd.DataFrame({k: np.bincount(v, minlength=TILES**2) for k, v in tiles.items()})


def matched_diameters(found: ObjectAgreement, spacing: float = 1.0) -> DiameterAgreement:
    """Compare the diameters of matched objects.

    Parameters
    ----------
    found : ObjectAgreement
    spacing : float
        Length of a pixel, for differences in nm.

    Notes
    -----
    Only what was matched is compared: small objects that are missed leave it untouched, while they
    do move the mean diameter. For that see `error_budget`.
    """
    both = np.array(found.diameters_px).reshape(-1, 2)
    n = len(both)
    if not n:
        return DiameterAgreement(0, None, None, None)
    difference = both[:, 1] - both[:, 0]
    return DiameterAgreement(
        n=n,
        mean_difference=float(difference.mean()) * spacing,
        sd_difference=float(difference.std(ddof=1)) * spacing if n > 1 else None,
        mean_relative=float((difference / both[:, 0]).mean()),
    )


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Which labelled and predicted objects share pixels.

    Parameters
    ----------
    label, prediction : ndarray of int64, shape (K,)
        Numbers of the two objects of each overlap.
    pixels : ndarray of int64, shape (K,)
        How many they share.
    label_area_px, prediction_area_px : ndarray of int64
        Pixels by number; the outside, number 0, stands first.
    """

    label: Array
    prediction: Array
    pixels: Array
    label_area_px: Array
    prediction_area_px: Array

    @property
    def iou(self) -> Array:
        """Intersection over union of each overlap, shape (K,)."""
        either = self.label_area_px[self.label] + self.prediction_area_px[self.prediction]
        return np.asarray(self.pixels / (either - self.pixels))


def overlaps(true: Array, found: Array) -> Overlaps:
    """Return the overlaps of two planes of objects that are numbered from 1 without gaps."""
    label_area, found_area = np.bincount(true.ravel()), np.bincount(found.ravel())
    both = (true > 0) & (found > 0)
    width = found_area.size
    code, pixels = np.unique(true[both].astype(np.int64) * width + found[both], return_counts=True)
    label, prediction = np.divmod(code, width)
    return Overlaps(label, prediction, pixels, label_area, found_area)


def _counted_planes(
    prediction: Array, label: Array, ignore: Array | None, options: ObjectOptions | None
) -> tuple[Array, Array]:
    """Return the objects that count of label and prediction, each numbered from 1."""
    found, true = as_instances(prediction, options), as_instances(label, options)
    refuse_unlike_shapes(found, true, ignore)
    valid = np.ones(true.shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    return _counted(true, valid), _counted(found, valid)


def _tiles_of(numbered: Array) -> Array:
    """Return the tile of the centre of each object, in the order of their numbers."""
    at, name = np.argwhere(numbered), numbered[numbered > 0]
    size = np.bincount(name)[1:]
    centre = [np.bincount(name, weights=at[:, axis])[1:] / size for axis in (0, 1)]
    return tile_numbers(np.column_stack(centre), numbered.shape)


def _assigned(met: Overlaps, min_iou: float) -> Array:
    """Return which overlaps are matches: each object in one at most, summed IoU largest."""
    iou = met.iou
    able = np.flatnonzero(iou >= min_iou)
    # Objects that compete for each other are few and apart, so each group is settled by itself: a
    # table of all against all would not fit into memory for thousands of objects.
    n = met.label_area_px.size
    ends = met.label[able], n + met.prediction[able]
    size = n + met.prediction_area_px.size
    graph = sparse.csr_matrix((np.ones(able.size, dtype=np.int8), ends), shape=(size, size))
    group = csgraph.connected_components(graph, directed=False)[1][met.label[able]]
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    kept = [_best(met, iou, part) for part in np.split(able[order], bounds) if part.size]
    return np.sort(np.concatenate(kept)) if kept else able


def _best(met: Overlaps, iou: Array, part: Array) -> Array:
    if part.size == 1:
        return part
    rows, row = np.unique(met.label[part], return_inverse=True)
    columns, column = np.unique(met.prediction[part], return_inverse=True)
    table = np.zeros((rows.size, columns.size))
    table[row, column] = iou[part]
    which = np.full(table.shape, -1, dtype=np.int64)
    which[row, column] = part
    chosen = which[linear_sum_assignment(table, maximize=True)]
    return np.asarray(chosen[chosen >= 0])


def _holders(holder: Array, pixels: Array, area: Array) -> int:
    """How many objects hold over half of the pixels of two others or more."""
    held = holder[2 * pixels > area]
    return int((np.bincount(held) > 1).sum()) if held.size else 0


def _counted(instances: Array, valid: Array) -> Array:
    """Renumber the objects that count from 1, in the order of their names; clear the others."""
    inside = instances > 0
    names, index = np.unique(instances[inside], return_inverse=True)
    size = np.bincount(index, minlength=names.size)
    keep = 2 * np.bincount(index, weights=valid[inside], minlength=names.size) >= size
    number = np.where(keep, np.cumsum(keep), 0)
    numbered = np.zeros(instances.shape, dtype=np.int64)
    numbered[inside] = number[index] * valid[inside]
    return numbered


def _diameter(area_px: float) -> float:
    return float(np.sqrt(4 * area_px / np.pi))
