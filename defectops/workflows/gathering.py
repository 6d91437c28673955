"""What a user asks to import, and which files that means: images, labels and masks as jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.dataset import importing as matching
from defectops.dataset import label_formats as formats
from defectops.dataset.manifest import UNNAMED_DEFECT, ManifestRow, read_manifest
from defectops.defects import DefectType
from defectops.errors import LabelRefused, ManifestRefused
from defectops.imaging.archives import is_archive, unpack

if TYPE_CHECKING:
    from defectops.dataset.splits import Fractions


UNKNOWN_TYPE = "unnamed"
"""Type of the labels of an archive that is unpacked elsewhere without saying what they show."""


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
class Job:
    """One image to import: its files, and its row without labels."""

    source: matching.Source
    row: ManifestRow
    labels: Mapping[str, Path] = field(default_factory=dict)
    masks: tuple[Path, ...] = ()


def unpacked(request: ImportRequest, scratch: Path) -> ImportRequest:
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
    told = request.defects or request.colours or request.indices
    if labels and not told and request.into is not None:
        # Whoever only unpacks a set elsewhere need not know yet what its labels show.
        request = changed(request, defects=(UNKNOWN_TYPE,))
    return changed(request, images=(str(images),), labels=labels, ignore=ignore)


def find_jobs(request: ImportRequest) -> tuple[list[Job], list[str]]:
    """Find the images of a request with their labels, masks, sides and specimens.

    Returns
    -------
    (jobs, left_out)
        `left_out` names the images that a split file does not list.

    Raises
    ------
    InputRefused
        Files that do not pair up, options that match nothing, a manifest that is wrong.
    """
    jobs = _from_manifest(request) if request.manifest else _from_places(request)
    names = [j.source.name for j in jobs]
    specimens = matching.chosen("--specimen", request.specimens, names)
    sides = matching.chosen("--side", request.sides, names)
    left_out: list[str] = []
    if request.split_file is not None:
        told = matching.read_split_file(request.split_file, request.split_name)
        listed = matching.listed([j.source for j in jobs], told)
        left_out = [n for n in names if n not in listed]
        sides |= listed
        jobs = [j for j in jobs if j.source.name in listed]
    return [_completed(j, request, sides, specimens) for j in jobs], left_out


def _completed(
    job: Job, request: ImportRequest, sides: Mapping[str, str], specimens: Mapping[str, str]
) -> Job:
    """Fill in what options say about an image; they win over the manifest."""
    row = changed(
        job.row,
        side=sides.get(job.source.name, job.row.side),
        specimen=specimens.get(job.source.name, job.row.specimen),
        condition=request.condition or job.row.condition,
        licence=request.licence or job.row.licence,
        source=request.source or job.row.source,
    )
    return changed(job, row=row)


def find_defects(request: ImportRequest, jobs: Sequence[Job]) -> list[str]:
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


def coco_path(request: ImportRequest) -> Path | None:
    """Return the COCO file if the labels are one: a single place that ends in ``.json``."""
    places = [Path(p) for p in request.labels]
    return places[0] if len(places) == 1 and places[0].suffix.lower() == ".json" else None


def _from_places(request: ImportRequest) -> list[Job]:
    images = matching.find_files(request.images, matching.IMAGE_SUFFIXES, "images")
    masks = matching.find_files(request.ignore, matching.IMAGE_SUFFIXES, "ignore masks")
    coco = coco_path(request)
    labels = [] if coco else matching.find_files(request.labels, matching.LABEL_SUFFIXES, "labels")
    images = [p for p in images if p not in labels and p not in masks]
    if coco:
        known = formats.read_coco(coco).images
        sources = [changed(s, label=coco) for s in matching.pair(images, [], masks, "stem")]
        _check_listed_in_coco(coco, known, sources)
    else:
        sources = matching.pair(images, labels, masks, request.name_from)
    return [
        Job(
            s,
            ManifestRow(s.name),
            {UNNAMED_DEFECT: s.label} if s.label else {},
            (s.ignore,) if s.ignore else (),
        )
        for s in sources
    ]


def _from_manifest(request: ImportRequest) -> list[Job]:
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
        jobs.append(Job(source, changed(row, image=name, labels={}, ignore=()), labels, masks))
    matching.pair([j.source.image for j in jobs], [], [], request.name_from)
    return jobs


def _found(where: str, name: str, *homes: Path) -> Path:
    for home in homes:
        if (home / name).is_file():
            return home / name
    raise ManifestRefused(where, "E_IMAGE_MISSING", f"no file {name!r} in the folder")


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
