"""Find where a trial's or a version's weights come from, in the exported studies and the stores."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments.lineage import (
    Branch,
    Member,
    ancestry,
    breaks,
    by_digest,
    exported_members,
    family,
    forest,
    members_of,
    timed,
)
from defectops.experiments.studies import read_study
from defectops.experiments.study_store import DATABASE, FOLDER
from defectops.workflows.parameters import load_parameters
from defectops.workflows.study_results import result_path

if TYPE_CHECKING:
    from pathlib import Path

    from defectops.experiments.registry import Registry, Version

_SUBJECT = re.compile(r"(?:(?P<model>defectops-\w+)|(?P<defect>\w+))(?:/(?P<number>\d{1,9}))?")


@dataclass(frozen=True)
class Lineage:
    """Where weights come from.

    Parameters
    ----------
    defect : str
    study : str
        Name of the study.
    objective : {"iou", "density", "pareto"}
        Of the study; says what a value is.
    index : int or None
        The trial that was asked for; None if it was the whole study.
    members : tuple of Member
        All trials of the study.
    version : str
        The registered version that was asked for, such as ``defectops-voids/3``; else empty.
    """

    defect: str
    study: str
    objective: str
    index: int | None
    members: tuple[Member, ...]
    version: str = ""

    @property
    def trees(self) -> tuple[Branch, ...]:
        """The family of the trial, or all families of the study."""
        return forest(self.members) if self.index is None else (family(self.members, self.index),)

    @property
    def line(self) -> tuple[int, ...]:
        """Indices from the first ancestor to the trial; empty for a whole study."""
        if self.index is None:
            return ()
        return tuple(m.index for m in ancestry(self.members, self.index))

    @property
    def broken(self) -> tuple[str, ...]:
        """Links whose weights are not those that the parent left, among what is shown."""
        shown = {branch.member.index for tree in self.trees for _, branch in tree.walk()}
        return breaks([m for m in self.members if m.index in shown])


@dataclass(frozen=True)
class Recorded:
    """A version whose study is not here, as far as its own tags tell.

    Parameters
    ----------
    version : Version
    line : tuple of (int, str)
        Trials from the first ancestor to its own with the digests of their weights; empty for a
        version that no study made, which was trained from random weights.
    """

    version: Version
    line: tuple[tuple[int, str], ...] = ()


def find_lineage(
    root: Path, subject: str, registry: Callable[[], Registry], storage: str = ""
) -> Lineage | Recorded:
    """Return the lineage of a trial, a version, or a whole study.

    Parameters
    ----------
    root : Path
        The project's folder.
    subject : str
        ``voids/7`` is trial 7 of that defect's study, ``defectops-voids/3`` a registered version,
        ``voids`` the whole study.
    registry : callable
        Opens the registry; called for versions only.
    storage : str
        Address of the study store; empty for the project's own file.

    Returns
    -------
    Lineage or Recorded
        From ``studies/<defect>.json``, with seconds where the study store has the same trials; from
        the store alone where there is no such file, or where it holds another study.

    Raises
    ------
    InputRefused
        Not such a name (``E_USAGE``), no study (``E_STUDY``), no such trial (``E_TRIAL``) or
        version (``E_VERSION``).
    IntegrityFault
        The exported file cannot be read (``E_RESULT``), or the tags of a version contradict each
        other (``E_DIGEST``).
    """
    found = _SUBJECT.fullmatch(subject)
    if found is None or (found["model"] and found["number"] is None):
        raise InputRefused(
            subject,
            "E_USAGE",
            "must be a trial (precipitates/7), a version (defectops-precipitates/3) or a defect "
            "type (precipitates)",
        )
    number = None if found["number"] is None else int(found["number"])
    parameters = load_parameters(root)
    if found["model"] is None:
        study = _study(root, parameters.defect(found["defect"]).key, "", storage)
        if number is not None:
            ancestry(study.members, number)  # refuses an unknown one
        return _asked(study, number)
    defect = parameters.defect(found["model"].removeprefix("defectops-"))
    version = registry().version(defect.model_name, int(found["number"]))
    return _of_version(root, defect.key, version, storage)


def _of_version(root: Path, defect: str, version: Version, storage: str) -> Lineage | Recorded:
    if "study" not in version.tags:
        return Recorded(version)
    name = f"{version.model}/{version.number}"
    line = tuple(zip(_tag(version, "trials", int), _tag(version, "sha256", str), strict=False))
    if not line or line[-1] != (int(version.tags["trial"]), version.sha256):
        raise IntegrityFault(
            name,
            "E_DIGEST",
            "the line of weights in its tags does not end at its own; the registry was edited",
        )
    try:
        study = _study(root, defect, version.tags["study"], storage)
    except InputRefused:
        return Recorded(version, line)
    # By digest: studies begun anew share a name, and this may be of an earlier one.
    trial = by_digest(study.members, version.sha256)
    return Recorded(version, line) if trial is None else _asked(study, trial.index, name)


def _tag(version: Version, name: str, kind: Callable[[str], Any]) -> list[Any]:
    text = version.tags.get(f"lineage.{name}", "")
    return [kind(part) for part in text.split(" > ")] if text else []


def _asked(study: Lineage, index: int | None, version: str = "") -> Lineage:
    return Lineage(study.defect, study.study, study.objective, index, study.members, version)


def _study(root: Path, defect: str, name: str, storage: str) -> Lineage:
    """Return a whole study: the exported one, or that of the store; `name` empty is the newest."""
    exported = _exported(root, defect)
    stored = _stored(root, name or defect, storage)
    if exported is not None and (not name or stored is None or _same(exported, stored)):
        if stored is None:
            return exported
        members = timed(exported.members, stored.members)
        return Lineage(defect, stored.study, exported.objective, None, members)
    if stored is None:
        raise InputRefused(
            name or defect,
            "E_STUDY",
            f"no such study here; begin one with `defectops tune --defect {defect}`",
        )
    return stored


def _same(one: Lineage, other: Lineage) -> bool:
    """Return whether two studies have the same trials, as far as both know them."""
    left = {m.checkpoint_sha256 for m in one.members}
    return left == {m.checkpoint_sha256 for m in other.members}


def _exported(root: Path, defect: str) -> Lineage | None:
    path = result_path(root, defect)
    if not path.is_file():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows, objective = content["trials"], str(content["plan"]["objective"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityFault(
            path.name, "E_RESULT", f"cannot be read ({error!r}); take the file back from git"
        ) from error
    return Lineage(defect, defect, objective, None, exported_members(rows, path.name))


def _stored(root: Path, name: str, storage: str) -> Lineage | None:
    """Return a study of the store, None if it is not there; no store is made."""
    if not storage and not (root / FOLDER / DATABASE).is_file():
        return None
    try:
        state, plan = read_study(root, storage, name)
    except InputRefused:
        return None
    return Lineage(plan.defect, state.name, plan.objective, None, members_of(state.trials))
