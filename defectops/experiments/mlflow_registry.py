"""Versions of models kept in MLflow's registry, each complete before anybody can see it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from defectops.errors import EnvironmentFault, InputRefused, IntegrityFault
from defectops.experiments.locks import locked
from defectops.experiments.mlflow_model import CARD, LOADER, write_mlflow_model
from defectops.experiments.mlflow_store import database_of, one_line_faults, uncollected
from defectops.experiments.mlflow_tracking import MlflowTracker, all_pages
from defectops.experiments.registry import (
    BUNDLE,
    Version,
    digest,
    no_such_version,
    place,
    require_digest,
)
from defectops.experiments.tracking import finite

FOLDER = "bundle"
_LOCK = Path(".defectops/registry.lock")
_SHA256 = "sha256"
_METRIC = "metric."
_TRAINED_BY = "trained_by"
_LONGEST_DESCRIPTION = 5000
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class MlflowRegistry:
    """A `Registry` on MLflow.

    The bundle is uploaded to the run that trained it, read back and compared, and only then does
    a version point to it. MLflow itself accepts a version whose files do not exist
    (mlflow/mlflow#4630).

    Parameters
    ----------
    tracker : MlflowTracker
        The store; runs and versions live in the same one.
    loader : str
        Module that loads the bundle for ``mlflow.pyfunc``.
    """

    def __init__(self, tracker: MlflowTracker, loader: str = LOADER) -> None:
        self.tracker = tracker
        self.client: Any = tracker.client
        self.loader = loader

    def submit(
        self,
        model: str,
        bundle: Path,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        card: str = "",
    ) -> int:
        """See `Registry.submit`.

        A run that the store does not hold (the store was lost, the bundle was not), or that keeps
        another bundle already, is replaced by a new run that keeps this one; the version still
        names the run that trained it.
        """
        sha256 = digest(bundle)
        with self._one_at_a_time():
            known = self.find(model, sha256)
            if known is not None:
                return known
            keeper = self._keeper(model, run_id, sha256)
            self._upload(bundle, keeper, sha256, model, card)
            written = {**tags, _SHA256: sha256, _TRAINED_BY: run_id}
            for key, value in finite(metrics).items():
                written[_METRIC + key] = repr(value)
            return self._create(model, keeper, written, card)

    def versions(self, model: str) -> list[Version]:
        """See `Registry.versions`."""
        return self._search(f"name = '{model}'")

    def version(self, model: str, number: int) -> Version:
        """See `Registry.version`."""
        return _as_version(self._raw(model, number))

    def find(self, model: str, sha256: str) -> int | None:
        """See `Registry.find`."""
        found = self._search(f"name = '{model}' AND tag.{_SHA256} = '{sha256}'")
        return found[0].number if found else None

    def alias(self, model: str, alias: str) -> int | None:
        """See `Registry.alias`."""
        with one_line_faults(self.tracker.uri):
            try:
                # Not the model with all its aliases: MLflow reads all its versions for that.
                found = self.client.get_model_version_by_alias(model, alias)
            except Exception as error:
                if _is(error, *_ABSENT):
                    return None
                raise
        return int(found.version)

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """See `Registry.set_alias`."""
        if number is not None:
            self._raw(model, number)
        elif self.alias(model, alias) is None:
            return
        with one_line_faults(self.tracker.uri):
            if number is None:
                self.client.delete_registered_model_alias(model, alias)
            else:
                self.client.set_registered_model_alias(model, alias, str(number))

    def set_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        """See `Registry.set_tags`."""
        known = dict(self._raw(model, number).tags)
        with one_line_faults(self.tracker.uri):
            for key, value in tags.items():
                if known.get(key) != value:
                    self.client.set_model_version_tag(model, str(number), key, value)

    def fetch(self, model: str, number: int, into: Path) -> Path:
        """See `Registry.fetch`."""
        raw = self._raw(model, number)
        subject = f"{model}/{number}"
        with self._downloaded(raw.run_id, subject) as copy:
            return place(copy, _as_version(raw).sha256, into, subject)

    def fetch_folder(self, model: str, number: int, into: Path) -> Path:
        """See `Registry.fetch_folder`."""
        raw = self._raw(model, number)
        into.mkdir(parents=True, exist_ok=True)
        with self._downloaded(raw.run_id, f"{model}/{number}", FOLDER) as folder:
            shutil.copytree(folder, into, symlinks=True, dirs_exist_ok=True)
        return into

    def _keeper(self, model: str, run_id: str, sha256: str) -> str:
        """Return the run whose artifacts will hold the bundle, see `submit`."""
        if self._knows_run(run_id) and not self._search(f"run_id = '{run_id}'"):
            return run_id
        keeper = self.tracker.start(model, f"bundle {sha256[:12]}", {}, {_TRAINED_BY: run_id})
        self.tracker.finish(keeper, "FINISHED", "keeps a bundle; the tag trained_by says whose")
        return keeper

    def _knows_run(self, run_id: str) -> bool:
        try:
            self.tracker.run(run_id)
        except InputRefused:
            return False
        return True

    def _upload(self, bundle: Path, run_id: str, sha256: str, model: str, card: str) -> None:
        with tempfile.TemporaryDirectory(prefix="defectops-") as scratch:
            folder = write_mlflow_model(bundle, Path(scratch) / FOLDER, self.loader, card=card)
            require_digest(folder / BUNDLE, sha256, str(bundle))
            with one_line_faults(self.tracker.uri):
                self.client.log_artifacts(run_id, str(folder), FOLDER)
        with self._downloaded(run_id, model) as copy:
            require_digest(copy, sha256, model)

    def _create(self, model: str, run_id: str, tags: dict[str, str], card: str) -> int:
        with one_line_faults(self.tracker.uri):
            try:
                self.client.create_registered_model(model)
            except Exception as error:
                if not _is(error, "RESOURCE_ALREADY_EXISTS"):
                    raise
            made = self.client.create_model_version(
                model, f"runs:/{run_id}/{FOLDER}", run_id, tags=tags, description=_shown(card)
            )
        return int(made.version)

    @contextlib.contextmanager
    def _downloaded(
        self, run_id: str, subject: str, what: str = f"{FOLDER}/{BUNDLE}"
    ) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="defectops-") as scratch:
            try:
                path = self.client.download_artifacts(run_id, what, scratch)
            except Exception as error:
                raise _missing(error, subject) from error
            yield Path(path)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        # Between "is it there?" and "make it" nobody else may make it. On a server of several
        # machines the worst case is two versions with the same digest; the lower one is used.
        if database_of(self.tracker.uri) is None:
            yield
        else:
            with locked(self.tracker.root / _LOCK):
                yield

    def _raw(self, model: str, number: int) -> Any:
        with one_line_faults(self.tracker.uri):
            try:
                return self.client.get_model_version(model, str(number))
            except Exception as error:
                if _is(error, *_ABSENT):
                    raise no_such_version(model, number) from error
                raise

    def _search(self, query: str) -> list[Version]:
        with one_line_faults(self.tracker.uri), uncollected():
            found = all_pages(lambda **page: self.client.search_model_versions(query, **page))
        ours = [_as_version(raw) for raw in found if _SHA256 in raw.tags]
        return sorted(ours, key=lambda version: version.number)


def _as_version(raw: Any) -> Version:
    tags = dict(raw.tags)
    metrics = {
        key.removeprefix(_METRIC): float(tags.pop(key))
        for key in sorted(tags)
        if key.startswith(_METRIC)
    }
    sha256 = tags.pop(_SHA256, "")
    run_id = tags.pop(_TRAINED_BY, str(raw.run_id))
    card = str(raw.description or "")
    return Version(str(raw.name), int(raw.version), run_id, sha256, metrics, tags, card)


def _shown(card: str) -> str | None:
    """Return a card as the description of a version, which is short in MLflow's tables."""
    if len(card) <= _LONGEST_DESCRIPTION:
        return card or None
    end = f"\n\n(cut off; the whole card is `{FOLDER}/{CARD}`)\n"
    return card[: _LONGEST_DESCRIPTION - len(end)] + end


def _is(error: Exception, *codes: str) -> bool:
    return getattr(error, "error_code", "") in codes


def _missing(error: Exception, subject: str) -> EnvironmentFault | IntegrityFault:
    """Tell a bundle that is gone from a server that is away."""
    if isinstance(error, OSError) or _is(error, *_ABSENT):
        return IntegrityFault(
            subject, "E_DIGEST", "the store lists this version but its bundle is gone"
        )
    return EnvironmentFault(subject, "E_TRACKING", f"the bundle cannot be read back: {error}")
