"""Quantities of one or several fields together, whichever kind of defect they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from defectops.errors import CalibrationRefused, LabelRefused
from defectops.measurement.line_fields import LineMeasurement
from defectops.measurement.line_quantities import line_quantities
from defectops.measurement.particle_quantities import (
    ParticleMeasurement,
    particle_quantities,
)

if TYPE_CHECKING:
    from defectops.measurement.quantities import Quantity

Measurement = ParticleMeasurement | LineMeasurement


def pool(measurements: Sequence[Measurement]) -> list[Quantity]:
    """Draw quantities from one or several fields together.

    Counts, lengths, areas and volumes add; diameters are taken from all particles as one sample.

    Parameters
    ----------
    measurements : sequence of ParticleMeasurement or of LineMeasurement
        Of one kind, all calibrated or all not, with the same options.

    Returns
    -------
    list of Quantity
        With the interval ``material``. Particles: ``areal_density, number_density, mean_diameter,
        sd_diameter, area_fraction``, and unless the option ``detail`` is ``main``
        ``median_diameter, diameter_p10, diameter_p90, lognormal_median_diameter, lognormal_sigma,
        lognormal_p_value, mean_feret_max, mean_feret_min, mean_circularity,
        nearest_neighbour_distance, clark_evans_ratio, volume_fraction, obstacle_spacing,
        neighbour_spacing``, for masks ``areal_density_by_notches``. Lines:
        ``projected_line_density,
        projected_line_density_grid, dislocation_density_skeleton, dislocation_density_grid,
        grid_skeleton_ratio, anisotropy_index, segment_density, mean_segment_length,
        line_end_density, junction_density``.
        Volume densities are absent where `why_no_volume` gives a reason. Nothing there: densities
        are 0 with an upper bound, diameters NaN.

    Raises
    ------
    LabelRefused
        No measurement, lines among particles, or different options.
    CalibrationRefused
        Calibrated among uncalibrated fields.
    """
    if not measurements:
        raise LabelRefused("measurement", "E_EMPTY", "nothing to pool: give at least one field")
    first = measurements[0]
    if len({m.calibration.calibrated for m in measurements}) > 1:
        raise CalibrationRefused(
            "measurement",
            "E_PX_MISSING",
            "some fields have a pixel size and some have none: pool them separately",
        )
    if any(m.options != first.options for m in measurements):
        raise LabelRefused(
            "measurement", "E_CONFIG", "fields measured with different options cannot be pooled"
        )
    particles = [m for m in measurements if isinstance(m, ParticleMeasurement)]
    lines = [m for m in measurements if isinstance(m, LineMeasurement)]
    if particles and lines:
        raise LabelRefused("measurement", "E_LABEL", "lines and particles cannot be pooled")
    return particle_quantities(particles) if particles else line_quantities(lines)
