"""What is left to do once a champion has moved: record it with DVC, tell the user's own command.

Both can be interrupted, and neither can undo the move. What was not done is found again by the next
command: an unrecorded champion by comparing its file with ``dvc.lock``, an untold move by a note.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.experiments.champions import Places, places_of, read_champion
from defectops.experiments.changing import md5, recover
from defectops.experiments.locks import locked
from defectops.experiments.promotion import PromotionOptions
from defectops.experiments.provenance import dvc_digests
from defectops.workflows.versioning import record_promotion, under_dvc

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.registry import Registry
    from defectops.workflows.parameters import Parameters

_HOOK_SECONDS = 600


def unrecorded(places: Places) -> bool:
    """Whether a champion moved and DVC was not told: its file is not the one of ``dvc.lock``.

    So it is after a crash between the two, and after a `git checkout` of ``champions/`` alone.
    Without DVC and without a champion there is nothing to record.
    """
    if not under_dvc(places.root) or not (places.root / "dvc.yaml").is_file():
        return False
    if not places.file.is_file() or read_champion(places).sha256 is None:
        return False
    known = dvc_digests(places.root, [f"promote@{places.defect}"])
    return known.get(f"champions/{places.file.name}") != md5(places.file)


def record(root: Path, defect: DefectType) -> None:
    """Let DVC take the champion as it is for the result of its stage, unless it does already.

    Raises
    ------
    EnvironmentFault
        DVC failed; the champion has moved all the same.
    """
    with locked(root / ".defectops" / "record.lock"):  # DVC refuses a second one at a time
        if unrecorded(places_of(root, defect.key)):
            record_promotion(root, defect.key)


def finish_move(places: Places, registry: Registry) -> None:
    """Carry out a move that a crash interrupted."""
    with locked(places.lock):
        recover(places, registry)


def moved_by_hand(places: Places, registry: Registry, sha256: str) -> bool:
    """Whether the champion moved after a model was judged, and DVC was not told of it."""
    return unrecorded(places) and registry.find(places.model, sha256) is not None


def hook_of(parameters: Parameters, defect: DefectType) -> str:
    """Return the command that is to be told of each move: ``promotion.<defect>.after``."""
    return parameters.options("promotion", defect.key, PromotionOptions).after


def tell(places: Places, command: str) -> list[str]:
    """Run the user's command for each move that it was not told of, and return what went wrong.

    Parameters
    ----------
    places : Places
    command : str
        ``promotion.<defect>.after``: a program and its words, without a shell. Empty: nobody is
        to be told.

    Returns
    -------
    list of str
        A sentence for each time it failed. The promotion stands all the same.

    Notes
    -----
    A move counts as told once the command has ended, so that after a crash it may be told twice.
    The command is run in the project's folder with ``DEFECTOPS_DEFECT``, ``DEFECTOPS_MODEL``,
    ``DEFECTOPS_FROM``, ``DEFECTOPS_TO`` (versions, empty for none), ``DEFECTOPS_SHA256``,
    ``DEFECTOPS_VERDICT``, ``DEFECTOPS_REASON``, ``DEFECTOPS_WHO`` and ``DEFECTOPS_BY``
    (``promote``, ``repro``, ``rollback`` or ``repair``) in its environment.
    """
    if not any(places.untold.glob("*.json")):
        return []
    failures = []
    with locked(places.root / ".defectops" / f"untold-{places.defect}.lock"):
        for path in sorted(places.untold.glob("*.json")):
            failure = _run(places, command, _facts(places, path)) if command.strip() else ""
            failures += [failure] if failure else []
            path.unlink()
    return failures


def _facts(places: Places, path: Path) -> dict[str, str]:
    entry: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["entry"]
    facts = {
        "DEFECT": places.defect,
        "MODEL": places.model,
        "FROM": entry["from"],
        "TO": entry["to"],
        "SHA256": entry["to_sha256"],
        "VERDICT": entry["verdict"],
        "REASON": entry["reason"],
        "WHO": entry["who"],
        "BY": entry["by"],
    }
    return {f"DEFECTOPS_{k}": "" if v is None else str(v) for k, v in facts.items()}


def _run(places: Places, command: str, facts: Mapping[str, str]) -> str:
    """Run the command once; return what went wrong, empty if nothing did."""
    try:
        done = subprocess.run(
            shlex.split(command),
            cwd=places.root,
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_HOOK_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"`{command}` was not run to its end ({error}); the promotion stands"
    if done.returncode:
        said = " ".join((done.stderr or done.stdout or "no message").split())[:300]
        return f"`{command}` ended with {done.returncode} ({said}); the promotion stands"
    return ""
