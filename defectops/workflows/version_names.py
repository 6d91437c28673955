"""How a version of a model is named on the command line, and which one is meant.

``voids/7``, ``defectops-voids/7`` and ``models:/defectops-voids/7`` are the same version,
``voids@champion`` is whatever that alias points to now; anything else is a path.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import InputRefused

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.registry import Registry, Version

_NAME = re.compile(r"(?:models:/)?([A-Za-z0-9_-]+)(?:/([0-9]{1,9})|@([A-Za-z0-9_-]+))")


@dataclass(frozen=True)
class VersionName:
    """A version as somebody wrote it.

    Parameters
    ----------
    text : str
        As written.
    model : str
        Defect type or registered model.
    number : int or None
        None where an alias is given.
    alias : str
        Empty where a number is given.
    """

    text: str
    model: str
    number: int | None
    alias: str = ""


def parse(text: str) -> VersionName | Path:
    """Tell a version's name from a path; asks no registry.

    What looks like a version is one: a file that is really called ``voids/7`` is written
    ``./voids/7``.

    Raises
    ------
    InputRefused
        ``E_VERSION``: neither, or a path where nothing is.
    """
    found = _NAME.fullmatch(text)
    if found is not None:
        model, number, alias = found.groups()
        return VersionName(text, model, int(number) if number else None, alias or "")
    path = Path(text)
    # A link that leads nowhere and a pipe are paths too; whoever opens it says what is wrong.
    if text and (path.is_symlink() or path.exists()):
        return path
    raise InputRefused(
        text or "version",
        "E_VERSION",
        "neither a version nor a file: write voids/7, voids@champion, "
        "models:/defectops-voids/7 or a path; see `defectops models list`",
    )


def resolve(
    name: VersionName, defects: Mapping[str, DefectType], registry: Registry
) -> tuple[DefectType, Version]:
    """Return which defect type and which registered version a name means.

    Parameters
    ----------
    name : VersionName
        From `parse`.
    defects : mapping of str to DefectType
        Those of the project.
    registry : Registry

    Raises
    ------
    InputRefused
        ``E_VERSION``: no such type, version or alias.
    """
    defect = _defect(name, defects)
    number = name.number
    if number is None:
        number = registry.alias(defect.model_name, name.alias)
    if number is None:
        raise InputRefused(
            name.text,
            "E_VERSION",
            f"no version of {defect.model_name} is {name.alias!r}; see `defectops models list`",
        )
    return defect, registry.version(defect.model_name, number)


def _defect(name: VersionName, defects: Mapping[str, DefectType]) -> DefectType:
    known = {**defects, **{d.model_name: d for d in defects.values()}}
    if name.model in known:
        return known[name.model]
    near = difflib.get_close_matches(name.model, known, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise InputRefused(
        name.text,
        "E_VERSION",
        f"{name.model!r} is no defect type of this project{hint}; known: {', '.join(defects)}",
    )
