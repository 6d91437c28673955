"""What a training leaves for others: its numbers under fixed names, and its bundle."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.imaging.appearance import appearances, envelope_of
from defectops.learning.bundle import Bundle, file_sha256
from defectops.learning.networks import build, receptive_field_px, weight_count
from defectops.learning.verifying import freeze

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.learning.training import TrainingState
    from defectops.micrograph import Field
    from defectops.workflows.train_settings import TrainSettings

Row = list[Any]


@dataclass(frozen=True, eq=False)
class Origin:
    """What a model comes from: a defect type, settings, and fields with their digest."""

    defect: DefectType
    settings: TrainSettings
    conditioning: ConditioningOptions
    train: Sequence[Field]
    dev: Sequence[Field]
    data_sha256: str
    threads: int


def sides_sha256(paths: Iterable[Path]) -> str:
    """Return one digest of the files of several sides."""
    return hashlib.sha256("".join(file_sha256(p) for p in paths).encode()).hexdigest()


def tracked(row: Mapping[str, float]) -> dict[str, float]:
    """Return an epoch's row under the names of a run's metrics."""
    return {
        "train/iou": row["train_iou"],
        "dev/iou": row["dev_iou"],
        "dev/threshold": row["threshold"],
        "loss": row["loss"],
        "loss/l2": row["l2"],
        "lr": row["learning_rate"],
        "positive_weight": row["positive_weight"],
    }


def best_numbers(
    settings: TrainSettings, state: TrainingState, rows: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Return what is said of a training: its best epoch, and the network it trained."""
    found = {
        "dev_iou": round(state.best_iou, 6),
        "train_iou_at_best": round(rows[state.best_epoch]["train_iou"], 6),
        "threshold": state.best_threshold,
        "best_epoch": state.best_epoch,
        "epochs_run": state.epoch,
        "weights": weight_count(build(settings.network)),
        "receptive_field_px": receptive_field_px(settings.network),
    }
    # Undefined where no patch of that epoch showed the defect; JSON has no word for it.
    return {name: value for name, value in found.items() if math.isfinite(value)}


def packed(
    origin: Origin,
    state: TrainingState,
    metrics: Mapping[str, float],
    lineage: Mapping[str, Any] | None = None,
    inherited: Sequence[Row] = (),
) -> Bundle:
    """Return the best weights with all that is needed to use them.

    Parameters
    ----------
    origin : Origin
    state : TrainingState
    metrics : mapping of str to float
        From `best_numbers`.
    lineage : mapping, optional
        Where in a study the weights were trained, and what they were trained further from.
    inherited : sequence of list
        ``train_regions`` of the bundle that they were trained further from: they count as its own.
    """
    trained = _places(origin.train)
    seen = [a for f in origin.train for a in appearances(f.intensity, f.ignore)]
    bundle = Bundle(
        spec=origin.settings.network,
        weights=state.best_weights(),
        defect=asdict(origin.defect),
        conditioning=asdict(origin.conditioning),
        threshold=state.best_threshold,
        envelope=envelope_of(seen, [f.calibration.pixel_size_nm for f in origin.train]),
        training={
            "data_sha256": origin.data_sha256,
            "train_regions": trained + [row for row in inherited if row not in trained],
            "dev_regions": _places(origin.dev),
            "settings": origin.settings.flat(),
            "threads": origin.threads,
            "metrics": dict(metrics),
            **({} if lineage is None else {"study": dict(lineage)}),
        },
    )
    return freeze(bundle, origin.train)


def _places(fields: Sequence[Field]) -> list[Row]:
    """Return where fields lie: image, top, bottom, left, right, digest of the image's pixels."""
    return [[f.image, *astuple(f.region), f.pixels_sha256] for f in fields]
