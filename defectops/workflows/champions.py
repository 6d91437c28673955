"""The champion of a defect type as downstream stages use it: a bundle on disk, known by digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import IntegrityFault
from defectops.experiments.champions import Places, read_champion
from defectops.learning.inference import LoadedModel, load_model

if TYPE_CHECKING:
    from defectops.defects import DefectType


def places_of(root: Path, defect: DefectType) -> Places:
    """Return where everything of a defect's champion lies."""
    return Places(root, defect.key, defect.model_name)


def load_champion(root: Path, defect: DefectType) -> LoadedModel | None:
    """Load the champion that ``champions/<defect>.json`` names; None if there is none.

    Raises
    ------
    IntegrityFault
        The champion file cannot be read, or its bundle is missing.
    ModelRefused
        The bundle is not the one that was promoted.
    """
    places = places_of(root, defect)
    champion = read_champion(places)
    if champion.sha256 is None:
        return None
    if not places.bundle.is_file():
        raise IntegrityFault(
            places.file.name,
            "E_NO_BUNDLE",
            f"names a champion, but champions/{defect.key} has no bundle; run `dvc pull` "
            f"or `dvc repro promote@{defect.key}`",
        )
    return load_model(places.bundle, champion.sha256)
