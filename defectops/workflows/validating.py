"""Look at files as training would read them, and say what is in them and what is odd."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import label as connected
from skimage.morphology import skeletonize

from defectops.dataset.importing import LABEL_SUFFIXES, Source, pair
from defectops.dataset.manifest import ManifestRow, check_files, read_manifest
from defectops.defects import BUILT_IN, DefectType, register
from defectops.errors import (
    CalibrationRefused,
    InputRefused,
    LabelRefused,
    ManifestRefused,
    MicrographRefused,
)
from defectops.imaging.calibration import read_sidecar
from defectops.imaging.reading import SUFFIXES, read_array, read_micrograph
from defectops.settings import load_yaml
from defectops.workflows.preparing import calibrated, digest_of, read_mask

if TYPE_CHECKING:
    from defectops.micrograph import Array, Calibration, Micrograph

Reader = Callable[..., "Micrograph"]

SPECK_PX = 4
"""Objects smaller than this are called specks: slips of the brush rather than defects."""

LINE_WIDTH_PX = (2.0, 4.0)
"""Widths of a line label that follow the protocol of 3 px (Roberts et al. 2019,
doi:10.1038/s41598-019-49105-0)."""


@dataclass(frozen=True)
class ImageFinding:
    """One micrograph as it was read; its pixel size is None where nobody knows it."""

    path: str
    shape: tuple[int, int]
    dtype: str
    pixel_size_nm: float | None
    pixel_size_source: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelFinding:
    """One label: how much of the image it marks, in how many objects."""

    path: str
    image: str
    defect: str
    defect_fraction: float
    objects: int
    specks: int
    line_width_px: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What a path holds, all of it readable."""

    path: str
    images: tuple[ImageFinding, ...] = ()
    labels: tuple[LabelFinding, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the findings for machines.

        ``shape``, ``dtype``, ``pixel_size_nm`` and ``pixel_size_source`` at the top hold what all
        images have in common, else null; each image and label follows by itself.
        """
        names = ("shape", "dtype", "pixel_size_nm", "pixel_size_source")
        rows = [asdict(i) for i in self.images]
        common = {
            n: rows[0][n] if rows and _all_equal([r[n] for r in rows]) else None for n in names
        }
        warnings = list(self.warnings)
        for name, said in [(f.path, f.warnings) for f in self.images] + [
            (f.path, f.warnings) for f in self.labels
        ]:
            warnings += [w if name == self.path else f"{name}: {w}" for w in said]
        return {
            "path": self.path,
            **common,
            "warnings": warnings,
            "images": rows,
            "labels": [asdict(one) for one in self.labels],
        }


def validate(path: Path, read: Reader = read_micrograph) -> Findings:
    """Check whatever is at a path; the first thing that cannot be used is raised.

    Parameters
    ----------
    path : Path
        A micrograph; a sidecar ``.json``; a manifest ``.csv``; a ``.npy``; a folder with
        ``images/`` and ``labels/`` (labels of several types in folders of their own); a project's
        ``data/`` with ``micrographs/``; or a folder of micrographs.
    read : callable
        `read_micrograph`, perhaps with options bound.

    Returns
    -------
    Findings

    Raises
    ------
    InputRefused
        ``E_DUPLICATE`` for two images with equal pixels, and whatever the readers refuse.
    """
    path = Path(path)
    if path.is_dir():
        found = _folder(path, read)
    elif path.suffix.lower() == ".json":
        found = _sidecar(path, read)
    elif path.suffix.lower() == ".csv":
        found = _manifest(path, read)
    elif path.suffix.lower() == ".npy":
        found = _array(path, read)
    else:
        found = _Collected(path).image(path.name, lambda: read(path))
    return found.findings()


class _Collected:
    """Findings while they are collected; refuses a picture that comes twice."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.images: list[ImageFinding] = []
        self.labels: list[LabelFinding] = []
        self.warnings: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._digests: dict[str, str] = {}

    def findings(self) -> Findings:
        return Findings(self.path, tuple(self.images), tuple(self.labels), tuple(self.warnings))

    def image(
        self,
        name: str,
        read: Callable[[], Micrograph],
        calibrate: Callable[[Micrograph], Calibration] | None = None,
    ) -> _Collected:
        with _named(name):
            micrograph = read()
            calibration = calibrate(micrograph) if calibrate else micrograph.calibration
        digest = digest_of(micrograph.pixels)
        twin = self._digests.setdefault(digest, name)
        if twin != name:
            raise MicrographRefused(
                name,
                "E_DUPLICATE",
                f"duplicate: the same content as {twin}, pixel by pixel; keep one of them",
            )
        rows, columns = micrograph.pixels.shape
        self.shapes[name] = (rows, columns)
        self.images.append(
            ImageFinding(
                self.path if name == Path(self.path).name else name,
                (rows, columns),
                str(micrograph.pixels.dtype),
                calibration.pixel_size_nm,
                calibration.pixel_size_source,
                micrograph.warnings,
            )
        )
        return self

    def label(self, name: str, path: Path, image: str, defect: DefectType | str) -> None:
        with _named(name):
            mask = read_mask(path, self.shapes[image])
        self.labels.append(_look_at(name, image, mask, defect))


def _folder(path: Path, read: Reader) -> _Collected:
    if (path / "micrographs").is_dir():
        manifest = path / "manifest.csv"
        if manifest.exists() or manifest.is_symlink():
            return _manifest(manifest, read)
        return _pairs(path, "micrographs", read)
    if (path / "images").is_dir() or (path / "labels").is_dir():
        return _pairs(path, "images", read)
    found = _Collected(path)
    pictures = _files(path, SUFFIXES)
    if not pictures:
        raise MicrographRefused(
            path.name or str(path),
            "E_IO",
            "is a directory without pictures; give a file, or a folder with images/ and labels/",
        )
    _pair_up(path, pictures, [])
    for picture in pictures:
        found.image(picture.name, _bound(read, picture))
    return found


def _pairs(path: Path, images_name: str, read: Reader) -> _Collected:
    """Check a folder of images beside one of labels: first the names, then the content."""
    found = _Collected(path)
    images = _files(path / images_name, SUFFIXES)
    together = [
        (defect, source)
        for defect, labels in _label_folders(path / "labels").items()
        for source in _pair_up(path, _of_type(defect, images, labels), labels)
    ]
    _refuse_unlabelled(images_name, images, {s.image for _, s in together if s.label})
    if not images:
        raise MicrographRefused(images_name, "E_IMAGE_MISSING", "no image found in this folder")
    kinds = _kinds(path)
    for image in images:
        found.image(f"{images_name}/{image.name}", _bound(read, image))
    for defect, source in together:
        if source.label is not None:
            found.label(
                _relative(path, source.label),
                source.label,
                f"{images_name}/{source.image.name}",
                kinds.get(defect, defect),
            )
    return found


def _of_type(defect: str, images: Sequence[Path], labels: Sequence[Path]) -> Sequence[Path]:
    """Return the images that have a label in a type's own folder; not every image needs one."""
    stems = {p.stem for p in labels}
    return [i for i in images if i.stem in stems] if defect else images


def _refuse_unlabelled(folder: str, images: Sequence[Path], labelled: set[Path]) -> None:
    for image in images:
        if image not in labelled:
            raise LabelRefused(
                f"{folder}/{image.name}",
                "E_LABEL_MISSING",
                "no label found in labels/; an image without defects needs an empty label",
            )


def _pair_up(path: Path, images: Sequence[Path], labels: Sequence[Path]) -> list[Source]:
    """Pair by name as `data import` does; errors speak of names relative to the folder."""
    try:
        found = pair(images, labels, [], "stem")
    except InputRefused as error:
        message = error.message.replace(f"{path}/", "")
        raise type(error)(error.subject.replace(f"{path}/", ""), error.code, message) from error
    return found


def _label_folders(folder: Path) -> dict[str, list[Path]]:
    """Return the labels of each type; of the type '' where they lie in ``labels/`` itself."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    types = {p.name: _files(p, LABEL_SUFFIXES) for p in inside if p.is_dir()}
    types = {name: files for name, files in types.items() if files}
    direct = _files(folder, LABEL_SUFFIXES)
    return types if types and not direct else {"": direct, **types}


def _manifest(path: Path, read: Reader) -> _Collected:
    folder = path.parent
    rows = read_manifest(path)
    images = folder / "micrographs" if (folder / "micrographs").is_dir() else folder
    if images != folder:
        check_files(path, rows, folder)
    found = _Collected(path if images == folder else folder)
    kinds = _kinds(folder)
    for number, row in enumerate(rows, 2):
        _refuse_absent(path, number, row, images, folder)
        with _named(f"{path.name} row {number}", row.image):
            _row(found, row, images, folder, kinds, read)
    if images != folder:
        listed = {row.image for row in rows}
        found.warnings += [
            f"micrographs/{p.name} is not in the manifest"
            for p in _files(images, SUFFIXES)
            if p.name not in listed
        ]
    return found


def _refuse_absent(path: Path, number: int, row: ManifestRow, images: Path, folder: Path) -> None:
    """Refuse a row whose files are not there; a link to nowhere is left to the readers."""
    named = [(images / row.image, row.image, "E_IMAGE_MISSING", "image")]
    named += [(folder / n, n, "E_LABEL_MISSING", "label") for n in row.labels.values()]
    named += [(folder / n, n, "E_LABEL_MISSING", "mask") for n in row.ignore]
    for file, name, code, what in named:
        if not (file.exists() or file.is_symlink()):
            raise ManifestRefused(path.name, code, f"row {number}: no {what} {name}")


def _row(
    found: _Collected,
    row: ManifestRow,
    images: Path,
    folder: Path,
    kinds: Mapping[str, DefectType],
    read: Reader,
) -> None:
    options: dict[str, Any] = {}
    if row.pixel_size_nm is not None:
        options["pixel_size_nm"] = row.pixel_size_nm
    if row.uncalibrated:
        options["uncalibrated"] = True
    found.image(
        row.image,
        lambda: read(images / row.image, **options),
        lambda micrograph: calibrated(micrograph, row),
    )
    for defect, name in row.labels.items():
        found.label(name, folder / name, row.image, kinds.get(defect, defect))
    for name in row.ignore:
        with _named(name):
            read_mask(folder / name, found.shapes[row.image])


def _sidecar(path: Path, read: Reader) -> _Collected:
    """Check a sidecar, and the pictures that it speaks for if they are beside it."""
    found = _Collected(path)
    sidecar = read_sidecar(path)
    if sidecar.pixel_size_nm is None and sidecar.thickness_nm is None:
        raise CalibrationRefused(
            path.name, "E_PX_MISSING", 'no pixel size: {"pixel_size_nm": 0.05} is expected'
        )
    pictures = [p for p in _files(path.parent, SUFFIXES) if p.stem == path.stem]
    for picture in pictures:
        found.image(picture.name, _bound(read, picture))
    if not pictures:
        found.warnings.append(f"no picture {path.stem} beside it")
    return found


def _array(path: Path, read: Reader) -> _Collected:
    """Check a .npy: an array carries no pixel size, so its absence is a warning here."""
    found = _Collected(path)
    try:
        return found.image(path.name, lambda: read(path))
    except CalibrationRefused as error:
        if error.code != "E_PX_MISSING":
            raise
    plane = read_array(path)
    rows, columns = plane.shape
    found.images.append(
        ImageFinding(
            str(path),
            (rows, columns),
            str(plane.dtype),
            None,
            "",
            ("no pixel size; to be measured it needs --pixel-size-nm, a sidecar or a manifest",),
        )
    )
    return found


def _look_at(name: str, image: str, mask: Array, defect: DefectType | str) -> LabelFinding:
    """Count objects and specks; measure the width of line labels."""
    objects = np.bincount(connected(mask, connectivity=2).ravel())[1:]
    specks = int((objects < SPECK_PX).sum())
    width = None
    if isinstance(defect, DefectType) and defect.shape == "line" and mask.any():
        width = line_width(mask)
    warnings = []
    if not mask.any():
        warnings.append("empty: no defect is marked")
    if specks:
        warnings.append(f"{specks} specks of fewer than {SPECK_PX} px")
    if width is not None and not LINE_WIDTH_PX[0] <= width <= LINE_WIDTH_PX[1]:
        warnings.append(f"lines are {width:.3g} px wide; the protocol is 3 px")
    return LabelFinding(
        path=name,
        image=image,
        defect=defect.key if isinstance(defect, DefectType) else defect,
        defect_fraction=float(mask.mean()),
        objects=int(objects.size),
        specks=specks,
        line_width_px=width,
        warnings=tuple(warnings),
    )


def line_width(mask: Array) -> float:
    """Return the median width of marked lines in pixels.

    Twice the distance from the centre line to the nearest unmarked pixel, less one: exact for odd
    widths along rows and columns.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        At least one pixel marked.
    """
    centre = skeletonize(mask)
    outside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return float(2 * np.median(outside[centre]) - 1)


def _kinds(data: Path) -> Mapping[str, DefectType]:
    """Return the defect types of the project whose data folder this is, else the built-in ones."""
    params = data.resolve().parent / "params.yaml"
    declared = load_yaml(params).get("defects") if params.is_file() else None
    return {**BUILT_IN, **(register(declared) if isinstance(declared, dict) else {})}


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return what is named like a picture, in order; hidden files are nobody's data."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")
    )


def _bound(read: Reader, path: Path) -> Callable[[], Micrograph]:
    return lambda: read(path)


def _relative(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _all_equal(values: Sequence[Any]) -> bool:
    return all(v == values[0] for v in values)


@contextmanager
def _named(*names: str) -> Iterator[None]:
    """Put the name that the user knows into an error from further down."""
    try:
        yield
    except InputRefused as error:
        shown = [n for n in names if not error.subject.startswith(n)]
        last = error.subject.rsplit("/", 1)[-1]
        kept = [] if shown and shown[-1].endswith(last) else [error.subject]
        raise type(error)(": ".join([*shown, *kept]), error.code, error.message) from error
