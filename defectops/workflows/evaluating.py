"""Evaluate the champion of one defect on dev and test: the only place that opens the test side."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from defectops.atomic import replacing, write_text
from defectops.experiments.accesses import record_access
from defectops.experiments.champions import places_of, read_champion
from defectops.learning import machine
from defectops.learning.bundle import file_sha256
from defectops.learning.views import ViewOptions, mirrored
from defectops.measurement.agreement import comparison_map, confusion
from defectops.micrograph import Array, Field, field_names, load_fields, save_fields
from defectops.workflows.champions import load_champion
from defectops.workflows.leak_audit import Judges, refuse_leak, side_cuts

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.learning.inference import LoadedModel

SIDES = ("dev", "test")
COLUMNS = ("image", "side", "tp", "fp", "fn", "tn", "pixel_accuracy", "precision", "recall", "iou")


def evaluate(
    root: Path,
    defect: DefectType,
    conditioning: ConditioningOptions | None = None,
    views: ViewOptions | None = None,
) -> pd.DataFrame:
    """Segment dev and test with the champion and compare with the labels.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    conditioning : ConditioningOptions, optional
        What the fields went through; checked against what the champion was trained with.
    views : ViewOptions, optional

    Returns
    -------
    DataFrame
        ``results/evaluation/<defect>.csv``: one row a field. Empty without a champion; without
        test rows if the split has no test side. An undefined score is an empty cell.

    Raises
    ------
    GateFailed
        The champion was trained or chosen on pixels of the present test side (``E_LEAK``): the
        split was changed and the champion stayed. The test side was not opened then.

    Notes
    -----
    Also written: ``results/masks/<defect>/{dev,test}.npz``, the fields with the probability in
    place of the intensity; in folders named after each of `VIEWS` the same of the fields mirrored;
    and ``results/maps/<defect>/``, comparison maps beside micrographs.
    Each time the test side is opened is counted in ``champions/<defect>.test-accesses.jsonl``.
    """
    machine.settle()
    results = root / "results"
    for kind in ("masks", "maps"):
        shutil.rmtree(results / kind / defect.key, ignore_errors=True)
        (results / kind / defect.key).mkdir(parents=True)
    masks, maps = (results / kind / defect.key for kind in ("masks", "maps"))
    champion = load_champion(root, defect, conditioning)
    if champion:
        _refuse_leak(root, defect, champion)
    rows: list[dict[str, object]] = []
    for side in SIDES:
        given = _opened(root, defect, side) if champion else []
        found = [_segmented(champion, f) for f in given] if champion else []
        save_fields(masks / f"{side}.npz", found)
        for view in (views or ViewOptions()).names:
            turned = [_segmented(champion, f, view) for f in given] if champion else []
            save_fields(masks / view / f"{side}.npz", turned)
        threshold = champion.bundle.threshold if champion else 0.5
        names = field_names(given, side)
        for field, chance, name in zip(given, found, names, strict=True):
            prediction = chance.intensity >= threshold
            rows.append(_row(field, side, prediction))
            _write_maps(maps / name, field, prediction)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    # Twice: the report writes into results/evaluation itself, and so reads the copy with the maps.
    for path in (results / "evaluation" / f"{defect.key}.csv", maps / "scores.csv"):
        write_text(path, table.to_csv(index=False))
    return table


def _refuse_leak(root: Path, defect: DefectType, champion: LoadedModel) -> None:
    """Refuse a champion that has seen the test side, before that side is opened."""
    refuse_leak(
        champion.bundle,
        f"champions/{defect.key}",
        Judges(test=side_cuts(root, defect, "test")),
        "promote a model that was trained on this split, or set the split back",
    )


def _opened(root: Path, defect: DefectType, side: str) -> list[Field]:
    """Return the fields of a side; of the test side only once the ledger has counted it."""
    path = root / "split" / defect.key / f"{side}.npz"
    if side == "test" and side_cuts(root, defect, side):
        places = places_of(root, defect.key)
        record_access(places, read_champion(places), file_sha256(path))
    return load_fields(path)


def _segmented(champion: LoadedModel, field: Field, view: str | None = None) -> Field:
    plane, model = field.intensity, champion.probability
    chance = model(plane) if view is None else mirrored(model, plane, view)
    return replace(field, intensity=chance)


def _row(field: Field, side: str, prediction: Array) -> dict[str, object]:
    counts = confusion(prediction, field.label, field.ignore)
    scores = {n: None if s is None else round(s, 6) for n, s in counts.scores().items()}
    return {"image": field.image, "side": side, **asdict(counts), **scores}


def _write_maps(path: Path, field: Field, prediction: Array) -> None:
    colours = comparison_map(prediction, field.label, field.ignore)
    _write_png(path.with_name(f"{path.name}.png"), colours)
    low, high = np.percentile(field.intensity, (0.5, 99.5))
    scaled = (field.intensity - low) / max(float(high - low), 1e-6)
    grey = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    _write_png(path.with_name(f"{path.name}_micrograph.png"), grey)


def _write_png(path: Path, picture: Array) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        Image.fromarray(picture).save(stream, format="PNG")
