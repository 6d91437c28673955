"""Micrographs drawn from known defects, with instance labels and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.dataset.synthesis_detector import DetectorOptions, record
from defectops.dataset.synthesis_foil import FoilOptions, PatchOptions, background
from defectops.dataset.synthesis_lines import LineOptions, draw_lines, line_image, line_labels
from defectops.dataset.synthesis_particles import (
    ParticleOptions,
    draw_particles,
    particle_image,
    particle_labels,
)
from defectops.dataset.synthesis_truth import (
    DEFINITIONS,
    line_rows,
    particle_rows,
    true_quantities,
)
from defectops.micrograph import Calibration, Micrograph

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.uint16]

PIXEL_SIZE_NM = 0.365
LINES = "dislocations"


@dataclass(frozen=True)
class SynthesisOptions:
    """Everything that decides a synthetic micrograph, except the seed.

    Parameters
    ----------
    name : str
        Stem of the file names.
    foil : FoilOptions
    lines : LineOptions or None
    lines_labelled : bool
        False for residual dislocations that disturb a picture of something else.
    particles : tuple of ParticleOptions
        All of them are labelled.
    detector : DetectorOptions
    shape : tuple of int
        (H, W) in pixels.
    pixel_size_nm : float
    line_width_px : float
        Width of the line labels.
    specimen, condition : str
        For the manifest.
    """

    name: str
    foil: FoilOptions
    lines: LineOptions | None = None
    lines_labelled: bool = True
    particles: tuple[ParticleOptions, ...] = ()
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    shape: tuple[int, int] = (2048, 2048)
    pixel_size_nm: float = PIXEL_SIZE_NM
    line_width_px: float = 3
    specimen: str = "synthetic"
    condition: str = ""


@dataclass(frozen=True, eq=False)
class SyntheticMicrograph:
    """A drawn micrograph and all that is known about it.

    Parameters
    ----------
    micrograph : Micrograph
        8-bit pixels of shape (H, W).
    labels : dict of str to ndarray of bool, shape (H, W)
        By defect: what a careful microscopist would mark.
    instances : dict of str to ndarray of uint16, shape (H, W)
        By defect: 0, or the `id` of the object in the truth.
    truth : dict
        Plain values for JSON; see `synthesis_truth`.
    """

    micrograph: Micrograph
    labels: dict[str, Mask]
    instances: dict[str, Numbers]
    truth: dict[str, Any]


def draw(options: SynthesisOptions, seed: int) -> SyntheticMicrograph:
    """Draw one micrograph; the same options and seed give the same bytes.

    Foil, lines, each kind of particle and the detector have random streams of their own, so a
    change of one leaves the others where they were.
    """
    scale, shape = options.pixel_size_nm, options.shape
    thickness_nm = options.foil.thickness_nm
    streams = np.random.default_rng(seed).spawn(3 + len(options.particles))
    log_intensity = background(streams[0], shape, scale, options.foil)
    instances: dict[str, Numbers] = {}
    objects: dict[str, list[dict[str, Any]]] = {}
    if options.lines is not None:
        lines = draw_lines(streams[1], shape, scale, thickness_nm, options.lines)
        log_intensity += line_image(streams[1], lines, shape, scale, options.lines)
        objects[LINES] = line_rows(lines)
        if options.lines_labelled:
            instances[LINES] = line_labels(lines, shape, scale, options.line_width_px)
    for stream, kind in zip(streams[3:], options.particles, strict=True):
        bodies = draw_particles(stream, shape, scale, thickness_nm, kind)
        log_intensity += particle_image(bodies, shape, scale, thickness_nm, kind)
        instances[kind.defect] = particle_labels(bodies, shape, scale, thickness_nm)
        objects[kind.defect] = particle_rows(bodies, instances[kind.defect], thickness_nm)
    pixels = record(streams[2], log_intensity, scale, options.detector)
    calibration = Calibration(
        scale, "synthesis", options.foil.thickness_nm, options.foil.thickness_sd_nm
    )
    return SyntheticMicrograph(
        micrograph=Micrograph(options.name, pixels, calibration),
        labels={key: numbers > 0 for key, numbers in instances.items()},
        instances=instances,
        truth=_truth(options, seed, objects),
    )


def _truth(
    options: SynthesisOptions, seed: int, objects: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    truth: dict[str, Any] = {
        "name": options.name,
        "synthetic": True,
        "seed": seed,
        "shape_px": list(options.shape),
        "pixel_size_nm": options.pixel_size_nm,
        "thickness_nm": options.foil.thickness_nm,
        "line_width_px": options.line_width_px,
        "definitions": DEFINITIONS,
        "shapes": {key: "line" if key == LINES else "particle" for key in objects},
        "objects": objects,
    }
    truth["quantities"] = {key: true_quantities(truth, key) for key in objects}
    return truth


def paper(line_width_px: float = 3) -> tuple[SynthesisOptions, ...]:
    """Return the four micrographs of the DefectSegNet paper, as far as it states them.

    Densities, diameters and their spreads are those of its Tables 2 and 3
    (doi:10.1038/s41598-019-49105-0); foils and pixel size follow from the counts behind them.
    """
    return (
        _dislocations("ht9_dislocations_1", 8.91e14, line_width_px),
        _dislocations("ht9_dislocations_2", 9.19e14, line_width_px),
        _irradiated(
            "ht9_irradiated_1",
            136.3,
            _precipitates(6.56e21, 10.17, 5.12),
            _voids(5.25e20, 22.64, 8.50),
        ),
        _irradiated(
            "ht9_irradiated_2",
            159.1,
            _precipitates(8.42e21, 10.83, 4.51),
            _voids(1.04e21, 20.26, 6.76),
        ),
    )


def small(
    shape: tuple[int, int] = (256, 320), line_width_px: float = 3
) -> tuple[SynthesisOptions, ...]:
    """Return the micrographs of `paper`, cut to a size that is drawn in a blink."""
    return tuple(replace(options, shape=shape) for options in paper(line_width_px))


def _dislocations(name: str, density_m2: float, line_width_px: float) -> SynthesisOptions:
    foil = FoilOptions(
        thickness_nm=45.0,
        thickness_sd_nm=4.5,
        bend=2.2,
        bend_scale_nm=150.0,
        contour_depth=0.35,
        mottle=((55.0, 55.0, 0.05), (14.0, 14.0, 0.035), (5.0, 5.0, 0.025)),
        patches=(
            PatchOptions(100.0, (8.0, 30.0), (-0.45, -0.10)),
            PatchOptions(600.0, (2.5, 5.0), (-0.50, -0.12)),
            # Small loops seen edge-on: as dark and as wide as a dislocation, but short.
            PatchOptions(2300.0, (4.0, 10.0), (-0.55, -0.20), (0.25, 0.6)),
            PatchOptions(25.0, (10.0, 35.0), (0.05, 0.15)),
        ),
        fringe_sets=8,
        fringe_strength=0.35,
    )
    return SynthesisOptions(
        name=name,
        foil=foil,
        lines=LineOptions(density_m2),
        detector=DetectorOptions(counts=80.0),
        line_width_px=line_width_px,
        specimen="synthetic HT-9, pristine",
        condition="pristine",
    )


def _irradiated(
    name: str, thickness_nm: float, precipitates: ParticleOptions, voids: ParticleOptions
) -> SynthesisOptions:
    foil = FoilOptions(
        thickness_nm=thickness_nm,
        thickness_sd_nm=round(0.1 * thickness_nm, 1),
        bend=3.0,
        bend_scale_nm=120.0,
        contour_depth=0.5,
        mottle=((16.0, 60.0, 0.12), (9.0, 9.0, 0.07), (3.5, 3.5, 0.04)),
        patches=(
            PatchOptions(600.0, (9.0, 30.0), (-0.60, -0.15), tear=0.2),
            PatchOptions(1000.0, (1.5, 3.2), (-0.45, -0.12)),
            PatchOptions(100.0, (20.0, 60.0), (0.15, 0.42), tear=0.1),
            # Lath boundaries: as bright as a void and as sharp, but long.
            PatchOptions(45.0, (40.0, 110.0), (0.25, 0.60), (0.07, 0.20), 0.1, aligned=True),
        ),
        fringe_sets=4,
    )
    return SynthesisOptions(
        name=name,
        foil=foil,
        lines=LineOptions(1.2e14, contrast=(0.08, 0.25)),
        lines_labelled=False,
        particles=(precipitates, voids),
        specimen="synthetic HT-9, irradiated at 412 C",
        condition="irradiated",
    )


def _precipitates(density_m3: float, mean_nm: float, sd_nm: float) -> ParticleOptions:
    return ParticleOptions(
        "precipitates", density_m3, mean_nm, sd_nm, contrast=(-0.50, -0.19), flatness=0.7
    )


def _voids(density_m3: float, mean_nm: float, sd_nm: float) -> ParticleOptions:
    return ParticleOptions(
        "voids", density_m3, mean_nm, sd_nm, contrast=(0.50, 0.92), flatness=0.75, roughness=0.04
    )
