"""Lines of JSON, each with the digest of the line before it: no change to them goes unnoticed.

What follows is also proof against a single changed byte: a line must be the very text that would
be written for its content, and the file must end with a whole line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from defectops.atomic import write_text
from defectops.errors import IntegrityFault

START = "0" * 64  # stands before the first line
MARKS = ("<<<<<<<", "|||||||", "=======", ">>>>>>>")
Line = Mapping[str, Any]


def sha256_of(content: Line) -> str:
    """Return the digest of a mapping of plain values: its canonical JSON, keys sorted, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def own_sha256(line: Line) -> str:
    """Return what the field ``sha256`` of a line must be: the digest of all its other fields."""
    return sha256_of({key: value for key, value in line.items() if key != "sha256"})


def chained(content: Line, previous: Line | None) -> dict[str, Any]:
    """Return the content as the line that follows `previous`; None for the first line."""
    linked = {**content, "previous_sha256": START if previous is None else previous["sha256"]}
    return {**linked, "sha256": own_sha256(linked)}


def text_of(lines: Sequence[Line]) -> str:
    """Return the text of a file of such lines."""
    return "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)


def append(path: Path, content: Line) -> dict[str, Any]:
    """Append a line and return it as written; the caller holds a lock.

    The file is replaced as a whole, so a crash leaves the old one or the new one.

    Raises
    ------
    IntegrityFault
        The chain there is broken; nothing is appended to a broken chain.
    """
    known = read_chain(path)
    line = chained(content, known[-1] if known else None)
    write_text(path, text_of([*known, line]))
    return line


def read_chain(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file whose chain holds; empty for a file that is not there.

    Raises
    ------
    IntegrityFault
        Names the first line that was edited, cut off, that misses its predecessor, or where two
        histories were joined by a git merge.
    """
    lines: list[dict[str, Any]] = []
    seen = {START}
    for number, raw in enumerate(raw_lines(path), 1):
        line = sound_line(path, number, raw)
        _require_next(path, number, line, lines[-1]["sha256"] if lines else START, seen)
        seen.add(line["sha256"])
        lines.append(line)
    return lines


def raw_lines(path: Path) -> list[bytes]:
    """Return the lines of a file without their line feeds; the last one must have had one."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise fault(path, 0, f"cannot be read: {error}") from error
    *lines, rest = data.split(b"\n")
    if rest:
        raise fault(path, len(lines) + 1, f"cut off within the line; {restore(path)}")
    return lines


def sound_line(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    """Return the content of one line whose digest is right."""
    if raw.startswith(tuple(mark.encode() for mark in MARKS)):
        raise fault(path, number, f"an unresolved git merge; {repair(path)}")
    try:
        line = json.loads(raw)
        sound = line["sha256"] == own_sha256(line) and isinstance(line["previous_sha256"], str)
        sound = sound and text_of([line]).encode() == raw + b"\n"
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise fault(path, number, f"not a line of this file; {restore(path)}") from error
    if not sound:
        raise fault(path, number, f"was edited; {restore(path)}")
    return dict(line)


def _require_next(path: Path, number: int, line: Line, last: str, seen: set[str]) -> None:
    if line["previous_sha256"] == last:
        return
    if line["sha256"] in seen:
        raise fault(path, number, f"a line that stands there already; {restore(path)}")
    if line["previous_sha256"] in seen:
        raise fault(
            path, number, f"a fork: two histories were joined by a git merge; {repair(path)}"
        )
    raise fault(path, number, f"a line before it is missing; {restore(path)}")


def restore(path: Path) -> str:
    """Say how to get back what was recorded."""
    return (
        f"restore champions/{_defect(path)}.* of one commit: `git checkout <commit> -- champions`"
    )


def repair(path: Path) -> str:
    """Say which command joins two histories to one."""
    words = f"defectops models repair --defect {_defect(path)} --keep"
    return f"run `{words} ours` (or `theirs`): one champion stays, both histories are kept"


def fault(path: Path, number: int, message: str) -> IntegrityFault:
    """Return the error about one line of a file."""
    return IntegrityFault(f"{path.name} line {number}", "E_JOURNAL", message)


def _defect(path: Path) -> str:
    return path.name.split(".")[0]
