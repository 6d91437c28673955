"""Whether a model has seen what is to judge it: its pixels against the gate pack and the test side.

A bundle names every rectangle that its weights come from, those of its ancestors too. Two
rectangles share pixels if they overlap in one micrograph, and a micrograph is known by its name
and by the digest of its pixels: a renamed copy is the same one. Of the test side only its
rectangles are read, from ``split.json``; the file with its pixels stays shut.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.errors import GateFailed, IntegrityFault
from defectops.micrograph import Field, Region

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.learning.bundle import Bundle

TRAINED, CHOSEN = "train_regions", "dev_regions"
_CHOSEN_ON = "had its epoch and threshold chosen on pixels"


@dataclass(frozen=True)
class Cut:
    """A rectangle of a micrograph.

    Parameters
    ----------
    image : str
        Name of the micrograph.
    region : Region
    pixels_sha256 : str
        Digest of the whole micrograph's pixels as recorded; empty if unknown, then only the name
        tells which micrograph it is.
    """

    image: str
    region: Region
    pixels_sha256: str = ""


@dataclass(frozen=True)
class Judges:
    """What judges a model.

    Parameters
    ----------
    gate, test : sequence of Cut
        The gate pack and the test side.
    own_gate : sequence of Cut
        The side ``gate``; empty in a project without one. There the gate pack is the dev side, and
        choosing an epoch and a threshold on it is allowed.
    """

    gate: Sequence[Cut] = ()
    test: Sequence[Cut] = ()
    own_gate: Sequence[Cut] = ()


def cuts_of(fields: Iterable[Field]) -> list[Cut]:
    """Return where fields lie."""
    return [Cut(f.image, f.region, f.pixels_sha256) for f in fields]


def trained_cuts(bundle: Bundle) -> list[Cut] | None:
    """Return the rectangles that a model's weights come from; None if its bundle does not say."""
    return _parsed(bundle.training.get(TRAINED))


def side_cuts(root: Path, defect: DefectType, side: str) -> list[Cut]:
    """Return the rectangles of one side of the present split; its pixels are not opened.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    side : {"train", "dev", "test", "gate"}

    Raises
    ------
    IntegrityFault
        ``split/<defect>/split.json`` is missing, or does not say it (``E_CORRUPT``).
    """
    path = root / "split" / defect.key / "split.json"
    try:
        pieces = json.loads(path.read_text(encoding="utf-8"))["pieces"]
        return [
            Cut(str(p["image"]), Region(**p["region"]), str(p["pixels_sha256"]))
            for p in pieces
            if p["side"] == side
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityFault(
            f"split/{defect.key}/split.json",
            "E_CORRUPT",
            f"cannot tell what is on the side {side} ({error!r}); run `dvc repro "
            f"split@{defect.key}`",
        ) from error


def judges_of(root: Path, defect: DefectType, gate: Iterable[Field]) -> Judges:
    """Return what judges a model in the present split; errors as `side_cuts`."""
    test, own = (side_cuts(root, defect, side) for side in ("test", "gate"))
    return Judges(cuts_of(gate), test, own)


def leaks(bundle: Bundle, judges: Judges) -> list[str]:
    """Say what a model has seen of what judges it; empty if nothing.

    Parameters
    ----------
    bundle : Bundle
    judges : Judges

    Returns
    -------
    list of str
        Each reads on after the model's name. A bundle that does not name what it was trained on
        cannot be cleared.
    """
    trained, chosen = trained_cuts(bundle), _parsed(bundle.training.get(CHOSEN, []))
    if trained is None or chosen is None:
        return ["does not say which pixels it was trained on, so nobody can tell what it has seen"]
    found = (
        ("was trained on pixels of the gate pack", shared(trained, judges.gate)),
        ("was trained on pixels of the test side", shared(trained, judges.test)),
        (f"{_CHOSEN_ON} of the side gate", shared(chosen, judges.own_gate)),
        (f"{_CHOSEN_ON} of the test side", shared(chosen, judges.test)),
    )
    return [f"{what} ({', '.join(images)})" for what, images in found if images]


def refuse_leak(bundle: Bundle, subject: str, judges: Judges, advice: str) -> None:
    """Raise ``E_LEAK`` if a model has seen what judges it; `advice` says what to do then."""
    found = leaks(bundle, judges)
    if found:
        raise GateFailed(subject, "E_LEAK", f"{' and '.join(found)}; {advice}")


def shared(seen: Iterable[Cut], judged: Iterable[Cut]) -> list[str]:
    """Name the micrographs of `judged` of which some pixel lies in `seen` too.

    Returns
    -------
    list of str
        Sorted, each once; a micrograph that was seen under other names only is given with them.
    """
    by_key: dict[tuple[str, str], list[Cut]] = defaultdict(list)
    for cut in seen:
        for key in _keys(cut):
            by_key[key].append(cut)
    found: dict[str, set[str]] = defaultdict(set)
    for cut in judged:
        for other in (o for key in _keys(cut) for o in by_key[key]):
            if other.region.overlaps(cut.region):
                found[cut.image].add(other.image)
    return [
        image if image in names else f"{image}, the same pixels as {', '.join(sorted(names))}"
        for image, names in sorted(found.items())
    ]


def _keys(cut: Cut) -> list[tuple[str, str]]:
    """Return all that one micrograph is known by."""
    named = [("name", cut.image)]
    return [*named, ("pixels", cut.pixels_sha256)] if cut.pixels_sha256 else named


def _parsed(rows: Any) -> list[Cut] | None:
    """Return rectangles from a bundle's rows, ``image, top, bottom, left, right, digest``."""
    try:
        return [
            Cut(str(image), Region(*map(int, row[:4])), *map(str, row[4:])) for image, *row in rows
        ]
    except (TypeError, ValueError, OverflowError):
        return None
