"""Carries a batch out, item by item in this process; a bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from defectops.batch.items import Item
from defectops.batch.ledger import Ledger, Parts
from defectops.errors import InputRefused, MicrographRefused, one_line

Work = Callable[[Item, Mapping[str, str]], Parts]


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
) -> list[Refusal]:
    """Carry out the work on every item that is not done yet.

    Parameters
    ----------
    items : sequence of Item
        As in the ledger's plan.
    work : callable
        Takes an item and the digests of its files, returns what is left of it. `InputRefused`
        puts the item aside; any other error ends the run.
    ledger : Ledger
        Held by this process.
    listen : callable
        Hears of each item.

    Returns
    -------
    list of Refusal
        In the order of the items. Refused items are tried again by the next run: what was wrong
        may have been mended.
    """
    refused = []
    for item in items:
        progress = _one(item, work, ledger)
        if progress.refusal is not None:
            refused.append(progress.refusal)
        listen(progress)
    return refused


def _one(item: Item, work: Work, ledger: Ledger) -> Progress:
    try:
        digests = item.digests()
        if ledger.find(item, digests) is not None:
            return Progress(item, fresh=False)
        parts = work(item, digests)
        if item.digests() != digests:
            raise MicrographRefused(item.name, "E_IO", "was changed while it was read; run again")
    except InputRefused as error:
        ledger.drop(item)
        own = error.subject in (item.name, one_line(item.path.name))
        why = error.message if own else f"{error.subject}: {error.message}"
        return Progress(item, fresh=True, refusal=Refusal(item.name, error.code, why))
    except MemoryError:
        ledger.drop(item)
        why = "not enough memory for this picture; crop it, or use a larger machine"
        return Progress(item, fresh=True, refusal=Refusal(item.name, "E_MEMORY", why))
    ledger.keep(item, digests, parts)
    return Progress(item, fresh=True)
