"""Stage ``evaluate``: the champion of one defect on dev and test; no other stage opens test."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.views import ViewOptions
from defectops.workflows.evaluating import evaluate
from defectops.workflows.parameters import load_parameters


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    parameters = load_parameters(Path())
    conditioning = parameters.options("prepare", defect, ConditioningOptions)
    views = parameters.options("views", defect, ViewOptions)
    evaluate(Path(), parameters.defect(defect), conditioning, views)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
