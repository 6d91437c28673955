"""The check-me list as pictures and one offline page: what to look at first, and what it moves."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.segmentation import find_boundaries

from defectops.reporting.html import filled
from defectops.reporting.maps import scale_bar
from defectops.reporting.numbers import UNDEFINED, Scale, number, percent, plural, signed_percent

if TYPE_CHECKING:
    from defectops.micrograph import Array

Box = tuple[int, int, int, int]

# A pane of a crop: drawn at twice its size and reduced, so that outlines have no steps.
_PANE_PX = 480
_OVER = 2
_GAP_PX = 8
_LEAST_SIDE_PX = 128
_AROUND = 1.4
_MARGIN_PX = 64
_MARK = (255, 190, 0)
_CORNER = 0.25

_KINDS = {
    "missed": "Possibly missed",
    "invented": "Possibly nothing",
    "merged": "Possibly two in one",
    "split": "Possibly one in pieces",
    "widened": "Outline uncertain",
    "covered": "Contrast may cancel",
}


@dataclass(frozen=True, eq=False)
class Crop:
    """A square around one doubt, and what else is doubted in it.

    Parameters
    ----------
    pixels : ndarray, shape (h, w)
        As recorded.
    outlines : sequence of (ndarray of bool, str)
        Masks of the same shape and the colours of their outlines.
    boxes : sequence of (int, int, int, int)
        Top, bottom, left, right of each doubt in the crop, half-open; the gravest first.
    pixel_size_nm : float or None
        None makes a scale bar in pixels.
    """

    pixels: Array
    outlines: Sequence[tuple[Array, str]]
    boxes: Sequence[Box]
    pixel_size_nm: float | None


@dataclass(frozen=True)
class Card:
    """One doubt on the page.

    Parameters
    ----------
    rank : int
    image, defect : str
    title, place, effect : str
        What it may be, where it is, what would change.
    chance : str
        In percent.
    more : str
        Which others stand in the same picture; empty for none.
    picture : bytes
        PNG.
    """

    rank: int
    image: str
    defect: str
    title: str
    place: str
    effect: str
    chance: str
    more: str
    picture: bytes

    @property
    def uri(self) -> str:
        """The picture as an address that needs no file; as JPEG, since noise makes PNG large."""
        stream = io.BytesIO()
        with Image.open(io.BytesIO(self.picture)) as picture:
            picture.save(stream, "JPEG", quality=88, subsampling=0)
        return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def window(box: Box, shape: tuple[int, int]) -> Box:
    """Return the square to show around a box, moved into the picture.

    At least 128 px and the box with 64 px around it; as large as the picture allows.

    >>> window((100, 110, 5, 25), (1024, 1024))
    (41, 169, 0, 128)
    """
    wanted = max(box[1] - box[0], box[3] - box[2]) * _AROUND + _MARGIN_PX
    side = min(max(round(wanted), _LEAST_SIDE_PX), *shape)
    top = min(max((box[0] + box[1] - side) // 2, 0), shape[0] - side)
    left = min(max((box[2] + box[3] - side) // 2, 0), shape[1] - side)
    return top, top + side, left, left + side


def crop_png(crop: Crop) -> bytes:
    """Draw a crop twice, as recorded and with outlines, beside each other.

    Returns
    -------
    bytes
        A PNG of 968 x 480 pixels; the doubts stand between yellow corners in both.
    """
    plain = _grey(crop)
    marked = plain.copy()
    for mask, colour in crop.outlines:
        _outline(marked, mask, colour)
    panes = [_marked(Image.fromarray(pane), crop) for pane in (plain, marked)]
    side = (_PANE_PX, _PANE_PX)
    sheet = Image.new("RGB", (2 * _PANE_PX + _GAP_PX, _PANE_PX), "white")
    for i, pane in enumerate(panes):
        sheet.paste(pane.resize(side, Image.Resampling.LANCZOS), (i * (_PANE_PX + _GAP_PX), 0))
    _bar(sheet, crop)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def card(rows: Sequence[Mapping[str, Any]], picture: bytes) -> Card:
    """Return what the page says of rows of ``check.csv`` that share a picture."""
    row, *others = rows
    title = _KINDS[row["kind"]]
    if row["over"]:
        title += f": over {row['over']}" if row["objects"] < 0 else f": hidden by {row['over']}?"
    return Card(
        rank=int(row["rank"]),
        image=str(row["image"]),
        defect=str(row["defect"]),
        title=title,
        place=f"rows {row['top_px']} to {row['bottom_px']}, "
        f"columns {row['left_px']} to {row['right_px']} px",
        effect=_effect(row),
        chance=f"{percent(float(row['chance']), 0)} %",
        more=_more([str(other["rank"]) for other in others]),
        picture=picture,
    )


def check_page(
    cards: Sequence[Card], n_doubts: int, n_images: int, colours: Mapping[str, str]
) -> str:
    """Return the page, nothing loaded from elsewhere.

    Parameters
    ----------
    cards : sequence of Card
        In the order of rank.
    n_doubts, n_images : int
        How many there are in all, on how many images.
    colours : mapping of str to str
        Of the outlines, by defect type.
    """
    return filled(
        "check.html.j2",
        cards=cards,
        doubts=plural(n_doubts, "doubt"),
        images=plural(n_images, "micrograph"),
        colours=colours,
    )


def _more(ranks: Sequence[str]) -> str:
    if not ranks:
        return ""
    return f"also in this picture: number{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"


def _effect(row: Mapping[str, Any]) -> str:
    """Say what would change, the largest change first."""
    parts = []
    length_nm, length_px = row.get("length_nm"), row.get("length_px") or 0.0
    if row["objects"]:
        parts.append(f"{_signed(row['objects'], 3)} in the count")
    elif length_nm:
        parts.append(f"{_signed(length_nm, 3)} nm of line")
    elif length_px:
        parts.append(f"{_signed(length_px, 3)} px of line")
    for name, value in (("density", "density_percent"), ("mean diameter", "diameter_percent")):
        text = signed_percent(float(row[value]) / 100)
        if text not in (UNDEFINED, "0.0"):
            parts.append(f"{name} {text} %")
    return ", ".join(parts) or "changes less than 0.1 %"


def _signed(value: float, digits: int) -> str:
    text = number(abs(value), Scale(0, 0 if float(value).is_integer() else digits - 1))
    return f"{'+' if value > 0 else '−'}{text}"


def _grey(crop: Crop) -> Array:
    # By its own grey levels: what is unsure is often where the micrograph is dark.
    low, high = (float(v) for v in np.percentile(crop.pixels, (0.5, 99.5)))
    plane = (crop.pixels.astype(np.float64) - low) / max(high - low, 1e-30)
    small = Image.fromarray((np.clip(plane, 0, 1) * 255).astype(np.uint8))
    large = small.resize((_OVER * _PANE_PX,) * 2, Image.Resampling.BICUBIC)
    return np.array(large.convert("RGB"))


def _outline(picture: Array, mask: Array, colour: str) -> None:
    """Draw the outline of a mask, rounded between its pixels."""
    small = Image.fromarray(mask.astype(np.uint8) * 255)
    large = np.array(small.resize((_OVER * _PANE_PX,) * 2, Image.Resampling.BICUBIC)) > 127
    line = ndimage.maximum_filter(find_boundaries(large, mode="thick"), 2 * _OVER - 1)
    picture[line] = tuple(bytes.fromhex(colour.removeprefix("#")))


def _marked(pane: Image.Image, crop: Crop) -> Image.Image:
    """Put corners around the doubts, wide ones around the first."""
    scale = _OVER * _PANE_PX / crop.pixels.shape[0]
    draw = ImageDraw.Draw(pane)
    for box, width in zip(crop.boxes[::-1], [2] * (len(crop.boxes) - 1) + [4], strict=True):
        for corner in _corners(box, scale):
            draw.line(corner, "black", (width + 2) * _OVER)
            draw.line(corner, _MARK, width * _OVER)
    return pane


def _corners(box: Box, scale: float) -> list[list[tuple[int, int]]]:
    """Return the four corners of a box as lines, a little outside of it but inside the pane."""
    room = 4 * _OVER
    low, high = room, _OVER * _PANE_PX - room
    top, left = (max(round(edge * scale) - room, low) for edge in (box[0], box[2]))
    bottom, right = (min(round(edge * scale) + room, high) for edge in (box[1], box[3]))
    arm = round(max(_CORNER * min(bottom - top, right - left), 5 * _OVER))
    return [
        [(column + over * arm, row), (column, row), (column, row + down * arm)]
        for row, down in ((top, 1), (bottom, -1))
        for column, over in ((left, 1), (right, -1))
    ]


def _bar(sheet: Image.Image, crop: Crop) -> None:
    side = crop.pixels.shape[0]
    bar = scale_bar(side, crop.pixel_size_nm)
    left, bottom, thick = 14, _PANE_PX - 14, 6
    draw = ImageDraw.Draw(sheet)
    length = round(bar.length_px * _PANE_PX / side)
    draw.rectangle((left, bottom - thick, left + length, bottom), fill="white", outline="black")
    font = ImageFont.load_default(size=20)
    where = (left, bottom - thick - 4)
    draw.text(where, bar.text, "white", font, "ls", stroke_width=2, stroke_fill="black")
