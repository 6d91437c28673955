"""Stage ``prepare``: condition the micrographs of one defect."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.imaging.conditioning import ConditioningOptions
from defectops.workflows.parameters import load_parameters
from defectops.workflows.preparing import prepare


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    root = Path()
    parameters = load_parameters(root)
    kind = parameters.defect(defect)
    prepare(root, kind, parameters.options("prepare", defect, ConditioningOptions))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
