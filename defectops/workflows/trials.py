"""One trial of a study: a training as the study chose it, told and saved epoch by epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.atomic import replacing, write_text
from defectops.dataset.patches import epoch_batches
from defectops.errors import ModelRefused
from defectops.experiments.study_trials import Outcome, Step
from defectops.learning import machine
from defectops.learning.bundle import bundle_bytes
from defectops.learning.inference import LoadedModel, to_device
from defectops.learning.networks import build, multiple_px
from defectops.learning.training import TrainingState, fit, load_state, save_state
from defectops.learning.warm_start import load_parent, start_from
from defectops.micrograph import load_fields
from defectops.workflows.packing import Origin, best_numbers, packed, sides_sha256
from defectops.workflows.train_settings import TrainSettings, read_train_settings
from defectops.workflows.trial_averaging import better_half
from defectops.workflows.trial_objectives import objective_values

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.study_trials import Choice, Parent, Plan
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.learning.bundle import Bundle
    from defectops.measurement.quantities import MeasureOptions
    from defectops.micrograph import Field

Row = dict[str, float]
_CHECKPOINT, _ROWS = "checkpoint.safetensors", "rows.json"


@dataclass(frozen=True, eq=False)
class Ground:
    """What all trials of a study share.

    Parameters
    ----------
    defect : DefectType
    given : mapping
        Section ``train`` of the project, merged; a choice's parameters stand above it.
    conditioning : ConditioningOptions
    measure : MeasureOptions
        How the material quantity is measured.
    train, dev : sequence of Field
    data_sha256 : str
        Of both sides' files.
    """

    defect: DefectType
    given: Mapping[str, Any]
    conditioning: ConditioningOptions
    measure: MeasureOptions
    train: Sequence[Field]
    dev: Sequence[Field]
    data_sha256: str


def sides_of(root: Path, defect: DefectType) -> tuple[Path, Path]:
    """Return the files of a defect's train and dev side, the only ones that a study reads."""
    folder = root / "split" / defect.key
    return folder / "train.npz", folder / "dev.npz"


def load_ground(
    root: Path,
    defect: DefectType,
    given: Mapping[str, Any],
    conditioning: ConditioningOptions,
    measure: MeasureOptions,
) -> Ground:
    """Read what the trials of a study share."""
    train, dev = sides_of(root, defect)
    digest = sides_sha256((train, dev))
    return Ground(
        defect, given, conditioning, measure, load_fields(train), load_fields(dev), digest
    )


def trial_settings(
    given: Mapping[str, Any], plan: Plan, params: Mapping[str, Any], seed: int, epochs: int
) -> TrainSettings:
    """Return the settings of a trial of so many epochs.

    The rate falls to its end over the same share of the epochs as in the project's own training.

    Raises
    ------
    SettingsRefused
        The parameters cannot be used.
    """
    where = f"tune.{plan.defect}"
    own = read_train_settings(given, where)
    chosen = {
        **params,
        "epochs": epochs,
        "final_decay_epochs": round(final_decay_share(own) * epochs),
        "seed": seed,
        "threads": plan.threads,
    }
    return read_train_settings({**given, **chosen}, where)


def settings_of(ground: Ground, plan: Plan, choice: Choice) -> TrainSettings:
    """Return the settings that a study chose for a trial; errors as `trial_settings`."""
    return trial_settings(ground.given, plan, choice.params, choice.seed, choice.epochs)


def final_decay_share(own: TrainSettings) -> float:
    """Return over which share of a project's own epochs, 0 to 1, the rate falls to its end."""
    return min(own.training.final_decay_epochs / own.training.epochs, 1.0)


class Evaluator:
    """Carries out trials; the engine of studies iterates over what a call returns.

    Parameters
    ----------
    ground : Ground
    plan : Plan
    weights : Path
        Folder of the best weights of finished trials, named by their digests.
    fetch : callable
        Brings the weights of a parent that another machine trained into that folder.

    Attributes
    ----------
    row : dict
        All numbers of the epoch that was yielded last, for whoever listens.
    """

    def __init__(
        self,
        ground: Ground,
        plan: Plan,
        weights: Path,
        fetch: Callable[[Parent, Path], None] = lambda parent, path: None,
    ) -> None:
        self.ground = ground
        self.plan = plan
        self.weights = weights
        self.fetch = fetch
        self.row: Row = {}
        self._model: LoadedModel | None = None
        self._so_far: Callable[[], Bundle] | None = None

    def __call__(self, choice: Choice) -> Generator[Step, None, Outcome]:
        """Yield every epoch from 0, trained now or before; see `study_trials.Evaluate`.

        Raises
        ------
        ModelRefused
            The parent's weights are missing, damaged or of another network.
        TrainingDiverged
            Loss or answer are not finite.
        """
        self._model = self._so_far = None
        # First of all: who cannot tell what it was trained on is not trained.
        parent = self._parent(choice)
        inherited = [] if parent is None else list(parent.training["train_regions"])
        settings = settings_of(self.ground, self.plan, choice)
        identity = _identity(self.ground, settings, choice)
        state, rows = _resumed(choice.folder, identity)
        if state is not None:
            self._so_far = partial(self._packed, choice, settings, state, rows, inherited)
        for row in rows:
            yield self._told(row)
        for now, row in self._trained(choice, settings, state):
            state = now
            rows.append(row)
            self._so_far = partial(self._packed, choice, settings, state, rows, inherited)
            # Rows first: they may be ahead of the checkpoint, never behind it.
            write_text(choice.folder / _ROWS, json.dumps(rows))
            save_state(choice.folder / _CHECKPOINT, state, identity)
            yield self._told(row)
        model = self.model()
        if state is None or model is None:
            raise RuntimeError("a trial without epochs")  # options refuse it before
        found = model, state.best_iou
        if parent is not None:
            ground, precision = self.ground, settings.training.precision
            found = better_half(found, parent, ground.train, ground.dev, precision)
            self._model = found[0]
        return self._outcome(*found)

    def model(self) -> LoadedModel | None:
        """Return the best weights of the trial that was carried out last, also of a part of it.

        None if it had no epoch.
        """
        if self._model is None and self._so_far is not None:
            bundle = self._so_far()
            self._model = LoadedModel(bundle, to_device(bundle.network()))
        return self._model

    def _told(self, row: Row) -> Step:
        self.row = row
        return Step(int(row["epoch"]), row["dev_iou"], row["seconds"])

    def _trained(
        self, choice: Choice, settings: TrainSettings, state: TrainingState | None
    ) -> Generator[tuple[TrainingState, Row], None, None]:
        options = settings.training
        network = build(settings.network, options.seed)
        if state is None and choice.parent is not None:
            parent = self.weights_of(choice.parent)
            start_from(network, settings.network, parent, choice.parent.checkpoint_sha256)
        patches, train = settings.patches, self.ground.train
        epochs = fit(
            to_device(network),
            lambda epoch: epoch_batches(train, patches, (options.seed, epoch)),
            self.ground.dev,
            options,
            multiple_px=multiple_px(settings.network),
            state=state,
        )
        for record in epochs:
            more = {"seconds": record.seconds, "images_per_s": record.images_per_s}
            yield record.state, record.row() | more

    def weights_of(self, parent: Parent) -> Path:
        """Return where a parent's weights are; fetched if another machine trained them."""
        path = self.weights / f"{parent.checkpoint_sha256}.safetensors"
        if not path.is_file():
            self.fetch(parent, path)
        return path

    def _parent(self, choice: Choice) -> Bundle | None:
        """Return what a warm trial starts from."""
        if choice.parent is None:
            return None
        return load_parent(self.weights_of(choice.parent), choice.parent.checkpoint_sha256)

    def _packed(
        self,
        choice: Choice,
        settings: TrainSettings,
        state: TrainingState,
        rows: Sequence[Row],
        inherited: Sequence[list[Any]],
    ) -> Bundle:
        ground = self.ground
        origin = Origin(
            ground.defect,
            settings,
            ground.conditioning,
            ground.train,
            ground.dev,
            ground.data_sha256,
            self.plan.threads,
        )
        numbers = best_numbers(settings, state, rows)
        return packed(origin, state, numbers, _lineage(choice, state.epoch), inherited)

    def _outcome(self, model: LoadedModel, dev_iou: float) -> Outcome:
        data = bundle_bytes(model.bundle)
        sha256 = hashlib.sha256(data).hexdigest()
        with replacing(self.weights / f"{sha256}.safetensors") as temporary:
            temporary.write_bytes(data)
        ground, numbers = self.ground, model.bundle.training["metrics"]
        values, found = objective_values(
            self.plan.objective, dev_iou, model, ground.dev, ground.measure
        )
        told = ("dev_iou", "threshold", "best_epoch", "halfway")
        facts = {n: numbers[n] for n in told if n in numbers}
        return Outcome(values, sha256, {**facts, **found})


def _identity(ground: Ground, settings: TrainSettings, choice: Choice) -> str:
    """Return a digest of all that decides the weights, so that no other checkpoint is taken up."""
    parts = [
        ground.data_sha256,
        json.dumps(settings.flat(), sort_keys=True),
        machine.torch_version(),
        choice.parent.checkpoint_sha256 if choice.parent else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _resumed(folder: Path, identity: str) -> tuple[TrainingState | None, list[Row]]:
    """Return where an earlier attempt got to; nothing if it left nothing that can be used."""
    try:
        state = load_state(folder / _CHECKPOINT, identity)
        rows = json.loads((folder / _ROWS).read_text(encoding="utf-8")) if state else []
    except (ModelRefused, OSError, ValueError):
        return None, []
    if state is None or len(rows) < state.epoch:
        return None, []
    return state, rows[: state.epoch]


def _lineage(choice: Choice, epochs: int) -> dict[str, Any]:
    """Return what a bundle says of its place in a study; the same in each attempt."""
    parent = choice.parent
    return {
        "study": choice.study,
        "trial": choice.index,
        "generation": choice.generation,
        "parent": None if parent is None else parent.index,
        "parent_sha256": "" if parent is None else parent.checkpoint_sha256,
        "cumulative_epochs": epochs + (0 if parent is None else parent.epochs),
    }
