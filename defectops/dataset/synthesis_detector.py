"""The recording: a probe of finite width scans row by row and counts electrons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Plane = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectorOptions:
    """Probe, dose and scan.

    Parameters
    ----------
    probe_nm : float
        Full width at half height of the probe.
    counts : float
        Electrons counted per pixel where the transmitted intensity is 1.
    row_gain : float
        Relative standard deviation of the gain from row to row.
    row_jitter_px : float
        Standard deviation of a row's sideways displacement.
    """

    probe_nm: float = 0.5
    counts: float = 60.0
    row_gain: float = 0.012
    row_jitter_px: float = 0.2


def record(
    rng: np.random.Generator, log_intensity: Plane, pixel_size_nm: float, options: DetectorOptions
) -> npt.NDArray[np.uint8]:
    """Record a picture of 8-bit grey values whose darkest and brightest half per cent saturate.

    Parameters
    ----------
    rng : numpy.random.Generator
    log_intensity : ndarray of float64, shape (H, W)
        Logarithm of the transmitted intensity.
    pixel_size_nm : float
    options : DetectorOptions

    Returns
    -------
    ndarray of uint8, shape (H, W)
    """
    rows = log_intensity.shape[0]
    sigma = options.probe_nm / pixel_size_nm / 2.355
    expected = ndimage.gaussian_filter(np.exp(log_intensity), sigma)
    slope = ndimage.correlate1d(expected, [-0.5, 0.0, 0.5], axis=1)
    expected += rng.normal(0, options.row_jitter_px, (rows, 1)) * slope
    expected *= np.exp(rng.normal(0, options.row_gain, (rows, 1)))
    # Rounded, so that the last bit of an exponential cannot change a random count.
    counted = rng.poisson(np.round(np.clip(options.counts * expected, 0.0, None), 4))
    low, high = np.percentile(counted, (0.5, 99.5))
    grey = 8.0 + (counted - low) * (239.0 / max(high - low, 1.0))
    return np.asarray(np.clip(np.rint(grey), 0, 255), dtype=np.uint8)
