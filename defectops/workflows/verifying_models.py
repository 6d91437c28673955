"""Is a model what it was, and does it answer as it did? A registered version, a file or a folder.

Nothing that is looked at here is run: a folder's texts are compared with those we write, weights
are read as numbers, and the network is built by our own code.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import IntegrityFault
from defectops.experiments.champions import places_of, read_champion
from defectops.experiments.mlflow_model_check import check_mlflow_model
from defectops.experiments.registry import require_digest
from defectops.learning.bundle import file_sha256, load_bundle
from defectops.learning.verifying import FROZEN_TOLERANCE, require_frozen_answer

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.registry import Registry, Version
    from defectops.learning.bundle import Bundle


@dataclass(frozen=True)
class Check:
    """One thing that was found right, in words: what was asked and what was found."""

    what: str
    found: str


@dataclass(frozen=True)
class Verified:
    """A model with which nothing is wrong.

    Parameters
    ----------
    subject : str
        The version or the path.
    sha256 : str
        Of the bundle.
    frozen_difference : float
        How far its answer to its own test is from the recorded one, as a probability.
    checks : tuple of Check
    """

    subject: str
    sha256: str
    frozen_difference: float
    checks: tuple[Check, ...]


def verify_path(path: Path, sha256: str | None = None) -> Verified:
    """Check a ``.safetensors`` file or the folder of an MLflow model; needs no MLflow.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        Digest the bundle must have.

    Raises
    ------
    ModelRefused
        Unsafe, damaged, of another form, or without a test of its own.
    IntegrityFault
        ``E_DIGEST``: another digest. ``E_FROZEN``: it answers its own test otherwise.
    """
    checks, file = [], path
    if path.is_dir():
        file = check_mlflow_model(path)
        checks.append(_folder_is_ours())
    return _verified(str(path), file, sha256, checks)


def verify_version(
    root: Path, defect: DefectType, version: Version, registry: Registry
) -> Verified:
    """Check a registered version: its stored folder, its bundle, and the champion file if it is it.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    version : Version
    registry : Registry

    Raises
    ------
    ModelRefused, IntegrityFault
        As in `verify_path`; also where tags or champion file say otherwise than the bundle.
    """
    subject = f"{version.model}/{version.number}"
    with tempfile.TemporaryDirectory(prefix="defectops-") as scratch:
        into = Path(scratch) / f"{version.model}-{version.number}"
        folder = registry.fetch_folder(version.model, version.number, into)
        file = check_mlflow_model(folder)
        found = _verified(subject, file, version.sha256, [_folder_is_ours()])
        bundle = load_bundle(file, version.sha256)
    checks = (
        *found.checks,
        *_tags_agree(subject, version, bundle),
        _champion_agrees(root, defect, version, bundle),
    )
    return Verified(subject, found.sha256, found.frozen_difference, checks)


def _verified(subject: str, file: Path, sha256: str | None, checks: list[Check]) -> Verified:
    bundle = load_bundle(file)
    if sha256 is not None:
        require_digest(file, sha256, subject)
    found = file_sha256(file)
    difference = require_frozen_answer(bundle, subject)
    said = "as recorded" if sha256 is not None else "nothing recorded to compare it with"
    checks = [
        *checks,
        Check("safetensors", f"form, types, finite weights; {bundle.spec.architecture} takes them"),
        Check("digest", f"sha256 {found[:12]}, {said}"),
        Check("frozen test", f"differs by {difference:.1g}, {FROZEN_TOLERANCE:g} is allowed"),
    ]
    return Verified(subject, found, difference, tuple(checks))


def _folder_is_ours() -> Check:
    return Check(
        "MLflow folder", "loader, signature and requirements are ours, nothing beside them"
    )


def _tags_agree(subject: str, version: Version, bundle: Bundle) -> list[Check]:
    """Compare what the registry says in tags with what the bundle says itself."""
    own = {"threshold": repr(bundle.threshold), "data_sha256": bundle.training.get("data_sha256")}
    known = {tag: value for tag, value in own.items() if tag in version.tags}
    for tag, value in known.items():
        if version.tags[tag] != value:
            raise IntegrityFault(
                subject,
                "E_DIGEST",
                f"its tag {tag} is {version.tags[tag]!r}, its bundle says {value!r}; the tag was "
                "changed: set it back",
            )
    return [Check("tags", f"{', '.join(known)}: as the bundle says")] if known else []


def _champion_agrees(root: Path, defect: DefectType, version: Version, bundle: Bundle) -> Check:
    places = places_of(root, defect.key)
    champion = read_champion(places)
    if champion.sha256 != version.sha256:
        return Check("champion", "is another version" if champion.sha256 else "nobody")
    if champion.threshold != bundle.threshold:
        raise IntegrityFault(
            places.file.name,
            "E_CHAMPION",
            f"says threshold {champion.threshold}, the champion's bundle {bundle.threshold}; "
            "restore the file from git",
        )
    if not places.bundle.is_file():
        return Check("champion", "is this version; its bundle is not here (`dvc pull`)")
    require_digest(places.bundle, version.sha256, f"champions/{defect.key}/{places.bundle.name}")
    return Check("champion", "is this version: file and bundle agree")
