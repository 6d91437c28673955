"""Stage ``report``: one offline page, Table 1 and the times of all defects."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops import settings
from defectops.cli.rim import guarded
from defectops.defects import register
from defectops.workflows.reporting import report


def main() -> None:
    """Run the stage in the project's folder."""
    params = settings.load_yaml(settings.PARAMS)
    report(Path(), list(register(params.get("defects") or {}).values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
