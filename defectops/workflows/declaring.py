"""Declare a user's defect types and how their images are split in ``params.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.tokens import CommentToken

from defectops.atomic import write_text
from defectops.dataset.importing import chosen
from defectops.dataset.splits import SplitOptions, check_options
from defectops.defects import BUILT_IN, DefectType, register
from defectops.errors import SettingsRefused
from defectops.settings import PARAMS, dump_yaml, edit_yaml, read
from defectops.workflows.parameters import load_parameters

# Told apart by readers with colour-blindness too; given to new types in turn.
_COLOURS = ("#40e0d0", "#f4a259", "#9b5de5", "#577590", "#b5179e", "#606c38")


def describe_types(
    root: Path,
    names: Sequence[str],
    shapes: Sequence[str],
    polarities: Sequence[str],
    replace: bool,
) -> dict[str, dict[str, str] | None]:
    """Work out the rows of section ``defects`` for some types.

    Parameters
    ----------
    root : Path
        The project's folder; its ``params.yaml`` is read, not written.
    names : sequence of str
        Keys of the types.
    shapes, polarities : sequence of str
        As given on the command line: ``particle`` for all, ``voids=particle`` for one.

    replace : bool
        A new set begins: shape and polarity of a known type may change.

    Returns
    -------
    dict of str to mapping or None
        None where the type is known already and its row can stay as it is.

    Raises
    ------
    SettingsRefused
        A new type without shape or polarity, or one that is known to be of another kind.
    """
    parameters = load_parameters(root)
    current = parameters.values.get("defects") or {}
    known = {**BUILT_IN, **parameters.defects}
    shape_of, polarity_of = (
        chosen("--shape", shapes, names),
        chosen("--polarity", polarities, names),
    )
    free = [c for c in _COLOURS if c not in {t.colour for t in known.values()}]
    rows: dict[str, dict[str, str] | None] = {}
    for name in names:
        told = {"shape": shape_of.get(name), "polarity": polarity_of.get(name)}
        given = {field: value for field, value in told.items() if value}
        if name not in known:
            rows[name] = _new_type(name, given, free)
        elif replace:
            rows[name] = {**(current.get(name) or {}), **given} or None
        else:
            _check_agrees(known[name], given)
            rows[name] = None
    return rows


def declare(
    root: Path,
    types: Mapping[str, Mapping[str, str] | None],
    split: Mapping[str, Mapping[str, Any]],
    replace: bool,
) -> None:
    """Write types and their split into ``params.yaml``; comments and all else stay.

    Each section with a ``default`` gets an (empty) entry of each type, because DVC's stages depend
    on it.

    Parameters
    ----------
    root : Path
        The project's folder.
    types : mapping
        From `describe_types`.
    split : mapping of str to mapping
        Type to what ``split.<type>`` shall say; a type that is absent keeps what it has.
    replace : bool
        Whether all other types go, from ``defects`` and from every section.
    """
    params = root / PARAMS
    yaml, data = edit_yaml(params)
    if not isinstance(data.get("defects"), dict):
        data["defects"] = {}
    tails = [(section, _take_tail(section)) for section in (data["defects"], *_sections(data))]
    if replace:
        _forget_types(data, types)
    _add_types(data, types)
    for name, settings in split.items():
        data.setdefault("split", {})[name] = _laid_out(settings)
    for section, tail in tails:
        _put_tail(section, tail)
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


def _forget_types(data: Any, kept: Iterable[str]) -> None:
    """Take all other types out of ``defects`` and out of each stage's section."""
    for gone in [n for n in data["defects"] if n not in kept]:
        del data["defects"][gone]
        for section in _sections(data):
            section.pop(gone, None)


def _add_types(data: Any, types: Mapping[str, Mapping[str, str] | None]) -> None:
    for name, row in types.items():
        if row is not None or name not in data["defects"]:
            data["defects"][name] = _laid_out(row or {})
        for section in _sections(data):
            section.setdefault(name, _laid_out({}))


def _sections(data: Any) -> list[Any]:
    """Return the sections of stages that hold entries by type."""
    return [s for s in data.values() if isinstance(s, dict) and "default" in s]


def _laid_out(settings: Mapping[str, Any]) -> CommentedMap:
    """Return settings that are dumped on one line."""
    row = CommentedMap(settings)
    row.fa.set_flow_style()
    return row


def _take_tail(section: Any) -> Any:
    """Take off the comment below a section, which ruamel hangs on the section's last scalar.

    It introduces the next section: it must neither go with a type that is taken out, nor stay
    above one that is added.
    """
    holder, key = _last(section)
    if holder is None:
        return None
    slot = 2 if isinstance(holder, CommentedMap) else 0
    marks = holder.ca.items.get(key)
    mark = marks[slot] if marks else None
    if mark is None:
        return None
    beside, _, below = mark.value.partition("\n")  # "# of this line\n\n# of the next section\n"
    if not below.strip():
        return None
    marks[slot] = CommentToken(beside + "\n", mark.start_mark, None) if beside else None
    return CommentToken("\n" + below, mark.start_mark, None)


def _put_tail(section: Any, mark: Any) -> None:
    if mark is not None:
        holder, key = _last(section)
        holder.ca.items[key] = [None, None, mark, None]


def _last(section: Any) -> tuple[Any, Any]:
    """Return the innermost block that ends a section, and its last key."""
    holder, key = None, None
    node = section
    while isinstance(node, (CommentedMap, CommentedSeq)) and node and not node.fa.flow_style():
        holder = node
        key = len(node) - 1 if isinstance(node, CommentedSeq) else next(reversed(node))
        node = node[key]
    return holder, key


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
