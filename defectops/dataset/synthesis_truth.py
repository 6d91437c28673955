"""What is really in a synthetic micrograph: every object, and the quantities that follow.

A truth is a plain mapping that JSON can hold. Lengths are in nm from the upper left corner of the
micrograph: ``row`` down, ``column`` right, ``depth`` from the upper surface of the foil.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from defectops.dataset.synthesis_lines import length_inside_nm
from defectops.micrograph import Region

if TYPE_CHECKING:
    from defectops.dataset.synthesis_lines import Line
    from defectops.dataset.synthesis_particles import Particle

DEFINITIONS = {
    "dislocation_density": "length in the foil of the visible lines / volume, m^-2",
    "dislocation_density_all": "length in the foil of all lines, vanished ones too / volume, m^-2",
    "number_density": "centres inside the foil / volume, m^-3",
    "areal_density": "centres inside the foil / area, m^-2",
    "mean_diameter": "mean diameter of the particles with their centre inside the foil, nm",
    "sd_diameter": "sample standard deviation of the same diameters, nm",
}


def line_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return lines as plain rows; `id` is the number in the instance label."""
    return [
        {
            "id": number,
            "visible": line.visible,
            "contrast": round(line.contrast, 4),
            "image_shift_nm": [round(s, 3) for s in line.shift_nm],
            "path_nm": np.round(line.path_nm, 2).tolist(),
        }
        for number, line in enumerate(lines, 1)
    ]


def particle_rows(
    particles: Sequence[Particle], instances: npt.NDArray[np.uint16], thickness_nm: float
) -> list[dict[str, Any]]:
    """Return particles as plain rows; `id` is the number in the instance label.

    `visible` says whether any pixel of the particle is labelled: not so outside the field, as a
    tiny cap, or wholly behind another one.
    """
    shown = np.bincount(instances.ravel(), minlength=len(particles) + 1)
    return [
        {
            "id": number,
            "visible": bool(shown[number]),
            "row_nm": round(p.row_nm, 3),
            "column_nm": round(p.column_nm, 3),
            "depth_nm": round(p.depth_nm, 3),
            "centre_in_foil": 0.0 <= p.depth_nm < thickness_nm,
            "diameter_nm": round(p.diameter_nm, 3),
            "contrast": round(p.contrast, 4),
        }
        for number, p in enumerate(particles, 1)
    ]


def true_quantities(
    truth: Mapping[str, Any], defect: str, region: Region | None = None
) -> dict[str, float]:
    """Compute the quantities of one defect from the objects themselves.

    Parameters
    ----------
    truth : mapping
        Content of ``data/truth/<stem>.json``.
    defect : str
        A key of ``truth["objects"]``.
    region : Region, optional
        Rectangle in pixels; the whole micrograph if not given. A particle counts where its
        centre is, a line by the segments inside.

    Returns
    -------
    dict of str to float
        For lines ``dislocation_density`` (visible lines) and ``dislocation_density_all``, m^-2;
        for particles ``number_density`` (m^-3), ``areal_density`` (m^-2), ``mean_diameter`` and
        ``sd_diameter`` (nm). Without particles the densities are 0 and the diameters NaN.

    Raises
    ------
    KeyError
        The micrograph was not drawn with this defect.
    """
    low, high = _rectangle_nm(truth, region)
    area_m2 = (high[0] - low[0]) * (high[1] - low[1]) * 1e-18
    volume_m3 = area_m2 * truth["thickness_nm"] * 1e-9
    rows = truth["objects"][defect]
    if truth["shapes"][defect] == "line":
        return _line_quantities(rows, low, high, volume_m3)
    diameters = [r["diameter_nm"] for r in rows if r["centre_in_foil"] and _holds(r, low, high)]
    return {
        "number_density": len(diameters) / volume_m3,
        "areal_density": len(diameters) / area_m2,
        "mean_diameter": float(np.mean(diameters)) if diameters else math.nan,
        "sd_diameter": float(np.std(diameters, ddof=1)) if len(diameters) > 1 else math.nan,
    }


def _rectangle_nm(
    truth: Mapping[str, Any], region: Region | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    scale = truth["pixel_size_nm"]
    rows, columns = truth["shape_px"]
    region = region or Region(0, rows, 0, columns)
    return (
        (region.top * scale, region.left * scale),
        (region.bottom * scale, region.right * scale),
    )


def _holds(row: Mapping[str, Any], low: tuple[float, float], high: tuple[float, float]) -> bool:
    down, right = row["row_nm"], row["column_nm"]
    return bool(low[0] <= down < high[0] and low[1] <= right < high[1])


def _line_quantities(
    rows: Sequence[Mapping[str, Any]],
    low: tuple[float, float],
    high: tuple[float, float],
    volume_m3: float,
) -> dict[str, float]:
    lengths = [length_inside_nm(np.asarray(r["path_nm"]), low, high) for r in rows]
    seen = [length for length, r in zip(lengths, rows, strict=True) if r["visible"]]
    return {
        "dislocation_density": math.fsum(seen) * 1e-9 / volume_m3,
        "dislocation_density_all": math.fsum(lengths) * 1e-9 / volume_m3,
    }
