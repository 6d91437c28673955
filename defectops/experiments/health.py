"""What is wrong with the records of a project, and how much of it can be put right.

Runs that say RUNNING though their process is gone, promotions that a crash interrupted, champions
whose file, journal and bundle disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import DefectopsError, InputRefused, IntegrityFault
from defectops.experiments.champions import (
    Places,
    checked_champion,
    read_champion,
    unfinished,
)
from defectops.experiments.changing import recover
from defectops.experiments.locks import locked
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


def places_of(root: Path, defect: str) -> Places:
    """Return the places of a defect's champion."""
    return Places(root, defect, f"defectops-{defect}")


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
