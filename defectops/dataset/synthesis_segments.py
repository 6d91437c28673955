"""Label masks of straight dislocations in a foil, scattered at random, whose density is known.

Where `synthesis_lines` draws curved lines until a density is reached, this scatters straight
segments by a Poisson process, so that both the material's density and what one field happened to
catch are known exactly: what bias and coverage of an estimator are judged by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from defectops.errors import SettingsRefused

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SegmentOptions:
    """Straight dislocations in a foil and how they are drawn.

    Parameters
    ----------
    density_m2 : float
        Line length per volume of the material, m^-2.
    thickness_nm : float
        Of the foil; segments are cut by its surfaces.
    length_nm : float
        Mean length of the segments before they are cut; evenly spread from half to one and a half.
    texture : float
        Part of the segments, 0 to 1, whose direction in the plane of the foil lies around
        `texture_deg` with a standard deviation of 15 degrees. All are isotropic against the foil's
        normal, so ``4/pi`` holds whatever the texture.
    texture_deg : float
        From the columns' axis towards the rows'.
    shape : tuple of int
        (H, W) in pixels.
    pixel_size_nm : float
    width_px : float
        Of the drawn lines.
    """

    density_m2: float
    thickness_nm: float = 136.0
    length_nm: float = 300.0
    texture: float = 0.0
    texture_deg: float = 0.0
    shape: tuple[int, int] = (512, 512)
    pixel_size_nm: float = 0.365
    width_px: float = 3.0

    def __post_init__(self) -> None:
        if not (self.density_m2 >= 0 and 0 <= self.texture <= 1):
            raise SettingsRefused(
                "segments",
                "E_CONFIG",
                "density_m2 must be zero or positive and texture between 0 and 1; got "
                f"{self.density_m2} and {self.texture}",
            )
        lengths = (self.thickness_nm, self.length_nm, self.pixel_size_nm, self.width_px)
        if not all(np.isfinite(v) and v > 0 for v in lengths):
            raise SettingsRefused(
                "segments",
                "E_CONFIG",
                "thickness_nm, length_nm, pixel_size_nm and width_px must be positive; got "
                + ", ".join(str(v) for v in lengths),
            )


@dataclass(frozen=True, eq=False)
class SegmentField:
    """One field of segments.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        Pixels whose centre is within half a line width of a segment's projection.
    start_nm, stop_nm : ndarray of float64, shape (N, 3)
        Row, column and depth of the ends of what lies inside foil and field.
    """

    mask: Mask
    start_nm: Points
    stop_nm: Points

    @property
    def projected_nm(self) -> Points:
        """Length of each segment in projection, inside the field, in nm."""
        along = (self.stop_nm - self.start_nm)[:, :2]
        return np.asarray(np.hypot(along[:, 0], along[:, 1]))

    @property
    def length_nm(self) -> Points:
        """Length of each segment in space, inside foil and field, in nm."""
        return np.asarray(np.linalg.norm(self.stop_nm - self.start_nm, axis=1))


def draw_segments(rng: np.random.Generator, options: SegmentOptions) -> SegmentField:
    """Scatter segments over a foil and draw their label.

    Parameters
    ----------
    rng : numpy.random.Generator
    options : SegmentOptions

    Returns
    -------
    SegmentField
        The expected length inside over the field's volume is exactly `density_m2`: middles are a
        Poisson process in a box that reaches beyond foil and field by half the longest segment.
    """
    extent = np.array([*(n * options.pixel_size_nm for n in options.shape), options.thickness_nm])
    reach = 0.75 * options.length_nm
    expected = options.density_m2 * 1e-18 / options.length_nm * np.prod(extent + 2 * reach)
    count = int(rng.poisson(expected))
    middle = rng.uniform(-reach, extent + reach, (count, 3))
    half = (
        rng.uniform(0.25, 0.75, (count, 1)) * options.length_nm * _directions(rng, count, options)
    )
    inside, start, stop = _clipped(middle - half, middle + half, extent)
    # Ends at the edge of the field are drawn as they go on outside, ends in the foil as they are.
    _, drawn_from, drawn_to = _clipped(
        (middle - half)[inside],
        (middle + half)[inside],
        np.array([np.inf, np.inf, options.thickness_nm]),
        np.array([-np.inf, -np.inf, 0.0]),
    )
    scale = options.pixel_size_nm
    mask = capsules(
        drawn_from[:, :2] / scale, drawn_to[:, :2] / scale, options.width_px, options.shape
    )
    return SegmentField(mask, start, stop)


def capsules(start_px: Points, stop_px: Points, width_px: float, shape: tuple[int, int]) -> Mask:
    """Mark the pixels whose centre is within half a width of a segment.

    Parameters
    ----------
    start_px, stop_px : ndarray of float64, shape (N, 2)
        (row, column) of the ends in px, 0 at the outer edge of the first pixel.
    width_px : float
    shape : tuple of int

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    reach = int(np.ceil(width_px / 2)) + 1
    low, high = np.full(2, -float(reach)), np.array(shape, dtype=np.float64) + reach
    inside, start, stop = _clipped(start_px, stop_px, high, low)
    begin, along = start_px[inside], (stop_px - start_px)[inside]
    length = np.hypot(*(stop - start).T)
    points = np.ceil(length).astype(np.int64) + 1
    owner = np.repeat(np.arange(points.size), points)
    place = np.arange(owner.size) - np.repeat(np.cumsum(points) - points, points)
    part = place / np.maximum(points - 1, 1)[owner]
    at = np.floor(start[owner] + part[:, None] * (stop - start)[owner]).astype(np.int64)
    mask = np.zeros(shape, dtype=bool)
    square = np.maximum((along**2).sum(axis=1), 1e-12)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            pixel = at + np.array([down, right])
            kept = ((pixel >= 0) & (pixel < shape)).all(axis=1)
            pixel, mine = pixel[kept], owner[kept]
            away = pixel + 0.5 - begin[mine]
            foot = np.clip((away * along[mine]).sum(axis=1) / square[mine], 0.0, 1.0)
            away -= foot[:, None] * along[mine]
            near = (away**2).sum(axis=1) <= (width_px / 2) ** 2
            mask[pixel[near, 0], pixel[near, 1]] = True
    return mask


def _directions(rng: np.random.Generator, count: int, options: SegmentOptions) -> Points:
    """Draw unit vectors (row, column, depth): isotropic in tilt, textured in the plane."""
    up = rng.uniform(-1.0, 1.0, count)
    angle = rng.uniform(0.0, 2 * np.pi, count)
    around = np.radians(options.texture_deg + 15.0 * rng.standard_normal(count))
    angle = np.where(rng.random(count) < options.texture, around, angle)
    flat = np.sqrt(1.0 - up**2)
    return np.column_stack([flat * np.sin(angle), flat * np.cos(angle), up])


def _clipped(
    start: Points, stop: Points, high: Points, low: Points | None = None
) -> tuple[Mask, Points, Points]:
    """Cut segments to a box; return which lie partly inside, and their ends there."""
    along = stop - start
    along = np.where(along == 0, 1e-12, along)
    first = ((0.0 if low is None else low) - start) / along
    second = (high - start) / along
    enters = np.clip(np.minimum(first, second).max(axis=1, initial=0.0), 0.0, 1.0)
    leaves = np.clip(np.maximum(first, second).min(axis=1, initial=1.0), 0.0, 1.0)
    inside = leaves > enters
    enters, leaves, along = enters[inside, None], leaves[inside, None], along[inside]
    return inside, start[inside] + enters * along, start[inside] + leaves * along
