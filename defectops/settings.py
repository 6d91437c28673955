"""One section of params.yaml into the dataclass its caller owns; the environment variables."""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent, ScalarEvent

from defectops.errors import SettingsRefused

T = TypeVar("T")

PARAMS = Path("params.yaml")
_MAX_BYTES = 1_000_000
_MAX_NODES = 20_000
_MAX_DEPTH = 50


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of plain values.

    Parameters
    ----------
    path : Path
        At most 1 MB, 20,000 values, 50 levels. Tags that build Python objects, merge keys,
        duplicate keys and aliases that multiply beyond these limits are refused.

    Returns
    -------
    dict
        Empty for an empty file.

    Raises
    ------
    SettingsRefused
    """
    text = _text(path)
    _refuse_tags(path, text)
    _refuse_shape(path, text)
    try:
        data = YAML(typ="safe", pure=True).load(text)
    # `!!bool maybe` is a KeyError, `!!int ""` an IndexError: constructors check little.
    except (YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise SettingsRefused(path, "E_CONFIG", f"not valid YAML: {_first_line(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsRefused(
            path, "E_CONFIG", f"must be a mapping of sections, got a {type(data).__name__}"
        )
    _count(path, data, [0])
    return data


def read(section: Mapping[str, Any] | None, into: type[T], where: str) -> T:
    """Check a mapping against a dataclass and build it.

    Parameters
    ----------
    section : mapping or None
        None reads as empty: every field must then have a default.
    into : type
        A dataclass. Unknown keys are refused with the nearest match; types are not coerced
        beyond int to float and list to tuple.
    where : str
        Named in the error, for example ``params.yaml: train.voids``.

    Raises
    ------
    SettingsRefused
    """
    given = dict(section or {})
    _refuse_unknown(given, into, where)
    strict = with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
    try:
        text = json.dumps(given, default=str)
    except TypeError as error:
        raise SettingsRefused(where, "E_CONFIG", f"invalid key: {error}") from error
    try:
        return TypeAdapter(strict(into)).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(p) for p in first["loc"])
        raise SettingsRefused(
            where,
            "E_CONFIG",
            f"{at}: {first['msg']}, got {first.get('input')!r:.100}",
        ) from error


def _refuse_unknown(given: Mapping[str, Any], into: type, where: str) -> None:
    """Refuse unknown keys here and in nested sections; pydantic would drop the nested ones."""
    hints = get_type_hints(into)
    names = [f.name for f in fields(into)]
    for key, value in given.items():
        if key not in names:
            raise unknown_key(where, str(key), names)
        if is_dataclass(hints[key]) and isinstance(value, Mapping):
            _refuse_unknown(value, hints[key], f"{where}.{key}")


def unknown_key(where: str, key: str, allowed: list[str]) -> SettingsRefused:
    """Return the error for a key that nobody knows, naming the nearest that somebody does."""
    near = difflib.get_close_matches(key, allowed, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(sorted(allowed))}"
    return SettingsRefused(where, "E_CONFIG", f"unknown key {key!r} ({hint})")


def edit_yaml(path: Path) -> tuple[YAML, Any]:
    """Open a YAML file for editing that keeps comments and order; see `dump_yaml`."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml, yaml.load(_text(path))


def dump_yaml(yaml: YAML, data: Any) -> str:
    """Return the edited YAML as text."""
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def tracking_uri(root: Path) -> str:
    """Where runs are recorded: ``MLFLOW_TRACKING_URI``, else SQLite ``mlflow.db`` in `root`."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    database = str((root / "mlflow.db").resolve())
    # SQLAlchemy reads `%` and `?` of an address as its own.
    return given or "sqlite:///" + database.replace("%", "%25").replace("?", "%3F")


def inside_experiment() -> bool:
    """Whether ``dvc exp run`` started this process; nothing in the registry moves then."""
    return bool(os.environ.get("DVC_EXP_NAME") or os.environ.get("DVC_EXP_BASELINE_REV"))


def _text(path: Path) -> str:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would block for ever
            raise SettingsRefused(path, "E_CONFIG", "not a regular file; a YAML file is needed")
        size = state.st_size
        if size > _MAX_BYTES:
            raise SettingsRefused(
                path, "E_CONFIG", f"{size} bytes are over the limit of {_MAX_BYTES} for settings"
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SettingsRefused(
            path, "E_CONFIG", "no such file; run this in the folder that holds params.yaml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsRefused(path, "E_CONFIG", f"cannot be read: {_first_line(error)}") from error


def _refuse_tags(path: Path, text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if "!!python" in line or "tag:yaml.org,2002:python" in line:
            raise SettingsRefused(
                path, "E_CONFIG", f"line {number}: Python tags are not allowed; plain values only"
            )


def _refuse_shape(path: Path, text: str) -> None:
    """Look at the stream of events before anything is built from it.

    Merge keys are refused because each merge copies: a few lines become gigabytes.
    """
    depth = 0
    try:
        for number, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            if number > 2 * _MAX_NODES or depth > _MAX_DEPTH:
                raise SettingsRefused(
                    path,
                    "E_CONFIG",
                    f"over the limit of {_MAX_NODES} values nested {_MAX_DEPTH} deep",
                )
            if isinstance(event, ScalarEvent) and event.value == "<<" and event.implicit[0]:
                raise SettingsRefused(path, "E_CONFIG", "merge keys (<<) are not allowed")
    except (YAMLError, ValueError) as error:
        raise SettingsRefused(path, "E_CONFIG", f"not valid YAML: {_first_line(error)}") from error


def _count(path: Path, node: Any, seen: list[int], depth: int = 0) -> None:
    """Count values with every alias followed, as whoever walks the data would meet them."""
    seen[0] += 1
    if seen[0] > _MAX_NODES or depth > _MAX_DEPTH:
        raise SettingsRefused(
            path,
            "E_CONFIG",
            f"aliases multiply beyond the limit of {_MAX_NODES} values nested {_MAX_DEPTH} deep",
        )
    if isinstance(node, dict):
        for value in node.values():
            _count(path, value, seen, depth + 1)
    elif isinstance(node, list):
        for value in node:
            _count(path, value, seen, depth + 1)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
