"""What is wrong with the records of a project, and how much of it can be put right.

Runs that say RUNNING though their process is gone, promotions that a crash interrupted, champions
whose file, journal, evidence, bundle and registry disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import DefectopsError, InputRefused, IntegrityFault
from defectops.experiments import journal
from defectops.experiments.accesses import read_accesses
from defectops.experiments.champions import (
    Champion,
    Places,
    checked_champion,
    places_of,
    read_champion,
    unfinished,
)
from defectops.experiments.changing import THRESHOLD, journal_tags, recover
from defectops.experiments.evidence import read_evidence
from defectops.experiments.locks import locked
from defectops.experiments.registry import CHAMPION
from defectops.experiments.tracking import Tracker, close_stale_runs, owner_is

if TYPE_CHECKING:
    from defectops.experiments.registry import Registry


@dataclass(frozen=True)
class Trouble:
    """One thing that was found.

    Parameters
    ----------
    subject, code, message : str
        As in an error line.
    exit_code : int
        0 for what is only worth knowing.
    mended : bool
        It was put right just now; then `exit_code` is 0.
    """

    subject: str
    code: str
    message: str
    exit_code: int
    mended: bool = False


def examine(root: Path, tracker: Tracker, registry: Registry, mend: bool) -> list[Trouble]:
    """Return what is wrong with the records of a project; put right what can be.

    Parameters
    ----------
    root : Path
        The project.
    tracker, registry
        Its stores.
    mend : bool
        Close stale runs, finish interrupted promotions, fetch damaged champions from the
        registry. Nothing is changed otherwise.
    """
    return [
        *stale_runs(tracker, mend),
        *_interrupted(root, registry, mend),
        *_champions(root, registry, mend),
    ]


def stale_runs(tracker: Tracker, mend: bool) -> list[Trouble]:
    """Return the runs whose process is gone, and a note on each that cannot be seen from here."""
    running = tracker.running()
    gone = close_stale_runs(tracker) if mend else [r for r in running if owner_is(r, "gone")]
    found = [
        Trouble(
            f"run {run.run_id}",
            "E_STALE_RUN",
            f"{run.experiment}/{run.name} was recorded as running, its process is gone",
            0 if mend else IntegrityFault.exit_code,
            mend,
        )
        for run in gone
    ]
    return found + [
        Trouble(
            f"run {run.run_id}",
            "N_RUN_ELSEWHERE",
            f"{run.experiment}/{run.name} runs on {run.tags.get('owner.host')} or in another "
            "container and cannot be seen from here",
            0,
        )
        for run in running
        if owner_is(run, "elsewhere")
    ]


def _interrupted(root: Path, registry: Registry, mend: bool) -> Iterator[Trouble]:
    for defect in unfinished(root):
        places = places_of(root, defect)
        message = "a promotion was interrupted"
        try:
            if mend:
                with locked(places.lock):
                    recover(places, registry)
        except DefectopsError as error:
            yield Trouble(places.model, error.code, error.message, error.exit_code)
        else:
            code = 0 if mend else IntegrityFault.exit_code
            yield Trouble(places.model, "E_UNFINISHED", message, code, mend)


def _champions(root: Path, registry: Registry, mend: bool) -> Iterator[Trouble]:
    for file in sorted(root.glob("champions/*.json")):
        places = places_of(root, file.stem)
        if places.intent.exists():
            continue  # reported as interrupted
        try:
            checked_champion(places)
        except InputRefused:
            yield _without_bundle(places, registry, mend)
        except IntegrityFault as error:
            mended = mend and error.code == "E_DIGEST" and _fetch(places, registry)
            code = 0 if mended else error.exit_code
            yield Trouble(error.subject, error.code, error.message, code, mended)
            if error.code != "E_DIGEST":
                continue
        yield from _history(places)
        yield from _registered(places, registry, mend)


def _history(places: Places) -> Iterator[Trouble]:
    """Return what is wrong with evidence and ledger; git has what was there."""
    entries = [e for entry in journal.read(places.journal) for e in (*entry.merged, entry)]
    missing = 0
    for entry in entries:
        try:
            missing += read_evidence(places, entry.evidence_sha256) is None
        except IntegrityFault as error:
            yield Trouble(error.subject, error.code, error.message, error.exit_code)
    if missing:
        yield Trouble(
            f"champions/{places.defect}.evidence",
            "N_EVIDENCE",
            f"{missing} of {len(entries)} lines of the journal have no evidence here: moves of an "
            "earlier release, or files that git still has (`git checkout -- champions`)",
            0,
        )
    try:
        read_accesses(
            places, max((int(e.more.get("test_accesses", 0)) for e in entries), default=0)
        )
    except IntegrityFault as error:
        yield Trouble(error.subject, error.code, error.message, error.exit_code)


def _registered(places: Places, registry: Registry, mend: bool) -> Iterator[Trouble]:
    """Return whether the registry tells the same of the champion as the files do.

    Its tags are a second witness of the journal: whoever cuts off both journal and champion file
    is found out by them. A registry that knows nothing of the champion is one of a clone.
    """
    champion = read_champion(places)
    number = registry.find(places.model, str(champion.sha256))
    pointed = registry.alias(places.model, CHAMPION)
    if number is None and pointed is None:
        return
    tags = {} if pointed is None else registry.version(places.model, pointed).tags
    expected = journal_tags(champion)
    if pointed == number and all(tags.get(k, v) == v for k, v in expected.items()):
        return
    told = f"version {pointed or 'none'} with a journal of {tags.get('journal_length', '?')} lines"
    mended = mend and _follow(places, registry, champion)
    yield Trouble(
        places.model,
        "E_REGISTRY",
        f"the registry's champion is {told}, champions/{places.file.name} names version "
        f"{champion.version} and {champion.journal_length} lines: another commit is checked out, "
        "or lines were cut off (`git log -- champions` tells); `defectops doctor --fix` lets the "
        "registry follow the files",
        0 if mended else IntegrityFault.exit_code,
        mended,
    )


def _follow(places: Places, registry: Registry, champion: Champion) -> bool:
    """Let the registry's champion be the one of the files; return whether it is known there now."""
    number = registry.find(places.model, str(champion.sha256))
    if number is None and places.bundle.is_file():
        tags = {THRESHOLD: repr(champion.threshold)}
        number = registry.submit(places.model, places.bundle, str(champion.run_id), {}, tags)
    if number is not None:
        registry.set_alias(places.model, CHAMPION, number)
        registry.set_tags(places.model, number, journal_tags(champion))
    return number is not None


def _without_bundle(places: Places, registry: Registry, mend: bool) -> Trouble:
    """Return a note: a fresh clone has the champion's file but not its bundle, no fault."""
    return Trouble(
        f"champions/{places.defect}",
        "N_NO_BUNDLE",
        "the champion's bundle is not here; `dvc pull` or `dvc repro` brings it",
        0,
        mend and _fetch(places, registry),
    )


def _fetch(places: Places, registry: Registry) -> bool:
    """Fetch a champion's bundle from the registry; return whether it was there, undamaged."""
    champion = read_champion(places)
    number = registry.find(places.model, str(champion.sha256))
    if number is None:
        return False
    try:
        registry.fetch(places.model, number, places.bundle.parent)
    except IntegrityFault:  # the registry's copy is damaged too; the trouble stays as it was found
        return False
    return True
