"""How one champion follows another: registered, judged, moved or not; and the way back.

What moves is moved by `changing`, whole or not at all, and a crash is repaired by the next command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.errors import Conflict, InputRefused, IntegrityFault
from defectops.experiments import journal
from defectops.experiments.champions import DATA, Champion, Places, read_champion
from defectops.experiments.changing import (
    THRESHOLD,
    Move,
    Note,
    change,
    journal_tags,
    recover,
)
from defectops.experiments.evidence import read_evidence
from defectops.experiments.locks import locked
from defectops.experiments.registry import (
    CANDIDATE,
    CHAMPION,
    Registry,
    digest,
    place,
)
from defectops.experiments.signing import now, who

if TYPE_CHECKING:
    from defectops.experiments.journal import Entry
    from defectops.experiments.promotion import Verdict

ANY = -1  # no version is expected to be champion
FORCED = "forced"
ROLLBACK = "rollback"


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
        Written on its version. ``data_sha256`` goes into the journal too.
    card : str
        Model card of its version, Markdown.
    """

    bundle: Path
    run_id: str
    threshold: float
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    card: str = ""


def note(reason: str, forced: bool = False, by: str = "promote") -> Note:
    """Return a note of this user, now (UTC, seconds)."""
    return Note(who(), reason, now(), forced, by)


def promote(
    places: Places,
    registry: Registry,
    candidate: Candidate,
    verdict: Verdict,
    about: Note,
    expect: int | Champion | None = ANY,
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
    expect : int, Champion or None
        Version that must be champion now (None: nobody), or the champion that the verdict was
        judged against, else `Conflict`; `ANY` asks nothing.

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
        require_expected(champion, expect)
        sha256 = digest(candidate.bundle)
        number = _register(registry, places.model, candidate)
        registry.set_alias(places.model, CANDIDATE, number)
        if champion.sha256 == sha256:
            _restore(places, registry, candidate.bundle, champion, number)
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
        data = candidate.tags.get(DATA, "")
        return change(
            places, registry, Move(candidate.bundle, champion, new, evidence, data), about
        )


Elsewhere = Callable[[str], Path | None]  # MD5 of a bundle to a copy of it, such as DVC's cache


def rollback(
    places: Places,
    registry: Registry,
    about: Note,
    elsewhere: Elsewhere = lambda md5: None,
) -> Champion:
    """Make the champion before the present one champion again, checked by digest.

    A rollback after a rollback goes one further back; after one that was interrupted it finishes
    that one and moves no further. Weights and threshold are those that the
    journal and its evidence record. The bundle comes from the registry, by its digest; where the
    registry was lost or is damaged, from `elsewhere`.

    Raises
    ------
    InputRefused
        There is no earlier champion.
    IntegrityFault
        Its bundle is damaged or gone.
    """
    with locked(places.lock):
        finished = recover(places, registry)
        champion = _verified(places)
        if finished is not None and finished.verdict == ROLLBACK:
            return champion
        entry = _earlier(places, champion)
        sha256 = to_sha256(entry)
        evidence = read_evidence(places, entry.evidence_sha256)
        bundle = find_bundle(places, registry, entry, elsewhere)
        run_id, threshold = _operating_point(places, registry, entry, evidence)
        tags = {THRESHOLD: repr(threshold)}
        number = registry.submit(places.model, bundle, run_id, {}, tags)
        new = Champion(places.model, number, run_id, sha256, threshold, ROLLBACK)
        reasons = {"bundle": sha256, "champion": champion.sha256, "line": entry.sha256}
        data = (evidence or {}).get(DATA) or entry.more.get(DATA, "")
        return change(places, registry, Move(bundle, champion, new, reasons, data), about)


def _verified(places: Places) -> Champion:
    """Return the champion if its journal is the recorded one; the bundle may be missing."""
    champion = read_champion(places)
    journal.read_and_verify(places.journal, champion.journal_sha256, champion.journal_length)
    return champion


def require_expected(champion: Champion, expect: int | Champion | None) -> None:
    """Raise `Conflict` unless the champion is the one that somebody counted on; see `promote`."""
    if isinstance(expect, Champion):
        met, expect = champion.sha256 == expect.sha256, expect.version
    else:
        met = expect in (ANY, champion.version)
    if not met:
        raise Conflict(
            champion.model,
            "E_CHAMPION_MOVED",
            f"version {expect or 'none'} was expected to be champion, it is "
            f"{champion.version or 'none'} now; look at it and decide anew",
        )


def _register(registry: Registry, model: str, candidate: Candidate) -> int:
    tags = {**candidate.tags, THRESHOLD: repr(candidate.threshold)}
    run_id, metrics = candidate.run_id, candidate.metrics
    return registry.submit(model, candidate.bundle, run_id, metrics, tags, candidate.card)


def _restore(
    places: Places, registry: Registry, bundle: Path, champion: Champion, number: int
) -> None:
    """Put back what is missing of a champion: a clone has no bundle and no registry."""
    if not places.bundle.exists() or digest(places.bundle) != champion.sha256:
        place(bundle, str(champion.sha256), places.bundle.parent, str(bundle))
    registry.set_alias(places.model, CHAMPION, number)
    registry.set_tags(places.model, number, journal_tags(champion))


def succeeded(entries: Sequence[Entry]) -> list[Entry]:
    """Return the lines by which the champions became it that a rollback could still reach.

    The last one is the present champion's. A rollback takes its own champion back; a line that
    joins another branch's history moves nobody.
    """
    stack: list[Entry] = []
    for entry in entries:
        if entry.verdict == ROLLBACK:
            stack.pop()
        elif entry.verdict != journal.MERGE and entry.to_version is not None:
            stack.append(entry)
    return stack


def to_sha256(entry: Entry) -> str:
    """Return the digest of the bundle that a line of the journal made champion."""
    return str(entry.more.get("to_sha256", ""))


def _earlier(places: Places, champion: Champion) -> Entry:
    """Return the line by which the champion before `champion` became it."""
    reachable = succeeded(journal.read(places.journal))
    if len(reachable) < 2 or champion.version is None:
        raise InputRefused(
            places.model, "E_NO_EARLIER", "no earlier champion to go back to; see the journal"
        )
    return reachable[-2]


def find_bundle(places: Places, registry: Registry, entry: Entry, elsewhere: Elsewhere) -> Path:
    """Return a copy of the bundle that a line of the journal made champion.

    Raises
    ------
    IntegrityFault
        It is neither in the registry nor elsewhere, or damaged in both.
    """
    sha256 = to_sha256(entry)
    into = places.waiting / "fetched"
    number = registry.find(places.model, sha256)
    why = "this registry has no version with that digest"
    if number is not None:
        try:
            return registry.fetch(places.model, number, into)
        except IntegrityFault as error:
            why = error.message
    evidence = read_evidence(places, entry.evidence_sha256) or {}
    kept = elsewhere(str(evidence.get("bundle_md5", "")))
    if kept is not None and digest(kept) == sha256:
        return place(kept, sha256, into, places.model)
    raise IntegrityFault(
        f"{places.model}/{entry.to_version}",
        "E_DIGEST",
        f"was sha256 {sha256[:12]} when it was champion; {why}, and no copy is in DVC's cache: "
        "fetch it (`dvc pull` at the commit where it was champion, see `git log champions`), "
        "restore the registry, or promote another version",
    )


def _operating_point(
    places: Places, registry: Registry, entry: Entry, evidence: Mapping[str, Any] | None
) -> tuple[str, float]:
    """Return run and threshold of an earlier champion: as recorded, else as registered."""
    if evidence is not None:
        return str(evidence["record"]["run_id"]), float(evidence["record"]["threshold"])
    number = registry.find(places.model, to_sha256(entry))
    version = None if number is None else registry.version(places.model, number)
    if version is None or THRESHOLD not in version.tags:
        raise IntegrityFault(
            f"{places.model}/{entry.to_version}",
            "E_EVIDENCE",
            "neither its evidence nor its version records its threshold; promote it anew",
        )
    return version.run_id, float(version.tags[THRESHOLD])
