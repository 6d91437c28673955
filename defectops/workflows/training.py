"""Train the model of one defect: resume or begin, record every epoch, keep the best weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from defectops.atomic import write_text
from defectops.dataset.patches import epoch_batches
from defectops.experiments.provenance import run_tags
from defectops.experiments.system_metrics import system_metrics
from defectops.experiments.tracking import Tracker, close_stale_runs, ending, knows
from defectops.learning import machine
from defectops.learning.bundle import file_sha256, save_bundle
from defectops.learning.inference import to_device
from defectops.learning.networks import build, multiple_px
from defectops.learning.training import (
    EpochRecord,
    TrainingState,
    fit,
    load_state,
    save_state,
)
from defectops.micrograph import load_fields
from defectops.workflows.packing import Origin, best_numbers, packed, sides_sha256, tracked

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.workflows.train_settings import TrainSettings


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    bundle: Path
    sha256: str
    run_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Work(Origin):
    """One training: what it comes from, and where its files are."""

    root: Path

    @property
    def identity(self) -> str:
        """Digest of all that decides the weights; a checkpoint of another training has another."""
        parts = [
            self.data_sha256,
            json.dumps(self.settings.flat(), sort_keys=True),
            str(self.threads),
            machine.torch_version(),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def checkpoint(self) -> Path:
        return self.root / ".defectops" / "checkpoints" / f"{self.defect.key}.safetensors"


@dataclass
class _Progress:
    """What has to outlast a kill beside the weights: the run, and the curve so far."""

    run_id: str
    rows: list[dict[str, float]]


@dataclass(frozen=True)
class Shells:
    """Who is told of a training: the tracker, and a listener."""

    tracker: Tracker
    listen: Callable[[EpochRecord], None] = lambda record: None


def train(
    root: Path,
    defect: DefectType,
    settings: TrainSettings,
    conditioning: ConditioningOptions,
    shells: Shells,
) -> Trained:
    """Train on ``split/<defect>/train.npz`` and keep the weights that are best on dev.

    Only the train and the development side are opened. A training that was killed goes on after
    its last whole epoch, in the same run, to the same weights.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    settings : TrainSettings
    conditioning : ConditioningOptions
        What the fields went through; stored in the bundle, so that a micrograph is treated alike.
    shells : Shells
        Each training is a run of the tracker, in the experiment of its defect; the listener is
        called with each epoch's record.

    Returns
    -------
    Trained
        Files are ``models/<defect>/model.safetensors``, ``results/curves/<defect>.csv``,
        ``results/train/<defect>.json`` and ``results/runs/<defect>.json``.

    Raises
    ------
    TrainingDiverged
        The loss is not finite; the checkpoint of the last good epoch stays.
    """
    tracker = shells.tracker
    close_stale_runs(tracker)
    work = _work(root, defect, settings, conditioning)
    progress, state = _resume_or_begin(work, tracker)
    with ending(tracker, progress.run_id), system_metrics(tracker, progress.run_id):
        _drop_previous_results(work)
        state = _run(work, shells, progress, state)
        bundle = root / "models" / defect.key / "model.safetensors"
        metrics = best_numbers(work.settings, state, progress.rows)
        sha256 = save_bundle(bundle, packed(work, state, metrics))
        _write_results(work, progress, metrics)
        facts = {"run_id": progress.run_id, "sha256": sha256}
        write_text(root / "results" / "runs" / f"{defect.key}.json", _json(facts))
    work.checkpoint.unlink(missing_ok=True)
    work.checkpoint.with_suffix(".json").unlink(missing_ok=True)
    return Trained(bundle, sha256, progress.run_id, metrics)


def _work(
    root: Path, defect: DefectType, settings: TrainSettings, conditioning: ConditioningOptions
) -> _Work:
    folder = root / "split" / defect.key
    paths = [folder / "train.npz", folder / "dev.npz"]
    return _Work(
        root=root,
        defect=defect,
        settings=settings,
        conditioning=conditioning,
        train=load_fields(paths[0]),
        dev=load_fields(paths[1]),
        data_sha256=sides_sha256(paths),
        threads=machine.settle(settings.threads),
    )


def _resume_or_begin(work: _Work, tracker: Tracker) -> tuple[_Progress, TrainingState | None]:
    state = load_state(work.checkpoint, work.identity)
    progress = _notes(work) if state is not None else None
    if state is None or progress is None:
        # Else what is written first now would pass for the notes of an earlier training.
        work.checkpoint.unlink(missing_ok=True)
        return _Progress(_begin(work, tracker), []), None
    progress.rows = progress.rows[: state.epoch]
    if knows(tracker, progress.run_id):
        tracker.reopen(progress.run_id)
        return progress, state
    # The store is another one now: the weights go on, their story is told again.
    progress.run_id = _begin(work, tracker)
    for row in progress.rows:
        tracker.metrics(progress.run_id, tracked(row), step=int(row["epoch"]))
    return progress, state


def _notes(work: _Work) -> _Progress | None:
    """Return what was written beside the checkpoint; None if it is not there."""
    notes = work.checkpoint.with_suffix(".json")
    return _Progress(**json.loads(notes.read_text())) if notes.is_file() else None


def _begin(work: _Work, tracker: Tracker) -> str:
    """Start a run and tell what it is trained on."""
    name = f"{work.settings.network.architecture} {work.settings.preset} seed {_seed(work)}"
    tags = run_tags(work.root, work.defect.key, work.settings.preset)
    tags |= {"threads": str(work.threads), "training.identity": work.identity}
    run_id = tracker.start(work.defect.model_name, name, work.settings.flat(), tags)
    for side, fields in (("train", work.train), ("dev", work.dev)):
        path = f"split/{work.defect.key}/{side}.npz"
        digest = tags.get(f"dvc.md5.{path}") or file_sha256(work.root / path)
        images = sorted({f.image for f in fields})
        tracker.dataset(run_id, f"{work.defect.key} {side}", digest, ", ".join(images), side)
    return run_id


def _run(
    work: _Work,
    shells: Shells,
    progress: _Progress,
    state: TrainingState | None,
) -> TrainingState:
    """Iterate over the epochs; after each, record it first and save it last."""
    options = work.settings.training
    network = to_device(build(work.settings.network, options.seed))
    epochs = fit(
        network,
        lambda epoch: epoch_batches(work.train, work.settings.patches, (options.seed, epoch)),
        work.dev,
        options,
        multiple_px=multiple_px(work.settings.network),
        state=state,
    )
    for record in epochs:
        state = record.state
        progress.rows.append(record.row())
        shown = tracked(record.row()) | {"images_per_s": record.images_per_s}
        shells.tracker.metrics(progress.run_id, shown, step=record.epoch)
        # Unsorted: the curve's columns come back in their order.
        write_text(work.checkpoint.with_suffix(".json"), json.dumps(asdict(progress)))
        save_state(work.checkpoint, state, work.identity)
        shells.listen(record)
    if state is None:
        raise RuntimeError("a training without epochs")  # options refuse it before
    return state


def _write_results(work: _Work, progress: _Progress, metrics: Mapping[str, float]) -> None:
    results, key = work.root / "results", work.defect.key
    curves = pd.DataFrame(progress.rows).astype({"epoch": int}).round(6)
    write_text(results / "curves" / f"{key}.csv", curves.to_csv(index=False))
    write_text(results / "train" / f"{key}.json", _json(metrics))


def _drop_previous_results(work: _Work) -> None:
    """Remove the results of an earlier training: one that fails must not leave them lying about."""
    results, key = work.root / "results", work.defect.key
    for path in (
        work.root / "models" / key / "model.safetensors",
        results / "curves" / f"{key}.csv",
        results / "train" / f"{key}.json",
        results / "runs" / f"{key}.json",
    ):
        path.unlink(missing_ok=True)


def _seed(work: _Work) -> int:
    return work.settings.training.seed


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
