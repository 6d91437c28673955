"""A change of champion, written down first and carried out by steps that can each be repeated.

It concerns six places: evidence, journal, ``champions/<defect>/model.safetensors``,
``champions/<defect>.json``, the registry's aliases and its tags. No system changes six places at
once, so the whole change is one file (the *intent*, one rename) before anything moves. A crash
before the intent leaves everything as it was; a crash after it is finished by the next command.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from defectops.atomic import write_text
from defectops.errors import IntegrityFault
from defectops.experiments import journal
from defectops.experiments.accesses import read_accesses
from defectops.experiments.champions import DATA, Champion, Places, write_champion
from defectops.experiments.evidence import keep_evidence
from defectops.experiments.hash_chain import START, sha256_of
from defectops.experiments.journal import Entry
from defectops.experiments.locks import sweep
from defectops.experiments.provenance import git_tags
from defectops.experiments.registry import BUNDLE, CHAMPION, PREVIOUS, Registry, place

THRESHOLD = "threshold"
_KEPT = (  # of a champion, so that its file can be written again from the evidence
    "model",
    "version",
    "run_id",
    "sha256",
    "threshold",
    "verdict",
)


@dataclass(frozen=True)
class Note:
    """Who moves a champion, why, when and by which command.

    Parameters
    ----------
    who, reason, at : str
    forced : bool
        It moves though the gate says no.
    by : str
        ``promote``, ``repro`` (the stage), ``rollback`` or ``repair``.
    """

    who: str
    reason: str
    at: str
    forced: bool = False
    by: str = "promote"


@dataclass(frozen=True)
class Move:
    """From one champion to another.

    Parameters
    ----------
    bundle : Path
        Of the new one.
    old, new : Champion
    evidence : mapping
        What the decision rests on; the new champion itself is added.
    data_sha256 : str
        Of what the new one was trained on; empty if unknown.
    more : mapping
        Further facts for the journal's line.
    """

    bundle: Path
    old: Champion
    new: Champion
    evidence: Mapping[str, Any]
    data_sha256: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def change(places: Places, registry: Registry, move: Move, about: Note) -> Champion:
    """Write a whole change down, then carry it out; the caller holds ``places.lock``."""
    entries = journal.read(places.journal)
    evidence = {
        **move.evidence,
        DATA: move.data_sha256,
        "bundle_md5": md5(move.bundle),
        "record": {name: getattr(move.new, name) for name in _KEPT},
    }
    entry = entry_of(places, move, about, sha256_of(evidence)).after(
        entries[-1] if entries else None
    )
    new = replace(move.new, journal_sha256=entry.sha256, journal_length=len(entries) + 1)
    place(move.bundle, str(new.sha256), places.waiting, str(move.bundle))
    begin(
        places,
        {
            "evidence": evidence,
            "entry": entry.as_mapping(),
            "champion": asdict(new),
            "previous": move.old.sha256,
        },
    )
    recover(places, registry)
    return new


def entry_of(places: Places, move: Move, about: Note, evidence_sha256: str) -> Entry:
    """Return the journal's line about a move, not chained yet."""
    git = git_tags(places.root)
    facts = {
        "by": about.by,
        "to_sha256": str(move.new.sha256),
        DATA: move.data_sha256,
        "git_commit": git["git.commit"],
        "git_dirty": git["git.dirty"],
        "test_accesses": len(read_accesses(places)),
        **move.more,
    }
    return Entry(
        about.at,
        about.who,
        move.old.version,
        move.new.version,
        about.reason,
        move.new.verdict,
        evidence_sha256,
        facts,
    )


def md5(bundle: Path) -> str:
    """Return the digest by which DVC's cache knows a file."""
    with bundle.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def begin(places: Places, content: Mapping[str, Any]) -> None:
    """Write a change down: from here on the next command finishes it."""
    write_text(places.intent, json.dumps(content, sort_keys=True, indent=2) + "\n")


def recover(places: Places, registry: Registry) -> Entry | None:
    """Carry out the change that is written down and return its line; None if there was none.

    The caller holds ``places.lock``, or is the only one there.

    Raises
    ------
    IntegrityFault
        The journal went another way meanwhile (another commit was checked out).
    """
    for target in (places.file, places.journal, places.bundle):
        sweep(target)
    if not places.intent.exists():
        shutil.rmtree(places.waiting, ignore_errors=True)
        return None
    content = json.loads(places.intent.read_text(encoding="utf-8"))
    for step in STEPS:
        step(places, registry, content)
    return journal.from_mapping(content["entry"])


def _keep_evidence(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    for stray in places.evidence.glob(".*.tmp"):  # of a killed process; we hold the lock
        stray.unlink(missing_ok=True)
    keep_evidence(places, content["evidence"])


def _write_journal(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    entry = journal.from_mapping(content["entry"])
    if "before" in content:  # a repair writes the journal anew
        known = [journal.from_mapping(line) for line in content["before"]]
        journal.write(places.journal, [*known, entry])
        return
    entries = journal.read(places.journal)
    last = entries[-1].sha256 if entries else START
    if last == entry.sha256:
        return
    if last != entry.previous_sha256:
        raise IntegrityFault(
            places.journal.name,
            "E_UNFINISHED",
            "an unfinished promotion does not fit this journal; go back to its commit, or give "
            f"it up by deleting .defectops/promotion/{places.defect}",
        )
    journal.append(places.journal, entry)


def _place_bundle(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    sha256 = content["champion"]["sha256"]
    if content.get("without_bundle"):  # a repair on a machine that does not have it
        return
    place(places.waiting / BUNDLE, sha256, places.bundle.parent, places.model)


def _write_file(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    write_champion(places, Champion(**content["champion"]))


def _point_aliases(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    number = _number(places, registry, content)
    if number is not None:
        registry.set_alias(places.model, CHAMPION, number)
    # By digest too: in a new registry the number of the former champion is another model's.
    before = content["previous"]
    earlier = None if before is None else registry.find(places.model, before)
    registry.set_alias(places.model, PREVIOUS, earlier)


def _tag_version(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    champion = Champion(**content["champion"])
    number = _number(places, registry, content)
    if number is not None:
        registry.set_tags(places.model, number, journal_tags(champion))


def _number(places: Places, registry: Registry, content: Mapping[str, Any]) -> int | None:
    """Return the champion's version here, a new one if the registry was lost meanwhile."""
    champion = Champion(**content["champion"])
    if content.get("without_bundle"):
        return registry.find(places.model, str(champion.sha256))
    tags = {THRESHOLD: repr(champion.threshold)}
    return registry.submit(places.model, places.bundle, str(champion.run_id), {}, tags)


def journal_tags(champion: Champion) -> dict[str, str]:
    """Return the tags by which a champion's version witnesses the journal."""
    return {
        "journal_sha256": champion.journal_sha256,
        "journal_length": str(champion.journal_length),
    }


def _note_untold(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    """Remember that the command after a promotion is to be told of this move."""
    told = {"entry": content["entry"], "previous": content["previous"]}
    path = places.untold / f"{content['champion']['journal_length']:06d}.json"
    write_text(path, json.dumps(told, sort_keys=True, indent=2) + "\n")


def _tidy(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    places.intent.unlink()
    shutil.rmtree(places.waiting)


# Each can be repeated. The journal before what is checked against it, its evidence before it.
STEPS: tuple[Callable[[Places, Registry, Mapping[str, Any]], None], ...] = (
    _keep_evidence,
    _write_journal,
    _place_bundle,
    _write_file,
    _point_aliases,
    _tag_version,
    _note_untold,
    _tidy,
)
