"""Who moved which model to champion, when and why: lines that cannot be changed unnoticed.

Each line carries the digest of the line before it and of itself. The champion file keeps the
digest of the last line and their number, so a journal that was cut off is noticed too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from defectops.atomic import write_text
from defectops.errors import IntegrityFault

START = "0" * 64  # stands before the first line
_RENAMED = {"from_version": "from", "to_version": "to"}  # `from` is a word of Python
_RESTORE = "restore journal and champion file of one commit: `git checkout <commit> -- champions`"
_KEEP_ONE = "keep one side: `git checkout --ours -- champions` (or --theirs)"


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    Parameters
    ----------
    at : str
        UTC, ISO 8601.
    who : str
    from_version, to_version : int or None
        Champion before and after; None for none. Written as ``from`` and ``to``.
    reason : str
    verdict : str
        ``pass`` of the gate; ``forced`` against it; ``rollback`` where no gate was asked.
    evidence_sha256 : str
        Digest of what the verdict rests on.
    more : mapping of str to str
        Further facts, written beside the others: ``to_sha256``, the digest of the new champion's
        bundle (version numbers begin anew when a registry is lost).
    previous_sha256 : str
        Digest of the line before; 64 zeros for the first.
    sha256 : str
        Digest of this line without this field.
    """

    at: str
    who: str
    from_version: int | None
    to_version: int | None
    reason: str
    verdict: str
    evidence_sha256: str
    more: Mapping[str, str] = field(default_factory=dict)
    previous_sha256: str = START
    sha256: str = ""

    def after(self, previous: Entry | None) -> Entry:
        """Return this entry chained to the one before it."""
        before = START if previous is None else previous.sha256
        chained = replace(self, previous_sha256=before)
        return replace(chained, sha256=_own_sha256(chained.as_mapping()))

    def as_mapping(self) -> dict[str, Any]:
        """Return the fields under the names they have in the file."""
        row = {_RENAMED.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        return {**row.pop("more"), **row}


def sha256_of(content: Mapping[str, Any]) -> str:
    """Return the digest of a mapping of plain values: its canonical JSON, keys sorted, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def from_mapping(content: Mapping[str, Any]) -> Entry:
    """Return the entry whose `Entry.as_mapping` this is; `KeyError` if a field is missing."""
    rest = dict(content)
    named = {
        f.name: rest.pop(_RENAMED.get(f.name, f.name)) for f in fields(Entry) if f.name != "more"
    }
    return Entry(**named, more=rest)


def append(path: Path, entry: Entry) -> Entry:
    """Append an entry, chained to the last line, and return it as written.

    The caller holds the lock of the champion. The file is replaced as a whole, so a crash leaves
    the old journal or the new one.

    Raises
    ------
    IntegrityFault
        The journal there is broken; nothing is appended to a broken chain.
    """
    known = read(path)
    written = entry.after(known[-1] if known else None)
    write_text(path, "".join(_line(e) for e in [*known, written]))
    return written


def read(path: Path) -> list[Entry]:
    """Return the entries of a journal whose chain holds; empty for a file that is not there.

    Raises
    ------
    IntegrityFault
        Names the first line that was edited, that misses its predecessor, or where two histories
        were joined by a git merge.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise _fault(path, 0, f"cannot be read: {error}") from error
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        entry = _entry(path, number, line)
        _require_chain(path, number, entry, entries)
        entries.append(entry)
    return entries


def read_and_verify(path: Path, head: str, length: int) -> list[Entry]:
    """Return the entries of a journal that ends as the champion file says.

    Parameters
    ----------
    path : Path
    head : str
        ``journal_sha256`` of the champion file: digest of the last line, 64 zeros for none.
    length : int
        ``journal_length``: number of lines.

    Raises
    ------
    IntegrityFault
        A line was edited, is missing, or lines were cut off or added at the end.
    """
    entries = read(path)
    if len(entries) < length:
        raise _fault(
            path,
            len(entries) + 1,
            f"{length} lines were recorded, the rest was cut off; {_RESTORE}",
        )
    last = entries[length - 1].sha256 if length else START
    if last != head:
        raise _fault(path, length, f"not the line that the champion file records; {_RESTORE}")
    if len(entries) > length:
        raise _fault(
            path,
            length + 1,
            f"the champion file records {length} lines; a promotion was not finished (run "
            "`defectops doctor --fix`) or the files come from different commits",
        )
    return entries


def _line(entry: Entry) -> str:
    return json.dumps(entry.as_mapping(), sort_keys=True, separators=(",", ":")) + "\n"


def _entry(path: Path, number: int, line: str) -> Entry:
    if line.startswith(("<<<<<<<", "=======", ">>>>>>>")):
        raise _fault(path, number, f"an unresolved git merge; {_KEEP_ONE}")
    try:
        content = json.loads(line)
        sound = content["sha256"] == _own_sha256(content)
        entry = from_mapping(content)
    except (ValueError, TypeError, KeyError) as error:
        raise _fault(path, number, f"not a journal line; {_RESTORE}") from error
    if not sound:
        raise _fault(path, number, f"was edited; {_RESTORE}")
    return entry


def _own_sha256(content: Mapping[str, Any]) -> str:
    return sha256_of({key: value for key, value in content.items() if key != "sha256"})


def _require_chain(path: Path, number: int, entry: Entry, before: list[Entry]) -> None:
    expected = before[-1].sha256 if before else START
    if entry.previous_sha256 == expected:
        return
    parents = {START, *(e.sha256 for e in before)}
    if entry.previous_sha256 in parents:
        raise _fault(
            path,
            number,
            f"a fork: two histories were joined by a git merge; {_KEEP_ONE}",
        )
    raise _fault(path, number, f"a line before it is missing; {_RESTORE}")


def _fault(path: Path, number: int, message: str) -> IntegrityFault:
    return IntegrityFault(f"{path.name} line {number}", "E_JOURNAL", message)
