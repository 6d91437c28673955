"""Stage ``report``: one offline page, Table 1 and the times of all defects."""

from __future__ import annotations

import sys
from pathlib import Path

from defectops.cli.rim import guarded
from defectops.workflows.parameters import load_parameters
from defectops.workflows.reporting import report


def main() -> None:
    """Run the stage in the project's folder."""
    root = Path()
    report(root, list(load_parameters(root).defects.values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
