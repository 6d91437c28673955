"""Labels as other tools write them: numbered or coloured masks, YOLO polygons, COCO.

Everything is decoded to one boolean plane a defect type. What a format says but these planes
cannot hold is refused, never dropped: a colour that nobody named, a box instead of an outline.
Corners of polygons are pixel centres, (0, 0) the centre of the first pixel, as in scikit-image,
OpenCV and Pillow; overlapping polygons merge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.draw import polygon

from defectops.errors import LabelRefused

if TYPE_CHECKING:
    from defectops.micrograph import Array

Colour = tuple[int, int, int]
Outline = list[tuple[float, float]]
"""Corners (x, y) in pixels."""

BACKGROUND = "background"
"""Reserved name: its numbers and colours mean that there is no defect."""

_MAX_BYTES = 500_000_000


def by_index(name: str, values: Array, indices: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Decode a mask in which each type has a number.

    Parameters
    ----------
    name : str
        Named in errors.
    values : ndarray of integers, shape (H, W)
    indices : mapping of str to sequence of int
        Type to its numbers. 0 is background unless it is a type's; `BACKGROUND` may have more.

    Returns
    -------
    dict of str to ndarray of bool, shape (H, W)

    Raises
    ------
    LabelRefused
        ``E_LABEL_CHANNELS`` for a coloured mask, ``E_LABEL_VALUES`` for a number without a type.
    """
    if values.ndim != 2:
        raise LabelRefused(
            name,
            "E_LABEL_CHANNELS",
            f"{values.shape[-1]} channels; an indexed label has one; for colours say "
            "--label-colour TYPE=R,G,B",
        )
    known = {i for numbers in indices.values() for i in numbers} | {0}
    found = np.unique(values)
    strange = [v for v in found.tolist() if v not in known]
    if strange:
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"{len(strange)} label value(s) without a type, the first {strange[0]}; name them by "
            f"--label-index TYPE=NUMBER, also {BACKGROUND}=NUMBER",
        )
    return {t: np.isin(values, numbers) for t, numbers in indices.items() if t != BACKGROUND}


def by_colour(
    name: str, pixels: Array, colours: Mapping[str, Sequence[Colour]]
) -> dict[str, Array]:
    """Decode a mask in which each type has a colour, matched exactly.

    Grey pixels (equal channels) are background, because such masks are often drawn over the
    micrograph; unless a type is grey itself: then only black is. Transparent pixels are
    background. Any other colour must be named.

    Parameters
    ----------
    name : str
        Named in errors.
    pixels : ndarray of uint8, shape (H, W, 3) or (H, W, 4)
        RGB, or RGB and alpha.
    colours : mapping of str to sequence of (r, g, b)
        Type to its colours; `BACKGROUND` may have some.

    Returns
    -------
    dict of str to ndarray of bool, shape (H, W)

    Raises
    ------
    LabelRefused
        ``E_LABEL_CHANNELS`` for a grey mask, ``E_LABEL_VALUES`` for a colour without a type,
        half-transparent pixels or samples that are not 8-bit.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise LabelRefused(
            name,
            "E_LABEL_CHANNELS",
            "one channel; a colour-coded label has red, green and blue; for grey values say "
            "--label-index TYPE=NUMBER",
        )
    if pixels.dtype != np.uint8:
        raise LabelRefused(
            name, "E_LABEL_VALUES", f"a coloured label must have 8-bit samples, got {pixels.dtype}"
        )
    rgb = pixels[..., :3].astype(np.uint32)
    codes = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    clear = _transparent(name, pixels)
    wanted = {t: [_code(c) for c in row] for t, row in colours.items()}
    planes = {t: np.isin(codes, row) & ~clear for t, row in wanted.items()}
    _refuse_strange_colours(name, codes, clear, wanted)
    return {t: plane for t, plane in planes.items() if t != BACKGROUND}


@dataclass(frozen=True)
class Outlines:
    """Polygons of one image by class number, and the size that the file claims for the image."""

    by_class: Mapping[int, Sequence[Outline]]
    shape: tuple[int, int] | None = None


def read_yolo(path: Path, shape: tuple[int, int]) -> Outlines:
    """Read polygons of one image: a line each, ``class x1 y1 x2 y2 ...`` in fractions.

    Parameters
    ----------
    path : Path
        Text file; empty if the image shows no defect.
    shape : (rows, columns)
        Of the image.

    Raises
    ------
    LabelRefused
        ``E_LABEL_VALUES``, with the line: no number, a fraction outside 0 to 1, a box (YOLO
        detection: it says where a defect is, not what its outline is) or under three corners.
    """
    by_class: dict[int, list[Outline]] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if words:
            where = f"{path.name} line {number}"
            kind, fractions = _yolo_numbers(where, words)
            corners = [
                (_position(x, shape[1]), _position(y, shape[0]))
                for x, y in zip(fractions[::2], fractions[1::2], strict=True)
            ]
            by_class.setdefault(kind, []).append(corners)
    return Outlines(by_class)


@dataclass(frozen=True)
class Coco:
    """A COCO file: annotations of many images.

    Parameters
    ----------
    categories : mapping of int to str
        Category number to name.
    images : mapping of str to (rows, columns)
        File name to the size that the file claims.
    annotations : mapping of str to list of (category, segmentation)
        By file name; an image without any shows no defect.
    """

    categories: Mapping[int, str]
    images: Mapping[str, tuple[int, int]]
    annotations: Mapping[str, Sequence[tuple[int, Any]]]


def read_coco(path: Path) -> Coco:
    """Read a COCO annotation file.

    Raises
    ------
    LabelRefused
        ``E_LABEL_VALUES``: not JSON, a part missing, an image named twice, an annotation of an
        unknown image or category, or without a segmentation (boxes only).
    """
    try:
        data = json.loads(_text(path))
        categories = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        names = {i["id"]: Path(str(i["file_name"])).name for i in data["images"]}
        images = {
            Path(str(i["file_name"])).name: (int(i["height"]), int(i["width"]))
            for i in data["images"]
        }
        rows = [
            (a["image_id"], int(a["category_id"]), a["segmentation"]) for a in data["annotations"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(path.name, f"not a COCO file of segmentations: {error!r}") from error
    if not len(data["images"]) == len(names) == len(images):
        raise _refused(path.name, "an image is named twice; each file name and id once")
    annotations: dict[str, list[tuple[int, Any]]] = {name: [] for name in images}
    for image_id, category, segmentation in rows:
        if image_id not in names or category not in categories:
            raise _refused(
                path.name, f"an annotation of unknown image {image_id!r} or category {category}"
            )
        if not segmentation:
            raise _refused(
                path.name,
                f"an annotation of {names[image_id]} is a box without an outline; export polygons",
            )
        annotations[names[image_id]].append((category, segmentation))
    return Coco(categories, images, annotations)


def coco_planes(
    coco: Coco, image: str, shape: tuple[int, int], indices: Mapping[str, Sequence[int]]
) -> dict[str, Array]:
    """Draw the annotations of one image, as polygons or run-length codes.

    Raises
    ------
    LabelRefused
        ``E_SHAPE`` if the file was made for another size, ``E_LABEL_VALUES`` for a broken code
        or a category without a type.
    """
    if coco.images[image] != shape:
        rows, columns = coco.images[image]
        raise LabelRefused(
            image,
            "E_SHAPE",
            f"COCO says shape {rows} x {columns}, which does not match {shape[0]} x {shape[1]}",
        )
    planes = _empty(indices, shape)
    for category, segmentation in coco.annotations[image]:
        for kind in _types_of(image, category, indices):
            planes[kind] |= _segment(image, segmentation, shape)
    return planes


def outline_planes(
    name: str, outlines: Outlines, shape: tuple[int, int], indices: Mapping[str, Sequence[int]]
) -> dict[str, Array]:
    """Fill polygons, one plane a type.

    Raises
    ------
    LabelRefused
        ``E_LABEL_VALUES`` for a class without a type.
    """
    planes = _empty(indices, shape)
    for number, corners in outlines.by_class.items():
        for kind in _types_of(name, number, indices):
            for outline in corners:
                _fill(planes[kind], outline)
    return planes


def decode_runs(name: str, counts: object, shape: tuple[int, int]) -> Array:
    """Decode COCO's run-length code: lengths of 0s and 1s in turn, down the columns.

    Parameters
    ----------
    name : str
        Named in errors.
    counts : list of int, or str
        Plain, or in COCO's compressed text form (six bits a character, differences from the
        third run on).
    shape : (rows, columns)

    Returns
    -------
    ndarray of bool, shape `shape`
    """
    runs = _text_runs(name, counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(r, int) and r >= 0 for r in runs):
        raise _refused(name, "a run-length code must be non-negative whole numbers")
    if sum(runs) != shape[0] * shape[1]:
        raise _refused(
            name, f"run lengths cover {sum(runs)} pixels, the image has {shape[0] * shape[1]}"
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(shape[1], shape[0]).T


def _text_runs(name: str, text: str) -> list[int]:
    """Undo COCO's text form (LEB128 with 5 data bits, offset 48)."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise _refused(name, f"character {character!r} is not allowed in a run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise _refused(name, "a run-length code ends in mid-number: truncated")
    return runs


def _segment(image: str, segmentation: Any, shape: tuple[int, int]) -> Array:
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != list(shape):
            raise _refused(image, f"a run-length code of size {segmentation.get('size')}")
        return decode_runs(image, segmentation.get("counts"), shape)
    plane = np.zeros(shape, bool)
    for flat in segmentation:
        if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
            raise _refused(image, "a COCO polygon needs three corners or more, as x1, y1, x2, ...")
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in flat):
            raise _refused(image, "a COCO polygon has a corner that is not a finite number")
        _fill(plane, list(zip(flat[::2], flat[1::2], strict=True)))
    return plane


def _fill(plane: Array, outline: Outline) -> None:
    x, y = zip(*outline, strict=True)
    rows, columns = polygon(y, x, plane.shape)
    plane[rows, columns] = True


def _empty(indices: Iterable[str], shape: tuple[int, int]) -> dict[str, Array]:
    return {t: np.zeros(shape, bool) for t in indices if t != BACKGROUND}


def _types_of(name: str, number: int, indices: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the types of a class number; background has none."""
    types = [t for t, numbers in indices.items() if number in numbers]
    if not types:
        raise _refused(
            name,
            f"label class {number} has no type; name it by --label-index TYPE={number}, or "
            f"{BACKGROUND}={number}",
        )
    return [t for t in types if t != BACKGROUND]


def _yolo_numbers(where: str, words: list[str]) -> tuple[int, list[float]]:
    try:
        kind, fractions = int(words[0]), [float(w) for w in words[1:]]
    except ValueError as error:
        raise _refused(where, f"not 'class x1 y1 x2 y2 ...': {error}") from error
    if len(fractions) == 4:
        raise _refused(
            where,
            "a box (4 numbers) is no outline, and a filled box would be a false label; export "
            "polygons (YOLO segmentation)",
        )
    if len(fractions) < 6 or len(fractions) % 2:
        raise _refused(where, f"{len(fractions)} numbers; three corners or more, two numbers each")
    if not all(0 <= f <= 1 for f in fractions):
        raise _refused(where, "label values must be fractions of width and height, from 0 to 1")
    return kind, fractions


def _position(fraction: float, extent_px: int) -> float:
    """Return a position in pixels, on the grid if six digits cannot tell it from the grid.

    Tools write six digits: taken literally, 6.99998 would miss the pixels of row 7.
    """
    position = fraction * extent_px
    nearest = round(position)
    return nearest if abs(position - nearest) <= 0.51e-6 * extent_px else position


def _transparent(name: str, pixels: Array) -> Array:
    if pixels.shape[2] == 3:
        return np.zeros(pixels.shape[:2], bool)
    alpha = pixels[..., 3]
    half = int(((alpha > 0) & (alpha < 255)).sum())
    if half:
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"{half} half-transparent label pixels; save the mask without soft edges",
        )
    clear: Array = alpha == 0
    if clear.all():
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            "the whole label is transparent; save the mask without an alpha channel",
        )
    return clear


def _refuse_strange_colours(
    name: str, codes: Array, clear: Array, wanted: Mapping[str, Sequence[int]]
) -> None:
    values, counts = np.unique(codes[~clear], return_counts=True)
    named = [c for row in wanted.values() for c in row]
    drawn = [c for t, row in wanted.items() if t != BACKGROUND for c in row]
    harmless = values == 0 if any(_is_grey(np.array(drawn))) else _is_grey(values)
    strange = ~harmless & ~np.isin(values, named)
    if strange.any():
        i = int(np.argmax(np.where(strange, counts, 0)))
        raise LabelRefused(
            name,
            "E_LABEL_VALUES",
            f"{int(counts[strange].sum())} label pixels in {int(strange.sum())} colour(s) without "
            f"a type, most often {_triple(int(values[i]))}; name them by --label-colour "
            f"TYPE=R,G,B, also {BACKGROUND}=R,G,B (soft edges: save the mask without)",
        )


def _is_grey(codes: Array) -> Array:
    grey: Array = (codes >> 16 == (codes >> 8 & 255)) & (codes >> 16 == codes & 255)
    return grey


def _code(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _triple(code: int) -> str:
    return f"{code >> 16},{code >> 8 & 255},{code & 255}"


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise LabelRefused(path.name, "E_TOO_LARGE", f"exceeds the limit of {_MAX_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(path.name, "not UTF-8 text; a label file in JSON or YOLO form is") from error
    except OSError as error:
        raise LabelRefused(path.name, "E_IO", f"cannot be read: {error.strerror}") from error


def _refused(name: str, message: str) -> LabelRefused:
    return LabelRefused(name, "E_LABEL_VALUES", message)
