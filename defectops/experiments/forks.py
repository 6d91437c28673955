"""Two branches that both promoted, joined by a git merge: what each says, and one history again.

A chain of digests cannot be merged line by line. One side's lines stay as they are and its champion
stays champion; the other side's lines are kept, whole and with their digests, inside one more line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from defectops.atomic import write_text
from defectops.errors import InputRefused, IntegrityFault
from defectops.experiments import hash_chain, journal
from defectops.experiments.champions import DATA, Champion, Places, read_champion
from defectops.experiments.changing import Move, Note, begin, entry_of, recover
from defectops.experiments.evidence import read_evidence
from defectops.experiments.hash_chain import MARKS, START, Line
from defectops.experiments.locks import locked
from defectops.experiments.registry import Registry, digest, place
from defectops.experiments.succession import (
    Elsewhere,
    find_bundle,
    succeeded,
    to_sha256,
)

if TYPE_CHECKING:
    from defectops.experiments.journal import Entry

Side = Literal["ours", "theirs"]
_BEFORE = "before"  # field of the intent of a repair: all lines but the one that joins


@dataclass(frozen=True)
class Fork:
    """A file of chained lines with two ends.

    Parameters
    ----------
    trunk : list of mapping
        Lines that both sides have.
    ours, theirs : list of mapping
        What each side added, in the order of the file: git writes ours first.
    """

    trunk: list[dict[str, Any]]
    ours: list[dict[str, Any]]
    theirs: list[dict[str, Any]]

    def kept_and_other(self, keep: Side) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what the side that stays added, and what the other one did."""
        return (self.ours, self.theirs) if keep == "ours" else (self.theirs, self.ours)


@dataclass(frozen=True)
class Repaired:
    """What came of a repair.

    Parameters
    ----------
    champion : Champion
        The one that stays.
    merged : int
        How many of the other side's lines the journal keeps now.
    bundle : bool
        Whether the champion's bundle is here.
    """

    champion: Champion
    merged: int
    bundle: bool


def read_fork(path: Path) -> Fork | None:
    """Return what a git merge made of a file of chained lines; None if its chain has one end.

    Conflict marks are left out, so the file may be as git left it or with both sides' lines.

    Raises
    ------
    IntegrityFault
        A line was edited or is missing, or there are more than two ends.
    """
    lines = _without_marks(path)
    following: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        following.setdefault(line["previous_sha256"], []).append(line)
    trunk = _straight(following, START)
    ends = following.get(trunk[-1]["sha256"] if trunk else START, [])
    sides = [[first, *_straight(following, first["sha256"])] for first in ends]
    if len(trunk) + sum(map(len, sides)) != len(lines) or len(sides) > 2:
        raise hash_chain.fault(
            path,
            len(trunk) + 1,
            "lines are missing, or more than two histories were joined; merge two at a time, or "
            + hash_chain.restore(path),
        )
    return Fork(trunk, *sides) if sides else None


def repair(
    places: Places,
    registry: Registry,
    keep: Side,
    about: Note,
    elsewhere: Elsewhere = lambda md5: None,
) -> Repaired:
    """Make one history of two: one side's champion stays, both sides' lines are kept.

    Also of the ledger of the test side. Can be repeated after a crash.

    Parameters
    ----------
    places : Places
    registry : Registry
    keep : {"ours", "theirs"}
        Whose champion stays; as git means it, so during a rebase `ours` is the branch below.
    about : Note
    elsewhere : callable, optional
        See `succession.rollback`.

    Raises
    ------
    InputRefused
        Nothing is to be repaired.
    IntegrityFault
        A line was edited or is missing: then no side can be trusted, and git has both.
    """
    with locked(places.lock):
        _require_no_promotion_under_way(places)
        mended = _repair_ledger(places, keep)
        mended = recover(places, registry) is not None or mended  # a repair that was interrupted
        fork = read_fork(places.journal)
        if fork is not None:
            _join(places, registry, fork, keep, about, elsewhere)
        elif not mended:
            raise InputRefused(
                places.journal.name, "E_NO_FORK", "tells one history; nothing is to be repaired"
            )
        champion = read_champion(places)
        here = places.bundle.is_file() and digest(places.bundle) == champion.sha256
        entries = journal.read_and_verify(
            places.journal, champion.journal_sha256, champion.journal_length
        )
    return Repaired(champion, len(entries[-1].merged) if entries else 0, here)


def _require_no_promotion_under_way(places: Places) -> None:
    """Refuse to repair over the intent of a promotion, which belongs to one side only."""
    if places.intent.exists() and _BEFORE not in json.loads(places.intent.read_text()):
        raise IntegrityFault(
            places.file.name,
            "E_UNFINISHED",
            "a promotion was not finished before the merge; `git merge --abort`, then `defectops "
            f"doctor --fix`, or give it up by deleting .defectops/promotion/{places.defect}",
        )


def _repair_ledger(places: Places, keep: Side) -> bool:
    """Chain the other side's accesses to those of the side that stays; return whether it was so."""
    fork = read_fork(places.accesses)
    if fork is None:
        return False
    kept, other = fork.kept_and_other(keep)
    lines = [*fork.trunk, *kept]
    for line in other:
        content = {k: v for k, v in line.items() if k not in {"previous_sha256", "sha256"}}
        lines.append(hash_chain.chained({"was_sha256": line["sha256"], **content}, lines[-1]))
    write_text(places.accesses, hash_chain.text_of(lines))
    return True


def _join(
    places: Places,
    registry: Registry,
    fork: Fork,
    keep: Side,
    about: Note,
    elsewhere: Elsewhere,
) -> None:
    kept, other = fork.kept_and_other(keep)
    before = [
        journal.entry_of(places.journal, number, line)
        for number, line in enumerate((*fork.trunk, *kept), 1)
    ]
    champion, evidence = _champion(places, before[-1])
    evidence |= {"kept": before[-1].sha256, "merged": other[-1]["sha256"]}
    joining = replace(champion, verdict=journal.MERGE)
    move = Move(places.bundle, joining, joining, evidence, evidence[DATA], {journal.MERGED: other})
    entry = entry_of(places, move, about, hash_chain.sha256_of(evidence)).after(before[-1])
    champions = succeeded(before)
    content = {
        _BEFORE: [e.as_mapping() for e in before],
        "entry": entry.as_mapping(),
        "evidence": evidence,
        "champion": asdict(
            replace(champion, journal_sha256=entry.sha256, journal_length=len(before) + 1)
        ),
        "previous": to_sha256(champions[-2]) if len(champions) > 1 else None,
        "without_bundle": not _await_bundle(places, registry, before[-1], champion, elsewhere),
    }
    begin(places, content)
    recover(places, registry)


def _champion(places: Places, entry: Entry) -> tuple[Champion, dict[str, Any]]:
    """Return the champion that a line left, and the evidence, from which its file is rewritten."""
    evidence = read_evidence(places, entry.evidence_sha256)
    if evidence is None:
        raise IntegrityFault(
            places.journal.name,
            "E_EVIDENCE",
            f"the evidence {entry.evidence_sha256[:12]} of the side to be kept is not here; keep "
            "one side whole: `git checkout --ours -- champions` (or --theirs)",
        )
    return Champion(**evidence["record"]), evidence


def _await_bundle(
    places: Places, registry: Registry, entry: Entry, champion: Champion, elsewhere: Elsewhere
) -> bool:
    """Copy the champion's bundle to where the change takes it from; return whether it is here."""
    sha256 = str(champion.sha256)
    try:
        if places.bundle.is_file() and digest(places.bundle) == sha256:
            found = places.bundle
        else:
            found = find_bundle(places, registry, entry, elsewhere)
    except IntegrityFault:
        return False
    place(found, sha256, places.waiting, places.model)
    return True


def _without_marks(path: Path) -> list[dict[str, Any]]:
    """Return the lines of both sides, each once, without git's marks and what stood before both."""
    lines: dict[str, dict[str, Any]] = {}
    base = False
    for number, raw in enumerate(hash_chain.raw_lines(path), 1):
        mark = next((m for m in MARKS if raw.startswith(m.encode())), "")
        base = mark == "|||||||" or (base and not mark)
        if not (mark or base):
            line = hash_chain.sound_line(path, number, raw)
            lines[line["sha256"]] = line
    return list(lines.values())


def _straight(following: Mapping[str, Sequence[Line]], start: str) -> list[dict[str, Any]]:
    """Return the lines after `start` as far as each has one follower."""
    found: list[dict[str, Any]] = []
    while len(following.get(start, [])) == 1:
        found.append(dict(following[start][0]))
        start = found[-1]["sha256"]
    return found
