"""What each move of a champion rests on: one small file a move, under git, named by its digest.

The journal's line names the digest. So the numbers, the verdict and the operating point of every
champion there ever was outlast the loss of the tracking store, and cannot be changed unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.atomic import write_text
from defectops.errors import IntegrityFault
from defectops.experiments.hash_chain import restore, sha256_of

if TYPE_CHECKING:
    from defectops.experiments.champions import Places


def evidence_file(places: Places, sha256: str) -> Path:
    """Return where the evidence of this digest lies."""
    return places.evidence / f"{sha256}.json"


def keep_evidence(places: Places, content: Mapping[str, Any]) -> str:
    """Write what a move rests on, and return its digest; the same content gives the same file."""
    sha256 = sha256_of(content)
    text = json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_text(evidence_file(places, sha256), text)
    return sha256


def read_evidence(places: Places, sha256: str) -> dict[str, Any] | None:
    """Return what a move rests on; None if it was not kept (moves of an earlier release).

    Raises
    ------
    IntegrityFault
        The file is there and is not what was written.
    """
    path = evidence_file(places, sha256)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        right = sha256_of(content) == sha256
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _damaged(places, path, f"cannot be read ({error})") from error
    if not right:
        raise _damaged(places, path, "was edited: its content has another digest than its name")
    return dict(content)


def _damaged(places: Places, path: Path, message: str) -> IntegrityFault:
    subject = path.relative_to(places.root).as_posix()
    return IntegrityFault(subject, "E_EVIDENCE", f"{message}; {restore(places.journal)}")
