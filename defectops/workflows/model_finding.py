"""A model by whatever it is called: a registered version, a bundle or a folder, opened safely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.defects import DefectType
from defectops.experiments.mlflow_model_check import check_mlflow_model, read_card
from defectops.experiments.registry import CANDIDATE, CHAMPION, PREVIOUS
from defectops.learning.bundle import file_sha256, load_bundle
from defectops.workflows.version_names import parse, resolve

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry, Version
    from defectops.learning.bundle import Bundle

_ALIASES = (CHAMPION, CANDIDATE, PREVIOUS)
# Opened when a version is asked for and not before: a file needs neither project nor MLflow.
Store = Callable[[], tuple[Mapping[str, DefectType], "Registry"]]


@dataclass(frozen=True, eq=False)
class FoundModel:
    """A model that was found and whose bundle was read.

    Parameters
    ----------
    name : str
        ``defectops-voids/7``, or the path as given.
    defect : DefectType
    path : Path
        Of the bundle, for as long as the folder it was fetched into.
    sha256 : str
    bundle : Bundle
    version : Version or None
        None where a path was given.
    aliases : tuple of str
        Those that point to it now.
    card : str
        Its model card as it was written at registration; empty if it has none.
    """

    name: str
    defect: DefectType
    path: Path
    sha256: str
    bundle: Bundle
    version: Version | None = None
    aliases: tuple[str, ...] = ()
    card: str = ""


def find_model(text: str, store: Store, scratch: Path) -> FoundModel:
    """Find a model and read its bundle.

    Parameters
    ----------
    text : str
        See `version_names.parse`.
    store : callable
        Opens the project's defect types and its registry.
    scratch : Path
        Folder that a version is fetched into.

    Raises
    ------
    InputRefused
        Neither a version nor a path.
    ModelRefused, IntegrityFault
        Unsafe, damaged, or not what was registered.
    """
    name = parse(text)
    if isinstance(name, Path):
        path = check_mlflow_model(name) if name.is_dir() else name
        card = read_card(name) if name.is_dir() else ""
        bundle = load_bundle(path)
        return FoundModel(text, _kind(bundle), path, file_sha256(path), bundle, card=card)
    defects, registry = store()
    defect, version = resolve(name, defects, registry)
    subject = f"{version.model}/{version.number}"
    path = registry.fetch(version.model, version.number, scratch / subject.replace("/", "-"))
    bundle = load_bundle(path, version.sha256)
    aliases = tuple(a for a in _ALIASES if registry.alias(version.model, a) == version.number)
    sha256, card = version.sha256, version.card
    return FoundModel(subject, defect, path, sha256, bundle, version, aliases, card)


def _kind(bundle: Bundle) -> DefectType:
    stated: dict[str, Any] = dict(bundle.defect)
    return DefectType(**stated)
