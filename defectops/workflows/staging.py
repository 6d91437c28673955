"""Decode and check everything of an import into a scratch folder, before the data are touched."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from defectops.atomic import write_text
from defectops.dataset import label_formats as formats
from defectops.dataset.manifest import UNNAMED_DEFECT, ManifestRow, same_name_key
from defectops.errors import LabelRefused, ManifestRefused
from defectops.imaging.calibration import Sidecar, read_sidecar
from defectops.imaging.reading import (
    read_label,
    read_label_colours,
    read_label_values,
    read_micrograph,
)
from defectops.workflows.gathering import ImportRequest, Job, coco_path
from defectops.workflows.preparing import digest_of, read_mask

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration

IGNORE_NOTE = "Masks (0/255) of pixels that count neither in the loss nor in a score.\n"


@dataclass
class Stage:
    """The scratch folder and what was learnt while filling it.

    Parameters
    ----------
    folder : Path
        Laid out as a data folder.
    notes : dict of str to list of str
        Sentence for the user to the images it is about.
    pixels : dict of str to int
        Defect pixels by type.
    digests : dict of str to str
        Digest of pixels to image.
    shapes : dict of str to (rows, columns)
        By image.
    """

    folder: Path
    notes: dict[str, list[str]] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, text: str, *names: str) -> None:
        """Keep something that the user should know, and the images it is about."""
        self.notes.setdefault(text, []).extend(names)


def stage_all(jobs: Sequence[Job], request: ImportRequest, stage: Stage) -> list[ManifestRow]:
    """Check all images with their labels and masks, and write them to the scratch folder.

    Returns
    -------
    list of ManifestRow
        Complete rows, sorted by image.

    Raises
    ------
    InputRefused
        Anything that cannot be used; the scratch folder is then of no use.
    """
    if not jobs:
        raise ManifestRefused("import", "E_IMAGE_MISSING", "no image is left to import")
    annotations = coco_path(request)
    coco = formats.read_coco(annotations) if annotations else None
    rows = [_stage_one(j, request, coco, stage) for j in jobs]
    for defect, count in stage.pixels.items():
        if count == 0:
            stage.note(f"no pixel of {defect} in any label: is its colour or number right?")
    return sorted(rows, key=lambda r: r.image)


def merged_rows(
    before: Sequence[ManifestRow], rows: Sequence[ManifestRow], target: Path, stage: Stage
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


def _stage_one(
    job: Job, request: ImportRequest, coco: formats.Coco | None, stage: Stage
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
    job: Job,
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
    job: Job, kinds: Mapping[str, Any], shape: tuple[int, int], stage: Stage
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


def _check_twin(stage: Stage, name: str, digest: str) -> None:
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


def _check_files(target: Path, stage: Stage) -> None:
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
