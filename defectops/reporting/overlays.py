"""Found objects outlined on their micrograph, with a scale bar: a look at what was measured."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from defectops.reporting.maps import scale_bar

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration

MAX_SIDE_PX = 2048
_BAR_SHARE = 0.007
_OUTLINE = 255  # its place in the palette
_WHITE = 254


def overlay_png(pixels: Array, labels: Array, colour: str, calibration: Calibration) -> bytes:
    """Return a PNG of a micrograph with the outline of each labelled object.

    Parameters
    ----------
    pixels : ndarray of real numbers, shape (H, W)
        As recorded; black and white are its 0.5 and 99.5 percentiles.
    labels : ndarray of integers, shape (H, W)
        0 outside, else the number of the object.
    colour : str
        Of the outlines, ``#rrggbb``.
    calibration : Calibration
        Of the scale bar; pixels where there is no pixel size.

    Returns
    -------
    bytes
        At most 2048 pixels along each side: larger micrographs are reduced by a whole factor.
    """
    factor = -(-max(pixels.shape) // MAX_SIDE_PX)
    grey = _grey(_reduced(pixels, factor))
    small = labels[factor // 2 :: factor, factor // 2 :: factor]
    small = small[: grey.shape[0], : grey.shape[1]]
    image = Image.fromarray(grey)
    _draw_bar(image, calibration, factor)
    # A palette of greys and one colour: a third of the bytes of a coloured picture of noise.
    shades = np.minimum(np.asarray(image), _OUTLINE - 1)
    picture = np.where(find_boundaries(small, mode="thick"), np.uint8(_OUTLINE), shades)
    drawn = Image.fromarray(picture)
    drawn.putpalette([*(v for v in range(_OUTLINE) for _ in "rgb"), *_rgb(colour)])
    stream = io.BytesIO()
    drawn.save(stream, "PNG")
    return stream.getvalue()


def _reduced(pixels: Array, factor: int) -> Array:
    """Return the mean of blocks of `factor` x `factor` pixels; an incomplete rim is left out."""
    if factor == 1:
        return pixels.astype(np.float32)
    rows, columns = (side // factor for side in pixels.shape)
    total = np.zeros((rows, columns), np.float32)
    for down in range(factor):
        for right in range(factor):
            total += pixels[down : rows * factor : factor, right : columns * factor : factor]
    return total / np.float32(factor**2)


def _grey(plane: Array) -> Array:
    low, high = np.percentile(plane, (0.5, 99.5))
    scaled = (plane - low) / max(float(high - low), 1e-30)
    return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _draw_bar(image: Image.Image, calibration: Calibration, factor: int) -> None:
    size = calibration.pixel_size_nm
    bar = scale_bar(image.width, None if size is None else size * factor)
    text = bar.text if size is not None or factor == 1 else f"{bar.length_px * factor:g} px"
    thick = max(3, round(_BAR_SHARE * image.height))
    font = ImageFont.load_default(size=max(12, 3 * thick))
    left, bottom = round(0.03 * image.width), round(0.96 * image.height)
    draw = ImageDraw.Draw(image)
    box = (left, bottom - thick, left + round(bar.length_px), bottom)
    draw.rectangle(box, fill=_WHITE, outline=0)
    where = (left, bottom - thick - 2)
    draw.text(where, text, _WHITE, font, "ls", stroke_width=1, stroke_fill=0)
