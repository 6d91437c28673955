"""A model as a folder to hand on: bundle, model card and what MLflow needs, whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import InputRefused
from defectops.experiments.mlflow_model import write_mlflow_model
from defectops.experiments.mlflow_model_check import check_mlflow_model
from defectops.workflows.model_card import model_card

if TYPE_CHECKING:
    from defectops.workflows.model_finding import FoundModel


def export_model(found: FoundModel, out: Path, force: bool = False) -> Path:
    """Write a model's folder.

    Parameters
    ----------
    found : FoundModel
    out : Path
        New, or an earlier export if `force`. It is the folder of an MLflow model with
        ``model.safetensors`` and ``MODEL_CARD.md`` in it.
    force : bool
        Replace an earlier export. Anything else is never replaced.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputRefused
        ``E_EXISTS``: `out` is there already, or is no earlier export.
    """
    _refuse_to_replace(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that one rename brings it there.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made = write_mlflow_model(found.path, Path(scratch) / "new", card=card_of(found))
        if out.exists():
            out.rename(Path(scratch) / "old")
        made.rename(out)
    return out


def _refuse_to_replace(out: Path, force: bool) -> None:
    if not (out.is_symlink() or out.exists()):
        return
    if not force:
        raise InputRefused(
            out.name, "E_EXISTS", "is there already; give another --out, or --force to replace it"
        )
    if out.is_symlink() or not out.is_dir():
        raise InputRefused(out.name, "E_EXISTS", "is no folder; --force replaces exports only")
    if any(out.iterdir()):
        check_mlflow_model(out)


def card_of(found: FoundModel) -> str:
    """Return the card as registered, or, where none was, what can be said now."""
    if found.card:
        return found.card
    version = found.version
    metrics, tags = ({}, {}) if version is None else (version.metrics, version.tags)
    return model_card(found.defect, found.bundle, metrics, tags)
