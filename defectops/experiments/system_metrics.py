"""How hard the machine works while a run trains, recorded beside its curves."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from defectops.experiments.mlflow_store import quietly
from defectops.experiments.mlflow_tracking import MlflowTracker

if TYPE_CHECKING:
    from defectops.experiments.tracking import Tracker

_SECONDS = 10.0


@contextlib.contextmanager
def system_metrics(tracker: Tracker, run_id: str, seconds: float = _SECONDS) -> Iterator[None]:
    """Record ``system/*`` metrics (processor, memory, disk, network, GPU) while the block runs.

    MLflow's own monitor, so its UI shows them under "System metrics". Without MLflow behind the
    tracker, or without psutil, nothing is recorded. The monitor's thread ends with the block.

    Parameters
    ----------
    tracker : Tracker
    run_id : str
        A running run.
    seconds : float
        Between two samples; the first comes after this time.
    """
    if not isinstance(tracker, MlflowTracker) or importlib.util.find_spec("psutil") is None:
        yield
        return
    with quietly():
        module: Any = importlib.import_module("mlflow.system_metrics.system_metrics_monitor")
        monitor = module.SystemMetricsMonitor(
            run_id, sampling_interval=seconds, resume_logging=True, tracking_uri=tracker.uri
        )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
