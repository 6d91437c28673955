"""The defect types: how each is shaped, how it shows, what its registered model is called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from defectops.errors import SettingsRefused

Shape = Literal["line", "particle"]
Polarity = Literal["bright", "dark"]

_KEY = re.compile(r"[a-z][a-z0-9_]{0,62}")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def _one_of(key: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsRefused(
            f"defects.{key}", "E_CONFIG", f"{name} must be {' or '.join(allowed)}, got {value!r}"
        )


@dataclass(frozen=True)
class DefectType:
    """One kind of defect.

    Parameters
    ----------
    key : str
        Name in folders, stages and tables: lower case, digits, underscores.
    shape : {"line", "particle"}
        Lines are measured by length (dislocations), particles by number and size.
    polarity : {"bright", "dark"}
        How the defect shows in the micrograph as recorded; conditioning makes it bright.
    colour : str
        Colour in figures, ``#rrggbb``.
    """

    key: str
    shape: Shape
    polarity: Polarity
    colour: str = "#40e0d0"

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise SettingsRefused(
                f"defects.{self.key}",
                "E_CONFIG",
                "a defect type is named by lower-case letters, digits and underscores, "
                f"starting with a letter; got {self.key!r}",
            )
        _one_of(self.key, "shape", self.shape, get_args(Shape))
        _one_of(self.key, "polarity", self.polarity, get_args(Polarity))
        if not _COLOUR.fullmatch(str(self.colour)):
            raise SettingsRefused(
                f"defects.{self.key}", "E_CONFIG", f"colour must be '#rrggbb', got {self.colour!r}"
            )

    @property
    def model_name(self) -> str:
        """Name of the registered model, for example ``defectops-voids``."""
        return model_name(self.key)


def model_name(key: str) -> str:
    """Return the name of the registered model of a defect type, also of one not declared here."""
    return f"defectops-{key}"


BUILT_IN = {
    row.key: row
    for row in (
        DefectType("dislocations", "line", "dark", "#e4572e"),
        DefectType("precipitates", "particle", "dark", "#2e86ab"),
        DefectType("voids", "particle", "bright", "#8ac926"),
    )
}


def register(rows: Mapping[str, Mapping[str, str] | None]) -> dict[str, DefectType]:
    """Return the defect types that a user's mapping names, in its order.

    Parameters
    ----------
    rows : mapping
        Section ``defects`` of ``params.yaml``: key to ``{shape, polarity[, colour]}``, or to
        nothing for a built-in type. A built-in type's fields can be overridden.

    Returns
    -------
    dict of str to DefectType

    Raises
    ------
    SettingsRefused
        Unknown field, or a type that is not built in and lacks shape or polarity.
    """
    return {key: _row(key, row or {}) for key, row in rows.items()}


def _row(key: object, row: object) -> DefectType:
    allowed = ("shape", "polarity", "colour")
    if not isinstance(key, str) or not isinstance(row, Mapping):
        raise SettingsRefused(
            f"defects.{key}",
            "E_CONFIG",
            f"must be a name with a mapping of {', '.join(allowed)}, got {row!r:.60}",
        )
    unknown = sorted(set(row) - set(allowed))
    if unknown:
        raise SettingsRefused(
            f"defects.{key}",
            "E_CONFIG",
            f"unknown key {unknown[0]!r}; allowed are {', '.join(allowed)}",
        )
    known = BUILT_IN.get(key)
    merged = {} if known is None else {n: getattr(known, n) for n in allowed}
    merged.update(row)
    missing = [n for n in ("shape", "polarity") if n not in merged]
    if missing:
        raise SettingsRefused(
            f"defects.{key}",
            "E_CONFIG",
            f"{' and '.join(missing)} missing; built-in types are {', '.join(BUILT_IN)}, any other "
            "needs shape (line or particle) and polarity (bright or dark)",
        )
    return DefectType(key, **merged)
