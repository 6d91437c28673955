"""The champion of a defect type as downstream stages use it: a bundle on disk, known by digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import IntegrityFault
from defectops.experiments.champions import (
    DATA,
    Champion,
    places_of,
    read_champion,
    require_settled,
)
from defectops.learning.inference import LoadedModel, load_model
from defectops.workflows.leak_audit import Judges, cuts_of, leaks

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.imaging.conditioning import ConditioningOptions
    from defectops.learning.bundle import Bundle
    from defectops.micrograph import Field


def load_champion(
    root: Path, defect: DefectType, conditioning: ConditioningOptions | None = None
) -> LoadedModel | None:
    """Load the champion that ``champions/<defect>.json`` names; None if there is none.

    Parameters, errors: see `champion_and_model`.
    """
    found = champion_and_model(root, defect, conditioning)
    return None if found is None else found[1]


def champion_and_model(
    root: Path, defect: DefectType, conditioning: ConditioningOptions | None = None
) -> tuple[Champion, LoadedModel] | None:
    """Return what ``champions/<defect>.json`` says and the model it names; None if it names none.

    Parameters
    ----------
    root : Path
        The project's folder.
    defect : DefectType
    conditioning : ConditioningOptions, optional
        What the fields went through that it is to segment; it must be what it was trained with.

    Raises
    ------
    IntegrityFault
        The champion file cannot be read, its bundle is missing, a promotion was not finished, or
        it was trained on micrographs that were conditioned otherwise.
    ModelRefused
        The bundle is not the one that was promoted.
    """
    places = places_of(root, defect.key)
    require_settled(places)
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
    model = load_model(places.bundle, champion.sha256)
    if conditioning is not None and not _same_conditioning(model.bundle, conditioning, defect):
        raise IntegrityFault(
            places.file.name,
            "E_CHAMPION",
            "the champion was trained on micrographs that were conditioned otherwise; set "
            f"`prepare` back, or let `dvc repro promote@{defect.key}` promote a new model",
        )
    return champion, model


def why_incomparable(champion: Bundle, candidate: Bundle, gate: Sequence[Field]) -> str:
    """Say why two models cannot be compared on these fields; empty if they can."""
    if champion.conditioning != candidate.conditioning or champion.defect != candidate.defect:
        return "its micrographs were conditioned otherwise"
    found = leaks(champion, Judges(cuts_of(gate)))
    return f"it {' and '.join(found)}" if found else ""


def data_tag(bundle: Bundle) -> dict[str, str]:
    """Return the tag of a version that says what it was trained on; the journal keeps it too."""
    known = bundle.training.get(DATA)
    return {DATA: str(known)} if known else {}


def _same_conditioning(
    bundle: Bundle, conditioning: ConditioningOptions, defect: DefectType
) -> bool:
    same = bundle.conditioning == asdict(conditioning)
    return same and bundle.defect["polarity"] == defect.polarity
