"""The check-me list of a batch: the doubts of all its micrographs, ranked and drawn."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from defectops.atomic import replacing, write_text
from defectops.imaging.reading import read_label_values, read_micrograph
from defectops.reporting.doubts import Card, Crop, card, check_page, crop_png, window
from defectops.workflows.batch_rows import calibration_of, id_of
from defectops.workflows.batch_tables import Kind, Table
from defectops.workflows.doubting import Row, kept_name

if TYPE_CHECKING:
    from defectops.workflows.batch_rows import Kept, Rows

CHECK_TABLES = ("check.csv", "check.parquet", "check.html")
_FOLDER = "check"
_MOST_ROWS = 999
_PICTURE = re.compile(r"\d{3}_.*\.png")
# What stands in the window of a graver doubt is drawn with it.
_SAME_PICTURE = 0.2

_BOX = ("top_px", "bottom_px", "left_px", "right_px")
_COLUMNS: dict[str, Kind] = {
    "rank": "whole",
    "image": "text",
    "defect": "text",
    "kind": "text",
    "over": "text",
    "chance": "real",
    "objects": "real",
    "length_nm": "real",
    "length_px": "real",
    "density_percent": "real",
    "diameter_percent": "real",
    "score": "real",
    **dict.fromkeys(_BOX, "whole"),
    "label": "whole",
    "other_label": "whole",
    "object_id": "text",
    "value_id": "text",
}


@dataclass(frozen=True)
class _Place:
    """Where an image and its label images are."""

    path: Path
    stem: str
    pixel_size_nm: float | None


def write_check(out: Path, images: Callable[[], Iterator[Kept]], rows: Rows, pictures: int) -> int:
    """Rank the doubts of all images and draw the gravest.

    Parameters
    ----------
    out : Path
        Holds the label images already.
    images : callable
        Yields what was kept of each image, each time it is called.
    rows : Rows
        Knows which images count among the pooled ones; the others are not listed.
    pictures : int
        How many to draw.

    Returns
    -------
    int
        How many doubts there are; the 999 gravest are in the list.

    Notes
    -----
    Written are ``check.csv`` and ``check.parquet``, one row a doubt, ``check/<rank>_<stem>_
    <defect>.png``, and ``check.html`` with the same pictures. A doubt within the picture of a
    graver one of the same image and type has no picture of its own.
    """
    count, listed = 0, 0
    places: dict[str, _Place] = {}
    gravest: list[Row] = []
    for kept in images():
        found = list(_ranked_rows(kept, rows))
        count += len(found)
        listed += any(rows.pooled(kept.record, d) for d in kept.record["defects"])
        gravest = heapq.nlargest(_MOST_ROWS, [*gravest, *found], key=lambda row: row["score"])
        scale = calibration_of(kept.record)
        places[kept.record["image"]] = _Place(kept.item.path, kept.item.stem, scale.pixel_size_nm)
    ranked = [{**row, "rank": rank} for rank, row in enumerate(gravest, 1)]
    with Table(out / "check.csv", _COLUMNS) as table:
        table.write(ranked)
    colours = {s.defect.key: s.defect.colour for s in rows.bench.segmenters}
    cards = _draw(out, _pictures(ranked, pictures), places, colours)
    write_text(out / "check.html", check_page(cards, count, listed, colours))
    return count


def _ranked_rows(kept: Kept, rows: Rows) -> Iterator[Row]:
    record = kept.record
    size = calibration_of(record).pixel_size_nm
    for defect in record["defects"]:
        if not rows.pooled(record, defect):
            continue
        value_id = rows.image_id(record, defect)
        for row in json.loads(kept.read(kept_name(defect))):
            yield {
                **row,
                "image": record["image"],
                "defect": defect,
                "value_id": value_id,
                "object_id": id_of([value_id, row["label"]]) if row["label"] else None,
                "length_nm": None if size is None else row["length_px"] * size,
            }


def _pictures(ranked: Sequence[Row], most: int) -> list[list[Row]]:
    """Return the rows that share a picture, the gravest first in each."""
    found: list[list[Row]] = []
    for row in ranked:
        own = next((group for group in found if _near(row, group[0])), None)
        if own is not None:
            own.append(row)
        elif len(found) < most:
            found.append([row])
    return found


def _near(row: Row, first: Row) -> bool:
    """Whether a doubt lies in the picture of a graver one, and is not far below it."""
    if any(row[name] != first[name] for name in ("image", "defect")):
        return False
    top, bottom, left, right = window(_box(first), (2**31, 2**31))
    inside = top <= row["top_px"] and row["bottom_px"] <= bottom
    inside &= left <= row["left_px"] and row["right_px"] <= right
    return bool(inside and row["score"] >= _SAME_PICTURE * first["score"])


def _box(row: Row) -> tuple[int, int, int, int]:
    top, bottom, left, right = (int(row[name]) for name in _BOX)
    return top, bottom, left, right


def _draw(
    out: Path,
    groups: Sequence[list[Row]],
    places: Mapping[str, _Place],
    colours: Mapping[str, str],
) -> list[Card]:
    """Draw the pictures image by image, and delete those of an earlier list."""
    folder = out / _FOLDER
    cards: dict[int, Card] = {}
    names = set()
    for image in dict.fromkeys(group[0]["image"] for group in groups):
        own = [group for group in groups if group[0]["image"] == image]
        place = places[image]
        for group, crop in zip(own, _crops(out, own, place, colours), strict=True):
            rank = group[0]["rank"]
            name = f"{rank:03d}_{place.stem}_{group[0]['defect']}.png"
            picture = crop_png(crop)
            with replacing(folder / name) as temporary:
                temporary.write_bytes(picture)
            names.add(name)
            cards[rank] = card(group, picture)
    for path in folder.glob("*.png"):
        if _PICTURE.fullmatch(path.name) and path.name not in names:
            path.unlink()
    return [cards[rank] for rank in sorted(cards)]


def _crops(
    out: Path, groups: Sequence[list[Row]], place: _Place, colours: Mapping[str, str]
) -> Iterator[Crop]:
    """Yield the crops of one micrograph, cut from the file and the label images of the batch."""
    pixels = read_micrograph(place.path, uncalibrated=True, max_pixels=2**40).pixels
    masks = [
        (read_label_values(out / f"labels/{place.stem}_{key}.tif", max_pixels=2**40) > 0, colour)
        for key, colour in colours.items()
    ]
    shape = (pixels.shape[0], pixels.shape[1])
    for group in groups:
        top, bottom, left, right = window(_box(group[0]), shape)
        at = np.s_[top:bottom, left:right]
        boxes = [_box(row) for row in group]
        yield Crop(
            pixels[at],
            [(mask[at], colour) for mask, colour in masks],
            [(b[0] - top, b[1] - top, b[2] - left, b[3] - left) for b in boxes],
            place.pixel_size_nm,
        )
