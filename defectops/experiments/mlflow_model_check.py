"""Is a model folder one that defectops wrote? Before anything in it is loaded or installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

from defectops.errors import ModelRefused
from defectops.experiments.mlflow_model import (
    BUNDLE,
    CARD,
    LOADER,
    MLMODEL,
    PACKAGES,
    PYTHON_ENV,
    REQUIREMENTS,
    mlmodel_text,
    python_env_text,
)

# The last one is what MLflow leaves beside a version that it has downloaded.
_FILES = {BUNDLE, CARD, MLMODEL, PYTHON_ENV, REQUIREMENTS, "registered_model_meta"}
_MOST_BYTES = 100_000
_VERSION = re.compile(r"[0-9][0-9A-Za-z.]*")


def check_mlflow_model(
    folder: Path, loader: str = LOADER, packages: Iterable[str] = PACKAGES
) -> Path:
    """Return the bundle in a folder if the folder is what `mlflow_model.write_mlflow_model` writes.

    MLflow imports whatever module a folder names, puts its ``code`` on the path and installs its
    requirements. So nothing is parsed and weighed here: each text must be the one we write, with
    no more than version numbers left open.

    Parameters
    ----------
    folder : Path
    loader : str
        The only module that may be named.
    packages : iterable of str
        The only distributions that may be required.

    Returns
    -------
    Path
        Of the bundle, which is not opened here.

    Raises
    ------
    ModelRefused
        ``E_MODEL_UNSAFE``: it names another loader or package, or holds anything else, a link for
        one. ``E_MODEL_CORRUPT``: a file is missing or cannot be read. ``E_IO``: no such folder.
    """
    names = _entries(folder)
    text = _text(folder, MLMODEL)
    _refuse_other_loader(folder, text, loader)
    python, mlflow = (_stated(text, key) for key in ("python_version", "mlflow_version"))
    _require_text(folder, MLMODEL, mlmodel_text(loader, python, mlflow))
    _require_text(folder, PYTHON_ENV, python_env_text(python))
    _refuse_other_packages(folder, frozenset(packages))
    for name in sorted(names - _FILES):
        raise _unsafe(folder, name, "is not allowed in a model folder: it could be code")
    _require_file(folder, BUNDLE)
    return folder / BUNDLE


def read_card(folder: Path) -> str:
    """Return the model card in a folder, empty if there is none; it is text and nothing else."""
    return _text(folder, CARD) if (folder / CARD).exists() else ""


def _entries(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise ModelRefused(
            folder.name, "E_IO", f"cannot be read as a model folder: {error.strerror}"
        ) from error


def _refuse_other_loader(folder: Path, text: str, loader: str) -> None:
    for found in re.findall(r"loader_module\W*[:=]\s*(\S*)", text):
        if found != loader:
            raise _unsafe(
                folder, MLMODEL, f"loader_module {found[:80]!r} is not allowed, only {loader}"
            )


def _refuse_other_packages(folder: Path, packages: frozenset[str]) -> None:
    for line in _text(folder, REQUIREMENTS).splitlines():
        name, _, pin = line.partition("==")
        if name not in packages or not _VERSION.fullmatch(pin):
            raise _unsafe(folder, REQUIREMENTS, f"the line {line[:80]!r} is not allowed")


def _require_text(folder: Path, name: str, wanted: str) -> None:
    found = _text(folder, name)
    if found != wanted:
        lines = zip_longest(found.split("\n"), wanted.split("\n"), fillvalue="nothing")
        at, (one, other) = next((i, pair) for i, pair in enumerate(lines, 1) if len({*pair}) > 1)
        raise _unsafe(
            folder, name, f"line {at}: {one[:80]!r} is not allowed, {other[:80]!r} is written there"
        )


def _require_file(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_symlink():
        raise _unsafe(folder, name, "is a symbolic link, which is not allowed in a model folder")
    if not path.is_file():
        raise ModelRefused(
            f"{folder.name}/{name}",
            "E_MODEL_CORRUPT",
            "missing, or not a regular file; give a folder that `defectops models export` wrote",
        )


def _text(folder: Path, name: str) -> str:
    _require_file(folder, name)
    try:
        with (folder / name).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ModelRefused(
                f"{folder.name}/{name}", "E_TOO_LARGE", f"exceeds the limit of {_MOST_BYTES} bytes"
            )
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(
            f"{folder.name}/{name}", "E_MODEL_CORRUPT", f"invalid, cannot be read: {error}"
        ) from error


def _stated(text: str, key: str) -> str:
    """Return a version that MLmodel states; empty if it states none or none that looks like one."""
    found = re.search(rf"^ *{key}: ([0-9][0-9A-Za-z.]*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _unsafe(folder: Path, name: str, why: str) -> ModelRefused:
    return ModelRefused(f"{folder.name}/{name}", "E_MODEL_UNSAFE", why)
