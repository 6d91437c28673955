"""What was left undone after a champion moved: not recorded with DVC, a command not told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from defectops.errors import EnvironmentFault, IntegrityFault
from defectops.experiments.champions import places_of
from defectops.experiments.health import Trouble
from defectops.workflows.after_promotion import record, tell, unrecorded

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.champions import Places


def left_undone(root: Path, defect: DefectType, command: str, mend: bool) -> Iterator[Trouble]:
    """Return what was left undone after a move; do it if asked to.

    Parameters
    ----------
    root : Path
    defect : DefectType
    command : str
        See `tell`.
    mend : bool
    """
    places = places_of(root, defect.key)
    if not places.intent.exists() and _unrecorded_or_broken(places):
        yield _recorded(root, defect, mend)
    untold = len(list(places.untold.glob("*.json"))) if command.strip() else 0
    if untold:
        failures = tell(places, command) if mend else []
        text = "; ".join(failures) or f"the command after a promotion was not told of {untold}"
        yield Trouble(places.model, "N_AFTER", text, 0, mend and not failures)


def _unrecorded_or_broken(places: Places) -> bool:
    try:
        return unrecorded(places)
    except IntegrityFault:  # a champion file that cannot be read is reported as such
        return False


def _recorded(root: Path, defect: DefectType, mend: bool) -> Trouble:
    subject = f"champions/{defect.key}.json"
    text = "is not the one of dvc.lock: a promotion was not recorded with DVC"
    code = IntegrityFault.exit_code
    if mend:
        try:
            record(root, defect)
        except EnvironmentFault as error:
            return Trouble(error.subject, error.code, error.message, error.exit_code)
    return Trouble(subject, "E_UNRECORDED", text, 0 if mend else code, mend)
