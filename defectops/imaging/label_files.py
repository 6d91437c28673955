"""Writes label images with their scale: Fiji and napari measure in nm in them at once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration

_LARGEST_16_BIT = 65535
_LARGEST_CLASSIC = 3 * 2**30  # bytes before compression; beyond, offsets may need 64 bit


def label_tiff(labels: Array, calibration: Calibration) -> bytes:
    """Return a label image as a TIFF file in the form of ImageJ.

    Parameters
    ----------
    labels : ndarray of integers, shape (H, W)
        0 outside, else the number of the object.
    calibration : Calibration
        Without a pixel size the file says ``pixel``.

    Returns
    -------
    bytes
        One page, deflated; 16 bit, or above 65,535 objects 32-bit floats, which hold whole numbers
        up to 2**24: ImageJ knows no 32-bit integers. The resolution tags give pixels per nm; the
        description names the unit, as ImageJ does.
    """
    highest = int(labels.max(initial=0))
    kind: Any = np.uint16 if highest <= _LARGEST_16_BIT else np.float32
    plane = labels.astype(kind)
    scale: dict[str, Any] = {}
    if calibration.pixel_size_nm is not None:
        scale["resolution"] = (1 / calibration.pixel_size_nm,) * 2
        scale["resolutionunit"] = "NONE"
    unit = "nm" if calibration.calibrated else "pixel"
    stream = io.BytesIO()
    # Not with tifffile's own `imagej=True`, which cannot compress. ImageJ reads one deflated page,
    # but takes the differences of a predictor for labels.
    tifffile.imwrite(
        stream,
        plane,
        description=f"ImageJ=1.54f\nunit={unit}\nmin=0.0\nmax={max(highest, 1)}.0\n",
        compression="zlib",
        metadata=None,
        software=False,
        bigtiff=plane.nbytes > _LARGEST_CLASSIC,
        photometric="minisblack",
        **scale,
    )
    return stream.getvalue()
