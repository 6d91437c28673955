"""Crops of the windows to label next, with what the model is unsure of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from defectops.reporting import figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Array = npt.NDArray[Any]

_COLUMNS = 4
_MOST_PX = 512
_UNSURE = (255, 190, 0)
_SURE = (64, 224, 208)


@dataclass(frozen=True, eq=False)
class Crop:
    """One window as it is drawn.

    Parameters
    ----------
    title : str
    picture : ndarray of uint8, shape (h, w, 3)
        From `overlay`.
    """

    title: str
    picture: Array


def overlay(intensity: Array, chance: Array) -> Array:
    """Colour a window by what the model says.

    Parameters
    ----------
    intensity, chance : ndarray of float, shape (H, W)
        Conditioned micrograph, and the chance of a defect, one half at the model's threshold.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
        Grey between the 0.5th and 99.5th percentile; pixels with a chance of 0.1 to 0.9 mixed with
        yellow, above with turquoise. Every k-th pixel, so that no side is over 512.
    """
    step = math.ceil(max(intensity.shape) / _MOST_PX)
    grey, sure = intensity[::step, ::step], chance[::step, ::step]
    low, high = np.percentile(grey, (0.5, 99.5))
    scaled = np.clip((grey - low) / max(float(high - low), 1e-6), 0, 1) * 255
    picture = np.repeat(scaled[:, :, None], 3, axis=2)
    for chosen, colour in (
        ((sure > 0.1) & (sure < 0.9), _UNSURE),
        (sure >= 0.9, _SURE),
    ):
        picture[chosen] = (picture[chosen] + np.array(colour)) / 2
    return np.asarray(picture.round().astype(np.uint8))


def save_crops(crops: Sequence[Crop], path: Path) -> None:
    """Draw the crops in the order of choice into a PNG or SVG file; at least one."""
    columns = min(len(crops), _COLUMNS)
    rows = math.ceil(len(crops) / columns)
    with figures.style("label-next"):
        figure = Figure(figsize=(2.8 * columns, 3.1 * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for one in axes:
            one.set_axis_off()
        for one, crop in zip(axes, crops, strict=False):
            one.imshow(crop.picture, interpolation="nearest")
            one.set_title(crop.title, fontsize=8, loc="left")
        handles = [
            axes[0].fill_between([], [], color=np.array(colour) / 255, label=label)
            for colour, label in ((_UNSURE, "unsure"), (_SURE, "sure that it is defect"))
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
        figures.save(figure, path)
