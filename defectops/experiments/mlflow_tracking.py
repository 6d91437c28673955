"""Runs recorded in MLflow: a SQLite file by default, or any tracking server.

Only `MlflowClient` is used, never the fluent interface with its one active run, so two runs of
one process cannot mix.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defectops.atomic import replacing
from defectops.experiments.mlflow_store import (
    artifact_location,
    is_server,
    one_line_faults,
    open_client,
)
from defectops.experiments.ownership import this_process
from defectops.experiments.tracking import (
    REASON,
    Ending,
    Run,
    as_text,
    finite,
    no_such_artifact,
    no_such_run,
    refuse_changed,
    short_reason,
)

_PAGE = 1000
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class MlflowTracker:
    """A `Tracker` on MLflow.

    Parameters
    ----------
    uri : str
        Where runs are recorded, see `settings.tracking_uri`.
    root : Path
        The project folder; a database keeps artifacts in ``mlartifacts`` there. A server keeps
        them where its operator says.
    """

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self.root = root
        self.client: Any = open_client(uri, root)
        self._experiments: dict[str, str] = {}
        self._entities: Any = importlib.import_module("mlflow.entities")

    def start(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> str:
        """See `Tracker.start`."""
        owned = {**tags, **this_process().tags(), "mlflow.runName": name}
        with one_line_faults(self.uri):
            run = self.client.create_run(self._experiment(experiment), tags=owned, run_name=name)
            run_id = str(run.info.run_id)
        self.params(run_id, params)
        return run_id

    def reopen(self, run_id: str) -> None:
        """See `Tracker.reopen`."""
        self.tags(run_id, this_process().tags())
        with one_line_faults(self.uri):
            self.client.update_run(run_id, status="RUNNING")

    def params(self, run_id: str, values: Mapping[str, object]) -> None:
        """See `Tracker.params`."""
        before, after = self.run(run_id).params, as_text(values)
        refuse_changed(before, after)
        new = [self._entities.Param(k, v) for k, v in after.items() if k not in before]
        self._log(run_id, params=new)

    def metrics(self, run_id: str, values: Mapping[str, float], step: int) -> None:
        """See `Tracker.metrics`."""
        now = int(time.time() * 1000)
        points = [self._entities.Metric(k, v, now, step) for k, v in finite(values).items()]
        self._log(run_id, metrics=points)

    def tags(self, run_id: str, values: Mapping[str, str]) -> None:
        """See `Tracker.tags`."""
        self._log(run_id, tags=[self._entities.RunTag(k, v) for k, v in values.items()])

    def artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """See `Tracker.artifact`."""
        with one_line_faults(self.uri):
            self.client.log_artifact(run_id, str(path), folder or None)

    def fetch(self, run_id: str, name: str, into: Path) -> Path:
        """See `Tracker.fetch`."""
        self.run(run_id)  # refuses an unknown one
        target = into / Path(name).name
        with replacing(target) as temporary, tempfile.TemporaryDirectory() as scratch:
            with one_line_faults(self.uri):
                try:
                    copy = self.client.download_artifacts(run_id, name, scratch)
                except Exception as error:
                    if isinstance(error, OSError) or error_code(error) in _ABSENT:
                        raise no_such_artifact(run_id, name) from error
                    raise
            shutil.copyfile(copy, temporary)
        return target

    def dataset(self, run_id: str, name: str, digest: str, source: str, context: str) -> None:
        """See `Tracker.dataset`. MLflow shows it as an input of the run."""
        entities = self._entities
        made = entities.Dataset(name, digest[:36], "dvc", source)
        tag = entities.InputTag("mlflow.data.context", context)
        with one_line_faults(self.uri):
            self.client.log_inputs(run_id, [entities.DatasetInput(made, [tag])])

    def finish(self, run_id: str, status: Ending, reason: str = "") -> None:
        """See `Tracker.finish`."""
        if reason:
            self.tags(run_id, {REASON: short_reason(reason)})
        with one_line_faults(self.uri):
            self.client.set_terminated(run_id, status)

    def run(self, run_id: str) -> Run:
        """See `Tracker.run`."""
        with one_line_faults(self.uri):
            try:
                found = self.client.get_run(run_id)
            except Exception as error:
                if error_code(error) in _ABSENT:
                    raise no_such_run(run_id) from error
                raise
            return self._as_run(found)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """See `Tracker.history`."""
        with one_line_faults(self.uri):
            points = self.client.get_metric_history(run_id, metric)
        return sorted((int(p.step), float(p.value)) for p in points)

    def running(self) -> list[Run]:
        """See `Tracker.running`."""
        with one_line_faults(self.uri):
            known = [e.experiment_id for e in all_pages(self.client.search_experiments)]
            if not known:
                return []
            found = all_pages(
                lambda **page: self.client.search_runs(
                    known, "attributes.status = 'RUNNING'", **page
                )
            )
            return [self._as_run(run) for run in found]

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment; make it if nobody has."""
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            self._experiments[name] = found.experiment_id if found else self._create(name)
        return self._experiments[name]

    def _create(self, name: str) -> str:
        place = None if is_server(self.uri) else artifact_location(self.root)
        try:
            made = self.client.create_experiment(name, artifact_location=place)
        except Exception as error:
            if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
            # Another process was faster between our question and our answer.
            made = self.client.get_experiment_by_name(name).experiment_id
        return str(made)

    def _log(self, run_id: str, **rows: list[Any]) -> None:
        with one_line_faults(self.uri):
            for kind, values in rows.items():
                for i in range(0, len(values), 100):  # MLflow's limit for parameters and tags
                    self.client.log_batch(run_id, **{kind: values[i : i + 100]})

    def _as_run(self, found: Any) -> Run:
        info, data = found.info, found.data
        return Run(
            str(info.run_id),
            self._name(str(info.experiment_id)),
            str(info.run_name),
            info.status,
            dict(data.params),
            dict(data.tags),
            dict(data.metrics),
        )

    def _name(self, experiment_id: str) -> str:
        for name, known in self._experiments.items():
            if known == experiment_id:
                return name
        name = str(self.client.get_experiment(experiment_id).name)
        self._experiments[name] = experiment_id
        return name


def error_code(error: Exception) -> str:
    """Return MLflow's code of an error; empty for the errors of others."""
    return str(getattr(error, "error_code", ""))


def all_pages(search: Any) -> list[Any]:
    """Return all results of a paged search of MLflow's client."""
    found: list[Any] = []
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
