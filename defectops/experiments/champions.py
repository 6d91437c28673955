"""The champion of each defect type: its bundle, its file under git, its journal.

`succession` says how one champion follows another.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType

from defectops.atomic import write_text
from defectops.defects import model_name
from defectops.errors import IntegrityFault
from defectops.experiments import journal
from defectops.experiments.hash_chain import MARKS, START, repair
from defectops.experiments.registry import BUNDLE, require_digest

DATA = "data_sha256"  # what a model was trained on: tag of its version, field of the journal


@dataclass(frozen=True)
class Champion:
    """What ``champions/<defect>.json`` says.

    Parameters
    ----------
    model : str
    version : int or None
        None: no champion yet; then `run_id`, `sha256` and `threshold` are None too.
    run_id, sha256 : str or None
    threshold : float or None
        Operating point of the bundle, for the reader; the bundle itself carries it.
    verdict : str
        By which it became champion: ``pass``, ``rollback``, ``forced``; ``none`` for no champion.
    journal_sha256 : str
        Digest of the journal's last line.
    journal_length : int
        Number of its lines.
    """

    model: str
    version: int | None = None
    run_id: str | None = None
    sha256: str | None = None
    threshold: float | None = None
    verdict: str = "none"
    journal_sha256: str = START
    journal_length: int = 0


@dataclass(frozen=True)
class Places:
    """Where everything of a defect's champion lies.

    Parameters
    ----------
    root : Path
        The project.
    defect : str
    model : str
        Name of the registered model.
    """

    root: Path
    defect: str
    model: str

    @property
    def file(self) -> Path:
        """``champions/<defect>.json``."""
        return self.root / "champions" / f"{self.defect}.json"

    @property
    def journal(self) -> Path:
        """``champions/<defect>.journal.jsonl``."""
        return self.root / "champions" / f"{self.defect}.journal.jsonl"

    @property
    def bundle(self) -> Path:
        """``champions/<defect>/model.safetensors``."""
        return self.root / "champions" / self.defect / BUNDLE

    @property
    def evidence(self) -> Path:
        """``champions/<defect>.evidence/``: what each move rests on, by digest."""
        return self.root / "champions" / f"{self.defect}.evidence"

    @property
    def accesses(self) -> Path:
        """``champions/<defect>.test-accesses.jsonl``: each time the test side was opened."""
        return self.root / "champions" / f"{self.defect}.test-accesses.jsonl"

    @property
    def waiting(self) -> Path:
        """Folder of a change that is written down but not finished."""
        return self.root / ".defectops" / "promotion" / self.defect

    @property
    def intent(self) -> Path:
        """The change itself; nothing is under way when it is absent."""
        return self.waiting / "intent.json"

    @property
    def untold(self) -> Path:
        """Folder of moves that the command after a promotion was not told of yet."""
        return self.root / ".defectops" / "untold" / self.defect

    @property
    def lock(self) -> Path:
        """Held while a champion moves."""
        return self.root / ".defectops" / f"promotion-{self.defect}.lock"


def places_of(root: Path, key: str) -> Places:
    """Return where everything of the champion of one defect type lies."""
    return Places(root, key, model_name(key))


def read_champion(places: Places) -> Champion:
    """Return the champion as its file says; an empty one when there is no file.

    Raises
    ------
    IntegrityFault
        Not a champion file, or one of another model.
    """
    try:
        text = places.file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Champion(places.model)
    except (OSError, ValueError) as error:
        raise _broken(places, f"cannot be read ({error})") from error
    if any(line.startswith(MARKS) for line in text.splitlines()):
        raise _fault(places, f"an unresolved git merge; {repair(places.journal)}")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _broken(places, f"cannot be read ({error})") from error
    _require_fields(places, content)
    champion = Champion(**content)
    if champion.model != places.model or (champion.version is None) != (champion.sha256 is None):
        raise _broken(places, f"is not a champion of {places.model}")
    return champion


def write_champion(places: Places, champion: Champion) -> None:
    """Write ``champions/<defect>.json``: sorted keys, the same bytes for the same champion."""
    write_text(places.file, json.dumps(asdict(champion), sort_keys=True, indent=2) + "\n")


def checked_champion(places: Places) -> Champion:
    """Return the champion once file, journal and bundle are found to agree.

    What downstream stages call before they load ``places.bundle``.

    Raises
    ------
    IntegrityFault
        They disagree, or a promotion was not finished.
    """
    require_settled(places)
    champion = read_champion(places)
    journal.read_and_verify(places.journal, champion.journal_sha256, champion.journal_length)
    if champion.sha256 is not None:
        require_digest(places.bundle, champion.sha256, f"champions/{places.defect}/{BUNDLE}")
    return champion


def require_settled(places: Places) -> None:
    """Raise `IntegrityFault` while a move is written down that is not carried out yet."""
    if places.intent.exists():
        raise IntegrityFault(
            places.file.name,
            "E_UNFINISHED",
            "a promotion was not finished: wait if one is under way, else run `defectops doctor "
            "--fix`",
        )


def unfinished(root: Path) -> list[str]:
    """Return the defects with a change that is written down but not finished."""
    return sorted(path.parent.name for path in root.glob(".defectops/promotion/*/intent.json"))


_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "version": (int, NoneType),
    "run_id": (str, NoneType),
    "sha256": (str, NoneType),
    "threshold": (float, int, NoneType),
    "verdict": (str,),
    "journal_sha256": (str,),
    "journal_length": (int,),
}


def _require_fields(places: Places, content: object) -> None:
    if not isinstance(content, dict) or sorted(content) != sorted(_FIELDS):
        raise _broken(places, f"must have exactly the fields {', '.join(_FIELDS)}")
    for name, kinds in _FIELDS.items():
        if not isinstance(content[name], kinds) or isinstance(content[name], bool):
            raise _broken(places, f"{name} cannot be {content[name]!r}")


def _broken(places: Places, message: str) -> IntegrityFault:
    return _fault(places, f"{message}; restore it with `git checkout -- champions`")


def _fault(places: Places, message: str) -> IntegrityFault:
    return IntegrityFault(f"champions/{places.file.name}", "E_CHAMPION", message)
