"""Where a run comes from: commit, data digests and versions, as tags."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_PACKAGES = ("defectops", "torch", "numpy", "scikit-image", "mlflow")


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
    tags = {"defect": defect, "preset": preset, "version.python": platform.python_version()}
    for package in _PACKAGES:
        try:
            tags[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    return tags | _git(root) | _dvc(root, defect)


def _git(root: Path) -> dict[str, str]:
    commit = _run_git(root, ["rev-parse", "HEAD"])
    if commit is None:
        return {"git.commit": "none", "git.dirty": "none"}
    changed = _run_git(root, ["status", "--porcelain", "--untracked-files=no"])
    return {"git.commit": commit, "git.dirty": "true" if changed else "false"}


def _run_git(root: Path, words: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _dvc(root: Path, defect: str) -> dict[str, str]:
    """Return digests from ``data.dvc`` and, for the stages up to training, from ``dvc.lock``."""
    tags = {}
    for out in _yaml(root / "data.dvc").get("outs") or []:
        tags[f"dvc.md5.{out['path']}"] = str(out.get("md5", ""))
    stages = _yaml(root / "dvc.lock").get("stages") or {}
    for stage in ("prepare", "split"):
        for out in (stages.get(f"{stage}@{defect}") or {}).get("outs") or []:
            tags[f"dvc.md5.{out['path']}"] = str(out.get("md5", ""))
    return {name: value for name, value in tags.items() if value}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return dict(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {})
    except (OSError, YAMLError):
        return {}
