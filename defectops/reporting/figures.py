"""One look for all figures, and files of them that are the same bytes on every run."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb

from defectops.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1a1a"
SOFT = "#6b6b6b"
FAINT = "#d9d9d9"

_STYLE: dict[str, Any] = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.size": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text: it takes the font of the page and can be searched
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}
# Whatever names a version, a date or an address is left out of the files.
_SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Draw and save in the look of defectops.

    Parameters
    ----------
    salt : str
        Makes the internal names of an SVG its own; two figures on one page need two salts.
    """
    rc: Any = {**_STYLE, "svg.hashsalt": salt}
    with mpl.rc_context(rc):
        yield


def on_white(colour: str) -> str:
    """Return `colour`, darkened until it stands out from white by a contrast of 3 : 1.

    That is what WCAG 2.2 asks of graphics. Defect types may have any colour.

    Parameters
    ----------
    colour : str
        ``#rrggbb``.
    """
    rgb = to_rgb(colour)
    while _contrast_to_white(rgb) < 3.0:
        rgb = tuple(0.95 * c for c in rgb)  # type: ignore[assignment]
    return to_hex(rgb)


def empty(axes: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=SOFT)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix of `path`, whole or not at all."""
    if path.suffix == ".svg":
        _save(figure, path, "svg", dict(_SVG_METADATA))
    else:
        _save(figure, path, "png", {"Software": None})


def inline_svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element for a page, without prolog, address or style sheet.

    Groups lose their names (``axes_1``), which would otherwise appear once per figure on a page.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict(_SVG_METADATA))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'aria-hidden="true"', text, count=1)


def _contrast_to_white(rgb: tuple[float, float, float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    red, green, blue = linear
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def _save(figure: Figure, path: Path, kind: str, metadata: dict[str, None]) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=metadata)
