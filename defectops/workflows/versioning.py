"""Record data and champions with DVC, so that a commit names exactly what it was made from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from defectops.atomic import write_text
from defectops.errors import Conflict, EnvironmentFault
from defectops.settings import dump_yaml, edit_yaml

BUNDLED_REMOTE = "bundled"
POINTER = "data.dvc"


def under_dvc(root: Path) -> bool:
    """Whether the project is a DVC repository."""
    return (root / ".dvc").is_dir()


def require_recorded(root: Path) -> None:
    """Refuse to go on while ``data/`` and ``data.dvc`` tell different stories.

    Raises
    ------
    Conflict
        ``E_CONFLICT``: the recorded set is not here, or ``data/`` holds unrecorded changes.
    """
    if not (root / POINTER).exists():
        if (root / "data").exists():
            raise Conflict(
                "data", "E_CONFLICT", "is not recorded with DVC; run `dvc add data` first"
            )
        return
    if not (root / "data" / "manifest.csv").exists():
        raise Conflict(
            "data",
            "E_CONFLICT",
            "the recorded set is not here; run `dvc checkout` (or `dvc pull`) first, or start a "
            "new set with --replace",
        )
    if json.loads(_dvc(root, "status", "--json", POINTER) or "{}"):
        raise Conflict(
            "data",
            "E_CONFLICT",
            "holds changes that are not recorded; run `dvc add data` first, or `dvc checkout "
            "--force` to give them up",
        )


def record(root: Path) -> None:
    """Run ``dvc add data``; a user's data never goes to the remote of the bundled set.

    Raises
    ------
    EnvironmentFault
        DVC failed; what it said is quoted.
    """
    _dvc(root, "add", "data")
    yaml, pointer = edit_yaml(root / POINTER)
    if any(out.get("remote") == BUNDLED_REMOTE for out in pointer["outs"]):
        for out in pointer["outs"]:
            out.pop("remote", None)
        write_text(root / POINTER, dump_yaml(yaml, pointer))


def record_promotion(root: Path, defect: str) -> None:
    """Let DVC take the champion as it is now for the result of ``promote@<defect>``.

    After that `dvc status` names only what stands behind it. Without a pipeline nothing is done.

    Raises
    ------
    EnvironmentFault
        DVC failed; what it said is quoted.
    """
    if under_dvc(root) and (root / "dvc.yaml").is_file():
        words = ("commit", "--force", f"promote@{defect}")
        _dvc(root, *words, then=f"run `dvc {' '.join(words)}`; the champion itself has moved")


def cached(root: Path, md5: str) -> Path | None:
    """Return where DVC's cache keeps a file of this MD5; None if it does not, or without DVC."""
    if not under_dvc(root) or not re.fullmatch("[0-9a-f]{32}", md5):
        return None
    folder = root / _dvc(root, "cache", "dir", then="try again").strip()
    path = folder / "files" / "md5" / md5[:2] / md5[2:]
    return path if path.is_file() else None


def _dvc(root: Path, *words: str, then: str = "run `dvc add data`") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=root,
        env={**os.environ, "DVC_NO_ANALYTICS": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout or "no message").split())
        raise EnvironmentFault(
            f"dvc {words[0]}", "E_DVC", f"failed: {said[:400]}; mend it, then {then}"
        )
    return done.stdout
