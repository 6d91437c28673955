"""Comparison maps beside the micrographs they belong to, with a scale bar in nm."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from defectops.measurement.agreement import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    IGNORED,
    TRUE_NEGATIVE,
    TRUE_POSITIVE,
)
from defectops.reporting import figures
from defectops.reporting.numbers import UNDEFINED, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

    from defectops.micrograph import Array

Rgb = tuple[int, int, int]

LEGEND: Mapping[str, tuple[str, Rgb]] = {
    "Found": ("true positive", TRUE_POSITIVE),
    "Background": ("true negative", TRUE_NEGATIVE),
    "Too much": ("false positive", FALSE_POSITIVE),
    "Missed": ("false negative", FALSE_NEGATIVE),
    "Ignored": ("counts nowhere", IGNORED),
}
MAX_IMAGES = 6
_MAX_SIDE_PX = 1024
_BAR_SHARE = 0.25


@dataclass(frozen=True)
class ScaleBar:
    """A round length and how many pixels of the picture it takes."""

    length_px: float
    text: str


@dataclass(frozen=True)
class Panel:
    """One side of one image: micrograph and map as data URIs, both of the same size.

    `width_px` and `height_px` are those of the micrograph, not of the picture on the page.
    """

    side: str
    width_px: int
    height_px: int
    micrograph: str
    comparison: str
    bar: ScaleBar
    scores: str


@dataclass(frozen=True)
class ImagePanels:
    """The sides of one image, dev above test, as the paper joins them."""

    image: str
    panels: tuple[Panel, ...]


def scale_bar(width_px: int, pixel_size_nm: float | None) -> ScaleBar:
    """Return the longest bar of 1, 2 or 5 times a power of ten within a quarter of the width.

    Parameters
    ----------
    width_px : int
        Width of the picture.
    pixel_size_nm : float or None
        nm per pixel; None makes a bar in pixels.

    >>> scale_bar(1024, 0.365), scale_bar(1024, None)
    (ScaleBar(length_px=136.986..., text='50 nm'), ScaleBar(length_px=200.0, text='200 px'))
    """
    spacing = 1.0 if pixel_size_nm is None else pixel_size_nm
    limit = _BAR_SHARE * width_px * spacing
    power = 10.0 ** np.floor(np.log10(limit))
    # The tolerance keeps a limit such as 0.3 / 0.1 * 10 from rounding below its own step.
    length = float(next(m * power for m in (5, 2, 1) if m * power <= limit * (1 + 1e-9)))
    if pixel_size_nm is None:
        return ScaleBar(length, f"{length:g} px")
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    return ScaleBar(length / spacing, text)


def chosen_images(evaluation: pd.DataFrame, limit: int = MAX_IMAGES) -> list[str]:
    """Return the images to show: all, or of many the worst and the best half by IoU.

    An image's IoU is the mean over its sides; images where it is undefined come last.
    """
    if evaluation.empty:
        return []
    by_iou = evaluation.groupby("image")["iou"].mean().sort_values(kind="stable")
    names = [str(n) for n in by_iou.index]
    if len(names) <= limit:
        return sorted(names)
    defined = [str(n) for n in by_iou.dropna().index]
    half = limit // 2
    return sorted({*defined[:half], *defined[-half:]})


def image_panels(
    folder: Path, evaluation: pd.DataFrame, pixel_sizes_nm: Mapping[str, float | None]
) -> list[ImagePanels]:
    """Read the maps of one defect type and prepare them for the page.

    Parameters
    ----------
    folder : Path
        Holds ``<stem>_<side>.png`` and ``<stem>_<side>_micrograph.png``, further fields of the
        same image and side as ``<stem>_<side>_2.png`` ...; a map that is not there is left out.
    evaluation : DataFrame
        Columns ``image, side, precision, recall, iou``, in the order in which it was written.
    pixel_sizes_nm : mapping of str to float or None
        By image; None or absent is uncalibrated.
    """
    stems = _map_stems(evaluation)
    found = []
    for image in chosen_images(evaluation):
        rows = evaluation.assign(stem=stems)[evaluation["image"] == image]
        panels = [
            _panel(folder / str(row["stem"]), row, pixel_sizes_nm.get(image))
            for row in rows.sort_values("side", kind="stable").to_dict("records")
            if (folder / f"{row['stem']}.png").is_file()
        ]
        if panels:
            found.append(ImagePanels(image, tuple(panels)))
    return found


def draw_comparison(
    micrograph: Array, comparison: Array, path: Path, *, pixel_size_nm: float | None, title: str
) -> None:
    """Draw a micrograph beside its comparison map with scale bar and legend, into a PNG or SVG.

    Parameters
    ----------
    micrograph : ndarray, shape (H, W)
        Grey values; black and white are its 0.5 and 99.5 percentiles.
    comparison : ndarray of uint8, shape (H, W, 3)
        In the colours of `LEGEND`.
    path : Path
        Ends in ``.png`` or ``.svg``.
    pixel_size_nm : float or None
        None makes a scale bar in pixels.
    title : str
        For example the image and its IoU.

    Raises
    ------
    ValueError
        The two pictures differ in size.
    """
    if comparison.shape != (*micrograph.shape, 3):
        raise ValueError(f"micrograph {micrograph.shape} and map {comparison.shape} differ")
    height, width = micrograph.shape
    with figures.style("comparison"):
        figure = Figure(figsize=(9.0, 4.5 * height / width + 0.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        low, high = np.percentile(micrograph, (0.5, 99.5))
        left.imshow(micrograph, cmap="gray", vmin=low, vmax=high, interpolation="antialiased")
        right.imshow(comparison, interpolation="nearest")
        for axes in (left, right):
            axes.set_axis_off()
        _draw_bar(left, scale_bar(width, pixel_size_nm), height, width)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
        figure.legend(handles=_handles(), loc="outside lower center", ncols=5)
        figures.save(figure, path)


def _draw_bar(axes: Axes, bar: ScaleBar, height: int, width: int) -> None:
    left, bottom, thick = 0.03 * width, 0.95 * height, max(2.0, 0.008 * width)
    shown = Rectangle((left, bottom - thick), bar.length_px, thick, color="white", linewidth=0)
    text = axes.text(left, bottom - 2 * thick, bar.text, color="white", va="bottom", weight="bold")
    for artist in (axes.add_patch(shown), text):
        artist.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


def _handles() -> list[Patch]:
    return [
        Patch(facecolor=_hex(rgb), edgecolor=figures.SOFT, label=word)
        for word, (_, rgb) in LEGEND.items()
    ]


def _hex(rgb: Rgb) -> str:
    return "#" + bytes(rgb).hex()


def _map_stems(evaluation: pd.DataFrame) -> list[str]:
    """Return how the maps of each row are called: fields of one image and side are numbered."""
    stems, seen = [], Counter[str]()
    for image, side in zip(evaluation.get("image", ()), evaluation.get("side", ()), strict=True):
        stem = f"{Path(str(image)).stem}_{side}"
        seen[stem] += 1
        stems.append(stem if seen[stem] == 1 else f"{stem}_{seen[stem]}")
    return stems


def _panel(path: Path, row: Mapping[Any, Any], pixel_size_nm: float | None) -> Panel:
    comparison = path.with_name(f"{path.name}.png")
    micrograph = path.with_name(f"{path.name}_micrograph.png")
    with Image.open(comparison) as picture:
        width, height = picture.size
    return Panel(
        side=str(row["side"]),
        width_px=width,
        height_px=height,
        micrograph=_jpeg_uri(micrograph) if micrograph.is_file() else "",
        comparison=_png_uri(comparison),
        bar=scale_bar(width, pixel_size_nm),
        scores=_scores(row),
    )


def _scores(row: Mapping[Any, Any]) -> str:
    cells = {name: row[name] for name in ("iou", "precision", "recall")}
    texts = {n: percent(v if isinstance(v, float) else None) for n, v in cells.items()}
    iou, precision, recall = (t if t == UNDEFINED else f"{t} %" for t in texts.values())
    return f"IoU {iou}, precision {precision}, recall {recall}"


def _jpeg_uri(path: Path) -> str:
    # A noisy micrograph takes five times the room as PNG; the lossless one stays in results/maps.
    with Image.open(path) as picture:
        return _uri(_fitted(picture.convert("L"), Image.Resampling.BOX), "JPEG", quality=85)


def _png_uri(path: Path) -> str:
    with Image.open(path) as picture:
        # Nearest neighbour keeps the four colours exact.
        return _uri(_fitted(picture.convert("RGB"), Image.Resampling.NEAREST), "PNG", optimize=True)


def _fitted(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
    longest = max(picture.size)
    if longest <= _MAX_SIDE_PX:
        return picture
    width, height = (max(1, round(s * _MAX_SIDE_PX / longest)) for s in picture.size)
    return picture.resize((width, height), resampling)


def _uri(picture: Image.Image, kind: str, **options: int | bool) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"
