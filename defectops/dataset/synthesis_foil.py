"""The crystal foil itself: thickness, bend contours and the blotches that are no defects.

The background follows the two-beam rocking curve (P. Hirsch et al., Electron Microscopy of Thin
Crystals, 1965): where the lattice planes turn through the Bragg position the transmitted beam is
weak, and the depth of that dark band oscillates with thickness. The convergent probe of
diffraction-contrast imaging STEM damps the oscillation.

All fields are logarithms of the transmitted intensity, so that what lies on top of each other in
the foil is added; 0 is a featureless foil, negative is dark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Plane = npt.NDArray[np.float64]
Shape = tuple[int, int]


@dataclass(frozen=True)
class PatchOptions:
    """Soft patches: dark smudges of surface contamination, or bright thin spots.

    Parameters
    ----------
    per_um2 : float
        Number per square micrometre of the field.
    size_nm : tuple of float
        Smallest and largest full width at half depth.
    strength : tuple of float
        Smallest and largest logarithmic contrast; negative is dark.
    aspect : tuple of float
        Smallest and largest ratio of breadth to length.
    tear : float
        How unevenly a patch is filled: relative standard deviation of its strength inside.
    aligned : bool
        All run along one direction, give or take 15 degrees, as laths and slip traces do.
    """

    per_um2: float
    size_nm: tuple[float, float]
    strength: tuple[float, float]
    aspect: tuple[float, float] = (0.6, 1.0)
    tear: float = 0.35
    aligned: bool = False


@dataclass(frozen=True)
class FoilOptions:
    """Thickness and background of a foil.

    Parameters
    ----------
    thickness_nm : float
        Mean thickness, as the manifest will state it.
    thickness_sd_nm : float
        Standard uncertainty of that figure, for the manifest.
    thickness_variation : float
        Relative standard deviation of the thickness over the field.
    extinction_nm : float
        Extinction distance of the reflection that is excited.
    bend : float
        How far the lattice turns over the field, in units of the reciprocal extinction
        distance; with 0 there are no bend contours.
    bend_scale_nm : float
        Distance over which the lattice turns.
    contour_depth : float
        Logarithmic depth of a bend contour's dark band.
    mottle : tuple of (scale down, scale right, strength)
        Irregular shading: correlation lengths in nm, standard deviation of the logarithm.
    patches : tuple of PatchOptions
    fringe_sets : int
        Patches of parallel fringes, as an inclined boundary shows.
    fringe_strength : float
        Logarithmic contrast of these fringes.
    """

    thickness_nm: float
    thickness_sd_nm: float
    thickness_variation: float = 0.06
    extinction_nm: float = 28.0
    bend: float = 3.0
    bend_scale_nm: float = 170.0
    contour_depth: float = 0.6
    mottle: tuple[tuple[float, float, float], ...] = ()
    patches: tuple[PatchOptions, ...] = ()
    fringe_sets: int = 0
    fringe_strength: float = 0.2


def background(
    rng: np.random.Generator, shape: Shape, pixel_size_nm: float, options: FoilOptions
) -> Plane:
    """Draw the foil without defects.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        (H, W) in pixels.
    pixel_size_nm : float
    options : FoilOptions

    Returns
    -------
    ndarray of float64, shape (H, W)
        Logarithm of the transmitted intensity.
    """
    scale = options.bend_scale_nm / pixel_size_nm
    thickness = options.thickness_nm * (
        1.0 + options.thickness_variation * smooth_field(rng, shape, (2 * scale, 2 * scale))
    )
    deviation = options.bend * smooth_field(rng, shape, (scale, scale))
    out = _rocking(thickness, deviation, options)
    for down_nm, right_nm, strength in options.mottle:
        scales = (down_nm / pixel_size_nm, right_nm / pixel_size_nm)
        out += strength * smooth_field(rng, shape, scales)
    for patch in options.patches:
        _add_patches(rng, out, pixel_size_nm, patch)
    for _ in range(options.fringe_sets):
        _add_fringes(rng, out, pixel_size_nm, options.fringe_strength)
    return out


def smooth_field(rng: np.random.Generator, shape: Shape, scales: tuple[float, float]) -> Plane:
    """Draw a stationary Gaussian random field with mean 0 and variance 1.

    White noise on a coarse grid, carried to the pixels by cubic B-splines; `scales` are the grid
    spacings in pixels. Sparse products, so that the result does not depend on a thread count.
    """
    down = _spline_basis(rng, shape[0], scales[0])
    right = _spline_basis(rng, shape[1], scales[1])
    coarse = rng.standard_normal((down.shape[1], right.shape[1]))
    # 151/315 is the mean square of the B-spline weights along one axis.
    field: Plane = (right @ (down @ coarse).T).T * (315.0 / 151.0)
    return field


def _spline_basis(rng: np.random.Generator, count: int, spacing: float) -> sparse.csr_array:
    """Weights (count, knots) of uniform cubic B-splines, the grid shifted at random."""
    position = (np.arange(count) + 0.5) / max(spacing, 1.0) + rng.random()
    knot = np.floor(position).astype(np.int64)
    f = position - knot
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1
    )
    columns = knot[:, None] + np.arange(4)
    rows = np.repeat(np.arange(count), 4)
    entries = (weights.ravel() / 6.0, (rows, columns.ravel()))
    return sparse.csr_array(entries, shape=(count, int(knot[-1]) + 4))


def _rocking(thickness: Plane, deviation: Plane, options: FoilOptions) -> Plane:
    """Logarithm of the bright-field intensity at a deviation from the Bragg position."""
    stretch = 1.0 + deviation**2
    phase = 2.0 * np.pi * thickness * np.sqrt(stretch) / options.extinction_nm
    damping = np.exp(-stretch * thickness / (3.0 * options.extinction_nm))
    return np.asarray(-options.contour_depth * (1.0 - damping * np.cos(phase)) / stretch)


def _add_patches(
    rng: np.random.Generator, out: Plane, pixel_size_nm: float, options: PatchOptions
) -> None:
    area_um2 = out.size * pixel_size_nm**2 * 1e-6
    main = rng.uniform(0, np.pi)
    for _ in range(rng.poisson(options.per_um2 * area_um2)):
        row, column = rng.random(2) * out.shape
        size = np.exp(rng.uniform(*np.log(options.size_nm))) / pixel_size_nm / 2.355
        strength, aspect = rng.uniform(*options.strength), rng.uniform(*options.aspect)
        angle = rng.normal(main, 0.26) if options.aligned else rng.uniform(0, np.pi)
        form = (size, aspect * size, angle)
        _add_patch(rng, out, (row, column), form, (strength, options.tear))


def _add_patch(
    rng: np.random.Generator,
    out: Plane,
    at: tuple[float, float],
    form: tuple[float, float, float],
    filling: tuple[float, float],
) -> None:
    """Add one Gaussian patch.

    `form` is its length, breadth (standard deviations in px) and direction; `filling` its
    strength and how unevenly it is filled.
    """
    length, breadth, angle = form
    strength, tear = filling
    window = _window(out.shape, at, 3.5 * length)
    if window is None:
        return
    x, y = _turned(window, at, angle)
    distance = (x / length) ** 2 + (y / breadth) ** 2
    uneven = 1.0 + tear * smooth_field(rng, x.shape, (0.9 * breadth, 0.9 * breadth))
    out[window] += strength * np.exp(-0.5 * distance) * np.clip(uneven, 0.0, None)


def _add_fringes(
    rng: np.random.Generator, out: Plane, pixel_size_nm: float, strength: float
) -> None:
    """Add parallel fringes under a soft envelope: contrast, but no defect that is labelled."""
    at = tuple(rng.random(2) * out.shape)
    length, breadth = rng.uniform(25, 60) / pixel_size_nm, rng.uniform(8, 16) / pixel_size_nm
    period = rng.uniform(5.0, 9.0) / pixel_size_nm
    window = _window(out.shape, (at[0], at[1]), 3.0 * length)
    if window is None:
        return
    x, y = _turned(window, (at[0], at[1]), rng.uniform(0, np.pi))
    lean = rng.uniform(-0.6, 0.6)
    envelope = np.exp(-0.5 * ((x / length) ** 2 + (y / breadth) ** 2))
    warp = 0.8 * smooth_field(rng, x.shape, (1.5 * length, 1.5 * length))
    wave = 0.5 * (np.cos(2 * np.pi * (x + lean * y) / period + warp) - 1.0)
    out[window] += strength * envelope * wave


def _window(
    shape: tuple[int, ...], at: tuple[float, float], reach: float
) -> tuple[slice, slice] | None:
    """Return the part of a plane within `reach` of a point, or None if there is none."""
    low = [max(int(np.floor(a - reach)), 0) for a in at]
    high = [min(int(np.ceil(a + reach)) + 1, n) for a, n in zip(at, shape, strict=True)]
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    return slice(low[0], high[0]), slice(low[1], high[1])


def _turned(
    window: tuple[slice, slice], at: tuple[float, float], angle: float
) -> tuple[Plane, Plane]:
    """Coordinates of a window's pixel centres relative to a point, turned by an angle."""
    rows = np.arange(window[0].start, window[0].stop)[:, None] + 0.5 - at[0]
    columns = np.arange(window[1].start, window[1].stop)[None, :] + 0.5 - at[1]
    cosine, sine = np.cos(angle), np.sin(angle)
    return columns * cosine + rows * sine, rows * cosine - columns * sine
