"""Which pixel belongs to which measured object: the map behind a table of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skimage.segmentation import watershed

from defectops.measurement.line_crossings import join_paths
from defectops.measurement.line_widths import line_widths
from defectops.measurement.lines import steps, trace
from defectops.measurement.objects import as_instances, centre_lines, clean_lines
from defectops.measurement.particle_quantities import ParticleMeasurement
from defectops.measurement.quantities import counted_pixels

if TYPE_CHECKING:
    from defectops.measurement.pooling import Measurement

Array = npt.NDArray[Any]


def label_map(mask: Array, measured: Measurement, ignore: Array | None = None) -> Array:
    """Return the number of the object at each pixel, as in the table of a measurement.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        What was measured.
    measured : Measurement
        What `observe_particles` or `observe_lines` made of it, with its options.
    ignore : ndarray of bool, shape (H, W), optional
        The same as there.

    Returns
    -------
    ndarray of int32, shape (H, W)
        0 outside and on objects that the table does not have. Particles: the column ``label``.
        Lines: the column ``line``; a pixel of the mask goes to the nearest centre line.
    """
    if isinstance(measured, ParticleMeasurement):
        instances = as_instances(mask, measured.options.objects)
        return _only(instances, measured.objects["label"].to_numpy())
    return _lines(mask, measured, ignore)


def _only(instances: Array, kept: Array) -> Array:
    known = np.zeros(int(instances.max(initial=0)) + 1, dtype=np.int32)
    known[kept] = kept
    return np.asarray(known[instances])


def _lines(mask: Array, measured: Measurement, ignore: Array | None) -> Array:
    options = measured.options.objects
    clean = clean_lines(mask, options)
    lines = trace(centre_lines(clean, options))
    joined = join_paths(lines, *line_widths(lines, clean))
    valid = counted_pixels(clean.shape, ignore)
    cut = steps(lines, joined, None if ignore is None else ~valid)
    length = np.bincount(cut.line, weights=cut.length_px, minlength=joined.n_lines)
    markers = np.zeros(clean.shape, dtype=np.int32)
    markers.ravel()[lines.pixels[lines.node]] = joined.line[lines.path] + 1
    # Grown inside the mask only, so that a speck without a centre line belongs to none.
    whole = watershed(np.zeros(clean.shape, np.uint8), markers, mask=clean, connectivity=2)
    # As in `line_table`: lines without counted length have no row and no number.
    number = np.concatenate([[0], np.where(length > 0, np.cumsum(length > 0), 0)])
    return np.asarray(number.astype(np.int32)[whole])
