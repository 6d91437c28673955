"""Patches of labelled fields as batches: cut, turned, mirrored; the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from defectops.errors import SettingsRefused

if TYPE_CHECKING:
    from defectops.micrograph import Array, Field

_TILED_STREAM, _RANDOM_STREAM = 1, 2


@dataclass(frozen=True)
class PatchOptions:
    """What the network sees in one epoch.

    Parameters
    ----------
    patch_px : int
        Edge of a patch; a multiple of 8.
    batch : int
        Patches a step.
    augmentation : {"random", "exact"}
        ``random`` cuts `patches_per_epoch` patches at random places, each in a random symmetry of
        the square; ``exact`` takes every tile in all eight symmetries, as in the paper.
    patches_per_epoch : int
        With ``random``.
    """

    patch_px: int = 256
    batch: int = 8
    augmentation: Literal["random", "exact"] = "random"
    patches_per_epoch: int = 96

    def __post_init__(self) -> None:
        if self.patch_px < 32 or self.patch_px % 8:
            raise SettingsRefused(
                "train.patch_px",
                "E_CONFIG",
                f"must be a multiple of 8 from 32 on, got {self.patch_px}",
            )
        if min(self.batch, self.patches_per_epoch) < 1:
            raise SettingsRefused(
                "train", "E_CONFIG", "batch and patches_per_epoch must be at least 1"
            )


@dataclass(frozen=True)
class Batch:
    """Patches of one step: image, label (0 or 1) and valid (0 = ignored), each (N, 1, H, W)."""

    image: Tensor
    label: Tensor
    valid: Tensor


def d4(plane: Array, element: int) -> Array:
    """Return one of the eight symmetries of the square.

    Parameters
    ----------
    plane : ndarray, shape (H, W)
    element : int
        0 to 3: turned so many times by 90 degrees clockwise; 4 to 7: mirrored left to right
        after that. Odd elements swap H and W.
    """
    turned = np.rot90(plane, -(element % 4))
    return turned[:, ::-1] if element >= 4 else turned


def epoch_batches(
    fields: Sequence[Field], options: PatchOptions, key: tuple[int, ...]
) -> Iterator[Batch]:
    """Yield the batches of one epoch; see `random_batches` and `tiled_batches`."""
    if options.augmentation == "exact":
        return tiled_batches(fields, patch_px=options.patch_px, batch=options.batch, key=key)
    return random_batches(
        fields,
        patch_px=options.patch_px,
        batch=options.batch,
        count=options.patches_per_epoch,
        key=key,
    )


def random_batches(
    fields: Sequence[Field], *, patch_px: int, batch: int, count: int, key: tuple[int, ...]
) -> Iterator[Batch]:
    """Yield `count` patches in batches, cut at random places, each with a random symmetry.

    Each patch draws from its own generator, seeded by `key` and its index, so that a run that is
    resumed sees what an uninterrupted one would have seen.

    Parameters
    ----------
    fields : sequence of Field
        Large fields are drawn more often, in proportion to their area. Fields smaller than a
        patch are extended by mirroring; what is mirrored does not count.
    patch_px, batch, count : int
        Edge of a patch in pixels, patches a batch, patches in all.
    key : tuple of int
        Seed and epoch.

    Raises
    ------
    SettingsRefused
        No field at all.
    """
    padded = [_padded(f, patch_px) for f in _some(fields)]
    share = np.array([f.intensity.size for f in fields], dtype=float)
    share /= share.sum()
    for start in range(0, count, batch):
        rows = []
        for index in range(start, min(start + batch, count)):
            random = np.random.default_rng([*key, _RANDOM_STREAM, index])
            planes = padded[random.choice(len(padded), p=share)]
            top = int(random.integers(planes[0].shape[0] - patch_px + 1))
            left = int(random.integers(planes[0].shape[1] - patch_px + 1))
            element = int(random.integers(8))
            rows.append((planes, top, left, element))
        yield _batch(rows, patch_px)


def tiled_batches(
    fields: Sequence[Field], *, patch_px: int, batch: int, key: tuple[int, ...]
) -> Iterator[Batch]:
    """Yield every tile of every field in all eight symmetries once, in a shuffled order.

    The paper's augmentation: six fields of 1024 x 1024 give 48, and 192 patches of 512 x 512.
    """
    padded = [_padded(f, patch_px) for f in _some(fields)]
    jobs = [
        (planes, top, left, element)
        for planes in padded
        for top in _starts(planes[0].shape[0], patch_px)
        for left in _starts(planes[0].shape[1], patch_px)
        for element in range(8)
    ]
    order = np.random.default_rng([*key, _TILED_STREAM]).permutation(len(jobs))
    for start in range(0, len(jobs), batch):
        yield _batch([jobs[i] for i in order[start : start + batch]], patch_px)


def _some(fields: Sequence[Field]) -> Sequence[Field]:
    if not fields:
        raise SettingsRefused(
            "train side",
            "E_CONFIG",
            "no labelled field to train on; give some image the side 'train' in the manifest, "
            "or choose another split scheme",
        )
    return fields


def _padded(field: Field, patch_px: int) -> tuple[Array, Array, Array]:
    height, width = field.intensity.shape
    pad = ((0, max(0, patch_px - height)), (0, max(0, patch_px - width)))
    valid = np.pad(~field.ignore, pad)
    return np.pad(field.intensity, pad, mode="symmetric"), np.pad(field.label, pad), valid


def _starts(length: int, patch_px: int) -> list[int]:
    starts = list(range(0, length - patch_px + 1, patch_px))
    if starts[-1] + patch_px < length:
        starts.append(length - patch_px)
    return starts


def _batch(rows: Sequence[tuple[tuple[Array, ...], int, int, int]], patch_px: int) -> Batch:
    stacks: list[list[Array]] = [[], [], []]
    for planes, top, left, element in rows:
        for stack, plane in zip(stacks, planes, strict=True):
            cut = plane[top : top + patch_px, left : left + patch_px]
            stack.append(d4(cut, element).astype(np.float32))
    image, label, valid = (torch.from_numpy(np.stack(s)[:, None]) for s in stacks)
    return Batch(image, label, valid)
