"""Stage ``tune``: the study of one defect, gone on with if it is still the same study."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.cli.tune_live import study_progress
from defectops.cli.tune_progress import Progress
from defectops.workflows.parameters import load_parameters
from defectops.workflows.tune_settings import read_tune_options
from defectops.workflows.tuning import Session, tune


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    root = Path()
    where = f"params.yaml: tune.{defect}"
    chosen = read_tune_options(load_parameters(root).merged("tune", defect), where)
    with study_progress(Progress.of(defect, chosen)) as listen:
        tune(root, defect, chosen, listen, Session(mode="renew"))


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
