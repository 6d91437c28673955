"""Dislocations: curved lines in three dimensions, and how they show in a bright-field image.

One endless random walk whose direction has no preferred orientation is folded into the foil, cut
where it leaves through a surface, and its pieces are scattered over the field. So the lines are
uniform in depth and isotropic, as the (4/pi) of stereology assumes. Contrast oscillates with
depth and along the line; a line whose Burgers vector lies in the reflecting plane (g.b = 0) is
invisible (D. B. Williams and C. B. Carter, Transmission Electron Microscopy, 2009, chapter 27).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Plane = npt.NDArray[np.float64]
Path3 = npt.NDArray[np.float64]
Shape = tuple[int, int]

_STEP_NM = 1.5


@dataclass(frozen=True)
class LineOptions:
    """Dislocations in a foil.

    Parameters
    ----------
    density_m2 : float
        Length of the *visible* lines in the foil divided by its volume, m^-2.
    vanished_share : float
        Part of the whole length whose contrast vanishes (g.b = 0); drawn on top of `density_m2`.
    contrast : tuple of float
        Weakest and strongest logarithmic depth of a line; each line draws one, evenly.
    width_nm : float
        Full width at half depth of the dark image of a line.
    depth_period_nm : float
        Depth over which the contrast goes through one oscillation.
    oscillation : float
        Part of the contrast lost in the minima of that oscillation, 0 to 1.
    image_shift_nm : float
        The dark image lies this far beside the dislocation core, to the one or the other side.
    bundle_share : float
        Part of the lines that run beside another line.
    """

    density_m2: float
    vanished_share: float = 0.2
    contrast: tuple[float, float] = (0.28, 0.48)
    width_nm: float = 2.3
    depth_period_nm: float = 22.0
    oscillation: float = 0.5
    image_shift_nm: float = 0.5
    bundle_share: float = 0.3


@dataclass(frozen=True, eq=False)
class Line:
    """One dislocation.

    Parameters
    ----------
    path_nm : ndarray of float64, shape (K, 3)
        Core: distance below the upper edge, right of the left edge, and depth in the foil.
    contrast : float
        Logarithmic depth of its dark image; 0 if it vanishes.
    width : float
        Width of its image relative to `LineOptions.width_nm`.
    shift_nm : tuple of float
        Where the image lies relative to the core: down, right.
    """

    path_nm: Path3
    contrast: float
    width: float
    shift_nm: tuple[float, float]

    @property
    def visible(self) -> bool:
        """Whether a microscopist sees it."""
        return self.contrast > 0


def draw_lines(
    rng: np.random.Generator,
    shape: Shape,
    pixel_size_nm: float,
    thickness_nm: float,
    options: LineOptions,
) -> list[Line]:
    """Scatter dislocations until the density is reached; the last line is cut to fit.

    Returns
    -------
    list of Line
        Visible lines first. Paths may leave the field; only what is inside counts.
    """
    field_nm = (shape[0] * pixel_size_nm, shape[1] * pixel_size_nm)
    visible_nm = options.density_m2 * 1e-18 * field_nm[0] * field_nm[1] * thickness_nm
    vanished_nm = visible_nm * options.vanished_share / (1.0 - options.vanished_share)
    pieces = _pieces(rng, thickness_nm)
    lines: list[Line] = []
    for target_nm, seen in ((visible_nm, True), (vanished_nm, False)):
        for path in _scatter(rng, pieces, field_nm, target_nm, options.bundle_share):
            contrast = rng.uniform(*options.contrast) if seen else 0.0
            side = rng.choice((-1.0, 1.0)) * options.image_shift_nm
            angle = rng.uniform(0, np.pi)
            shift = (float(side * np.sin(angle)), float(side * np.cos(angle)))
            lines.append(Line(path, contrast, float(rng.choice((0.85, 1.0, 1.2))), shift))
    return lines


def line_image(
    rng: np.random.Generator,
    lines: Sequence[Line],
    shape: Shape,
    pixel_size_nm: float,
    options: LineOptions,
) -> Plane:
    """Return the lines' logarithmic contrast, shape (H, W); 0 where there are none."""
    out = np.zeros(shape)
    for width in sorted({line.width for line in lines}):
        deposit = np.zeros(shape[0] * shape[1])
        for line in lines:
            if line.width == width:
                _deposit(rng, deposit, line, (shape, pixel_size_nm), options)
        sigma = options.width_nm * width / pixel_size_nm / 2.355
        # A long line of unit weight per pixel comes out of the filter 1/(sqrt(2 pi) sigma) deep.
        height = np.sqrt(2 * np.pi) * sigma
        out -= height * ndimage.gaussian_filter(deposit.reshape(shape), sigma)
    return out


def line_labels(
    lines: Sequence[Line], shape: Shape, pixel_size_nm: float, width_px: float
) -> npt.NDArray[np.uint16]:
    """Mark the pixels whose centre is within half a label width of a visible line's image.

    Returns
    -------
    ndarray of uint16, shape (H, W)
        0, or 1 + index of the line; where lines cross, the later one.
    """
    out = np.zeros(shape, dtype=np.uint16)
    reach = int(np.ceil(width_px / 2))
    offsets = np.arange(-reach, reach + 1)
    down, right = (o.ravel() for o in np.meshgrid(offsets, offsets, indexing="ij"))
    for number, line in enumerate(lines, 1):
        if not line.visible:
            continue
        points = _image_points(line, pixel_size_nm, 0.2)[:, :2]
        rows = np.floor(points[:, :1]).astype(np.int64) + down
        columns = np.floor(points[:, 1:]).astype(np.int64) + right
        distance = np.hypot(rows + 0.5 - points[:, :1], columns + 0.5 - points[:, 1:])
        inside = (distance <= width_px / 2) & (rows >= 0) & (columns >= 0)
        inside &= (rows < shape[0]) & (columns < shape[1])
        out[rows[inside], columns[inside]] = number
    return out


def length_inside_nm(path_nm: Path3, low_nm: Sequence[float], high_nm: Sequence[float]) -> float:
    """Length of a path inside a rectangle; a segment counts where its middle lies."""
    return float(_segments_nm(path_nm)[_inside(path_nm, low_nm, high_nm)].sum())


def _segments_nm(path_nm: Path3) -> Plane:
    return np.asarray(np.sqrt((np.diff(path_nm, axis=0) ** 2).sum(axis=1)))


def _inside(
    path_nm: Path3, low_nm: Sequence[float], high_nm: Sequence[float]
) -> npt.NDArray[np.bool_]:
    middle = 0.5 * (path_nm[1:, :2] + path_nm[:-1, :2])
    return np.asarray(((middle >= low_nm) & (middle < high_nm)).all(axis=1))


def _pieces(rng: np.random.Generator, thickness_nm: float) -> Iterator[Path3]:
    """Yield lines centred on the origin of the plane, from one isotropic walk after another."""
    while True:
        path = np.cumsum(_directions(rng, 4000) * _STEP_NM, axis=0)
        depth = path[:, 2] + rng.uniform(0, 2 * thickness_nm)
        touches = np.flatnonzero(np.diff(np.floor(depth / thickness_nm)))
        # Folding is a mirror at both surfaces; it keeps depth and direction evenly spread. Half
        # of the touches end the line, at the others it bows back into the foil.
        path[:, 2] = thickness_nm - np.abs(np.mod(depth, 2 * thickness_nm) - thickness_nm)
        cuts = touches[rng.random(touches.size) < 0.5]
        for start, stop in pairwise(cuts):
            if stop - start > 8:
                piece = path[start + 1 : stop + 1].copy()
                piece[:, :2] -= piece[:, :2].mean(axis=0)
                yield piece


def _directions(rng: np.random.Generator, count: int) -> Path3:
    """Return unit vectors that wander with a long and a short memory, isotropic."""
    noise = rng.standard_normal((2, count, 3))
    drift = sum(
        weight * np.sqrt(sigma) * ndimage.gaussian_filter1d(part, sigma, axis=0)
        for part, sigma, weight in zip(noise, (28.0, 4.0), (1.0, 0.55), strict=True)
    )
    return np.asarray(drift / np.linalg.norm(drift, axis=1, keepdims=True))


def _scatter(
    rng: np.random.Generator,
    pieces: Iterator[Path3],
    field_nm: tuple[float, float],
    target_nm: float,
    bundle_share: float,
) -> Iterator[Path3]:
    """Yield placed lines that touch the field, until their length inside reaches the target."""
    size = np.asarray(field_nm)
    margin = np.minimum(size, 150.0)
    last: Path3 | None = None
    while target_nm > 0:
        piece = next(pieces)
        if last is not None and rng.random() < bundle_share:
            place = _beside(rng, piece, last)
        else:
            place = rng.uniform(-margin, size + margin)
        piece[:, :2] += place
        length = length_inside_nm(piece, (0.0, 0.0), field_nm)
        if length == 0:
            continue
        last = piece
        yield _cut(piece, field_nm, target_nm)
        target_nm -= length


def _beside(rng: np.random.Generator, piece: Path3, last: Path3) -> npt.NDArray[np.float64]:
    """Turn a piece to run along another one and return a place near it."""
    turn = _heading(last) - _heading(piece) + rng.normal(0, 0.25)
    cosine, sine = np.cos(turn), np.sin(turn)
    piece[:, :2] = piece[:, :2] @ np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(last[:, :2].mean(axis=0) + rng.normal(0, 22.0, 2))


def _heading(path_nm: Path3) -> float:
    way = path_nm[-1, :2] - path_nm[0, :2]
    return float(np.arctan2(way[1], way[0]))


def _cut(path_nm: Path3, field_nm: tuple[float, float], target_nm: float) -> Path3:
    """Shorten a path so that at most `target_nm` of it lies in the field."""
    inside = _inside(path_nm, (0.0, 0.0), field_nm)
    run = np.cumsum(_segments_nm(path_nm) * inside)
    keep = int(np.searchsorted(run, target_nm)) + 2
    return path_nm[:keep]


def _image_points(line: Line, pixel_size_nm: float, step_px: float) -> Path3:
    """Points (row, column in px, depth in nm) along a line's image, evenly spaced in projection."""
    flat = (line.path_nm[:, :2] + line.shift_nm) / pixel_size_nm
    run = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(flat, axis=0).T))])
    at = np.arange(0.0, run[-1] + step_px, step_px)
    columns = (flat[:, 0], flat[:, 1], line.path_nm[:, 2])
    return np.stack([np.interp(at, run, c) for c in columns], axis=1)


def _deposit(
    rng: np.random.Generator,
    onto: Plane,
    line: Line,
    grid: tuple[Shape, float],
    options: LineOptions,
) -> None:
    """Share the contrast of a line out to the four pixels around each of its points.

    `onto` is a flattened plane, `grid` its shape and pixel size in nm.
    """
    shape, pixel_size_nm = grid
    step_px = 0.5
    points = _image_points(line, pixel_size_nm, step_px)
    weight = step_px * line.contrast * _oscillation(rng, points[:, 2], options)
    row, column = points[:, 0] - 0.5, points[:, 1] - 0.5
    top, left = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
    down, right = row - top, column - left
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - i - down) * np.abs(1 - j - right) * weight
        r, c = top + i, left + j
        inside = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
        np.add.at(onto, r[inside] * shape[1] + c[inside], share[inside])


def _oscillation(rng: np.random.Generator, depth_nm: Plane, options: LineOptions) -> Plane:
    """Factor 0 to about 1.3 along a line: dark and faint stretches by depth and by chance."""
    phase = 2 * np.pi * (depth_nm / options.depth_period_nm + rng.random())
    by_depth = 1.0 - options.oscillation * 0.5 * (1.0 + np.cos(phase))
    noise = ndimage.gaussian_filter1d(rng.standard_normal(depth_nm.size), 40.0, mode="wrap")
    by_chance = 1.0 + 0.2 * noise * np.sqrt(2 * np.sqrt(np.pi) * 40.0)
    return np.asarray(np.clip(by_depth * by_chance, 0.0, None))
