"""Stage ``prepare``: condition the micrographs of one defect."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops import settings
from defectops.cli.rim import guarded
from defectops.defects import register
from defectops.imaging.conditioning import ConditioningOptions
from defectops.workflows.preparing import prepare


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    params = settings.load_yaml(settings.PARAMS)
    kinds = register(params.get("defects") or {})
    if defect not in kinds:
        raise settings.unknown_key("params.yaml: defects", defect, list(kinds))
    section = params.get("prepare") or {}
    merged = {**(section.get("default") or {}), **(section.get(defect) or {})}
    options = settings.read(merged, ConditioningOptions, f"params.yaml: prepare.{defect}")
    prepare(Path(), kinds[defect], options)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
