"""Where a run comes from: commit, data digests and versions, as tags."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PACKAGES = ("defectops", "torch", "numpy", "scipy", "scikit-image", "mlflow", "dvc")
NONE = "none"

_GIT_SECONDS = 60


def run_tags(root: Path, defect: str, preset: str) -> dict[str, str]:
    """Return the tags every run has.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect, preset : str

    Returns
    -------
    dict of str to str
        ``defect``, ``preset``, ``git.commit`` and ``git.dirty`` (``none`` outside a repository),
        ``dvc.md5.<path>`` of what DVC recorded of the data and of this defect's stages, and
        ``version.<package>``.
    """
    stages = (f"prepare@{defect}", f"split@{defect}")
    digests = {f"dvc.md5.{path}": md5 for path, md5 in dvc_digests(root, stages).items()}
    return {"defect": defect, "preset": preset, **git_tags(root), **digests, **versions()}


def git_tags(root: Path) -> dict[str, str]:
    """Return ``git.commit`` and ``git.dirty`` of the project's checkout."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    dirty = NONE if changes is None else str(bool(changes)).lower()
    return {"git.commit": commit or NONE, "git.dirty": dirty}


def has_commit(root: Path, commit: str) -> bool | None:
    """Return whether the project's repository has a commit; None outside a repository."""
    if _git(root, "rev-parse", "HEAD") is None:
        return None
    return _git(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return ``version.<package>`` of what is installed, without importing it."""
    found = {"version.python": platform.python_version()}
    for name in packages:
        try:
            found[f"version.{name}"] = version(name)
        except PackageNotFoundError:
            continue
    return found


def dvc_digests(root: Path, stages: Iterable[str]) -> dict[str, str]:
    """Return path to MD5 (``….dir`` for folders) of the data and of what stages wrote.

    Parameters
    ----------
    root : Path
        Its ``data.dvc`` and ``dvc.lock`` are read. A file that is missing or broken counts as
        empty: a run does not fail for a tag.
    stages : iterable of str
        Names in ``dvc.lock``.
    """
    digests = _md5s(_yaml(root / "data.dvc").get("outs"))
    known = _mapping(_yaml(root / "dvc.lock").get("stages"))
    for stage in stages:
        digests |= _md5s(_mapping(known.get(stage)).get("outs"))
    return digests


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, YAMLError, ValueError, RecursionError):
        return {}


def _md5s(rows: object) -> dict[str, str]:
    found = {}
    for row in rows if isinstance(rows, list) else []:
        entry = _mapping(row)
        if isinstance(entry.get("path"), str) and entry.get("md5"):
            found[str(entry["path"])] = str(entry["md5"])
    return found


def _mapping(node: object) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}
