"""What MLflow loads when somebody asks it for one of our models: no pickle, our own reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defectops.imaging.conditioning import ConditioningOptions, condition
from defectops.learning import machine
from defectops.learning.bundle import Bundle, load_bundle
from defectops.learning.inference import as_model
from defectops.settings import read

if TYPE_CHECKING:
    from defectops.defects import Polarity
    from defectops.micrograph import Array


class ServedModel:
    """A bundle with the one method that ``mlflow.pyfunc`` calls."""

    def __init__(self, bundle: Bundle) -> None:
        self.model = as_model(bundle)

    def predict(self, micrograph: Any, params: dict[str, Any] | None = None) -> Array:
        """Return the probability of the defect at each pixel.

        Parameters
        ----------
        micrograph : array_like of real numbers, shape (H, W)
            Intensities as recorded; conditioned here as the training data were.
        params : dict, optional
            Accepted because MLflow passes it; there are none.

        Returns
        -------
        ndarray of float32, shape (H, W)
        """
        bundle = self.model.bundle
        polarity: Polarity = "dark" if bundle.defect["polarity"] == "dark" else "bright"
        options = read(bundle.conditioning, ConditioningOptions, "model: conditioning")
        return self.model.probability(condition(np.asarray(micrograph), polarity, options))


def _load_pyfunc(path: str) -> ServedModel:
    """Load ``model.safetensors``; named by the MLmodel file as its loader."""
    machine.settle()
    return ServedModel(load_bundle(Path(path)))
