"""The two stores of a project, opened: its runs and its registered models."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from defectops import settings
from defectops.experiments.mlflow_registry import MlflowRegistry
from defectops.experiments.mlflow_tracking import MlflowTracker


class Stores(NamedTuple):
    """Where runs are recorded and models registered."""

    tracker: MlflowTracker
    registry: MlflowRegistry

    @property
    def movable(self) -> MlflowRegistry | None:
        """The registry for stages; None inside ``dvc exp run``, where nothing moves."""
        return None if settings.inside_experiment() else self.registry


def open_stores(root: Path) -> Stores:
    """Return the stores of the project in a folder, a server's if ``MLFLOW_TRACKING_URI`` is set.

    Raises
    ------
    EnvironmentFault
        The store is away, full or read-only.
    """
    tracker = MlflowTracker(settings.tracking_uri(root), root)
    return Stores(tracker, MlflowRegistry(tracker))
