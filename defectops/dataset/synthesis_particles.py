"""Precipitates and voids: nearly round bodies in the foil, cut where they meet a surface.

A precipitate is dark, a void is bright because it is missing material; in projection both follow
the length of the beam's way through the body. Where a void lies over a precipitate the two
contrasts cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Plane = npt.NDArray[np.float64]
Shape = tuple[int, int]

# A microscopist does not draw a speck of fewer pixels than this.
_SMALLEST_PX = 12


@dataclass(frozen=True)
class ParticleOptions:
    """One kind of particle.

    Parameters
    ----------
    defect : str
        Key of the defect type, for example ``voids``.
    density_m3 : float
        Number of centres in the foil divided by its volume, m^-3.
    diameter_nm, diameter_sd_nm : float
        Mean and standard deviation of the diameters; they are log-normal.
    contrast : tuple of float
        Weakest and strongest logarithmic contrast in the middle of a particle of mean size;
        negative is dark.
    flatness : float
        0: contrast follows the thickness of the sphere; 1: it is the same all over the disc.
    roughness : float
        Relative deviation of the outline from a circle.
    """

    defect: str
    density_m3: float
    diameter_nm: float
    diameter_sd_nm: float
    contrast: tuple[float, float]
    flatness: float = 0.5
    roughness: float = 0.03


@dataclass(frozen=True)
class Particle:
    """One sphere-like body.

    Parameters
    ----------
    row_nm, column_nm, depth_nm : float
        Its centre: below the upper edge, right of the left edge, depth in the foil. The centre
        may lie above or below the foil when only a cap is inside.
    diameter_nm : float
        Of the circle with the area of its outline.
    contrast : float
        Logarithmic, in its middle; negative is dark.
    harmonics : tuple of (amplitude, phase)
        Outline: deviation from a circle with 2, 3, 4 ... waves.
    """

    row_nm: float
    column_nm: float
    depth_nm: float
    diameter_nm: float
    contrast: float
    harmonics: tuple[tuple[float, float], ...]


def draw_particles(
    rng: np.random.Generator,
    shape: Shape,
    pixel_size_nm: float,
    thickness_nm: float,
    options: ParticleOptions,
) -> list[Particle]:
    """Scatter particles that do not touch each other in three dimensions.

    The space that is filled reaches beyond field and foil, so that borders and surfaces cut
    particles as they cut the material.
    """
    margin_nm = options.diameter_nm + 2 * options.diameter_sd_nm
    low = np.array([-margin_nm, -margin_nm, -margin_nm / 2])
    size = np.array([shape[0] * pixel_size_nm, shape[1] * pixel_size_nm, thickness_nm]) - 2 * low
    inside = options.density_m3 * 1e-27 * float(np.prod(size + 2 * low))
    beyond = rng.poisson(options.density_m3 * 1e-27 * float(np.prod(size)) - inside)
    field = np.array([[0.0, 0.0, 0.0], size + 2 * low])
    centres, diameters = _pack(rng, options, field, (low, size), (round(inside), int(beyond)))
    return [_particle(rng, c, d, options) for c, d in zip(centres, diameters, strict=True)]


def particle_image(
    particles: Sequence[Particle],
    shape: Shape,
    pixel_size_nm: float,
    thickness_nm: float,
    options: ParticleOptions,
) -> Plane:
    """Return the particles' logarithmic contrast, shape (H, W); 0 where there are none."""
    out = np.zeros(shape)
    for particle in particles:
        seen = _outline(particle, shape, pixel_size_nm, thickness_nm)
        if seen is None:
            continue
        window, inner, way_nm = seen
        # One pixel of transition at the outline: the share of the pixel that is covered.
        cover = np.clip(inner * particle.diameter_nm / 2 / pixel_size_nm + 0.5, 0.0, 1.0)
        dome = way_nm / options.diameter_nm
        profile = options.flatness * (way_nm > 0) + (1 - options.flatness) * dome
        out[window] += particle.contrast * cover * profile
    return out


def particle_labels(
    particles: Sequence[Particle], shape: Shape, pixel_size_nm: float, thickness_nm: float
) -> npt.NDArray[np.uint16]:
    """Mark the pixels whose centre lies in a particle's outline.

    Returns
    -------
    ndarray of uint16, shape (H, W)
        0, or 1 + index of the particle; where outlines overlap the one nearer to the upper
        surface of the foil. A particle that shows fewer than 12 pixels is not drawn.
    """
    out = np.zeros(shape, dtype=np.uint16)
    order = sorted(range(len(particles)), key=lambda i: -particles[i].depth_nm)
    for i in order:
        seen = _outline(particles[i], shape, pixel_size_nm, thickness_nm)
        if seen is None:
            continue
        window, inner, way_nm = seen
        disc = (inner >= 0) & (way_nm > 0)
        if np.count_nonzero(disc) >= _SMALLEST_PX:
            out[window][disc] = i + 1
    return out


def _pack(
    rng: np.random.Generator,
    options: ParticleOptions,
    field: Plane,
    box: tuple[Plane, Plane],
    counts: tuple[int, int],
) -> tuple[Plane, Plane]:
    """Place so many centres inside the field and so many around it, none touching another."""
    low, size = box
    wanted = [_diameters(rng, n, options) for n in counts]
    centres = np.zeros((sum(counts), 3))
    diameters = np.concatenate(wanted)
    placed = 0
    attempts = 0
    while placed < centres.shape[0]:
        inside = placed < counts[0]
        attempts += 1
        at = rng.uniform(field[0], field[1]) if inside else rng.uniform(low, low + size)
        if not inside and bool(((at >= field[0]) & (at < field[1])).all()):
            continue
        gap = np.linalg.norm(centres[:placed] - at, axis=1)
        reach = 0.5 * (diameters[:placed] + diameters[placed])
        if bool((gap >= reach).all()) or attempts > 200 * centres.shape[0]:
            centres[placed] = at
            placed += 1
    return centres, diameters


def _diameters(rng: np.random.Generator, count: int, options: ParticleOptions) -> Plane:
    """Log-normal diameters, one from each of `count` equally likely classes, in random order.

    Drawn in classes, a hundred voids already have the mean and spread that was asked for.
    """
    variance = np.log1p((options.diameter_sd_nm / options.diameter_nm) ** 2)
    chance = (np.arange(count) + rng.random(count)) / max(count, 1)
    normal = special.ndtri(np.clip(chance, 1e-4, 1 - 1e-4))
    drawn = np.exp(np.log(options.diameter_nm) - variance / 2 + np.sqrt(variance) * normal)
    return np.asarray(rng.permutation(drawn))


def _particle(
    rng: np.random.Generator, centre: Plane, diameter_nm: float, options: ParticleOptions
) -> Particle:
    waves = [
        (float(options.roughness * rng.rayleigh(0.8) / n), float(rng.uniform(0, 2 * np.pi)))
        for n in (1, 1, 2, 3)
    ]
    row, column, depth = (float(v) for v in centre)
    contrast = float(rng.uniform(*options.contrast))
    return Particle(row, column, depth, float(diameter_nm), contrast, tuple(waves))


def _outline(
    particle: Particle, shape: Shape, pixel_size_nm: float, thickness_nm: float
) -> tuple[tuple[slice, slice], Plane, Plane] | None:
    """Where a particle shows.

    Returns
    -------
    window : tuple of slice
    inner : ndarray
        Distance inside the outline as a part of the radius; negative outside.
    way_nm : ndarray
        Length of the beam's way through the part of the body inside the foil.
    """
    radius = particle.diameter_nm / 2
    at = (particle.row_nm / pixel_size_nm, particle.column_nm / pixel_size_nm)
    reach = 1.3 * radius / pixel_size_nm + 2
    low = [max(int(a - reach), 0) for a in at]
    high = [min(int(a + reach) + 1, n) for a, n in zip(at, shape, strict=True)]
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    down = (np.arange(low[0], high[0])[:, None] + 0.5 - at[0]) * pixel_size_nm / radius
    right = (np.arange(low[1], high[1])[None, :] + 0.5 - at[1]) * pixel_size_nm / radius
    inner = _edge(np.arctan2(down, right), particle.harmonics) - np.hypot(down, right)
    half = radius * np.sqrt(np.clip(2 * inner - inner**2, 0.0, 1.0))
    top = np.maximum(particle.depth_nm - half, 0.0)
    bottom = np.minimum(particle.depth_nm + half, thickness_nm)
    way = np.clip(bottom - top, 0.0, None)
    return (slice(low[0], high[0]), slice(low[1], high[1])), inner, way


def _edge(angle: Plane, harmonics: tuple[tuple[float, float], ...]) -> Plane:
    """Radius of the outline by direction, relative to that of a circle of the same area."""
    edge = np.ones_like(angle)
    for waves, (amplitude, phase) in enumerate(harmonics, 2):
        edge += amplitude * np.cos(waves * angle + phase)
    power = 1.0 + 0.5 * sum(amplitude**2 for amplitude, _ in harmonics)
    return np.asarray(edge / np.sqrt(power))
