"""Stage ``quantify``: densities and sizes of one defect, from label, prediction and truth."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.imaging.conditioning import ConditioningOptions
from defectops.learning.views import ViewOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.measurement.strength import Material
from defectops.workflows.parameters import load_parameters
from defectops.workflows.quantifying import quantify


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    parameters = load_parameters(Path())
    options = parameters.options("quantify", defect, MeasureOptions)
    conditioning = parameters.options("prepare", defect, ConditioningOptions)
    material = parameters.options("material", defect, Material)
    views = parameters.options("views", defect, ViewOptions)
    quantify(Path(), parameters.defect(defect), options, conditioning, material, views)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
