"""Registered versions and past champions as rows, for the terminal and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.experiments.accesses import Accesses, read_accesses, summed
from defectops.experiments.champions import places_of, read_champion
from defectops.experiments.journal import MERGED, read_and_verify
from defectops.experiments.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry

if TYPE_CHECKING:
    from defectops.defects import DefectType

_SCORES = ("iou", "precision", "recall", "pixel_accuracy")


def listed_versions(registry: Registry, defect: DefectType) -> list[dict[str, Any]]:
    """Return a row for each version of one defect type, oldest first; empty if there is none.

    Returns
    -------
    list of dict
        ``defect, model, version, aliases, iou, precision, recall, pixel_accuracy, threshold,
        sha256, run_id, tags``; a score that is undefined or was not registered is None.
    """
    names: dict[int, list[str]] = {}
    for alias in (CHAMPION, CANDIDATE, PREVIOUS):
        number = registry.alias(defect.model_name, alias)
        if number is not None:
            names.setdefault(number, []).append(alias)
    return [
        {
            "defect": defect.key,
            "model": v.model,
            "version": v.number,
            "aliases": ", ".join(names.get(v.number, [])),
            **{score: v.metrics.get(score) for score in _SCORES},
            "threshold": float(v.tags["threshold"]) if "threshold" in v.tags else None,
            "sha256": v.sha256,
            "run_id": v.run_id,
            "tags": dict(v.tags),
        }
        for v in registry.versions(defect.model_name)
    ]


def champion_history(root: Path, defect: DefectType) -> list[dict[str, Any]]:
    """Return the journal of one defect type, oldest first; empty where nobody was champion.

    Returns
    -------
    list of dict
        The fields of each line. Lines of another branch that a git merge brought stand before the
        line that joined them, with a field ``branch`` that says ``merged``.

    Raises
    ------
    IntegrityFault
        A line was edited, is missing or was cut off.
    """
    places = places_of(root, defect.key)
    champion = read_champion(places)
    entries = read_and_verify(places.journal, champion.journal_sha256, champion.journal_length)
    rows = []
    for entry in entries:
        rows += [{**other.as_mapping(), "branch": "merged"} for other in entry.merged]
        rows.append({k: v for k, v in entry.as_mapping().items() if k != MERGED})
    return rows


def test_side_accesses(
    root: Path, defect: DefectType, history: Sequence[Mapping[str, Any]]
) -> Accesses:
    """Return how often the test side of one defect type was opened, and by how many models.

    Raises
    ------
    IntegrityFault
        The ledger was edited, or is shorter than the last line of `history` says.
    """
    known = max((int(row.get("test_accesses", 0)) for row in history), default=0)
    return summed(read_accesses(places_of(root, defect.key), known))
