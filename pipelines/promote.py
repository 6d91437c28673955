"""Stage ``promote``: judge the trained model of one defect; make it champion if it passes."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.experiments.champions import places_of
from defectops.experiments.promotion import PromotionOptions
from defectops.measurement.quantities import MeasureOptions
from defectops.workflows.after_promotion import tell
from defectops.workflows.parameters import load_parameters
from defectops.workflows.promoting import promote_on_repro
from defectops.workflows.stores import open_stores


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    root = Path()
    parameters = load_parameters(root)
    options = parameters.options("promotion", defect, PromotionOptions)
    stores = open_stores(root)
    measuring = parameters.options("quantify", defect, MeasureOptions)
    kind = parameters.defect(defect)
    verdict = promote_on_repro(root, kind, options, stores.tracker, stores.movable, measuring)
    sys.stderr.write(f"{defect} {verdict.outcome}: {verdict.reason}\n")
    told = tell(places_of(root, kind.key), options.after) if stores.movable is not None else []
    for warning in told:
        sys.stderr.write(f"{kind.model_name}: N_AFTER: {warning}\n")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
