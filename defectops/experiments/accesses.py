"""How often the test side was opened, and by which models: counted before anything is scored.

A test side that many models were compared on is a development side. The count lies under git
beside the journal, in a file of its own: an evaluation moves no champion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.experiments import hash_chain
from defectops.experiments.locks import locked, sweep
from defectops.experiments.provenance import git_tags
from defectops.experiments.signing import now, who

if TYPE_CHECKING:
    from defectops.errors import IntegrityFault
    from defectops.experiments.champions import Champion, Places


@dataclass(frozen=True)
class Accesses:
    """What the ledger of a test side adds up to.

    Parameters
    ----------
    times : int
        How often it was opened.
    models : int
        By how many different models.
    sides : int
        How many different test sides there were; a changed split makes another one.
    """

    times: int
    models: int
    sides: int


def record_access(places: Places, champion: Champion, test_sha256: str) -> dict[str, Any]:
    """Write down that a champion is about to be scored on a test side; return the line.

    Parameters
    ----------
    places : Places
    champion : Champion
    test_sha256 : str
        Digest of the test side's file.

    Raises
    ------
    IntegrityFault
        The ledger is broken: what cannot be counted is not opened.
    """
    content = {
        "at": now(),
        "who": who(),
        "version": champion.version,
        "model_sha256": champion.sha256,
        "test_sha256": test_sha256,
        "git_commit": git_tags(places.root)["git.commit"],
    }
    lock = places.root / ".defectops" / f"test-accesses-{places.defect}.lock"
    with locked(lock):
        sweep(places.accesses)
        return hash_chain.append(places.accesses, content)


def read_accesses(places: Places, at_least: int = 0) -> list[dict[str, Any]]:
    """Return the lines of the ledger, oldest first; empty where the test side was never opened.

    Parameters
    ----------
    places : Places
    at_least : int
        How many the journal knows of.

    Raises
    ------
    IntegrityFault
        A line was edited or is missing, or the end was cut off.
    """
    lines = hash_chain.read_chain(places.accesses)
    if len(lines) < at_least:
        raise _cut_off(places.accesses, len(lines), at_least)
    return lines


def summed(lines: list[dict[str, Any]]) -> Accesses:
    """Add the lines of a ledger up."""
    return Accesses(
        len(lines),
        len({line.get("model_sha256") for line in lines}),
        len({line.get("test_sha256") for line in lines}),
    )


def _cut_off(path: Path, found: int, known: int) -> IntegrityFault:
    return hash_chain.fault(
        path,
        found + 1,
        f"the journal knows of {known} accesses, the rest was cut off; {hash_chain.restore(path)}",
    )
