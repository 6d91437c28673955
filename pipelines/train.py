"""Stage ``train``: the model of one defect, recorded as a run."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops import settings
from defectops.cli.progress import training_progress
from defectops.cli.rim import guarded
from defectops.experiments.mlflow_tracking import MlflowTracker
from defectops.imaging.conditioning import ConditioningOptions
from defectops.workflows.parameters import load_parameters
from defectops.workflows.train_settings import read_train_settings
from defectops.workflows.training import Shells, train


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    root = Path()
    parameters = load_parameters(root)
    where = f"params.yaml: train.{defect}"
    chosen = read_train_settings(parameters.merged("train", defect), where)
    conditioning = parameters.options("prepare", defect, ConditioningOptions)
    tracker = MlflowTracker(settings.tracking_uri(root), root)
    with training_progress(defect, chosen.training.epochs) as listen:
        shells = Shells(tracker, listen)
        train(root, parameters.defect(defect), chosen, conditioning, shells)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
