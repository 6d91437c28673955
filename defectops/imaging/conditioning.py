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
    widths of the window, and never by a label.

    Parameters
    ----------
    pixels : ndarray of real numbers, shape (H, W)
        Intensities as recorded; finite.
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
        Constant picture: it has no variance to normalise.

    Notes
    -----
    Background subtraction and full variance normalisation, as in Roberts et al. 2019
    (DOI 10.1038/s41598-019-49105-0), with local windows.
    """
    plane = np.asarray(pixels, dtype=np.float32)
    scale = float(plane.std())
    if not scale > 0:
        raise MicrographRefused(
            "micrograph",
            "E_CONSTANT",
            "a constant picture has no contrast to normalise; check the file",
        )
    plane = (plane - plane.mean()) / np.float32(scale)
    flat = plane - _local_mean(plane, options.background_sigma_px)
    variance = _local_mean(flat * flat, options.variance_sigma_px)
    # A window without any contrast (a hole) must not blow its noise up to a defect.
    floor = np.float32(0.05) * variance.mean()
    flat /= np.sqrt(np.maximum(variance, floor))
    if polarity == "dark":
        np.negative(flat, out=flat)
    limit = np.float32(options.clip_sd)
    clipped: Array = np.clip(flat, -limit, limit)
    return clipped


def _local_mean(plane: Array, sigma_px: float) -> Array:
    if sigma_px == 0:
        return np.full_like(plane, plane.mean())
    width = max(1, round(np.sqrt(12.0 * sigma_px**2 / _PASSES + 1.0)))
    mean = plane
    for _ in range(_PASSES):
        mean = uniform_filter(mean, size=width, mode="mirror")
    return mean
