"""What a batch wrote down about itself, read without holding it: for whoever checks its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectops.batch.ledger import FORM, PLAN, RECORD, WORK
from defectops.errors import IntegrityFault


@dataclass(frozen=True)
class RecordedImage:
    """One image of a batch.

    Parameters
    ----------
    path : Path
        Where the picture was, seen from the output folder.
    record : mapping
        Plain values, as `ledger.Parts` has them.
    files : mapping of str to str
        SHA-256 of the label images and overlays, by path in the output folder.
    """

    path: Path
    record: Mapping[str, Any]
    files: Mapping[str, str]


class Recorded:
    """The plan and the records of a batch; each record is read when it is asked for.

    Parameters
    ----------
    out : Path
        The output folder.

    Raises
    ------
    IntegrityFault
        ``E_BATCH``: nothing is recorded there, or it is damaged.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        plan = _json(out / WORK / PLAN)
        if plan.get("form") != FORM:
            raise _damaged(out / WORK / PLAN, f"form {plan.get('form')!r}, {FORM} is needed")
        self.settings: Mapping[str, Any] = plan["settings"]
        self._items = {row["name"]: row for row in plan["items"]}

    def image(self, name: str) -> RecordedImage:
        """Return what was recorded of an image by its name in the tables."""
        if name not in self._items:
            raise _damaged(self.out / WORK / PLAN, f"no image {name!r} in it")
        row = self._items[name]
        own = _json(self.out / WORK / row["key"] / RECORD)
        return RecordedImage(self.out / row["path"], own["record"], own["files"])


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(getattr(error, "strerror", "")) or "no JSON") from error


def _damaged(path: Path, why: str) -> IntegrityFault:
    return IntegrityFault(
        f"{path.parent.name}/{path.name}",
        "E_BATCH",
        f"{why}; without what `defectops quantify` recorded there, nothing can be traced: "
        "measure again with --new",
    )
