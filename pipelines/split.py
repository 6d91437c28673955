"""Stage ``split``: train, dev, test and gate of one defect, with the leak audit."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.dataset.splits import SplitOptions
from defectops.workflows.parameters import load_parameters
from defectops.workflows.splitting import split


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    root = Path()
    parameters = load_parameters(root)
    kind = parameters.defect(defect)
    split(root, kind, parameters.options("split", defect, SplitOptions))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
