"""What a warm trial hands on: its best weights, or those halfway to its parent's if better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from defectops.learning.averaging import halfway
from defectops.learning.inference import LoadedModel, to_device
from defectops.learning.networks import multiple_px
from defectops.learning.training import evaluate_dev
from defectops.learning.verifying import freeze

if TYPE_CHECKING:
    from defectops.learning.bundle import Bundle
    from defectops.learning.machine import Precision
    from defectops.micrograph import Field


def better_half(
    found: tuple[LoadedModel, float],
    parent: Bundle,
    train: Sequence[Field],
    dev: Sequence[Field],
    precision: Precision,
) -> tuple[LoadedModel, float]:
    """Return the model halfway between a trial's and its parent's, if it is better on dev.

    It costs one look at the dev side, which is less than an epoch.

    Parameters
    ----------
    found : (LoadedModel, float)
        Best weights of the trial, and their dev IoU.
    parent : Bundle
        What the trial started from.
    train, dev : sequence of Field
    precision : {"auto", "float32", "bfloat16"}

    Returns
    -------
    (LoadedModel, float)
        `found` itself if it is at least as good; else its metrics have the new ``dev_iou`` and
        ``threshold``, and ``halfway`` 1.
    """
    bundle = found[0].bundle
    middle = replace(bundle, weights=halfway(parent.weights, bundle.weights))
    network = to_device(middle.network())
    point = evaluate_dev(network, dev, multiple_px(bundle.spec), precision)
    if point.iou <= found[1]:
        return found
    metrics = bundle.training["metrics"]
    told = {**metrics, "dev_iou": round(point.iou, 6), "threshold": point.threshold, "halfway": 1}
    middle = replace(
        middle, threshold=point.threshold, training={**bundle.training, "metrics": told}
    )
    middle = freeze(middle, train)
    return LoadedModel(middle, network), point.iou
