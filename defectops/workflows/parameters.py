"""What params.yaml says: the defect types, and each section with one type's overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from defectops import settings
from defectops.defects import DefectType, register
from defectops.errors import SettingsRefused

T = TypeVar("T")


@dataclass(frozen=True)
class Parameters:
    """The parameters of a project.

    Parameters
    ----------
    values : mapping
        Content of ``params.yaml``.
    defects : dict of str to DefectType
        In the order of the file.
    """

    values: Mapping[str, Any]
    defects: Mapping[str, DefectType]

    def defect(self, key: str) -> DefectType:
        """Return a defect type; `SettingsRefused` if the file does not name it."""
        if key not in self.defects:
            raise settings.unknown_key("params.yaml: defects", key, list(self.defects))
        return self.defects[key]

    def merged(self, section: str, defect: str) -> dict[str, Any]:
        """Return ``<section>.default`` overridden by ``<section>.<defect>``; absent is empty."""
        whole = _mapping(self.values.get(section), section)
        unknown = [k for k in whole if k != "default" and k not in self.defects]
        if unknown:
            raise settings.unknown_key(
                f"params.yaml: {section}", str(unknown[0]), ["default", *self.defects]
            )
        default = _mapping(whole.get("default"), f"{section}.default")
        return {**default, **_mapping(whole.get(defect), f"{section}.{defect}")}

    def options(self, section: str, defect: str, into: type[T]) -> T:
        """Return the merged section as the dataclass its owner reads."""
        return settings.read(self.merged(section, defect), into, f"params.yaml: {section}.{defect}")


def load_parameters(root: Path) -> Parameters:
    """Read ``params.yaml`` of a project."""
    values = settings.load_yaml(root / settings.PARAMS)
    return Parameters(values, register(_mapping(values.get("defects"), "defects")))


def _mapping(value: object, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsRefused(
            f"params.yaml: {where}",
            "E_CONFIG",
            f"must be a mapping of names to values, got a {type(value).__name__}",
        )
    return value
