"""Check a settings file section by section before anything runs on it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from defectops.defects import register
from defectops.errors import SettingsRefused
from defectops.settings import load_yaml, read, unknown_key


class Section(NamedTuple):
    """Who reads a section of a settings file: a dataclass or a function, named, loaded late.

    Parameters
    ----------
    module, name : str
        A dataclass, or a function ``(section, defect)`` that reads the whole section.
    by_defect : bool
        Whether the section holds ``default`` and one entry a defect type.
    """

    module: str
    name: str
    by_defect: bool = False


# A new section is one line here; its dataclass lives beside what it steers.
SECTIONS = {
    "prepare": Section("defectops.imaging.conditioning", "ConditioningOptions"),
    "split": Section("defectops.dataset.splits", "SplitOptions", by_defect=True),
    "study": Section("defectops.workflows.checking", "StudyFile"),
    "train": Section("defectops.workflows.train_settings", "read_train_settings", by_defect=True),
}
_DEFECTS = "defects"
_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_MAX_TRIALS = 100_000


@dataclass(frozen=True)
class StudyFile:
    """Section ``study`` of a study file.

    Parameters
    ----------
    name : str
        Letters, digits, ``_``, ``-`` and ``.``; the study is found again by it.
    n_trials : int
        Trials in total, not so many more.
    defect : str or None
    seed : int
    """

    name: str
    n_trials: int
    defect: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not _STUDY_NAME.fullmatch(self.name):
            raise SettingsRefused(
                "study", "E_CONFIG", f"name {self.name!r} must be letters, digits, '_', '-', '.'"
            )
        if not 1 <= self.n_trials <= _MAX_TRIALS:
            raise SettingsRefused(
                "study",
                "E_CONFIG",
                f"n_trials must be from 1 to {_MAX_TRIALS}, got {self.n_trials}",
            )
        if self.seed < 0:
            raise SettingsRefused("study", "E_CONFIG", f"seed must be 0 or more, got {self.seed}")


def check_settings(path: Path) -> list[str]:
    """Check every section of ``params.yaml`` or of a study file.

    Returns
    -------
    list of str
        The sections found, in the order of the file; empty for an empty file.

    Raises
    ------
    SettingsRefused
        ``E_CONFIG``: not plain YAML, an unknown section or key (with the nearest match), a value
        of the wrong kind or out of range.
    """
    data = load_yaml(path)
    for name in data:
        if name != _DEFECTS and name not in SECTIONS:
            raise unknown_key(str(path), str(name), [_DEFECTS, *SECTIONS])
    try:
        defects = register(_mapping(_DEFECTS, data.get(_DEFECTS)))
        for name, section in data.items():
            if name != _DEFECTS:
                _check(name, _mapping(name, section), list(defects))
    except SettingsRefused as error:
        raise SettingsRefused(f"{path}: {error.subject}", error.code, error.message) from error
    return [str(name) for name in data]


def _check(name: str, section: Mapping[str, Any], defects: list[str]) -> None:
    owner = SECTIONS[name]
    reader = getattr(importlib.import_module(owner.module), owner.name)
    if not owner.by_defect:
        read(section, reader, name)
        return
    for key in section:
        if key != "default" and key not in defects:
            raise unknown_key(name, str(key), ["default", *defects])
        _mapping(f"{name}.{key}", section[key])
    for defect in defects or ["default"]:
        _check_one(name, section, defect, reader)


def _check_one(
    name: str, section: Mapping[str, Any], defect: str, reader: Callable[..., Any]
) -> None:
    if isinstance(reader, type):
        merged = {**(section.get("default") or {}), **(section.get(defect) or {})}
        read(merged, reader, f"{name}.{defect}")
    else:
        reader(section, defect)


def _mapping(name: str, section: object) -> Mapping[str, Any]:
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise SettingsRefused(
            name, "E_CONFIG", f"must be a mapping of keys to values, got {section!r:.60}"
        )
    return section
