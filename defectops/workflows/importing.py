"""Bring a user's micrographs and labels into the data folder: all checked first, then all written.

Micrographs are copied byte for byte, labels are written as PNG with 0 and 255. Everything is
decoded into a scratch folder beside the data; what is refused there leaves the data untouched.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from defectops.atomic import write_text
from defectops.dataset import importing as matching
from defectops.dataset import label_formats as formats
from defectops.dataset.manifest import (
    UNNAMED_DEFECT,
    ManifestRow,
    read_manifest,
    same_name_key,
    write_manifest,
)
from defectops.dataset.splits import PAPER_SHAPE, Fractions, SplitOptions
from defectops.defects import DefectType
from defectops.errors import Conflict, LabelRefused, ManifestRefused
from defectops.imaging.archives import is_archive, unpack
from defectops.imaging.calibration import Sidecar, read_sidecar
from defectops.imaging.reading import (
    read_label,
    read_label_colours,
    read_label_values,
    read_micrograph,
)
from defectops.workflows import declaring, versioning
from defectops.workflows.parameters import load_parameters
from defectops.workflows.preparing import digest_of, read_mask

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration

IGNORE_NOTE = "Masks (0/255) of pixels that count neither in the loss nor in a score.\n"


@dataclass(frozen=True)
class ImportRequest:
    """What the user asks for; see ``defectops data import --help`` for each.

    Places (`images`, `labels`, `ignore`) are folders, files or patterns. `sides`, `specimens`,
    `shapes` and `polarities` hold ``VALUE`` for all or ``NAME=VALUE`` for some. `thickness` is the
    foil's and its standard uncertainty, nm.
    """

    images: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    manifest: Path | None = None
    defects: tuple[str, ...] = ()
    indices: Mapping[str, Sequence[int]] = field(default_factory=dict)
    colours: Mapping[str, Sequence[formats.Colour]] = field(default_factory=dict)
    name_from: matching.NameFrom = "stem"
    split_file: Path | None = None
    split_name: str | None = None
    sides: tuple[str, ...] = ()
    rectangles: tuple[tuple[str, Fractions], ...] = ()
    specimens: tuple[str, ...] = ()
    condition: str = ""
    licence: str = ""
    source: str = ""
    pixel_size_nm: float | None = None
    uncalibrated: bool = False
    thickness: tuple[float, float | None] | None = None
    shapes: tuple[str, ...] = ()
    polarities: tuple[str, ...] = ()
    into: Path | None = None
    replace: bool = False
    dvc: bool = True


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
class _Job:
    """One image to import: its files, and its row without labels."""

    source: matching.Source
    row: ManifestRow
    labels: Mapping[str, Path] = field(default_factory=dict)
    masks: tuple[Path, ...] = ()


@dataclass
class _Stage:
    """The scratch folder and what was learnt while filling it."""

    folder: Path
    notes: dict[str, list[str]] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, text: str, *names: str) -> None:
        self.notes.setdefault(text, []).extend(names)


@dataclass(frozen=True)
class _Plan:
    """What the import will write into ``params.yaml``; nothing for a folder elsewhere."""

    root: Path
    types: Mapping[str, Mapping[str, str] | None]

    @classmethod
    def of(cls, root: Path, request: ImportRequest, defects: Sequence[str]) -> _Plan:
        if request.into is not None:
            return cls(root, {})
        return cls(
            root, declaring.describe_types(root, defects, request.shapes, request.polarities)
        )

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
        self, rows: Sequence[ManifestRow], split: Mapping[str, Any], stage: _Stage
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
        stage = _Stage(Path(scratch) / "data")
        request = _unpacked(request, Path(scratch) / "archive")
        _check_target(root, target, request)
        jobs = _jobs(request, stage)
        defects = _defects(request, jobs)
        plan = _Plan.of(root, request, defects)
        rows = _staged(jobs, request, stage)
        after = _merged([] if request.replace else _existing(target), rows, target, stage)
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


def _unpacked(request: ImportRequest, scratch: Path) -> ImportRequest:
    """Turn an archive into places inside it: a manifest, or ``images/`` and ``labels/``."""
    if len(request.images) != 1 or not is_archive(Path(request.images[0])):
        return request
    unpack(Path(request.images[0]), scratch)
    home = scratch
    while len(inside := list(home.iterdir())) == 1 and inside[0].is_dir():
        if inside[0].name in ("images", "micrographs"):
            break
        home = inside[0]
    if (home / "manifest.csv").is_file():
        return changed(request, images=(), manifest=home / "manifest.csv")
    images = next((home / n for n in ("images", "micrographs") if (home / n).is_dir()), home)
    labels = request.labels or tuple(str(p) for p in [home / "labels"] if p.is_dir())
    ignore = request.ignore or tuple(str(p) for p in [home / "ignore"] if p.is_dir())
    return changed(request, images=(str(images),), labels=labels, ignore=ignore)


def _jobs(request: ImportRequest, stage: _Stage) -> list[_Job]:
    jobs = _from_manifest(request) if request.manifest else _from_places(request)
    names = [j.source.name for j in jobs]
    specimens = matching.chosen("--specimen", request.specimens, names)
    sides = matching.chosen("--side", request.sides, names)
    if request.split_file is not None:
        told = matching.read_split_file(request.split_file, request.split_name)
        sides |= matching.listed([j.source for j in jobs], told)
        out = [j.source.name for j in jobs if j.source.name not in sides]
        for name in out:
            stage.note(f"not in {request.split_file.name}, left out", name)
        jobs = [j for j in jobs if j.source.name in sides]
    return [
        changed(
            j,
            row=changed(
                j.row,
                side=sides.get(j.source.name, j.row.side),
                specimen=specimens.get(j.source.name, j.row.specimen),
                condition=request.condition or j.row.condition,
                licence=request.licence or j.row.licence,
                source=request.source or j.row.source,
            ),
        )
        for j in jobs
    ]


def _from_places(request: ImportRequest) -> list[_Job]:
    images = matching.find_files(request.images, matching.IMAGE_SUFFIXES, "images")
    masks = matching.find_files(request.ignore, matching.IMAGE_SUFFIXES, "ignore masks")
    coco = _coco_path(request)
    labels = [] if coco else matching.find_files(request.labels, matching.LABEL_SUFFIXES, "labels")
    images = [p for p in images if p not in labels and p not in masks]
    if coco:
        known = formats.read_coco(coco).images
        sources = [changed(s, label=coco) for s in matching.pair(images, [], masks, "stem")]
        _check_listed_in_coco(coco, known, sources)
    else:
        sources = matching.pair(images, labels, masks, request.name_from)
    return [
        _Job(
            s,
            ManifestRow(s.name),
            {UNNAMED_DEFECT: s.label} if s.label else {},
            (s.ignore,) if s.ignore else (),
        )
        for s in sources
    ]


def _from_manifest(request: ImportRequest) -> list[_Job]:
    manifest = request.manifest
    if manifest is None:
        raise ManifestRefused("import", "E_USAGE", "no manifest")
    home = manifest.parent
    jobs = []
    for number, row in enumerate(read_manifest(manifest), 2):
        where = f"{manifest.name} row {number}"
        image = _found(where, row.image, home, home / "micrographs", home / "images")
        name = matching.final_name(image, request.name_from)
        source = matching.Source(name, image)
        labels = {d: _found(where, p, home) for d, p in row.labels.items()}
        masks = tuple(_found(where, p, home) for p in row.ignore)
        jobs.append(_Job(source, changed(row, image=name, labels={}, ignore=()), labels, masks))
    matching.pair([j.source.image for j in jobs], [], [], request.name_from)
    return jobs


def _found(where: str, name: str, *homes: Path) -> Path:
    for home in homes:
        if (home / name).is_file():
            return home / name
    raise ManifestRefused(where, "E_IMAGE_MISSING", f"no file {name!r} in the folder")


def _coco_path(request: ImportRequest) -> Path | None:
    places = [Path(p) for p in request.labels]
    return places[0] if len(places) == 1 and places[0].suffix.lower() == ".json" else None


def _check_listed_in_coco(
    coco: Path, known: Mapping[str, Any], sources: Sequence[matching.Source]
) -> None:
    names = {s.image.name for s in sources}
    for s in sources:
        if s.image.name not in known:
            raise LabelRefused(s.image.name, "E_LABEL_MISSING", f"no label: not in {coco.name}")
    for name in known:
        if name not in names:
            raise LabelRefused(coco.name, "E_IMAGE_MISSING", f"no image found for its {name!r}")


def _defects(request: ImportRequest, jobs: Sequence[_Job]) -> list[str]:
    """Return the types that this import labels, in the order they were named."""
    named = [*request.defects, *request.colours, *request.indices]
    named += [d for j in jobs for d in j.labels]
    defects = [d for d in dict.fromkeys(named) if d not in (UNNAMED_DEFECT, formats.BACKGROUND)]
    for d in defects:
        DefectType(d, "line", "dark")  # refuses an impossible name
    if request.replace and not defects:
        raise LabelRefused("--replace", "E_LABEL_MISSING", "a new set needs labels to learn from")
    coded = [*request.colours, *request.indices]
    stray = [d for d in request.defects if coded and d not in coded]
    if stray:
        raise LabelRefused(
            "--defect", "E_USAGE", f"{stray[0]} has no --label-colour or --label-index"
        )
    unnamed = any(UNNAMED_DEFECT in j.labels for j in jobs)
    if unnamed and not coded and len(request.defects) != 1:
        raise LabelRefused(
            "--defect",
            "E_USAGE",
            "say which type of defect the labels show, by one --defect; masks of several types by "
            "--label-colour TYPE=R,G,B or --label-index TYPE=NUMBER",
        )
    return defects


def _staged(jobs: Sequence[_Job], request: ImportRequest, stage: _Stage) -> list[ManifestRow]:
    if not jobs:
        raise ManifestRefused("import", "E_IMAGE_MISSING", "no image is left to import")
    coco_path = _coco_path(request)
    coco = formats.read_coco(coco_path) if coco_path else None
    rows = [_stage_one(j, request, coco, stage) for j in jobs]
    for defect, count in stage.pixels.items():
        if count == 0:
            stage.note(f"no pixel of {defect} in any label: is its colour or number right?")
    return sorted(rows, key=lambda r: r.image)


def _stage_one(
    job: _Job, request: ImportRequest, coco: formats.Coco | None, stage: _Stage
) -> ManifestRow:
    """Check one image with its labels and masks, and write them to the scratch folder."""
    name, stem = job.source.name, job.source.stem
    size = job.row.pixel_size_nm if job.row.pixel_size_nm is not None else request.pixel_size_nm
    micrograph = read_micrograph(
        job.source.image,
        pixel_size_nm=None if job.row.uncalibrated else size,
        uncalibrated=job.row.uncalibrated or request.uncalibrated,
    )
    for warning in micrograph.warnings:
        stage.note(warning, name)
    shape = (micrograph.pixels.shape[0], micrograph.pixels.shape[1])
    _check_twin(stage, name, digest_of(micrograph.pixels))
    stage.shapes[name] = shape
    _copy(job.source.image, stage.folder / "micrographs" / name)
    _copy_sidecar(job.source.image, stage.folder / "micrographs" / f"{stem}.json")
    planes: dict[str, Array] = {}
    for defect, path in job.labels.items():
        for kind, plane in _decoded(job, defect, path, shape, request, coco).items():
            planes[kind] = plane
    for kind, plane in planes.items():
        _write_mask(stage.folder / "labels" / kind / f"{stem}.png", plane)
        write_text(stage.folder / "ignore" / kind / "README.txt", IGNORE_NOTE)
        stage.pixels[kind] = stage.pixels.get(kind, 0) + int(plane.sum())
    return changed(
        _calibrated(job.row, micrograph.calibration, request),
        labels={kind: f"labels/{kind}/{stem}.png" for kind in planes},
        ignore=_stage_masks(job, planes, shape, stage),
    )


def _decoded(
    job: _Job,
    defect: str,
    path: Path,
    shape: tuple[int, int],
    request: ImportRequest,
    coco: formats.Coco | None,
) -> dict[str, Array]:
    """Decode one label file to planes by type, each as large as the image."""
    name = f"{path.parent.name}/{path.name}"
    if coco is not None:
        planes = formats.coco_planes(
            coco, job.source.image.name, shape, _coco_indices(request, coco)
        )
    elif path.suffix.lower() == ".txt":
        indices = request.indices or {request.defects[0]: [0]}
        planes = formats.outline_planes(name, formats.read_yolo(path, shape), shape, indices)
    elif defect != UNNAMED_DEFECT:
        planes = {defect: read_mask(path, shape)}
    elif request.colours:
        planes = formats.by_colour(name, read_label_colours(path), request.colours)
    elif request.indices:
        planes = formats.by_index(name, read_label_values(path), request.indices)
    else:
        planes = {request.defects[0]: np.asarray(read_label(path))}
    for plane in planes.values():
        if plane.shape != shape:
            raise LabelRefused(
                name,
                "E_SHAPE",
                f"shape {plane.shape[0]} x {plane.shape[1]} does not match its image, "
                f"{shape[0]} x {shape[1]} (rows x columns)",
            )
    return planes


def _coco_indices(request: ImportRequest, coco: formats.Coco) -> Mapping[str, Sequence[int]]:
    if request.indices:
        return request.indices
    if len(coco.categories) != 1:
        listed = ", ".join(f"{i} {name!r}" for i, name in coco.categories.items())
        raise LabelRefused(
            "--label-index",
            "E_USAGE",
            f"the COCO file has the categories {listed}; say --label-index TYPE=NUMBER",
        )
    return {request.defects[0]: list(coco.categories)}


def _stage_masks(
    job: _Job, kinds: Mapping[str, Any], shape: tuple[int, int], stage: _Stage
) -> tuple[str, ...]:
    """Write ignore masks: one in the folder ``ignore/<type>`` for that type, others for all."""
    merged: dict[str, Array] = {}
    for path in job.masks:
        mask = read_mask(path, shape)
        own = path.parent.name in kinds and path.parent.parent.name == "ignore"
        for kind in [path.parent.name] if own else kinds:
            merged[kind] = merged[kind] | mask if kind in merged else mask
    names = []
    for kind, mask in merged.items():
        names.append(f"ignore/{kind}/{job.source.stem}.png")
        _write_mask(stage.folder / names[-1], mask)
    return tuple(names)


def _calibrated(row: ManifestRow, calibration: Calibration, request: ImportRequest) -> ManifestRow:
    """Fill in pixel size and thickness: the manifest's, else the option's, else the file's."""
    told = row.pixel_size_nm is not None
    thickness: tuple[float | None, float | None]
    if row.thickness_nm is not None:
        thickness = (row.thickness_nm, row.thickness_sd_nm)
    elif request.thickness is not None:
        thickness = request.thickness
    else:
        thickness = (calibration.thickness_nm, calibration.thickness_sd_nm)
    return changed(
        row,
        pixel_size_nm=row.pixel_size_nm if told else calibration.pixel_size_nm,
        pixel_size_source=row.pixel_size_source if told else calibration.pixel_size_source,
        thickness_nm=thickness[0],
        thickness_sd_nm=thickness[1],
    )


def _check_twin(stage: _Stage, name: str, digest: str) -> None:
    twin = stage.digests.setdefault(digest, name)
    if twin != name:
        raise ManifestRefused(
            name, "E_DUPLICATE", f"has the same pixels as {twin}: a duplicate; import one of them"
        )


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)


def _copy_sidecar(image: Path, to: Path) -> None:
    """Keep what a sidecar says about the image: it may overrule wrong tags."""
    beside = image.with_suffix(".json")
    if not beside.is_file():
        return
    said = read_sidecar(beside)
    if said != Sidecar(said.name):
        _copy(beside, to)


def _write_mask(path: Path, plane: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(plane.astype(np.uint8) * 255).save(path, format="PNG", compress_level=9)


def _existing(target: Path) -> list[ManifestRow]:
    manifest = target / "manifest.csv"
    return read_manifest(manifest, target) if manifest.exists() else []


def _merged(
    before: Sequence[ManifestRow], rows: Sequence[ManifestRow], target: Path, stage: _Stage
) -> list[ManifestRow]:
    """Join the rows that are there with the new ones; see that no file would be overwritten."""
    known = {same_name_key(r.image): r for r in before}
    for row in rows:
        old = known.get(same_name_key(row.image))
        if old is not None and old.image != row.image:
            raise ManifestRefused(row.image, "E_DUPLICATE", f"the data already hold {old.image}")
        known[same_name_key(row.image)] = row if old is None else _joined(old, row)
    if before:
        _check_files(target, stage)
    return list(known.values())


def _check_files(target: Path, stage: _Stage) -> None:
    contents = {
        hashlib.sha256(p.read_bytes()).digest(): p.name
        for p in sorted((target / "micrographs").glob("*"))
    }
    for path in sorted(p for p in stage.folder.rglob("*") if p.is_file()):
        there = target / path.relative_to(stage.folder)
        data = path.read_bytes()
        if there.name != "README.txt" and there.exists() and there.read_bytes() != data:
            raise ManifestRefused(
                there.relative_to(target),
                "E_DUPLICATE",
                "is already in the data with other contents; rename yours, or start a new set "
                "with --replace",
            )
        twin = contents.get(hashlib.sha256(data).digest())
        if path.parent.name == "micrographs" and twin not in (None, path.name):
            raise ManifestRefused(
                path.name, "E_DUPLICATE", f"the same picture is already in the data as {twin}"
            )


def _joined(old: ManifestRow, new: ManifestRow) -> ManifestRow:
    """Join two rows of one image: labels and masks add up, other cells must not contradict."""
    values: dict[str, Any] = {}
    for f in fields(ManifestRow):
        a, b, empty = getattr(old, f.name), getattr(new, f.name), getattr(ManifestRow(""), f.name)
        if f.name == "labels":
            values[f.name] = {**a, **b}
        elif f.name == "ignore":
            values[f.name] = tuple(dict.fromkeys((*a, *b)))
        elif a != empty and b not in (empty, a) and f.name != "pixel_size_source":
            raise ManifestRefused(
                new.image,
                "E_DUPLICATE",
                f"is in the data with {f.name} {a!r}, now it is {b!r}; correct the manifest first",
            )
        else:
            values[f.name] = a if a != empty else b
    return ManifestRow(**values)


def _commit(
    stage: _Stage, target: Path, rows: Sequence[ManifestRow], request: ImportRequest
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
    if request.into is not None:
        return ()
    commands: list[str] = []
    if request.dvc and versioning.under_dvc(root):
        versioning.record(root)
        if kept is not None:
            shutil.rmtree(kept)  # DVC's cache has it: `require_recorded` made sure
    else:
        commands += ["dvc add data"]
        if kept is not None:
            commands += [f"rm -r {kept.name}  # the set that was replaced"]
    what = f"Import {count} micrographs" + (f" of {', '.join(defects)}" if defects else "")
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
