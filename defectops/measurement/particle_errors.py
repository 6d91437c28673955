"""Which particles a prediction missed, invented, merged, split, sized or counted otherwise."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph

from defectops.measurement.agreement import refuse_unlike_shapes
from defectops.measurement.object_agreement import overlaps
from defectops.measurement.objects import as_instances
from defectops.measurement.particle_quantities import ParticleMeasurement, observe_particles

if TYPE_CHECKING:
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Calibration

Array = npt.NDArray[Any]

MISSED, INVENTED, MERGED, SPLIT = "missed", "invented", "merged", "split"
BORDER, WIDENED = "border", "widened"
# Invented ones come in before missed ones leave, so that on the way some particle is always left.
PARTICLE_CAUSES = (INVENTED, MERGED, SPLIT, BORDER, WIDENED, MISSED)
_PAIR = "pair"
_WEIGHTS = ["counts_in_number", "counts_in_size"]


@dataclass(frozen=True, eq=False)
class ParticleErrors:
    """One field: label and prediction measured, and which particle went wrong how.

    Parameters
    ----------
    label, prediction : ParticleMeasurement
        Measured with the same options.
    label_cause, prediction_cause : ndarray of str
        For each row of their tables of objects: a cause, or ``pair`` for a particle that is one in
        both.
    pairs : ndarray of int64, shape (K, 2)
        Rows of label and prediction of each pair.
    covered : dict of str to float
        What each cause adds to the covered area, in nm^2 (px^2 if uncalibrated).
    """

    label: ParticleMeasurement
    prediction: ParticleMeasurement
    label_cause: Array
    prediction_cause: Array
    pairs: Array
    covered: dict[str, float]

    @property
    def present(self) -> set[str]:
        """Causes that occur."""
        found = {*self.label_cause.tolist(), *self.prediction_cause.tolist()} - {_PAIR}
        one, other = (
            m.objects[_WEIGHTS].to_numpy()[rows]
            for m, rows in zip((self.label, self.prediction), self.pairs.T, strict=True)
        )
        found |= {BORDER} if (one != other).any() or self.covered[BORDER] else set()
        return found | ({WIDENED} if len(self.pairs) else set())


def compare_particles(
    prediction: Array,
    label: Array,
    calibration: Calibration,
    options: MeasureOptions | None = None,
    ignore: Array | None = None,
) -> ParticleErrors:
    """Find out what happened to each particle of one field.

    Two particles belong together if they share more than half of the smaller one. Of particles that
    belong together, one and one are a pair; more labelled than predicted ones are ``merged``, more
    predicted than labelled ones ``split``, and equally many, which are cut otherwise, ``merged``
    too. Alone on its side a particle is ``missed`` or ``invented``. A pair can still differ in size
    (``widened``, also for narrower) and in what the border rule lets it count (``border``).

    Parameters
    ----------
    prediction, label : ndarray, shape (H, W)
        Masks or instance labels, see `objects.as_instances`.
    calibration : Calibration
    options : MeasureOptions, optional
    ignore : ndarray of bool, shape (H, W), optional
        As for `particle_quantities.observe_particles`.

    Returns
    -------
    ParticleErrors
        For `error_budget.error_budget`.

    Raises
    ------
    LabelRefused
        Shapes differ, or no pixel is left to count in.
    """
    objects = None if options is None else options.objects
    found, true = as_instances(prediction, objects), as_instances(label, objects)
    refuse_unlike_shapes(found, true, ignore)
    measured = [observe_particles(p, calibration, options, ignore) for p in (true, found)]
    rows = [_rows(plane, m) for plane, m in zip((true, found), measured, strict=True)]
    group = _groups(*rows)
    n_label, n_found = (np.bincount(g, minlength=1 + max(map(_top, group))) for g in group)
    kind = _kinds(n_label, n_found)
    label_cause, found_cause = (kind[g] for g in group)
    paired = [np.flatnonzero(cause == _PAIR) for cause in (label_cause, found_cause)]
    paired = [at[np.argsort(g[at])] for at, g in zip(paired, group, strict=True)]
    valid = np.ones(true.shape, dtype=bool) if ignore is None else ~np.asarray(ignore, dtype=bool)
    area = [
        np.bincount(r[valid], minlength=1 + len(m.objects)) * calibration.spacing**2
        for r, m in zip(rows, measured, strict=True)
    ]
    covered = _covered(measured, (label_cause, found_cause), area)
    return ParticleErrors(
        label=measured[0],
        prediction=measured[1],
        label_cause=label_cause,
        prediction_cause=found_cause,
        pairs=np.column_stack(paired),
        covered=covered,
    )


def switched_particles(errors: ParticleErrors, causes: Collection[str]) -> ParticleMeasurement:
    """Return the label with some causes of error brought in; with all of them the prediction.

    Parameters
    ----------
    errors : ParticleErrors
    causes : collection of str
        Of `PARTICLE_CAUSES`.
    """
    label, found = errors.label.objects, errors.prediction.objects
    switched = list(causes)
    kept = (errors.label_cause != _PAIR) & ~np.isin(errors.label_cause, switched)
    taken = (errors.prediction_cause != _PAIR) & np.isin(errors.prediction_cause, switched)
    of_label, of_found = label.iloc[errors.pairs[:, 0]], found.iloc[errors.pairs[:, 1]]
    pairs = of_found if WIDENED in causes else of_label
    weights = of_found if BORDER in causes else of_label
    pairs = pairs.assign(**{name: weights[name].to_numpy() for name in _WEIGHTS})
    parts = [part for part in (label[kept], pairs, found[taken]) if len(part)]
    covered = sum(errors.covered[cause] for cause in causes)
    return replace(
        errors.label,
        objects=pd.concat(parts, ignore_index=True) if parts else label.iloc[:0],
        covered_area=errors.label.covered_area + covered,
    )


def _rows(plane: Array, measured: ParticleMeasurement) -> Array:
    """Return for each pixel one plus the row of its object in the table; 0 elsewhere."""
    names = measured.objects["label"].to_numpy()
    numbered = np.zeros(plane.shape, dtype=np.int64)
    inside = np.isin(plane, names) & (plane > 0)
    numbered[inside] = 1 + np.searchsorted(names, plane[inside])
    return numbered


def _groups(true: Array, found: Array) -> tuple[Array, Array]:
    """Return the group of each labelled and predicted object, by row."""
    met = overlaps(true, found)
    smaller = np.minimum(met.label_area_px[met.label], met.prediction_area_px[met.prediction])
    bound = 2 * met.pixels > smaller
    n_label, n_found = met.label_area_px.size - 1, met.prediction_area_px.size - 1
    size = n_label + n_found
    ends = met.label[bound] - 1, n_label + met.prediction[bound] - 1
    ones = np.ones(int(bound.sum()), dtype=np.int8)
    graph = sparse.csr_matrix((ones, ends), shape=(size, size))
    if not size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    group = csgraph.connected_components(graph, directed=False)[1].astype(np.int64)
    return group[:n_label], group[n_label:]


def _top(group: Array) -> int:
    return int(group.max()) if group.size else 0


def _kinds(n_label: Array, n_found: Array) -> Array:
    return np.select(
        [n_found == 0, n_label == 0, (n_label == 1) & (n_found == 1), n_found > n_label],
        [MISSED, INVENTED, _PAIR, SPLIT],
        MERGED,
    )


def _covered(
    measured: list[ParticleMeasurement], causes: tuple[Array, Array], area: list[Array]
) -> dict[str, float]:
    """Return what each cause adds to the covered area; `area` has the outside first."""
    change = dict.fromkeys((*PARTICLE_CAUSES, _PAIR), 0.0)
    for sign, cause, by_row in zip((-1, 1), causes, area, strict=True):
        for name in set(cause.tolist()):
            change[name] += sign * float(by_row[1:][cause == name].sum())
    # Objects that the ignored area hides for the greater part are in no table, but cover pixels.
    rest = [m.covered_area - float(a[1:].sum()) for m, a in zip(measured, area, strict=True)]
    change[WIDENED] += change.pop(_PAIR)
    change[BORDER] += rest[1] - rest[0]
    return change
