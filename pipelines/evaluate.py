"""Stage ``evaluate``: the champion of one defect on dev and test; no other stage opens test."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.workflows.evaluating import evaluate
from defectops.workflows.parameters import load_parameters


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    evaluate(Path(), load_parameters(Path()).defect(defect))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
