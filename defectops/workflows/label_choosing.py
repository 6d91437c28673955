"""Choose which field of a folder of micrographs to label next, with the model in use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from defectops.atomic import write_text
from defectops.dataset.importing import find_files
from defectops.dataset.manifest import read_manifest
from defectops.defects import DefectType
from defectops.errors import MicrographRefused, ModelRefused, SettingsRefused
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.imaging.reading import SUFFIXES, read_micrograph
from defectops.learning import machine
from defectops.learning.inference import LoadedModel, load_model
from defectops.measurement.labelling import (
    candidates,
    choose_windows,
    half_width_percent,
    published_rates,
    relative_chance,
    window_edges,
    window_features,
    window_sums,
)
from defectops.micrograph import Array, Region
from defectops.reporting.label_next import Crop, overlay, save_crops
from defectops.settings import read
from defectops.workflows.champions import load_champion
from defectops.workflows.leak_audit import trained_cuts
from defectops.workflows.parameters import load_parameters

if TYPE_CHECKING:
    from defectops.measurement.objects import ObjectOptions

COLUMNS = (
    "rank",
    "image",
    "top",
    "bottom",
    "left",
    "right",
    "expected",
    "model_sd",
    "minutes",
    "reduction_percent",
    "percent_per_minute",
    "half_width_percent",
)


@dataclass(frozen=True, eq=False)
class LabelChoice:
    """What to label next.

    Parameters
    ----------
    defect : DefectType
    windows : DataFrame
        Columns `COLUMNS`, in the order of choice. ``expected`` objects (px of line) with the
        model's own standard deviation ``model_sd``; ``minutes`` to label it; what that takes off
        the half width of the interval on the density of all pictures together, in percent of the
        density; ``half_width_percent`` when it and all before it are labelled.
    half_width_percent : float
        As long as nothing is labelled; NaN if the model sees nothing anywhere.
    n_windows : int
        How many there were to choose from.
    """

    defect: DefectType
    windows: pd.DataFrame
    half_width_percent: float
    n_windows: int

    def as_json(self) -> dict[str, Any]:
        """Return the choice as plain data; what is undefined is None."""
        rows = self.windows.astype(object).where(self.windows.notna(), None)
        width = self.half_width_percent
        return {
            "defect": self.defect.key,
            "n_windows": self.n_windows,
            "half_width_percent": None if np.isnan(width) else width,
            "windows": rows.to_dict("records"),
        }


def model_in_use(root: Path, key: str | None, path: Path | None) -> LoadedModel:
    """Load a bundle by its path, or the champion of a defect type.

    Raises
    ------
    SettingsRefused
        Not exactly one of them is given.
    ModelRefused
        There is no champion, or the bundle cannot be loaded.
    """
    if path is not None and key is None:
        return load_model(path)
    if key is None or path is not None:
        raise SettingsRefused(
            "label-next", "E_USAGE", "give --defect to use its champion, or --model, one of the two"
        )
    model = load_champion(root, load_parameters(root).defect(key))
    if model is None:
        raise ModelRefused(
            f"champions/{key}.json",
            "E_NO_BUNDLE",
            f"there is no champion yet; run `dvc repro promote@{key}`, or give a bundle by --model",
        )
    return model


def choose_labels(
    folder: Path,
    model: LoadedModel,
    *,
    top: int = 5,
    window_px: int = 512,
    out: Path | None = None,
    options: ObjectOptions | None = None,
) -> LabelChoice:
    """Choose windows of the pictures of a folder.

    Parameters
    ----------
    folder : Path
        Micrographs, or a data folder with ``micrographs/`` and ``manifest.csv``: there, pictures
        that are labelled for the model's defect type are left out. Windows that the model was
        trained on are left out too (by the name of the picture).
    model : LoadedModel
    top : int
        How many to choose.
    window_px : int
        About the side of a window; 0 takes whole pictures.
    out : Path, optional
        Folder for ``label_next.csv`` and ``label_next.png``.
    options : ObjectOptions, optional
        What counts as an object; that of `quantify`.

    Raises
    ------
    InputRefused
        A picture cannot be read, or nothing is left to choose from.
    """
    machine.settle()
    defect = DefectType(**model.bundle.defect)  # type: ignore[arg-type]
    tables, features = [], []
    for path in _pictures(folder, defect):
        intensity = _seen(path, model)
        probability = model.probability(intensity)
        table = _windows(path.name, probability, model, defect, window_px, options)
        tables.append(table)
        features += [
            window_features(probability[at], intensity[at], model.bundle.threshold)
            for at in _slices(table)
        ]
    windows = pd.concat(tables, ignore_index=True)
    each = np.array(features) if features else np.zeros((0, 1))
    chosen = choose_windows(windows, each, top)
    chosen = chosen.assign(model_sd=np.sqrt(chosen["model_variance"]))
    choice = LabelChoice(
        defect, chosen[list(COLUMNS)], half_width_percent(windows, each), len(windows)
    )
    if out is not None:
        write_text(out / "label_next.csv", choice.windows.to_csv(index=False))
        save_crops(list(_crops(folder, choice, model)), out / "label_next.png")
    return choice


def _pictures(folder: Path, defect: DefectType) -> list[Path]:
    """Return the pictures that are not labelled yet, by name."""
    home = folder / "micrographs" if (folder / "micrographs").is_dir() else folder
    labelled = set()
    if (folder / "manifest.csv").is_file():
        rows = read_manifest(folder / "manifest.csv", folder)
        labelled = {row.image for row in rows if defect.key in row.labels}
    found = [p for p in find_files([str(home)], SUFFIXES, "micrographs") if p.name not in labelled]
    if not found:
        raise MicrographRefused(
            folder.name,
            "E_EMPTY",
            f"all its {len(labelled)} pictures are labelled for {defect.key}; give others",
        )
    return found


def _seen(path: Path, model: LoadedModel) -> Array:
    """Return a picture as the model sees it."""
    bundle = model.bundle
    options = read(bundle.conditioning, ConditioningOptions, "model: conditioning")
    # The choice depends on proportions only, so a picture without a pixel size will do.
    pixels = read_micrograph(path, uncalibrated=True).pixels
    dark = bundle.defect["polarity"] == "dark"
    return condition(pixels, "dark" if dark else "bright", options)


def _windows(
    image: str,
    probability: Array,
    model: LoadedModel,
    defect: DefectType,
    window_px: int,
    options: ObjectOptions | None,
) -> pd.DataFrame:
    rows, columns = probability.shape
    table = window_sums(
        candidates(probability, model.bundle.threshold, defect.shape, options),
        window_edges(rows, window_px),
        window_edges(columns, window_px),
    )
    trained = [c.region for c in trained_cuts(model.bundle) or [] if c.image == image]
    new = [
        not any(Region(*map(int, place)).overlaps(r) for r in trained)
        for place in table[["top", "bottom", "left", "right"]].to_numpy()
    ]
    table = table[new].reset_index(drop=True)
    area = ((table["bottom"] - table["top"]) * (table["right"] - table["left"])).to_numpy()
    minutes = published_rates().minutes(area, table["expected"].to_numpy(), defect.shape)
    return table.assign(image=image, minutes=minutes)


def _slices(table: pd.DataFrame) -> Iterator[tuple[slice, slice]]:
    for top, bottom, left, right in table[["top", "bottom", "left", "right"]].to_numpy():
        yield slice(int(top), int(bottom)), slice(int(left), int(right))


def _crops(folder: Path, choice: LabelChoice, model: LoadedModel) -> Iterator[Crop]:
    home = folder / "micrographs" if (folder / "micrographs").is_dir() else folder
    for row, at in zip(choice.windows.to_dict("records"), _slices(choice.windows), strict=True):
        # Segmented once more, the window alone: to keep all pictures would take too much memory.
        intensity = _seen(home / row["image"], model)[at]
        chance = relative_chance(model.probability(intensity), model.bundle.threshold)
        title = f"{row['rank']}. {row['image']}\n{row['minutes']:.0f} min"
        yield Crop(title, overlay(intensity, chance))
