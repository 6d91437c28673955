"""Even out a micrograph: subtract background, normalise variance, turn the defect bright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import uniform_filter

from defectops.errors import MicrographRefused, SettingsRefused

if TYPE_CHECKING:
    from defectops.micrograph import Array

# Three box filters in a row have the variance of a Gaussian: 3 (w² - 1) / 12 = sigma².
_PASSES = 3


@dataclass(frozen=True)
class ConditioningOptions:
    """How strongly a micrograph is evened out.

    Parameters
    ----------
    background_sigma_px : float
        Width of the Gaussian that estimates the background, in pixels; well above the size of a
        defect. 0 subtracts only the mean of the picture.
    variance_sigma_px : float
        Width of the Gaussian window in which the standard deviation is taken, in pixels.
        0 divides by the standard deviation of the whole picture.
    clip_sd : float
        Values beyond so many standard deviations are cut off (hot pixels, holes in the foil).
    """

    background_sigma_px: float = 96.0
    variance_sigma_px: float = 192.0
    clip_sd: float = 6.0

    def __post_init__(self) -> None:
        for name in ("background_sigma_px", "variance_sigma_px"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise SettingsRefused(
                    f"prepare.{name}",
                    "E_CONFIG",
                    f"must be 0 to 10000 px, got {getattr(self, name)}",
                )
        if not self.clip_sd > 0:
            raise SettingsRefused(
                "prepare.clip_sd", "E_CONFIG", f"must be above 0, got {self.clip_sd}"
            )


def condition(
    pixels: Array, polarity: Literal["bright", "dark"], options: ConditioningOptions
) -> Array:
    """Return a conditioned plane in which the defect is bright.

    The estimates are local means: a pixel is influenced by the picture within about three
    widths of both windows, and never by a label. Only the least standard deviation that is
    divided by is taken from the whole picture; it acts where there is next to no contrast.

    Parameters
    ----------
    pixels : ndarray of real numbers, shape (H, W)
        Intensities as recorded; finite, within float32.
    polarity : {"bright", "dark"}
        How the defect shows as recorded; dark pictures are reversed.
    options : ConditioningOptions

    Returns
    -------
    ndarray of float32, shape (H, W)
        Mean near 0, standard deviation near 1, clipped at ``±options.clip_sd``.

    Raises
    ------
    MicrographRefused
        ``E_CONSTANT``: no variance to normalise, at all or within the windows;
        ``E_NONFINITE``; ``E_CHANNELS``: not one plane.

    Notes
    -----
    Background subtraction and full variance normalisation, as in Roberts et al. 2019
    (DOI 10.1038/s41598-019-49105-0), with local windows.
    """
    plane = _standardised(np.asarray(pixels, dtype=np.float64))
    flat = plane - _local_mean(plane, options.background_sigma_px)
    variance = _local_mean(flat * flat, options.variance_sigma_px)
    if not variance.mean() > 0:
        raise _constant(f"none within background_sigma_px = {options.background_sigma_px}")
    flat /= np.sqrt(np.maximum(variance, _least(variance)))
    if polarity == "dark":
        np.negative(flat, out=flat)
    limit = np.float32(options.clip_sd)
    clipped: Array = np.clip(flat, -limit, limit)
    return clipped


def _standardised(plane: Array) -> Array:
    """Return float32 of mean 0 and standard deviation 1.

    Taken in float64: in float32 a large offset would swallow the contrast.
    """
    if plane.ndim != 2:
        raise MicrographRefused(
            "micrograph", "E_CHANNELS", f"one plane (H, W) is needed, got shape {plane.shape}"
        )
    if not (np.abs(plane) <= np.finfo(np.float32).max).all():
        raise MicrographRefused(
            "micrograph", "E_NONFINITE", "some pixels are NaN, infinite or beyond float32"
        )
    if plane.min() == plane.max():
        raise _constant("all pixels are the same")
    standard: Array = ((plane - plane.mean()) / plane.std()).astype(np.float32)
    return standard


def _constant(why: str) -> MicrographRefused:
    return MicrographRefused(
        "micrograph",
        "E_CONSTANT",
        f"a constant picture has no contrast to normalise: {why}; check the file",
    )


def _least(variance: Array) -> np.float32:
    """Return a floor, so that a window without contrast (a hole) is not blown up to a defect.

    Set by the upper quartile: neither a large hole nor the steep rim of one moves it. The mean
    keeps it above rounding where most of a picture is empty.
    """
    return np.float32(max(0.05 * np.quantile(variance, 0.75), 1e-4 * variance.mean()))


def _local_mean(plane: Array, sigma_px: float) -> Array:
    if sigma_px == 0:
        return np.full_like(plane, plane.mean())
    # Odd, as an even box lies half a pixel aside: three of them would tilt what is subtracted.
    width = 2 * round((np.sqrt(12.0 * sigma_px**2 / _PASSES + 1.0) - 1) / 2) + 1
    mean = plane
    for _ in range(_PASSES):
        mean = uniform_filter(mean, size=width, mode="mirror")
    return mean
