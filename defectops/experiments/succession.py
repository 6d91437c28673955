"""How one champion follows another: written down first, then carried out, repaired after a crash.

A promotion changes four places: journal, ``champions/<defect>/model.safetensors``,
``champions/<defect>.json`` and the registry's alias. No system changes four places at once, so
the whole change is written down first (the *intent*, one file, one rename) and then carried out
by steps that can each be repeated. A crash before the intent leaves everything as it was; a
crash after it is finished by the next command, see `recover`.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.atomic import write_text
from defectops.errors import Conflict, InputRefused, IntegrityFault
from defectops.experiments import journal
from defectops.experiments.champions import Champion, Places, read_champion, write_champion
from defectops.experiments.journal import START, Entry
from defectops.experiments.locks import locked, sweep
from defectops.experiments.registry import (
    BUNDLE,
    CANDIDATE,
    CHAMPION,
    PREVIOUS,
    Registry,
    digest,
    place,
)

if TYPE_CHECKING:
    from defectops.experiments.promotion import Verdict

ANY = -1  # no version is expected to be champion
FORCED = "forced"
_THRESHOLD = "threshold"


@dataclass(frozen=True)
class Candidate:
    """A trained model that asks to become champion.

    Parameters
    ----------
    bundle : Path
    run_id : str
    threshold : float
    metrics : mapping of str to float
        On the gate images; undefined ones absent.
    tags : mapping of str to str
        Written on its version.
    """

    bundle: Path
    run_id: str
    threshold: float
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Note:
    """Who moves a champion, why and when; `forced` lets it move though the gate says no."""

    who: str
    reason: str
    at: str
    forced: bool = False


def note(reason: str, forced: bool = False) -> Note:
    """Return a note of this user, now (UTC, seconds)."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a numeric user in a container has no name
        user = f"uid {os.getuid()}"
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Note(f"{user}@{socket.gethostname()}", reason, at, forced)


def promote(
    places: Places,
    registry: Registry,
    candidate: Candidate,
    verdict: Verdict,
    about: Note,
    expect: int | None = ANY,
) -> Champion:
    """Register a candidate and, if the verdict is pass, make it champion.

    Parameters
    ----------
    places : Places
    registry : Registry
    candidate : Candidate
    verdict : Verdict
        From `promotion.judge`; anything but pass keeps the champion, unless `about` forces it.
    about : Note
    expect : int or None
        Version that must be champion now (None: nobody), else `Conflict`; `ANY` asks nothing.

    Returns
    -------
    Champion
        The new one, or the one that stays. A candidate that is champion already stays it and
        gets what is missing of it: its bundle in ``champions/``, its version in the registry.

    Raises
    ------
    Conflict
        Somebody else moved the champion meanwhile.
    IntegrityFault
        Journal and champion file do not belong together.
    """
    with locked(places.lock):
        recover(places, registry)
        champion = _verified(places)
        _require_expected(places, champion, expect)
        sha256 = digest(candidate.bundle)
        number = _register(registry, places.model, candidate)
        registry.set_alias(places.model, CANDIDATE, number)
        if champion.sha256 == sha256:
            _restore(places, registry, candidate.bundle, sha256, number)
            return champion
        if not (verdict.passed or about.forced):
            return champion
        outcome = verdict.outcome if verdict.passed else FORCED
        new = Champion(places.model, number, candidate.run_id, sha256, candidate.threshold, outcome)
        evidence = {
            "bundle": sha256,
            "champion": champion.sha256,
            "metrics": dict(candidate.metrics),
            "verdict": verdict.as_mapping(),
        }
        return _change(places, registry, _Move(candidate.bundle, champion, new, evidence), about)


def rollback(places: Places, registry: Registry, about: Note) -> Champion:
    """Make the champion before the present one champion again, checked by digest.

    A rollback after a rollback goes one further back.

    Raises
    ------
    InputRefused
        There is no earlier champion.
    IntegrityFault
        Its bundle is damaged, or the version of that number is another model now.
    """
    with locked(places.lock):
        recover(places, registry)
        champion = _verified(places)
        number, sha256 = _earlier(places, champion)
        version = registry.version(places.model, number)
        if version.sha256 != sha256:
            found = registry.find(places.model, sha256)
            if found is None:
                raise IntegrityFault(
                    f"{places.model}/{number}",
                    "E_DIGEST",
                    f"was sha256 {sha256[:12]} when it was champion and is another model now; "
                    "restore the registry, or promote another version",
                )
            version = registry.version(places.model, found)
        bundle = registry.fetch(places.model, version.number, places.waiting / "fetched")
        new = Champion(
            places.model,
            version.number,
            version.run_id,
            version.sha256,
            float(version.tags[_THRESHOLD]),
            "rollback",
        )
        evidence = {"bundle": version.sha256, "champion": champion.sha256}
        return _change(places, registry, _Move(bundle, champion, new, evidence), about)


def recover(places: Places, registry: Registry) -> bool:
    """Finish a change that a crash interrupted; return whether there was one.

    The caller holds ``places.lock``, or is the only one there.

    Raises
    ------
    IntegrityFault
        The journal went another way meanwhile (another commit was checked out).
    """
    for target in (places.file, places.journal, places.bundle):
        sweep(target)
    if not places.intent.exists():
        return False
    content = json.loads(places.intent.read_text(encoding="utf-8"))
    _carry_out(places, registry, content)
    return True


def _verified(places: Places) -> Champion:
    """Return the champion if its journal is the recorded one; the bundle may be missing."""
    champion = read_champion(places)
    journal.read_and_verify(places.journal, champion.journal_sha256, champion.journal_length)
    return champion


def _require_expected(places: Places, champion: Champion, expect: int | None) -> None:
    if expect not in (ANY, champion.version):
        raise Conflict(
            places.model,
            "E_CHAMPION_MOVED",
            f"version {expect or 'none'} was expected to be champion, it is "
            f"{champion.version or 'none'} now; look at it and decide anew",
        )


def _register(registry: Registry, model: str, candidate: Candidate) -> int:
    tags = {**candidate.tags, _THRESHOLD: repr(candidate.threshold)}
    return registry.submit(model, candidate.bundle, candidate.run_id, candidate.metrics, tags)


def _restore(places: Places, registry: Registry, bundle: Path, sha256: str, number: int) -> None:
    """Put back what is missing of a champion: a clone has no bundle and no registry."""
    if not places.bundle.exists() or digest(places.bundle) != sha256:
        place(bundle, sha256, places.bundle.parent, str(bundle))
    registry.set_alias(places.model, CHAMPION, number)


def _earlier(places: Places, champion: Champion) -> tuple[int, str]:
    """Return number and digest of the champion that stood before `champion`."""
    stack: list[tuple[int, str]] = []
    for entry in journal.read(places.journal):
        if entry.verdict == "rollback":
            stack.pop()
        elif entry.to_version is not None:
            stack.append((entry.to_version, entry.more.get("to_sha256", "")))
    if len(stack) < 2 or champion.version is None:
        raise InputRefused(
            places.model, "E_NO_EARLIER", "no earlier champion to go back to; see the journal"
        )
    return stack[-2]


@dataclass(frozen=True)
class _Move:
    """From one champion to another: the new one's bundle, and what the decision rests on."""

    bundle: Path
    old: Champion
    new: Champion
    evidence: Mapping[str, Any]


def _change(places: Places, registry: Registry, move: _Move, about: Note) -> Champion:
    """Write the whole change down, then carry it out."""
    sha256 = str(move.new.sha256)
    entries = journal.read(places.journal)
    entry = Entry(
        about.at,
        about.who,
        move.old.version,
        move.new.version,
        about.reason,
        move.new.verdict,
        journal.sha256_of(move.evidence),
        {"to_sha256": sha256},
    ).after(entries[-1] if entries else None)
    new = replace(move.new, journal_sha256=entry.sha256, journal_length=len(entries) + 1)
    place(move.bundle, sha256, places.waiting, str(move.bundle))
    content = {"entry": entry.as_mapping(), "champion": asdict(new), "previous": move.old.sha256}
    write_text(places.intent, json.dumps(content, sort_keys=True, indent=2) + "\n")
    _carry_out(places, registry, content)
    return new


def _carry_out(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    for step in STEPS:
        step(places, registry, content)


def _write_journal(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    entry = journal.from_mapping(content["entry"])
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
    place(places.waiting / BUNDLE, sha256, places.bundle.parent, places.model)


def _write_file(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    write_champion(places, Champion(**content["champion"]))


def _point_aliases(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    champion = Champion(**content["champion"])
    # Idempotent by digest: the known version, or a new one if the registry was lost meanwhile.
    number = registry.submit(
        places.model,
        places.bundle,
        str(champion.run_id),
        {},
        {_THRESHOLD: repr(champion.threshold)},
    )
    registry.set_alias(places.model, CHAMPION, number)
    # By digest too: in a new registry the number of the former champion is another model's.
    before = content["previous"]
    earlier = None if before is None else registry.find(places.model, before)
    registry.set_alias(places.model, PREVIOUS, earlier)


def _tidy(places: Places, registry: Registry, content: Mapping[str, Any]) -> None:
    places.intent.unlink()
    shutil.rmtree(places.waiting)


# Each can be repeated. The journal first: it is what the others are checked against.
STEPS: tuple[Callable[[Places, Registry, Mapping[str, Any]], None], ...] = (
    _write_journal,
    _place_bundle,
    _write_file,
    _point_aliases,
    _tidy,
)
