"""Who moved which model to champion, when and why: lines that cannot be changed unnoticed.

Each line carries the digest of the line before it and of itself (`hash_chain`). The champion file
keeps the digest of the last line and their number, so a journal that was cut off is noticed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from defectops.atomic import write_text
from defectops.experiments.hash_chain import (
    START,
    chained,
    fault,
    own_sha256,
    read_chain,
    restore,
    text_of,
)

MERGE = "merge"  # verdict of the line that joins the history of another branch
MERGED = "merged"  # where that line keeps the other branch's lines, as they were
_RENAMED = {"from_version": "from", "to_version": "to"}  # `from` is a word of Python


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
        ``pass`` of the gate; ``forced`` against it; ``rollback`` where no gate was asked;
        ``merge`` where a git merge joined two histories.
    evidence_sha256 : str
        Digest of what the verdict rests on, see `evidence`.
    more : mapping
        Further facts, written beside the others: ``by`` (promote, repro, rollback or repair),
        ``to_sha256``, the digest of the new champion's bundle (version numbers begin anew when a
        registry is lost), ``data_sha256`` of what it was trained on, ``git_commit`` and
        ``git_dirty`` of the checkout, ``test_accesses``: how often the test side had been opened.
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
    more: Mapping[str, Any] = field(default_factory=dict)
    previous_sha256: str = START
    sha256: str = ""

    def after(self, previous: Entry | None) -> Entry:
        """Return this entry chained to the one before it."""
        before = None if previous is None else {"sha256": previous.sha256}
        line = chained(self.as_mapping(), before)
        return replace(self, previous_sha256=line["previous_sha256"], sha256=line["sha256"])

    def as_mapping(self) -> dict[str, Any]:
        """Return the fields under the names they have in the file."""
        row = {_RENAMED.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}
        return {**row.pop("more"), **row}

    @property
    def merged(self) -> list[Entry]:
        """The lines of another branch that this one keeps; empty for every other line."""
        return [from_mapping(content) for content in self.more.get(MERGED, [])]


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
    write(path, [*known, written])
    return written


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Write a whole journal of entries that are chained already."""
    write_text(path, text_of([entry.as_mapping() for entry in entries]))


def read(path: Path) -> list[Entry]:
    """Return the entries of a journal whose chain holds; empty for a file that is not there.

    Raises
    ------
    IntegrityFault
        Names the first line that was edited, that misses its predecessor, or where two histories
        were joined by a git merge.
    """
    entries: list[Entry] = []
    for number, line in enumerate(read_chain(path), 1):
        entry = entry_of(path, number, line)
        _require_merged(path, number, entry, {START, *(e.sha256 for e in entries)})
        entries.append(entry)
    return entries


def entry_of(path: Path, number: int, line: Mapping[str, Any]) -> Entry:
    """Return a line of the file as an entry; `IntegrityFault` if it is none."""
    try:
        return from_mapping(line)
    except KeyError as error:
        raise fault(path, number, f"not a journal line, {error} is missing") from error


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
        raise fault(
            path,
            len(entries) + 1,
            f"{length} lines were recorded, the rest was cut off; {restore(path)}",
        )
    last = entries[length - 1].sha256 if length else START
    if last != head:
        raise fault(path, length, f"not the line that the champion file records; {restore(path)}")
    if len(entries) > length:
        raise fault(
            path,
            length + 1,
            f"the champion file records {length} lines; a promotion was not finished (run "
            "`defectops doctor --fix`) or the files come from different commits",
        )
    return entries


def _require_merged(path: Path, number: int, entry: Entry, parents: set[str]) -> None:
    """Refuse a line that keeps lines of another branch which are not a chain of their own."""
    for content in entry.more.get(MERGED, []):
        whole = content.get("sha256") == own_sha256(content)
        if not whole or content["previous_sha256"] not in parents:
            raise fault(path, number, f"keeps edited lines of another branch; {restore(path)}")
        parents = {content["sha256"]}
