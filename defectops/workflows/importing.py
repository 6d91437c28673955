"""Bring a user's micrographs and labels into the data folder: all checked first, then all written.

Micrographs are copied byte for byte, labels are written as PNG with 0 and 255. Everything is
decoded into a scratch folder beside the data; what is refused there leaves the data untouched.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectops.dataset.manifest import ManifestRow, read_manifest, write_manifest
from defectops.dataset.splits import PAPER_SHAPE, SplitOptions
from defectops.errors import Conflict, ManifestRefused
from defectops.workflows import declaring, versioning
from defectops.workflows.gathering import ImportRequest, find_defects, find_jobs, unpacked
from defectops.workflows.parameters import load_parameters
from defectops.workflows.staging import Stage, merged_rows, stage_all


@dataclass(frozen=True)
class ImportReport:
    """What was done.

    Parameters
    ----------
    folder : Path
        The data folder.
    rows : tuple of ManifestRow
        The images that were asked for, as they are in the manifest now.
    defects : tuple of str
    pixels : mapping of str to int
        Defect pixels of each type in the imported labels.
    notes : tuple of str
        What the user should know: warnings, conversions, images left out.
    commands : tuple of str
        What to type next.
    """

    folder: Path
    rows: tuple[ManifestRow, ...]
    defects: tuple[str, ...]
    pixels: Mapping[str, int]
    notes: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """What the import will write into ``params.yaml``; nothing for a folder elsewhere."""

    root: Path
    types: Mapping[str, Mapping[str, str] | None]

    @classmethod
    def of(cls, root: Path, request: ImportRequest, defects: Sequence[str]) -> _Plan:
        if request.into is not None:
            return cls(root, {})
        types = declaring.describe_types(
            root, defects, request.shapes, request.polarities, request.replace
        )
        return cls(root, types)

    def split(
        self, rows: Sequence[ManifestRow], request: ImportRequest
    ) -> dict[str, dict[str, Any]]:
        """Return what each type's split shall say, where the import says anything."""
        told = {
            t: declaring.split_settings([r.side for r in rows if t in r.labels], request.rectangles)
            for t in self.types
        }
        return {t: settings for t, settings in told.items() if settings is not None}

    def note_scheme(
        self, rows: Sequence[ManifestRow], split: Mapping[str, Any], stage: Stage
    ) -> None:
        """Warn early if the split stage will refuse these images."""
        silent = [t for t in self.types if t not in split]
        odd = [r.image for r in rows if r.side == "auto" and stage.shapes[r.image] != PAPER_SHAPE]
        if not silent or not odd:
            return
        parameters = load_parameters(self.root)
        for defect in silent:
            if parameters.options("split", defect, SplitOptions).scheme == "paper":
                stage.note(
                    f"split.{defect}.scheme is 'paper', for 2048 x 2048 only; give sides (--side, "
                    "--split-file), rectangles (--rectangle), or a scheme in params.yaml",
                    *odd,
                )

    def declare(self, split: Mapping[str, Mapping[str, Any]], request: ImportRequest) -> None:
        if request.into is None:
            declaring.declare(self.root, self.types, split, request.replace)


def import_data(root: Path, request: ImportRequest) -> ImportReport:
    """Import images, labels and masks; nothing is written unless all of them can be used.

    Parameters
    ----------
    root : Path
        The project's folder, with ``params.yaml``.
    request : ImportRequest

    Returns
    -------
    ImportReport
        Importing the same again changes nothing.

    Raises
    ------
    InputRefused
        A file, label or option cannot be used.
    Conflict
        The data folder holds something that DVC does not know, or another image or label of the
        same name.
    """
    target = request.into or root / "data"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import-") as scratch:
        stage = Stage(Path(scratch) / "data")
        request = unpacked(request, Path(scratch) / "archive")
        _check_target(root, target, request)
        jobs, left_out = find_jobs(request)
        if left_out:
            stage.note("not in the split file, left out", *left_out)
        defects = find_defects(request, jobs)
        plan = _Plan.of(root, request, defects)
        rows = stage_all(jobs, request, stage)
        after = merged_rows([] if request.replace else _existing(target), rows, target, stage)
        split = plan.split(after, request)
        plan.note_scheme(rows, split, stage)
        kept = _commit(stage, target, after, request)
        plan.declare(split, request)
    commands = _record(root, request, defects, len(rows), kept)
    imported = {r.image for r in rows}
    merged = tuple(r for r in after if r.image in imported)
    notes = tuple(_note_line(text, names) for text, names in stage.notes.items())
    return ImportReport(target, merged, tuple(defects), stage.pixels, notes, commands)


def _check_target(root: Path, target: Path, request: ImportRequest) -> None:
    if bool(request.images) == (request.manifest is not None):
        raise ManifestRefused("import", "E_USAGE", "give IMAGES or --manifest, one of the two")
    if request.into is None and request.dvc and versioning.under_dvc(root):
        if not (request.replace and not target.exists()):
            versioning.require_recorded(root)
    elif target.exists() and not (target / "manifest.csv").is_file() and any(target.iterdir()):
        raise Conflict(target, "E_CONFLICT", "exists, is not empty and has no manifest.csv")


def _existing(target: Path) -> list[ManifestRow]:
    manifest = target / "manifest.csv"
    return read_manifest(manifest, target) if manifest.exists() else []


def _commit(
    stage: Stage, target: Path, rows: Sequence[ManifestRow], request: ImportRequest
) -> Path | None:
    """Move everything into place, the manifest last; return where a replaced set was kept."""
    manifest = stage.folder / "manifest.csv"
    write_manifest(manifest, rows)
    if request.replace:
        kept = _put_aside(target) if target.exists() else None
        stage.folder.replace(target)
        return kept
    files = sorted(p for p in stage.folder.rglob("*") if p.is_file() and p != manifest)
    for path in files:
        there = target / path.relative_to(stage.folder)
        if not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            path.replace(there)
    manifest.replace(target / "manifest.csv")
    return None


def _put_aside(target: Path) -> Path:
    number = 1
    while (aside := target.with_name(f"{target.name}.replaced-{number}")).exists():
        number += 1
    target.replace(aside)
    return aside


def _record(
    root: Path, request: ImportRequest, defects: Sequence[str], count: int, kept: Path | None
) -> tuple[str, ...]:
    """Record the data with DVC and return the commands that the user types next."""
    aside = [] if kept is None else [f"rm -r {kept}  # the set that was replaced"]
    if request.into is not None:
        return tuple(aside)
    commands: list[str] = []
    if request.dvc and versioning.under_dvc(root):
        versioning.record(root)
        if kept is not None:
            shutil.rmtree(kept)  # DVC's cache has it: `require_recorded` made sure
    else:
        commands += ["dvc add data", *aside]
    what = f"Import {count} micrograph{'s' * (count > 1)}" + (
        f" of {', '.join(defects)}" if defects else ""
    )
    return (
        *commands,
        "git add data.dvc params.yaml",
        f"git commit -m '{what}'",
        "dvc repro",
    )


def _note_line(text: str, names: Sequence[str]) -> str:
    if not names:
        return text
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{rest}: {text}"
