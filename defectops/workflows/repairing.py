"""Make one history of two after a git merge of branches that both promoted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from defectops.errors import InputRefused
from defectops.experiments.champions import places_of
from defectops.experiments.forks import Repaired, Side, repair
from defectops.experiments.succession import note
from defectops.workflows.after_promotion import record
from defectops.workflows.versioning import cached

if TYPE_CHECKING:
    from defectops.defects import DefectType
    from defectops.experiments.registry import Registry


def repair_history(
    root: Path, defect: DefectType, registry: Registry, keep: str, reason: str
) -> Repaired:
    """Keep one side's champion and both sides' lines; record it with DVC.

    Parameters
    ----------
    root : Path
    defect : DefectType
    registry : Registry
    keep : {"ours", "theirs"}
    reason : str
        Empty: says which side was kept.

    Raises
    ------
    InputRefused
        `keep` is neither, or there is nothing to repair.
    IntegrityFault
        A line was edited or is missing.
    EnvironmentFault
        DVC failed, for example because ``dvc.lock`` still has conflicts; the history is one.
    """
    if keep not in ("ours", "theirs"):
        raise InputRefused("--keep", "E_USAGE", f"must be ours or theirs, got {keep!r}")
    about = note(reason or f"git merge: kept {keep}", by="repair")
    done = repair(
        places_of(root, defect.key),
        registry,
        cast("Side", keep),
        about,
        lambda md5: cached(root, md5),
    )
    if done.bundle:
        record(root, defect)
    return done
