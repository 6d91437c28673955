"""Stage ``split``: train, dev, test and gate of one defect, with the leak audit."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops import settings
from defectops.cli.rim import guarded
from defectops.dataset.splits import SplitOptions
from defectops.defects import register
from defectops.workflows.splitting import split


def main(defect: str) -> None:
    """Run the stage in the project's folder, for one of the defects of ``params.yaml``."""
    params = settings.load_yaml(settings.PARAMS)
    kinds = register(params.get("defects") or {})
    if defect not in kinds:
        raise settings.unknown_key("params.yaml: defects", defect, list(kinds))
    section = params.get("split") or {}
    merged = {**(section.get("default") or {}), **(section.get(defect) or {})}
    split(
        Path(), kinds[defect], settings.read(merged, SplitOptions, f"params.yaml: split.{defect}")
    )


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(*sys.argv[1:])))
