"""Carries a batch out, item by item in this process; a bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from defectops.batch.items import Item
from defectops.batch.ledger import Ledger, Parts
from defectops.errors import DefectopsError, InputRefused, MicrographRefused, one_line

Work = Callable[[Item, Mapping[str, str]], Parts]
Explain = Callable[[Exception], str | None]

BUG = "E_BUG"


@dataclass(frozen=True)
class Refusal:
    """A file that could not be used, and why."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """What has just happened: `item` is ready, `fresh` says whether it was worked on now."""

    item: Item
    fresh: bool
    refusal: Refusal | None = None


def run(
    items: Sequence[Item],
    work: Work,
    ledger: Ledger,
    listen: Callable[[Progress], None] = lambda _: None,
    explain: Explain = lambda _: None,
) -> list[Refusal]:
    """Carry out the work on every item that is not done yet.

    Parameters
    ----------
    items : sequence of Item
        As in the ledger's plan.
    work : callable
        Takes an item and the digests of its files, returns what is left of it. `InputRefused`
        and `MemoryError` put the item aside; every other error of ours ends the run.
    ledger : Ledger
        Held by this process.
    listen : callable
        Hears of each item.
    explain : callable
        Takes an exception that nobody foresaw; says what to tell the user, and the item is put
        aside with the code ``E_BUG``, or returns None, and the run ends with it.

    Returns
    -------
    list of Refusal
        In the order of the items. Refused items are tried again by the next run: what was wrong
        may have been mended.
    """
    refused = []
    for item in items:
        progress = _one(item, work, ledger, explain)
        if progress.refusal is not None:
            refused.append(progress.refusal)
        listen(progress)
    return refused


def _one(item: Item, work: Work, ledger: Ledger, explain: Explain) -> Progress:
    try:
        digests = item.digests()
        if ledger.find(item, digests) is not None:
            return Progress(item, fresh=False)
        parts = work(item, digests)
        if item.digests() != digests:
            raise MicrographRefused(item.name, "E_IO", "was changed while it was read; run again")
    except Exception as error:
        refusal = _aside(item, error, explain)
        if refusal is None:
            raise
        ledger.drop(item)
        return Progress(item, fresh=True, refusal=refusal)
    ledger.keep(item, digests, parts)
    return Progress(item, fresh=True)


def _aside(item: Item, error: Exception, explain: Explain) -> Refusal | None:
    """Return why an item is put aside; None if the error concerns more than this item."""
    if isinstance(error, InputRefused):
        own = error.subject in (item.name, one_line(item.path.name))
        why = error.message if own else f"{error.subject}: {error.message}"
        return Refusal(item.name, error.code, why)
    if isinstance(error, MemoryError):
        why = "not enough memory for this picture; crop it, or use a larger machine"
        return Refusal(item.name, "E_MEMORY", why)
    if isinstance(error, DefectopsError):
        return None
    said = explain(error)
    return None if said is None else Refusal(item.name, BUG, said)
