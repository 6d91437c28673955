"""Check a settings file section by section before anything runs on it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from defectops.defects import register
from defectops.errors import SettingsRefused
from defectops.settings import load_yaml, read, unknown_key
from defectops.workflows.parameters import Parameters


class Section(NamedTuple):
    """Who reads a section of a settings file: a dataclass or a function, named, loaded late.

    Parameters
    ----------
    module, name : str
        A dataclass, or a function ``(section, where)`` that reads it.
    by_defect : bool
        Whether the section holds ``default`` and one entry a defect type.
    """

    module: str
    name: str
    by_defect: bool = False


# A new section is one line here; its dataclass lives beside what it steers.
SECTIONS = {
    "material": Section("defectops.measurement.strength", "Material", by_defect=True),
    "prepare": Section("defectops.imaging.conditioning", "ConditioningOptions", by_defect=True),
    "promotion": Section("defectops.experiments.promotion", "PromotionOptions", by_defect=True),
    "quantify": Section("defectops.measurement.quantities", "MeasureOptions", by_defect=True),
    "split": Section("defectops.dataset.splits", "SplitOptions", by_defect=True),
    "study": Section("defectops.workflows.checking", "StudyFile"),
    "train": Section("defectops.workflows.train_settings", "read_train_settings", by_defect=True),
    "tune": Section("defectops.workflows.tune_settings", "TuneOptions", by_defect=True),
    "views": Section("defectops.learning.views", "ViewOptions", by_defect=True),
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
        The sections found, in the order of the file.

    Raises
    ------
    SettingsRefused
        ``E_CONFIG``: not plain YAML, no section at all, an unknown section or key (with the
        nearest match), a value of the wrong kind or out of range.
    """
    data = load_yaml(path)
    if not data:
        raise SettingsRefused(path, "E_CONFIG", "empty; a section must be given")
    for name in data:
        if name != _DEFECTS and name not in SECTIONS:
            raise unknown_key(str(path), str(name), [_DEFECTS, *SECTIONS])
    try:
        parameters = Parameters(data, register(_mapping(_DEFECTS, data.get(_DEFECTS))))
        for name in data:
            if name != _DEFECTS:
                _check(name, parameters)
    except SettingsRefused as error:
        subject = f"{path}: {error.subject.removeprefix('params.yaml: ')}"
        raise SettingsRefused(subject, error.code, error.message) from error
    return list(data)


def _check(name: str, parameters: Parameters) -> None:
    owner = SECTIONS[name]
    reader = getattr(importlib.import_module(owner.module), owner.name)
    if not owner.by_defect:
        read(_mapping(name, parameters.values[name]), reader, name)
        return
    for defect in parameters.defects or ["default"]:
        if isinstance(reader, type):
            parameters.options(name, defect, reader)
        else:
            reader(parameters.merged(name, defect), f"{name}.{defect}")


def _mapping(name: str, section: object) -> Mapping[str, Any]:
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise SettingsRefused(
            name, "E_CONFIG", f"must be a mapping of keys to values, got {section!r:.60}"
        )
    return section
