"""The task of `tuning.py`: a tiny network that learns voids on small synthetic micrographs.

An epoch takes a few hundredths of a second, and the dev IoU depends on the settings as it does on
large pictures: too low a learning rate gets nowhere in the time, dropout slows a small network
down, and a network that starts from trained weights goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from defectops.dataset.patches import PatchOptions, epoch_batches
from defectops.dataset.synthesis import draw, small
from defectops.experiments.search_space import Space, Value
from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.learning.inference import predict
from defectops.learning.networks import NetworkSpec, build, multiple_px
from defectops.learning.training import EpochRecord, TrainingOptions, evaluate_dev, fit
from defectops.micrograph import Calibration, Field, Region
from defectops.workflows.train_settings import read_train_settings

DEFECT = "voids"
SPACE = Space.default()

# What a project trains with before anything was tuned: the preset `quick`.
OWN: dict[str, Value] = {
    name: value
    for name, value in read_train_settings({}, "train").flat().items()
    if name in SPACE.names
}

_SHAPE_PX = (256, 256)
_PIXEL_SIZE_NM = 2.0  # coarser than the paper's, so that a small picture shows enough voids
_CONDITIONING = ConditioningOptions(background_sigma_px=32, variance_sigma_px=64)
_PATCHES = PatchOptions(patch_px=48, batch=4, patches_per_epoch=16)
_NETWORK = NetworkSpec("fcn", width=0.25)  # the quickest of the four architectures


@dataclass(frozen=True)
class Task:
    """Fields to learn from, to choose by, and to look at once, when everything is over."""

    train: tuple[Field, ...]
    dev: tuple[Field, ...]
    held_out: tuple[Field, ...]


def draw_task(seed: int) -> Task:
    """Draw the pictures of a seed: two split as in the paper, two more held out whole."""
    quarters = [_quarters(options, 4 * seed + n) for n, options in enumerate(_pictures() * 2)]
    return Task(
        train=tuple(f for quarter in quarters[:2] for f in quarter[:3]),
        dev=tuple(quarter[3] for quarter in quarters[:2]),
        held_out=tuple(f for quarter in quarters[2:] for f in quarter),
    )


def train(
    task: Task,
    params: Mapping[str, Value],
    seed: int,
    epochs: int,
    weights: Mapping[str, Tensor] | None,
) -> Iterator[EpochRecord]:
    """Train one trial, cold or from weights; every method of the benchmark trains by this.

    As in the preset `quick`, the rate rises for half an epoch and falls over the last six tenths.
    """
    given: dict[str, Any] = {n: v for n, v in params.items() if n != "dropout"}
    options = TrainingOptions(
        epochs=epochs,
        plateau_epochs=max(2, round(0.3 * epochs)),
        warm_up_steps=2,
        final_decay_epochs=round(0.6 * epochs),
        precision="float32",
        seed=seed,
        **given,
    )
    network = build(replace(_NETWORK, dropout=float(params["dropout"])), seed)
    if weights is not None:
        network.load_state_dict(weights)
    return fit(
        network,
        lambda epoch: epoch_batches(task.train, _PATCHES, (seed, epoch)),
        task.dev,
        options,
    )


def dev_iou(task: Task, weights: Mapping[str, Tensor]) -> tuple[float, float]:
    """Return the dev IoU of weights, and the threshold that it takes."""
    network = build(_NETWORK)
    network.load_state_dict(weights)
    point = evaluate_dev(network, task.dev, multiple_px(_NETWORK), "float32")
    return point.iou, point.threshold


def held_out_iou(task: Task, weights: Mapping[str, Tensor], threshold: float) -> float:
    """Return the IoU on pictures that nothing was chosen by, pooled over their pixels."""
    network = build(_NETWORK)
    network.load_state_dict(weights)
    network.eval()
    both = either = 0
    for field in task.held_out:
        with torch.inference_mode():
            called = predict(network, field.intensity, precision="float32") >= threshold
        both += int((called & field.label).sum())
        either += int((called | field.label).sum())
    return both / either


def _pictures() -> list[Any]:
    """Return what the two irradiated micrographs of the paper are drawn by, made small."""
    return [replace(o, pixel_size_nm=_PIXEL_SIZE_NM) for o in small(_SHAPE_PX)[2:]]


def _quarters(options: Any, seed: int) -> list[Field]:
    drawn = draw(options, seed)
    plane = condition(drawn.micrograph.pixels, "bright", _CONDITIONING).astype(np.float32)
    label = drawn.labels[DEFECT]
    half_px = _SHAPE_PX[0] // 2
    fields = []
    for top in (0, half_px):
        for left in (0, half_px):
            region = Region(top, top + half_px, left, left + half_px)
            rows, columns = region.slices
            fields.append(
                Field(
                    image=options.name,
                    region=region,
                    intensity=plane[rows, columns],
                    label=label[rows, columns],
                    ignore=np.zeros(region.shape, bool),
                    calibration=Calibration(_PIXEL_SIZE_NM, "synthesis"),
                )
            )
    return fields
