"""Does a micrograph look like those a model was trained on? A few numbers, their range, and words.

A network answers any picture with the same confidence. What it was never shown, another noise,
a blurred or reversed picture, another magnification, is recognised here from four numbers a
person can check by eye; the range of the training data travels with the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from defectops.micrograph import Array

# Large enough that a piece shows what a whole micrograph shows, small enough that a few training
# micrographs give a range.
_PIECE_PX = 512
_LEAST_PX = 64
# How far outside the range of the pieces of training something may lie: a quarter of the range,
# but at least 10 % (of asymmetry 0.05). On five public sets of micrographs, split at random, 1 to
# 13 % of the held-out images lie farther out.
_SHARE = 0.25
_LEAST_FACTOR = 1.1
_LEAST_STEP = 0.05
_SIZE_FACTOR = 1.25
_NOTHING = 1e-4  # below any camera's noise; keeps ratios finite
_IQR_OF_NORMAL = 1.349

_WORDS = {
    "noise": "noise of single pixels",
    "fine_structure": "structure of about 10 px",
    "coarse_structure": "structure of about 20 px",
    "asymmetry": "balance of bright and dark",
}


@dataclass(frozen=True)
class Appearance:
    """How a conditioned micrograph looks, in numbers without unit.

    Robust spreads are interquartile ranges divided by 1.349 (the standard deviation of a normal
    distribution), so that defects on less than a quarter of the pixels hardly move them. All are
    NaN where fewer than 64 x 64 pixels count.

    Parameters
    ----------
    noise : float
        Robust spread of a mask that planes and edges cancel in (Immerkaer 1996, DOI
        10.1006/cviu.1996.0060), relative to the local standard deviation: 1 for white noise.
        Falls with blur and enlargement, rises with noise.
    fine_structure, coarse_structure : float
        Robust spread of what lies between Gaussians of widths 2 and 4, and of 4 and 8 pixels.
        A change of magnification moves contrast from one to the other.
    asymmetry : float
        In [-1, 1]: how much farther the brightest 2 % lie from the median than the darkest, after
        averaging over about 2 pixels. Changes its sign when a picture is reversed.
    """

    noise: float
    fine_structure: float
    coarse_structure: float
    asymmetry: float


def appearance(conditioned: Array, ignore: Array | None = None) -> Appearance:
    """Return how a conditioned micrograph looks.

    Parameters
    ----------
    conditioned : ndarray of float32, shape (H, W)
        From `defectops.imaging.conditioning.condition`.
    ignore : ndarray of bool, shape (H, W), optional
        True where nothing counts.
    """
    counts = np.ones(conditioned.shape, bool) if ignore is None else ~ignore
    if counts.sum() < _LEAST_PX**2 or min(conditioned.shape) < 8:
        return Appearance(math.nan, math.nan, math.nan, math.nan)
    plane = conditioned.astype(np.float32, copy=False)
    fine, coarse = _binned(plane), _binned(_binned(plane))
    counts_fine = _binned(counts.astype(np.float32)) > 0.5
    counts_coarse = _binned(_binned(counts.astype(np.float32))) > 0.5
    smooth = gaussian_filter(fine, 1.0)
    return Appearance(
        _spread(_without_planes(plane)[counts[1:-1, 1:-1]]),
        _spread((smooth - gaussian_filter(fine, 2.0))[counts_fine]),
        _spread((gaussian_filter(coarse, 1.0) - gaussian_filter(coarse, 2.0))[counts_coarse]),
        _asymmetry(smooth[counts_fine]),
    )


def appearances(conditioned: Array, ignore: Array | None = None) -> list[Appearance]:
    """Return how the pieces of a training micrograph look, each of about 512 x 512 pixels.

    One micrograph is one number, and one number is no range; its pieces show how much the
    appearance varies. A picture smaller than two pieces is one piece.
    """
    rows, columns = (max(1, side // _PIECE_PX) for side in conditioned.shape)
    hidden = np.zeros(conditioned.shape, bool) if ignore is None else ignore
    return [
        appearance(piece, covered)
        for band, over in zip(
            np.array_split(conditioned, rows), np.array_split(hidden, rows), strict=True
        )
        for piece, covered in zip(
            np.array_split(band, columns, 1), np.array_split(over, columns, 1), strict=True
        )
    ]


def envelope_of(
    seen: Sequence[Appearance], pixel_sizes_nm: Sequence[float | None]
) -> dict[str, float | None]:
    """Return the range of what a model was trained on.

    Parameters
    ----------
    seen : sequence of Appearance
        Of all pieces of all training fields, see `appearances`.
    pixel_sizes_nm : sequence of float or None
        Of the training fields; None for an uncalibrated one.

    Returns
    -------
    dict
        ``<name>_low`` and ``<name>_high`` for each number of `Appearance`, rounded to six digits,
        and ``pixel_size_nm_low``, ``pixel_size_nm_high``. None where there is nothing to say: no
        piece is large enough, or a field is uncalibrated.
    """
    found: dict[str, float | None] = {}
    for name in _WORDS:
        values = [v for v in (getattr(a, name) for a in seen) if math.isfinite(v)]
        found[f"{name}_low"] = round(min(values), 6) if values else None
        found[f"{name}_high"] = round(max(values), 6) if values else None
    sizes = [s for s in pixel_sizes_nm if s is not None]
    complete = bool(sizes) and len(sizes) == len(pixel_sizes_nm)
    found["pixel_size_nm_low"] = min(sizes) if complete else None
    found["pixel_size_nm_high"] = max(sizes) if complete else None
    return found


def outside(
    envelope: Mapping[str, float | None], seen: Appearance, pixel_size_nm: float | None
) -> list[str]:
    """Say in what a micrograph differs from those a model was trained on.

    Parameters
    ----------
    envelope : mapping of str to float or None
        From `envelope_of`; what is missing or None is not judged.
    seen : Appearance
        Of the whole conditioned micrograph.
    pixel_size_nm : float or None
        None for an uncalibrated micrograph.

    Returns
    -------
    list of str
        One sentence for each number outside its allowed range; empty when all are inside.

    Notes
    -----
    Allowed are, for the pixel size, a factor 1.25 beyond the range of training either way; for
    noise and structure the range widened on a logarithmic scale by a quarter, at least by 10 %;
    for asymmetry the range widened by a quarter, at least by 0.05.
    """
    said = _about_size(envelope, pixel_size_nm)
    allowed = _allowed(envelope)
    if allowed and math.isnan(seen.noise):
        return [
            *said,
            f"too small to judge its appearance: {_LEAST_PX} x {_LEAST_PX} px are needed",
        ]
    for name, value in asdict(seen).items():
        low, high = allowed.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            said.append(f"{_WORDS[name]} ({name}) is {value:.3g}, allowed {low:.3g} to {high:.3g}")
    return said


def allowed_ranges(envelope: Mapping[str, float | None]) -> list[tuple[str, float, float]]:
    """Return what `outside` allows, each as words, least and most; empty if nothing is known."""
    sizes = _allowed_sizes_nm(envelope)
    ranges = [] if sizes is None else [("pixel size in nm", *sizes)]
    return ranges + [(_WORDS[name], *allowed) for name, allowed in _allowed(envelope).items()]


def _about_size(envelope: Mapping[str, float | None], size_nm: float | None) -> list[str]:
    sizes = _allowed_sizes_nm(envelope)
    if sizes is None:
        return []
    allowed = f"allowed {sizes[0]:.4g} to {sizes[1]:.4g} nm"
    if size_nm is None:
        return [f"pixel size is unknown, {allowed}"]
    inside = sizes[0] <= size_nm <= sizes[1]
    return [] if inside else [f"pixel size is {size_nm:.4g} nm, {allowed}"]


def _allowed_sizes_nm(envelope: Mapping[str, float | None]) -> tuple[float, float] | None:
    low, high = envelope.get("pixel_size_nm_low"), envelope.get("pixel_size_nm_high")
    return None if low is None or high is None else (low / _SIZE_FACTOR, high * _SIZE_FACTOR)


def _allowed(envelope: Mapping[str, float | None]) -> dict[str, tuple[float, float]]:
    """Return the allowed range of each number of an appearance that is known."""
    ranges = {}
    for name in _WORDS:
        low, high = envelope.get(f"{name}_low"), envelope.get(f"{name}_high")
        if low is not None and high is not None:
            ranges[name] = _widened(name, low, high)
    return ranges


def _widened(name: str, low: float, high: float) -> tuple[float, float]:
    """Return the range of training with its margin."""
    if name == "asymmetry":
        step = max(_SHARE * (high - low), _LEAST_STEP)
        return low - step, high + step
    low, high = max(low, _NOTHING), max(high, _NOTHING)
    factor = max((high / low) ** _SHARE, _LEAST_FACTOR)
    return low / factor, high * factor


def _binned(plane: Array) -> Array:
    """Return the means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (n // 2 * 2 for n in plane.shape)
    even = plane[:height, :width]
    mean: Array = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return mean


def _without_planes(plane: Array) -> Array:
    """Return second differences along both axes, scaled to keep the spread of white noise."""
    down = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    both: Array = (down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]) / 6
    return both


def _spread(values: Array) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / _IQR_OF_NORMAL


def _asymmetry(values: Array) -> float:
    low, middle, high = (float(q) for q in np.quantile(values, [0.02, 0.5, 0.98]))
    return (high + low - 2 * middle) / (high - low) if high > low else 0.0
