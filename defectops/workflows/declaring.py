"""Declare a user's defect types and how their images are split in ``params.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedSeq

from defectops.atomic import write_text
from defectops.dataset.importing import chosen
from defectops.dataset.splits import SplitOptions, check_options
from defectops.defects import BUILT_IN, DefectType, register
from defectops.errors import SettingsRefused
from defectops.settings import dump_yaml, edit_yaml, load_yaml, read

# Told apart by readers with colour-blindness too; given to new types in turn.
_COLOURS = ("#40e0d0", "#f4a259", "#9b5de5", "#577590", "#b5179e", "#606c38")


def describe_types(
    params: Path, names: Sequence[str], shapes: Sequence[str], polarities: Sequence[str]
) -> dict[str, dict[str, str] | None]:
    """Work out the rows of section ``defects`` for some types.

    Parameters
    ----------
    params : Path
        ``params.yaml``; read, not written.
    names : sequence of str
        Keys of the types.
    shapes, polarities : sequence of str
        As given on the command line: ``particle`` for all, ``voids=particle`` for one.

    Returns
    -------
    dict of str to mapping or None
        None where the type is known already and its row can stay as it is.

    Raises
    ------
    SettingsRefused
        A new type without shape or polarity, or one that is known to be of another kind.
    """
    current = load_yaml(params).get("defects") or {}
    known = {**BUILT_IN, **register(current)}
    shape_of, polarity_of = (
        chosen("--shape", shapes, names),
        chosen("--polarity", polarities, names),
    )
    free = [c for c in _COLOURS if c not in {t.colour for t in known.values()}]
    rows: dict[str, dict[str, str] | None] = {}
    for name in names:
        told = {"shape": shape_of.get(name), "polarity": polarity_of.get(name)}
        given = {field: value for field, value in told.items() if value}
        if name in known:
            _check_agrees(known[name], given)
            rows[name] = current.get(name)
        else:
            rows[name] = _new_type(name, given, free)
    return rows


def declare(
    params: Path,
    types: Mapping[str, Mapping[str, str] | None],
    split: Mapping[str, Mapping[str, Any]],
    replace: bool,
) -> None:
    """Write types and their split into ``params.yaml``; comments and all else stay.

    Each section with a ``default`` gets an (empty) entry of each type, because DVC's stages depend
    on it.

    Parameters
    ----------
    params : Path
    types : mapping
        From `describe_types`.
    split : mapping of str to mapping
        Type to what ``split.<type>`` shall say; a type that is absent keeps what it has.
    replace : bool
        Whether all other types go from section ``defects``.
    """
    yaml, data = edit_yaml(params)
    _declare_types(data, types, replace)
    for section in data.values():
        if isinstance(section, dict) and "default" in section:
            for name in types:
                section.setdefault(name, {})
    for name, settings in split.items():
        data.setdefault("split", {})[name] = _laid_out(settings)
    write_text(params, dump_yaml(yaml, data))


def split_settings(
    sides: Sequence[str], rectangles: Sequence[tuple[str, tuple[float, float, float, float]]]
) -> dict[str, Any] | None:
    """Return what ``split.<type>`` shall say for imported images, or None if nothing was asked.

    Parameters
    ----------
    sides : sequence of str
        Side of each image; the scheme is ``manifest`` when none is ``auto``.
    rectangles : sequence of (side, (top, bottom, left, right))
        The scheme is ``rectangles`` when there are some.

    Raises
    ------
    SettingsRefused
        Impossible rectangles.
    """
    if rectangles:
        by_side: dict[str, list[list[float]]] = {}
        for side, row in rectangles:
            by_side.setdefault(side, []).append(list(row))
        settings = {"scheme": "rectangles", "rectangles": by_side}
        check_options(read(settings, SplitOptions, "--rectangle"))
        return settings
    return {"scheme": "manifest"} if sides and "auto" not in sides else None


def effective_scheme(params: Path, defect: str) -> str:
    """Return the split scheme that ``params.yaml`` gives a type."""
    section = load_yaml(params).get("split") or {}
    merged = {**(section.get("default") or {}), **(section.get(defect) or {})}
    return str(read(merged, SplitOptions, f"params.yaml: split.{defect}").scheme)


def _declare_types(data: Any, types: Mapping[str, Mapping[str, str] | None], replace: bool) -> None:
    if not isinstance(data.get("defects"), dict):
        data["defects"] = {}
    kinds = data["defects"]
    if replace:
        for name in [n for n in kinds if n not in types]:
            del kinds[name]
    for name, row in types.items():
        if name not in kinds:
            kinds[name] = dict(row or {})


def _laid_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that are dumped with each rectangle on a line of its own."""
    out = dict(settings)
    if "rectangles" in out:
        out["rectangles"] = {
            side: [_on_one_line(row) for row in rows] for side, rows in out["rectangles"].items()
        }
    return out


def _on_one_line(values: Sequence[float]) -> CommentedSeq:
    row = CommentedSeq(values)
    row.fa.set_flow_style()
    return row


def _new_type(name: str, given: Mapping[str, str], free_colours: list[str]) -> dict[str, str]:
    missing = [f"--{field}" for field in ("shape", "polarity") if field not in given]
    if missing:
        raise SettingsRefused(
            f"defects.{name}",
            "E_CONFIG",
            f"a new type of defect; say {' and '.join(missing)} (--shape line or particle, "
            f"--polarity bright or dark as it shows in the micrograph); known are "
            f"{', '.join(BUILT_IN)}",
        )
    row = {**given, "colour": free_colours.pop(0) if free_colours else _COLOURS[0]}
    register({name: row})
    return row


def _check_agrees(known: DefectType, given: Mapping[str, str]) -> None:
    for field, value in given.items():
        if value != getattr(known, field):
            raise SettingsRefused(
                f"defects.{known.key}",
                "E_CONFIG",
                f"is known with {field} {getattr(known, field)}, not {value}; choose another name, "
                "or edit params.yaml",
            )
