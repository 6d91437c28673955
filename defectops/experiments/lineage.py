"""What a run was made of: the commit, the data's digests, the versions of the libraries."""

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

_GIT_SECONDS = 20


def run_tags(
    root: Path, defect: str, preset: str, dependencies: Iterable[str] = ()
) -> dict[str, str]:
    """Return the tags that say what a run was made of.

    Parameters
    ----------
    root : Path
        The project.
    defect, preset : str
    dependencies : iterable of str
        Paths relative to `root` that DVC tracks, for example ``data``.

    Returns
    -------
    dict of str to str
        ``defect``, ``preset``, ``git.commit``, ``git.dirty`` (``true``, ``false``),
        ``dvc.md5.<path>``, ``version.<distribution>``, ``version.python``. What nobody knows is
        ``none``: no repository, no git, a path that DVC does not track.
    """
    tags = {"defect": defect, "preset": preset, **git_tags(root), **versions()}
    known = dvc_digests(root)
    for path in dependencies:
        tags[f"dvc.md5.{path}"] = known.get(path, NONE)
    return tags


def git_tags(root: Path) -> dict[str, str]:
    """Return ``git.commit`` and ``git.dirty`` of the project's checkout."""
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    dirty = NONE if changes is None else str(bool(changes)).lower()
    return {"git.commit": commit or NONE, "git.dirty": dirty}


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return ``version.<distribution>`` of what is installed, without importing it."""
    found = {"version.python": platform.python_version()}
    for name in packages:
        try:
            found[f"version.{name}"] = version(name)
        except PackageNotFoundError:
            found[f"version.{name}"] = NONE
    return found


def dvc_digests(root: Path) -> dict[str, str]:
    """Return path to MD5 (``….dir`` for folders) of everything that DVC tracks in a project.

    Outputs of ``*.dvc`` files in the project folder, dependencies and outputs of ``dvc.lock``; an
    output's entry wins. Empty where there is no DVC. Files that cannot be read are passed over:
    a run does not fail for a tag.
    """
    digests: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stage in _mapping(_yaml(root / "dvc.lock").get("stages")).values():
        digests.update(_md5s(_mapping(stage).get("deps")))
        outputs.update(_md5s(_mapping(stage).get("outs")))
    for path in sorted(root.glob("*.dvc")):
        if path.is_file():
            outputs.update(_md5s(_yaml(path).get("outs")))
    return digests | outputs


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
