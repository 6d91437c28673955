"""Which models there are: versions of a bundle with their numbers, and names that point to one.

`Registry` is the port. `mlflow_registry.MlflowRegistry` keeps versions in MLflow,
`RecordingRegistry` here in memory; both pass the same tests. A registry deals in files and
numbers: it takes a bundle's path and hands one back, and never looks inside.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from defectops.atomic import replacing
from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments import mlflow_model
from defectops.experiments.tracking import finite

BUNDLE = mlflow_model.BUNDLE
CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Parameters
    ----------
    model : str
        For example ``defectops-voids``.
    number : int
        From 1.
    run_id : str
        The run that trained it; empty if unknown.
    sha256 : str
        Digest of the bundle.
    metrics : mapping of str to float
        As logged at registration; undefined ones are absent.
    tags : mapping of str to str
    card : str
        Its model card as registered, Markdown; empty if it has none.
    """

    model: str
    number: int
    run_id: str
    sha256: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    card: str = ""


class Registry(Protocol):
    """Where versions of models are kept.

    Every method raises `EnvironmentFault` when the store is away, full or read-only.
    """

    def submit(
        self,
        model: str,
        bundle: Path,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        card: str = "",
    ) -> int:
        """Register a bundle and return its version number.

        The same bytes give the same version again: numbers, tags and card of the first time stay.
        A version is listed only when its upload was read back and found right. The card, Markdown,
        lies beside the bundle and is shown with the version.
        """
        ...

    def versions(self, model: str) -> list[Version]:
        """Return all versions, oldest first; empty for a model nobody registered."""
        ...

    def version(self, model: str, number: int) -> Version:
        """Return one version; `InputRefused` when there is none."""
        ...

    def find(self, model: str, sha256: str) -> int | None:
        """Return the version with this digest, None if there is none."""
        ...

    def alias(self, model: str, alias: str) -> int | None:
        """Return the version an alias points to, None if it points nowhere."""
        ...

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Point an alias to a version, or nowhere."""
        ...

    def set_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        """Write tags on a version beside or over those it has; `InputRefused` without it."""
        ...

    def fetch(self, model: str, number: int, into: Path) -> Path:
        """Copy a version's bundle into a folder and return its path; `IntegrityFault` if damaged.

        A file of that name is replaced whole or not at all.
        """
        ...

    def fetch_folder(self, model: str, number: int, into: Path) -> Path:
        """Copy the whole stored folder of a version, its MLflow model, and return where it is.

        `into` is new or empty. Nothing is checked here, see `mlflow_model_check`;
        `IntegrityFault` if the folder is gone.
        """
        ...


def digest(bundle: Path) -> str:
    """Return the SHA-256 of a bundle, by which it is known everywhere.

    Raises
    ------
    InputRefused
        No such file.
    """
    try:
        with bundle.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputRefused(
            bundle, "E_NO_BUNDLE", f"cannot be read: {error.strerror}; train the model first"
        ) from error


def require_digest(bundle: Path, sha256: str, subject: str) -> None:
    """Raise `IntegrityFault` unless a bundle has the digest that was recorded for it."""
    found = digest(bundle)
    if found != sha256:
        raise IntegrityFault(
            subject,
            "E_DIGEST",
            f"recorded as sha256 {sha256[:12]}, found {found[:12]}: the stored bundle was changed "
            "or damaged; restore it (dvc pull, backup) or roll back to another version",
        )


def place(source: Path, sha256: str, into: Path, subject: str) -> Path:
    """Copy a bundle into a folder, whole or not at all, once its digest is found right."""
    target = into / BUNDLE
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        require_digest(temporary, sha256, subject)
    return target


def no_such_version(model: str, number: int) -> InputRefused:
    """Return the error for a version that the registry does not hold."""
    return InputRefused(
        f"{model}/{number}",
        "E_VERSION",
        "no such version in this registry; see `defectops models list`",
    )


class RecordingRegistry:
    """A registry that keeps everything in memory: for tests, and where MLflow is not wanted.

    Attributes
    ----------
    stored : dict
        (model, number) to the bytes of the bundle.
    """

    def __init__(self) -> None:
        self._versions: dict[str, list[Version]] = {}
        self.stored: dict[tuple[str, int], bytes] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def submit(
        self,
        model: str,
        bundle: Path,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        card: str = "",
    ) -> int:
        """See `Registry.submit`."""
        sha256 = digest(bundle)
        known = self.find(model, sha256)
        if known is not None:
            return known
        rows = self._versions.setdefault(model, [])
        number = len(rows) + 1
        self.stored[model, number] = bundle.read_bytes()
        rows.append(Version(model, number, run_id, sha256, finite(metrics), dict(tags), card))
        return number

    def versions(self, model: str) -> list[Version]:
        """See `Registry.versions`."""
        return list(self._versions.get(model, []))

    def version(self, model: str, number: int) -> Version:
        """See `Registry.version`."""
        for row in self.versions(model):
            if row.number == number:
                return row
        raise no_such_version(model, number)

    def find(self, model: str, sha256: str) -> int | None:
        """See `Registry.find`."""
        return next((v.number for v in self.versions(model) if v.sha256 == sha256), None)

    def alias(self, model: str, alias: str) -> int | None:
        """See `Registry.alias`."""
        return self._aliases.get((model, alias))

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """See `Registry.set_alias`."""
        if number is None:
            self._aliases.pop((model, alias), None)
        else:
            self._aliases[model, alias] = self.version(model, number).number

    def set_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        """See `Registry.set_tags`."""
        version = self.version(model, number)
        changed = replace(version, tags={**version.tags, **tags})
        self._versions[model][number - 1] = changed

    def fetch(self, model: str, number: int, into: Path) -> Path:
        """See `Registry.fetch`."""
        version = self.version(model, number)
        target = into / BUNDLE
        with replacing(target) as temporary:
            temporary.write_bytes(self.stored[model, number])
            require_digest(temporary, version.sha256, f"{model}/{number}")
        return target

    def fetch_folder(self, model: str, number: int, into: Path) -> Path:
        """See `Registry.fetch_folder`."""
        card = self.version(model, number).card
        with tempfile.TemporaryDirectory(prefix="defectops-") as scratch:
            bundle = Path(scratch) / BUNDLE
            bundle.write_bytes(self.stored[model, number])
            return mlflow_model.write_mlflow_model(bundle, into, card=card)
