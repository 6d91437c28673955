"""What a wrong pixel costs: losses of logits against labels, all with pixels that do not count.

Shapes throughout: `logits`, `label` and `valid` are (N, 1, H, W); `label` is 0 or 1, `valid` is 0
where a pixel is ignored. A batch without a valid pixel costs 0.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from defectops.errors import SettingsRefused

LossName = Literal["weighted_cross_entropy", "dice", "tversky", "focal", "cldice"]

_SOFT_SKELETON_STEPS = 5


def segmentation_loss(
    name: LossName, logits: Tensor, label: Tensor, valid: Tensor, positive_weight: float
) -> Tensor:
    """Return the loss called `name` as a scalar.

    Parameters
    ----------
    name : str
        ``weighted_cross_entropy`` (the paper's), ``dice``, ``tversky``, ``focal`` or ``cldice``.
    logits, label, valid : Tensor, shape (N, 1, H, W)
    positive_weight : float
        Factor on what a positive pixel costs in the cross-entropy; the overlap losses add that
        cross-entropy at a half, so that they have a gradient when nothing overlaps yet.

    Raises
    ------
    SettingsRefused
        Unknown name.
    """
    if name not in get_args(LossName):
        raise SettingsRefused(
            "loss", "E_CONFIG", f"unknown loss {name!r}; allowed: {', '.join(get_args(LossName))}"
        )
    if name == "weighted_cross_entropy":
        return weighted_cross_entropy(logits, label, valid, positive_weight)
    if name == "focal":
        return focal(logits, label, valid, positive_weight)
    overlap = {"dice": dice, "tversky": tversky, "cldice": centre_line_dice}[name]
    entropy = weighted_cross_entropy(logits, label, valid, positive_weight)
    return 0.5 * entropy + overlap(logits, label, valid)


def weighted_cross_entropy(
    logits: Tensor, label: Tensor, valid: Tensor, positive_weight: float
) -> Tensor:
    """Return the mean cross-entropy of valid pixels, positive ones scaled by a weight.

    Notes
    -----
    ``mean(-w y log p - (1 - y) log(1 - p))``; Roberts et al. 2019,
    DOI 10.1038/s41598-019-49105-0. Both kinds of pixels count, and the weight is used, which is
    not so in the authors' released code.
    """
    weight = torch.as_tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    cost = functional.binary_cross_entropy_with_logits(
        logits, label, reduction="none", pos_weight=weight
    )
    return _mean(cost, valid)


def focal(
    logits: Tensor, label: Tensor, valid: Tensor, positive_weight: float, gamma: float = 2.0
) -> Tensor:
    """Return the focal loss: pixels that are already right cost little.

    Lin et al. 2017, DOI 10.1109/ICCV.2017.324.
    """
    weight = torch.as_tensor(positive_weight, dtype=logits.dtype, device=logits.device)
    cost = functional.binary_cross_entropy_with_logits(
        logits, label, reduction="none", pos_weight=weight
    )
    wrong = torch.sigmoid(logits) * (1 - label) + torch.sigmoid(-logits) * label
    return _mean(wrong**gamma * cost, valid)


def dice(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Return one minus the soft Dice coefficient of the whole batch.

    Milletari et al. 2016, DOI 10.1109/3DV.2016.79. The Tversky loss with equal costs.
    """
    return tversky(logits, label, valid, missed=0.5, invented=0.5)


def tversky(
    logits: Tensor, label: Tensor, valid: Tensor, missed: float = 0.7, invented: float = 0.3
) -> Tensor:
    """Return one minus the Tversky index; a missed pixel costs more than an invented one.

    Salehi et al. 2017, DOI 10.1007/978-3-319-67389-9_44.
    """
    chance = torch.sigmoid(logits) * valid
    truth = label * valid
    both = (chance * truth).sum()
    cost = missed * (truth - chance * truth).sum() + invented * (chance - chance * truth).sum()
    return 1 - (both + 1) / (both + cost + 1)


def centre_line_dice(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Return one minus the soft centre-line Dice, which rewards unbroken lines.

    Shit et al. 2021, DOI 10.1109/CVPR46437.2021.01629.
    """
    chance = torch.sigmoid(logits) * valid
    truth = label * valid
    chance_line, truth_line = _soft_skeleton(chance), _soft_skeleton(truth)
    correct = ((chance_line * truth).sum() + 1) / (chance_line.sum() + 1)
    complete = ((truth_line * chance).sum() + 1) / (truth_line.sum() + 1)
    return 1 - 2 * correct * complete / (correct + complete)


def l2_penalty(network: nn.Module, factor: float) -> Tensor:
    """Return ``factor / 2`` times the sum of squares of all convolution weights (not biases)."""
    weights = [
        m.weight.square().sum()
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    return 0.5 * factor * torch.stack(weights).sum()


def _mean(cost: Tensor, valid: Tensor) -> Tensor:
    return (cost * valid).sum() / valid.sum().clamp(min=1)


def _soft_skeleton(mask: Tensor) -> Tensor:
    thin = functional.relu(mask - _opened(mask))
    for _ in range(_SOFT_SKELETON_STEPS):
        mask = _eroded(mask)
        rest = functional.relu(mask - _opened(mask))
        thin = thin + functional.relu(rest - thin * rest)
    return thin


def _eroded(mask: Tensor) -> Tensor:
    down = -functional.max_pool2d(-mask, (3, 1), 1, (1, 0))
    across = -functional.max_pool2d(-mask, (1, 3), 1, (0, 1))
    return torch.minimum(down, across)


def _opened(mask: Tensor) -> Tensor:
    return functional.max_pool2d(_eroded(mask), 3, 1, 1)
