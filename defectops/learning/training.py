"""The training protocol as a loop that yields one record an epoch and knows no tracker."""

from __future__ import annotations

import json
import math
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import field as default
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from defectops.atomic import replacing
from defectops.errors import ModelRefused, SettingsRefused, TrainingDiverged
from defectops.learning.inference import predict
from defectops.learning.losses import LossName, l2_penalty, segmentation_loss
from defectops.learning.machine import Precision, autocast
from defectops.learning.operating_point import OperatingPoint, ThresholdScan

if TYPE_CHECKING:
    from defectops.micrograph import Field


@dataclass(frozen=True)
class TrainingOptions:
    """The protocol of Roberts et al. 2019 (DOI 10.1038/s41598-019-49105-0), every number a field.

    Parameters
    ----------
    epochs : int
        At most so many.
    learning_rate : float
        Of Adam, at the start.
    learning_rate_factor : float
        What the rate is multiplied by after `plateau_epochs` epochs without a gain in dev IoU.
    plateau_epochs, max_decays : int
        Training ends where the decay number `max_decays` would be due (the paper: 10 and 6).
    warm_up_steps : int
        Steps over which the rate rises linearly to its start value.
    final_decay_epochs : int
        Over the last so many epochs the rate falls linearly towards 0, at most to a twentieth:
        with few epochs the plateau rule alone never lets the weights settle. 0 is the paper.
    l2 : float
        Factor of the L2 penalty on convolution weights.
    loss : str
        See `defectops.learning.losses`.
    positive_weight, positive_weight_decay : float
        Factor on what a positive pixel costs, and by how much its excess over 1 shrinks each
        epoch: ``1 + (w - 1) * decay ** epoch``.
    precision : {"auto", "float32", "bfloat16"}
    seed : int
        Of the first weights, the patches and the dropout.
    """

    epochs: int = 100
    learning_rate: float = 1e-3
    learning_rate_factor: float = 0.5
    plateau_epochs: int = 10
    max_decays: int = 6
    warm_up_steps: int = 0
    final_decay_epochs: int = 0
    l2: float = 1e-5
    loss: LossName = "weighted_cross_entropy"
    positive_weight: float = 8.0
    positive_weight_decay: float = 0.97
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 100_000),
            "learning_rate": (1e-8, 1.0),
            "learning_rate_factor": (1e-3, 1.0),
            "plateau_epochs": (1, 100_000),
            "max_decays": (1, 1000),
            "warm_up_steps": (0, 1_000_000),
            "final_decay_epochs": (0, 100_000),
            "l2": (0.0, 1.0),
            "positive_weight": (1e-3, 1e4),
            "positive_weight_decay": (0.0, 1.0),
            "seed": (0, 2**32 - 1),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise SettingsRefused(
                    f"train.{name}",
                    "E_CONFIG",
                    f"must be {low:g} to {high:g}, got {getattr(self, name)}",
                )

    def positive_weight_at(self, epoch: int) -> float:
        """Return the weight of a positive pixel in an epoch, counted from 0."""
        return 1 + (self.positive_weight - 1) * self.positive_weight_decay**epoch


class BatchLike(Protocol):
    """What the loop needs of a batch: three tensors of shape (N, 1, H, W)."""

    @property
    def image(self) -> Tensor:
        """Conditioned intensities."""

    @property
    def label(self) -> Tensor:
        """0 or 1."""

    @property
    def valid(self) -> Tensor:
        """0 where a pixel is ignored, else 1."""


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that is needed to go on as if nothing had happened; patches and dropout need no state.

    `tensors` holds ``network/*``, ``best/*`` and ``adam/*``; the rest are plain numbers.
    """

    tensors: dict[str, Tensor]
    epoch: int = 0
    rate: float = 0.0
    decays: int = 0
    stagnant: int = 0
    best_epoch: int = -1
    best_iou: float = -1.0
    best_threshold: float = 0.5

    def best_weights(self) -> dict[str, Tensor]:
        """Return the weights of the best epoch so far."""
        return _under(self.tensors, "best/")


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """What one epoch brought.

    `loss` is the mean data term, `l2` the mean penalty; `train_iou` is taken on the augmented
    patches while training, at probability 0.5, `dev_iou` on whole dev fields at `threshold`,
    the best of that epoch.
    """

    epoch: int
    train_iou: float
    dev_iou: float
    threshold: float
    loss: float
    l2: float
    learning_rate: float
    positive_weight: float
    seconds: float
    images_per_s: float
    improved: bool
    stopped: str
    state: TrainingState = default(repr=False)

    def row(self) -> dict[str, float]:
        """Return what is the same on every run, as numbers for a table of curves."""
        names = ("epoch", "train_iou", "dev_iou", "threshold", "loss", "l2")
        return {n: getattr(self, n) for n in (*names, "learning_rate", "positive_weight")}


def fit(
    network: nn.Module,
    batches: Callable[[int], Iterable[BatchLike]],
    dev: Sequence[Field],
    options: TrainingOptions,
    *,
    multiple_px: int = 8,
    state: TrainingState | None = None,
) -> Iterator[EpochRecord]:
    """Train and yield a record after each epoch; whoever iterates tracks, saves, prunes or stops.

    Parameters
    ----------
    network : Module
        On its device; changed in place.
    batches : callable
        Epoch (from 0) to its batches; must give the same ones for the same epoch.
    dev : sequence of Field
        Development side; never the test side.
    options : TrainingOptions
    multiple_px : int
        Edge multiple of the network's input.
    state : TrainingState, optional
        Of an earlier record: goes on after that epoch, to the same weights as an uninterrupted
        run with the same number of threads.

    Yields
    ------
    EpochRecord

    Raises
    ------
    TrainingDiverged
        The loss, or the network's answer on dev, is not finite. The records yielded before are
        good.
    SettingsRefused
        No dev field, or none with a labelled pixel: the dev IoU would be undefined.
    """
    if not any((f.label & ~f.ignore).any() for f in dev):
        raise SettingsRefused(
            "dev side",
            "E_CONFIG",
            "has no labelled defect pixel, so its IoU is undefined; choose a split whose dev side "
            "shows the defect",
        )
    optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    now = _restore(state, network, optimiser) if state else _begin(network, options)
    while now.epoch < options.epochs and now.decays < options.max_decays:
        started = time.perf_counter()
        torch.manual_seed(_epoch_seed(options.seed, now.epoch))
        sums = _train_epoch(network, optimiser, batches(now.epoch), options, now)
        trained = time.perf_counter() - started
        point = evaluate_dev(network, dev, multiple_px, options.precision)
        improved = point.iou > now.best_iou
        record_epoch, rate = now.epoch, now.rate
        now = _advance(now, network, optimiser, point, options)
        yield EpochRecord(
            epoch=record_epoch,
            train_iou=sums.iou,
            dev_iou=point.iou,
            threshold=point.threshold,
            loss=sums.loss,
            l2=sums.l2,
            learning_rate=rate * _final_factor(options, record_epoch),
            positive_weight=options.positive_weight_at(record_epoch),
            seconds=time.perf_counter() - started,
            images_per_s=sums.images / max(trained, 1e-9),
            improved=improved,
            stopped=_why_stopped(now, options),
            state=now,
        )


def evaluate_dev(
    network: nn.Module, dev: Sequence[Field], multiple_px: int, precision: Precision
) -> OperatingPoint:
    """Return the best threshold on whole dev fields and its IoU.

    Raises
    ------
    TrainingDiverged
        A probability is not a number: the last step spoiled the weights.
    """
    network.eval()
    scan = ThresholdScan()
    for field in dev:
        chance = predict(network, field.intensity, multiple_px=multiple_px, precision=precision)
        if not np.isfinite(chance).all():
            raise TrainingDiverged(
                "training",
                "E_DIVERGED",
                f"the network's answer on {field.image} (dev) is not finite; lower train "
                "learning_rate or positive_weight",
            )
        scan.add(chance, field.label, ~field.ignore)
    return scan.best()


def save_state(path: Path, state: TrainingState, identity: str) -> None:
    """Write a checkpoint, old or new but never half.

    `identity` names what is being trained (a digest of data and options), so that a checkpoint
    of something else is not taken up.
    """
    numbers = {n: v for n, v in asdict(replace(state, tensors={})).items() if n != "tensors"}
    head = json.dumps({"identity": identity, **numbers}, sort_keys=True)
    tensors = {n: t.detach().cpu().contiguous() for n, t in state.tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save_tensors(tensors, {"defectops": head}))


def load_state(path: Path, identity: str) -> TrainingState | None:
    """Read a checkpoint; None if there is none, or it belongs to another training."""
    if not path.exists():
        return None
    data = path.read_bytes()
    try:
        length = struct.unpack("<Q", data[:8])[0]
        head: dict[str, Any] = json.loads(
            json.loads(data[8 : 8 + length])["__metadata__"]["defectops"]
        )
        if head.pop("identity") != identity:
            return None
        return TrainingState(tensors=load_tensors(data), **head)
    except (
        SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:
        raise ModelRefused(
            path.name, "E_MODEL_CORRUPT", f"damaged checkpoint ({error}); delete it to start anew"
        ) from error


class _Sums:
    """Running sums of an epoch, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self.images = self.steps = 0
        self._data: list[Tensor] = []
        self._l2: list[Tensor] = []
        self._counts: list[Tensor] = []

    def add(self, batch: BatchLike, logits: Tensor, data: Tensor, l2: Tensor) -> None:
        self.steps += 1
        self.images += batch.image.shape[0]
        self._data.append(data.detach())
        self._l2.append(l2.detach())
        called, truth, valid = logits.detach() > 0, batch.label > 0, batch.valid > 0
        both = (called & truth & valid).sum()
        either = ((called | truth) & valid).sum()
        self._counts.append(torch.stack([both, either]))

    @property
    def loss(self) -> float:
        return float(torch.stack(self._data).mean())

    @property
    def l2(self) -> float:
        return float(torch.stack(self._l2).mean())

    @property
    def iou(self) -> float:
        both, either = torch.stack(self._counts).sum(0).tolist()
        return both / either if either else math.nan


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Adam,
    batches: Iterable[BatchLike],
    options: TrainingOptions,
    now: TrainingState,
) -> _Sums:
    network.train()
    on = next(network.parameters()).device
    weight = options.positive_weight_at(now.epoch)
    sums = _Sums()
    for step, given in enumerate(batches):
        batch = _Moved(given, on)
        done = int(optimiser.state[next(network.parameters())]["step"]) if optimiser.state else 0
        rate = now.rate * _final_factor(options, now.epoch) * _warm_up(options, done)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with autocast(options.precision, on):
            logits = network(batch.image)
        data = segmentation_loss(options.loss, logits.float(), batch.label, batch.valid, weight)
        l2 = l2_penalty(network, options.l2)
        total = data + l2
        if not torch.isfinite(total):
            raise TrainingDiverged(
                "training",
                "E_DIVERGED",
                f"loss is {float(total.detach())} in epoch {now.epoch}, step {step}, at learning "
                f"rate {rate:g}; lower train learning_rate or positive_weight",
            )
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        sums.add(batch, logits, data, l2)
    return sums


class _Moved:
    """A batch on the device."""

    def __init__(self, given: BatchLike, on: torch.device) -> None:
        self.image = given.image.to(on)
        self.label = given.label.to(on)
        self.valid = given.valid.to(on)


def _warm_up(options: TrainingOptions, done: int) -> float:
    return min(1.0, (done + 1) / options.warm_up_steps) if options.warm_up_steps else 1.0


def _final_factor(options: TrainingOptions, epoch: int) -> float:
    left = options.epochs - epoch
    if not options.final_decay_epochs or left > options.final_decay_epochs:
        return 1.0
    return max(0.05, left / (options.final_decay_epochs + 1))


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63


def _begin(network: nn.Module, options: TrainingOptions) -> TrainingState:
    return TrainingState(_tensors(network, None), rate=options.learning_rate)


def _restore(
    state: TrainingState, network: nn.Module, optimiser: torch.optim.Adam
) -> TrainingState:
    network.load_state_dict(_under(state.tensors, "network/"))
    adam = _under(state.tensors, "adam/")
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in adam.items():
        index, key = name.split("/")
        entries.setdefault(int(index), {})[key] = tensor.clone()
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": entries, "param_groups": groups})
    return state


def _advance(
    now: TrainingState,
    network: nn.Module,
    optimiser: torch.optim.Adam,
    point: OperatingPoint,
    options: TrainingOptions,
) -> TrainingState:
    tensors = _tensors(network, optimiser)
    after = replace(now, tensors=tensors, epoch=now.epoch + 1)
    if point.iou > now.best_iou:
        tensors |= {f"best/{n}": t.clone() for n, t in _under(tensors, "network/").items()}
        return replace(
            after,
            best_epoch=now.epoch,
            best_iou=point.iou,
            best_threshold=point.threshold,
            stagnant=0,
        )
    tensors |= {n: t for n, t in now.tensors.items() if n.startswith("best/")}
    if now.stagnant + 1 < options.plateau_epochs:
        return replace(after, stagnant=now.stagnant + 1)
    rate = now.rate * options.learning_rate_factor
    return replace(after, stagnant=0, decays=now.decays + 1, rate=rate)


def _tensors(network: nn.Module, optimiser: torch.optim.Adam | None) -> dict[str, Tensor]:
    held = {f"network/{n}": t.detach().clone() for n, t in network.state_dict().items()}
    if optimiser is not None:
        for index, entry in optimiser.state_dict()["state"].items():
            held |= {f"adam/{index}/{k}": t.detach().clone() for k, t in entry.items()}
    return held


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _why_stopped(now: TrainingState, options: TrainingOptions) -> str:
    if now.decays >= options.max_decays:
        return f"learning-rate decay {now.decays} reached"
    return "all epochs done" if now.epoch >= options.epochs else ""
