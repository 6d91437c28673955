"""Which field to label next: what it would take off the interval, and the minutes it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage, stats

from defectops.errors import LabelRefused
from defectops.measurement.lines import trace
from defectops.measurement.objects import ObjectOptions, label_particles, thin_lines
from defectops.measurement.panel import average_times, reference
from defectops.measurement.uncertainty import LEVEL

Array = npt.NDArray[Any]

# An object that the model gives one chance in ten is a candidate.
_LEAST_CHANCE = 0.1
# Half of a model's error in a window is taken as shared by windows that look alike, the other half
# as its own; windows that are the same in every feature share all of it.
_SHARED = 0.5
_TWIN_SCALE = 0.05
_MOST_WINDOWS = 8000

# The published fields: 1024 x 1024 px at 0.365 nm, line labels of 0.03 nm per nm^2.
_FIELD_PX = 1024.0**2
_LINE_PX = 0.03 * 0.365 * _FIELD_PX
_PARTICLE_FIELDS = ("precipitates_1", "precipitates_2", "voids_1", "voids_2")
_LINE_FIELDS = ("dislocations_1", "dislocations_2")


@dataclass(frozen=True)
class LabellingRates:
    """How long people take.

    Parameters
    ----------
    search_min_per_px : float
        Minutes to look through a field, per pixel.
    particle_min, line_min_per_px : float
        Minutes more for each particle, and for each pixel of line.
    """

    search_min_per_px: float
    particle_min: float
    line_min_per_px: float

    def minutes(self, area_px: Array, amount: Array, shape: Literal["line", "particle"]) -> Array:
        """Return minutes for fields of an area that hold so many particles, or px of line."""
        each = self.particle_min if shape == "particle" else self.line_min_per_px
        return np.asarray(area_px * self.search_min_per_px + amount * each)


def published_rates() -> LabellingRates:
    """Fit rates to the experts' mean times of the paper's Table 4.

    A straight line through the four particle fields (time against true count) gives the search, at
    zero particles, and the time of a particle; what dislocation fields took beyond the search is
    put on their line.

    Notes
    -----
    The published times are of counting and sizing by hand, not of painting masks, and of one
    group of people: only their proportions matter here. Roberts, G. et al., Sci. Rep. 9, 12744
    (2019), doi:10.1038/s41598-019-49105-0.
    """
    times = average_times(reference("table4_time"))
    counts = reference("derived_counts").loc["ground_truth"]
    n = counts[list(_PARTICLE_FIELDS)].to_numpy(dtype=np.float64)
    spent = times[list(_PARTICLE_FIELDS)].to_numpy(dtype=np.float64)
    each, search = np.polyfit(n, spent, 1)
    lines = float(times[list(_LINE_FIELDS)].mean()) - float(search)
    return LabellingRates(float(search) / _FIELD_PX, float(each), lines / _LINE_PX)


def candidates(
    probability: Array,
    threshold: float,
    shape: Literal["line", "particle"],
    options: ObjectOptions | None = None,
) -> pd.DataFrame:
    """List what a model may have seen, each with the chance that it is there.

    Parameters
    ----------
    probability : ndarray of float, shape (H, W)
        As the network gives it.
    threshold : float
        The model's operating point: a pixel there is as likely defect as not.
    shape : {"line", "particle"}
    options : ObjectOptions, optional

    Returns
    -------
    DataFrame
        One row a particle or a path of centre line between ends and junctions: ``row, column``
        (middle), ``amount`` (1, or its length in px: what it adds to the reported number),
        ``chance``. Particles: the highest chance of 3 x 3 pixels in it; lines: the mean along the
        path. Empty if no pixel has one chance in ten.
    """
    chance = relative_chance(probability, threshold)
    mask = chance >= _LEAST_CHANCE
    if shape == "line":
        return _line_candidates(chance, mask, options)
    return _particle_candidates(chance, mask, options)


def relative_chance(probability: Array, threshold: float) -> Array:
    """Shift probabilities on the logit scale so that the threshold becomes one half.

    A network trained with a weight on defect pixels overstates them; its threshold makes up for it.
    """
    tiny = 1e-6
    p = np.clip(np.asarray(probability, dtype=np.float64), tiny, 1 - tiny)
    t = min(max(threshold, tiny), 1 - tiny)
    odds = p / (1 - p) * (1 - t) / t
    return np.asarray(odds / (1 + odds))


def window_features(probability: Array, intensity: Array, threshold: float) -> Array:
    """Return what tells windows apart, shape (6,).

    Mean and spread of the conditioned intensity, its mean gradient, mean chance, share of uncertain
    pixels (chance between 0.1 and 0.9), mean gradient of the chance.
    """
    chance = relative_chance(probability, threshold)
    unsure = (chance > _LEAST_CHANCE) & (chance < 1 - _LEAST_CHANCE)
    return np.array(
        [
            intensity.mean(),
            intensity.std(),
            _gradient(intensity),
            chance.mean(),
            unsure.mean(),
            _gradient(chance),
        ]
    )


def window_edges(extent_px: int, window_px: int) -> Array:
    """Cut one side of a picture into pieces of about a length; 0 leaves it whole."""
    pieces = max(1, round(extent_px / window_px)) if window_px else 1
    return np.asarray(np.linspace(0, extent_px, pieces + 1).round().astype(np.int64))


def window_sums(found: pd.DataFrame, row_edges: Array, column_edges: Array) -> pd.DataFrame:
    """Add up the candidates of each window of one picture, row by row.

    Returns
    -------
    DataFrame
        ``top, bottom, left, right, expected`` (sum of chance times amount), ``model_variance``
        (sum of amount^2 chance (1 - chance)), ``counting_variance`` (sum of amount^2 chance: the
        material's own scatter, which labelling does not take away).
    """
    rows, columns = row_edges.size - 1, column_edges.size - 1
    at = np.clip(np.searchsorted(row_edges, found["row"], side="right") - 1, 0, rows - 1)
    at = at * columns + np.clip(
        np.searchsorted(column_edges, found["column"], side="right") - 1, 0, columns - 1
    )
    amount, chance = found["amount"].to_numpy(), found["chance"].to_numpy()
    sums = {
        "expected": amount * chance,
        "model_variance": amount**2 * chance * (1 - chance),
        "counting_variance": amount**2 * chance,
    }
    top, left = np.divmod(np.arange(rows * columns), columns)
    table = {
        "top": row_edges[top],
        "bottom": row_edges[top + 1],
        "left": column_edges[left],
        "right": column_edges[left + 1],
    }
    table |= {k: np.bincount(at, weights=v, minlength=rows * columns) for k, v in sums.items()}
    return pd.DataFrame(table)


def choose_windows(
    windows: pd.DataFrame, features: Array, top: int, level: float = LEVEL
) -> pd.DataFrame:
    """Choose windows one after the other, each by what it takes off the interval per minute.

    The total over all windows has the variance ``sum counting + 1' K 1``. K is the covariance of
    the model's errors: ``K_ij = sqrt(v_i v_j) k(f_i, f_j)`` with the windows' model variances v and
    a kernel k of their features that is 1 for equal ones. A labelled window's error is known, which
    takes ``(K 1)_i^2 / K_ii`` off, and what it says about windows like it is known too: K is
    replaced by its covariance given window i. So a copy of a chosen window is worth nothing more.

    Parameters
    ----------
    windows : DataFrame
        ``expected, model_variance, counting_variance, minutes``, one row a window.
    features : ndarray of float, shape (len(windows), F)
    top : int
        How many to choose, at least 1.
    level : float
        Of the interval.

    Returns
    -------
    DataFrame
        Rows of `windows` in the order of choice, with ``rank``, ``reduction_percent`` (of the half
        width, in percent of the expected total), ``percent_per_minute`` and
        ``half_width_percent`` afterwards. NaN percent if nothing is expected anywhere. Equal gains
        go to the earlier window.

    Raises
    ------
    LabelRefused
        No window, too many of them, or `top` below 1.

    Notes
    -----
    Greedy choice of Gaussian observations: Krause, A., Singh, A. and Guestrin, C., J. Mach. Learn.
    Res. 9, 235 (2008) (no DOI). What the model itself learns from a new label is not foreseen.
    """
    n = len(windows)
    if not 0 < n <= _MOST_WINDOWS or top < 1:
        raise LabelRefused(
            "windows",
            "E_EMPTY" if not n else "E_CONFIG",
            f"{n} fields to choose {top} from; 1 to {_MOST_WINDOWS} that the model was not trained "
            "on are needed, and a choice of at least one: give other pictures or larger fields",
        )
    spread = np.sqrt(windows["model_variance"].to_numpy(dtype=np.float64))
    known = spread[:, None] * _alike(features) * spread[None, :]
    counting = float(windows["counting_variance"].sum())
    minutes = windows["minutes"].to_numpy(dtype=np.float64)
    percent = 100 * float(stats.norm.ppf((1 + level) / 2)) / (windows["expected"].sum() or np.nan)
    floor = 1e-12 * max(float(spread.max()) ** 2, 1e-300)
    free = np.ones(n, dtype=bool)
    rows = []
    for rank in range(1, min(top, n) + 1):
        own = np.diag(known)
        variance = counting + max(float(known.sum()), 0.0)
        taken = np.where(own > floor, known.sum(axis=1) ** 2 / np.maximum(own, floor), 0.0)
        after = np.sqrt(np.maximum(variance - taken, counting))
        gain = np.sqrt(variance) - after
        # Rounded, so that windows which differ in the last bit only are chosen in their order.
        worth = np.where(free, np.round(gain / minutes, 12), -np.inf)
        best = int(np.argmax(worth))
        rows.append((rank, best, percent * gain[best], percent * after[best]))
        free[best] = False
        if own[best] > floor:
            known = known - np.outer(known[best], known[best]) / own[best]
    table = windows.iloc[[row[1] for row in rows]].reset_index(drop=True)
    reduction = np.array([row[2] for row in rows])
    return table.assign(
        rank=[row[0] for row in rows],
        reduction_percent=reduction,
        percent_per_minute=reduction / table["minutes"].to_numpy(dtype=np.float64),
        half_width_percent=[row[3] for row in rows],
    )


def half_width_percent(windows: pd.DataFrame, features: Array, level: float = LEVEL) -> float:
    """Return the half width of the interval before anything is labelled, in percent."""
    spread = np.sqrt(windows["model_variance"].to_numpy(dtype=np.float64))
    model = float(spread @ _alike(features) @ spread)
    z = float(stats.norm.ppf((1 + level) / 2))
    total = float(windows["expected"].sum()) or float("nan")
    return 100 * z * float(np.sqrt(windows["counting_variance"].sum() + model)) / total


def _alike(features: Array) -> Array:
    """Correlation of the model's errors in windows with these features."""
    spread = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    square = (scaled**2).sum(axis=1)
    apart = np.maximum(square[:, None] + square[None, :] - 2 * scaled @ scaled.T, 0.0)
    apart /= features.shape[1]
    np.fill_diagonal(apart, 0.0)
    return np.asarray(
        _SHARED * np.exp(-apart / 2) + (1 - _SHARED) * np.exp(-apart / (2 * _TWIN_SCALE**2))
    )


def _gradient(plane: Array) -> float:
    down, right = np.gradient(np.asarray(plane, dtype=np.float64))
    return float(np.hypot(down, right).mean())


def _particle_candidates(chance: Array, mask: Array, options: ObjectOptions | None) -> pd.DataFrame:
    instances = label_particles(mask, options)
    names = np.arange(1, int(instances.max(initial=0)) + 1)
    if not names.size:
        return _table(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    middle = np.array(ndimage.center_of_mass(instances > 0, instances, names))
    # Over 3 x 3, so that one hot pixel makes no object.
    best = ndimage.maximum(ndimage.uniform_filter(chance, 3), instances, names)
    return _table(middle, np.ones(names.size), np.asarray(best, dtype=np.float64))


def _line_candidates(chance: Array, mask: Array, options: ObjectOptions | None) -> pd.DataFrame:
    lines = trace(thin_lines(mask, options))
    n = np.maximum(np.bincount(lines.path, minlength=lines.n_paths), 1)
    along = chance.ravel()[lines.pixels[lines.node]]
    middle = np.column_stack(
        [
            np.bincount(lines.path, weights=lines.point[:, axis], minlength=lines.n_paths) / n
            for axis in (0, 1)
        ]
    )
    mean = np.bincount(lines.path, weights=along, minlength=lines.n_paths) / n
    return _table(middle, lines.path_length_px, mean)


def _table(middle: Array, amount: Array, chance: Array) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": middle[:, 0],
            "column": middle[:, 1],
            "amount": amount,
            "chance": np.clip(chance, 0.0, 1.0),
        }
    )
