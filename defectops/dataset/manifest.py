"""The table of images: which picture, which labels, which specimen, which side of the split.

A manifest is a CSV file in UTF-8 with a header. Only the column ``image`` is required; see
`ManifestRow` for the others. Row numbers in messages count lines as a spreadsheet shows them:
the header is row 1.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from defectops.atomic import write_text
from defectops.defects import DefectType
from defectops.errors import ManifestRefused, SettingsRefused
from defectops.micrograph import UNCALIBRATED

SIDES = ("train", "dev", "test", "gate", "auto")
NUMBERS = ("pixel_size_nm", "thickness_nm", "thickness_sd_nm")
TEXTS = ("specimen", "condition", "side", "pixel_size_source", "licence", "source")
COLUMNS = (
    "image",
    "ignore",
    "specimen",
    "condition",
    "side",
    "pixel_size_nm",
    "pixel_size_source",
    "thickness_nm",
    "thickness_sd_nm",
    "licence",
    "source",
)
LABEL_PREFIX = "label_"
UNNAMED_DEFECT = ""
"""Key of a label in the column ``label``: its type is the one that the command names."""

_ALIASES = {"split": "side", "label": LABEL_PREFIX}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class ManifestRow:
    """One image of the data set.

    Parameters
    ----------
    image : str
        File name inside ``data/micrographs``; in a manifest for `defectops data import`, a path
        relative to the manifest.
    labels : mapping of str to str
        Defect key to the path of its label (columns ``label_<defect>``), relative to the data
        folder; absent where the image is not labelled for that defect.
    ignore : tuple of str
        Paths of masks whose pixels count nowhere; several are separated by ``;`` in the table.
    specimen, condition : str
        Empty if unknown. Images of one specimen are not independent.
    side : {"auto", "train", "dev", "test", "gate"}
        ``auto`` leaves the choice to the split's scheme.
    pixel_size_nm : float or None
        nm per pixel. None with an empty source: the file itself (tags, sidecar) must tell.
    pixel_size_source : str
        Where the pixel size comes from; ``uncalibrated`` if the user knows that there is none.
    thickness_nm, thickness_sd_nm : float or None
        Foil thickness and its standard uncertainty, nm.
    licence, source : str
        Under which terms, and from where.
    """

    image: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    specimen: str = ""
    condition: str = ""
    side: str = "auto"
    pixel_size_nm: float | None = None
    pixel_size_source: str = ""
    thickness_nm: float | None = None
    thickness_sd_nm: float | None = None
    licence: str = ""
    source: str = ""

    @property
    def stem(self) -> str:
        """File name without folder and suffix; labels carry it too."""
        return PurePosixPath(self.image).stem

    @property
    def uncalibrated(self) -> bool:
        """Whether the user has said that this image has no pixel size."""
        return self.pixel_size_source == UNCALIBRATED

    def ignore_for(self, defect: str) -> str | None:
        """Return the mask in ``ignore/<defect>/``, or None if there is none."""
        parent = PurePosixPath("ignore", defect)
        return next((p for p in self.ignore if PurePosixPath(p).parent == parent), None)


def read_manifest(path: Path, data_folder: Path | None = None) -> list[ManifestRow]:
    """Read and check a manifest. Whether its files exist is `check_files`' question.

    Parameters
    ----------
    path : Path
        CSV, UTF-8 with or without byte-order mark, separated by commas.
    data_folder : Path, optional
        Folder that no path may leave, symbolic links included; the manifest's own by default.

    Returns
    -------
    list of ManifestRow
        At least one, in the order of the file. ``split`` is read as ``side``; ``label`` as the
        label of a type that the command names (key `UNNAMED_DEFECT`).

    Raises
    ------
    ManifestRefused
        ``E_PATH`` for a path outside the data folder (looked for before anything else),
        ``E_DUPLICATE`` for an image named twice (by name, stem, case or Unicode form),
        ``E_PX_MISSING``, ``E_PX_INVALID``, ``E_PX_CONFLICT`` for pixel sizes, else ``E_MANIFEST``.
    """
    folder = path.parent if data_folder is None else data_folder
    header, records = _table(path)
    for number, record in records:
        for column, cell in zip(header, record, strict=False):
            _check_paths(path, number, column, cell, folder)
    _check_header(path, header)
    rows = []
    for number, record in records:
        if len(record) != len(header):
            raise _refused(
                path,
                number,
                "E_MANIFEST",
                f"{len(record)} cells under {len(header)} columns; put quotes around a comma "
                "inside a cell",
            )
        rows.append(_row(path, number, dict(zip(header, record, strict=True))))
    if not rows:
        raise ManifestRefused(path.name, "E_MANIFEST", "names no image; one row an image is needed")
    _check_duplicates(path, [(n, r.image) for (n, _), r in zip(records, rows, strict=True)])
    return rows


def write_manifest(path: Path, rows: Sequence[ManifestRow]) -> None:
    """Write a manifest that `read_manifest` reads back equal; the same bytes for the same rows.

    Raises
    ------
    ManifestRefused
        Some images have a pixel size and others neither one nor the source ``uncalibrated``, or
        no row is given.
    """
    if not rows:
        raise ManifestRefused(path.name, "E_MANIFEST", "no image is left to list")
    defects = sorted({d for row in rows for d in row.labels})
    sized = any(r.pixel_size_nm is not None or r.pixel_size_source for r in rows)
    rest = [c for c in COLUMNS[1:] if sized or not c.startswith("pixel_size")]
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\n")
    out.writerow(["image", *(_label_column(d) for d in defects), *rest])
    for number, row in enumerate(rows, 2):
        if sized:
            _check_pixel_size(path, number, row)
        labels = [row.labels.get(d, "") for d in defects]
        out.writerow([row.image, *labels, *(_cell(row, c) for c in rest)])
    write_text(path, stream.getvalue())


def check_files(path: Path, rows: Sequence[ManifestRow], data_folder: Path) -> None:
    """Check that every file of a data folder's manifest is where the layout wants it.

    Images lie in ``micrographs/``, labels in ``labels/<defect>/``, masks in ``ignore/<defect>/``:
    the stages of one defect depend on these folders and on no others.

    Raises
    ------
    ManifestRefused
        ``E_IMAGE_MISSING``, ``E_LABEL_MISSING``, or ``E_MANIFEST`` for a file in another folder.
    """
    for number, row in enumerate(rows, 2):
        if not (data_folder / "micrographs" / row.image).is_file():
            raise _refused(
                path, number, "E_IMAGE_MISSING", f"no image micrographs/{row.image} in the data"
            )
        for defect, label in row.labels.items():
            _check_place(path, number, label, f"labels/{defect}")
            if not (data_folder / label).is_file():
                raise _refused(path, number, "E_LABEL_MISSING", f"no label {label} in the data")
        for mask in row.ignore:
            _check_place(path, number, mask, *(f"ignore/{d}" for d in row.labels))
            if not (data_folder / mask).is_file():
                raise _refused(path, number, "E_LABEL_MISSING", f"no mask {mask} in the data")


def number_or_none(text: str) -> float | None:
    """Read a number strictly; empty is None.

    Raises
    ------
    ValueError
        With a sentence for the user: a decimal comma, a unit, or no finite number.

    Examples
    --------
    >>> number_or_none("0.365")
    0.365
    >>> number_or_none("0,365")
    Traceback (most recent call last):
    ValueError: '0,365' has a decimal comma; write 0.365
    """
    text = text.strip()
    if not text:
        return None
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        raise ValueError(f"{text!r} has a decimal comma; write {text.replace(',', '.')}")
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError(f"{text!r} is not a number; write it plain, without a unit, as in 0.365")
    return float(text)


def path_problem(name: str) -> str | None:
    r"""Say why a relative path may not be used, or return None if it stays inside its folder.

    Only the text is looked at. A backslash is refused because it separates folders on one system
    and is part of the name on another.

    Examples
    --------
    >>> path_problem("labels/voids/a.png")
    >>> path_problem("../a.png")
    "'../a.png' lies outside the data folder"
    """
    problems = (
        (not name.isprintable(), "holds a control character, which is not allowed"),
        ("\\" in name, "holds a backslash, which is not allowed; separate folders by /"),
        (
            name.startswith("/") or bool(re.match(r"[A-Za-z]:", name)),
            "is absolute and may lie outside the data folder; paths are relative to it",
        ),
        (".." in name.split("/"), "lies outside the data folder"),
        ("://" in name, "is an address and lies outside the data folder"),
        (
            bool({"", "."} & set(name.split("/"))) and name != "",
            "is not allowed: an empty or '.' folder",
        ),
    )
    return next((f"{name!r} {why}" for bad, why in problems if bad), None)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the records with their row numbers; empty lines are skipped."""
    try:
        if not path.is_file():
            raise ManifestRefused(path.name, "E_IO", "not a regular file; a CSV table is needed")
        if path.stat().st_size > _MAX_BYTES:
            raise ManifestRefused(path.name, "E_TOO_LARGE", f"exceeds the limit of {_MAX_BYTES} B")
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        records = [(reader.line_num, [c.strip() for c in r]) for r in reader]
    except UnicodeDecodeError as error:
        raise ManifestRefused(
            path.name, "E_MANIFEST", "is not UTF-8 text; save the table as CSV UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise ManifestRefused(path.name, "E_MANIFEST", f"cannot be read: {error}") from error
    records = [(n, r) for n, r in records if any(r)]
    if not records:
        raise ManifestRefused(path.name, "E_MANIFEST", "empty; a header with the column 'image'")
    return records[0][1], records[1:]


def _check_paths(path: Path, number: int, column: str, cell: str, folder: Path) -> None:
    """Refuse a path that leaves the folder. A column that nobody knows may hold paths too."""
    if column in NUMBERS or column in TEXTS or column == "split":
        return
    for name in cell.split(";") if column == "ignore" else [cell]:
        problem = path_problem(name.strip()) or _link_problem(name.strip(), folder)
        if problem:
            raise _refused(path, number, "E_PATH", problem)


def _link_problem(name: str, folder: Path) -> str | None:
    """Follow the symbolic links on the way to a file, if it is there."""
    if not name:
        return None
    home = folder.resolve()
    for start in (folder, folder / "micrographs"):
        try:
            inside = (start / name).resolve().is_relative_to(home)
        except (OSError, RuntimeError, ValueError) as error:
            return f"{name!r} cannot be followed: {error}"
        if not inside:
            return f"{name!r} leads outside the data folder through a symbolic link"
    return None


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1 and re.search(r"image[;\t]", header[0]):
        raise _refused(path, 1, "E_MANIFEST", "columns must be separated by commas")
    for i, column in enumerate(header):
        if _canonical(column) in [_canonical(c) for c in header[:i]]:
            raise _refused(path, 1, "E_MANIFEST", f"column {column!r} appears twice")
        if not _known(column):
            raise _refused(path, 1, "E_MANIFEST", _unknown_column(column))
    if "image" not in header:
        raise _refused(path, 1, "E_MANIFEST", "the column 'image' is missing; it is required")


def _canonical(column: str) -> str:
    return _ALIASES.get(column, column)


def _known(column: str) -> bool:
    if column in COLUMNS or column in _ALIASES:
        return True
    try:
        DefectType(column.removeprefix(LABEL_PREFIX), "line", "dark")
    except SettingsRefused:
        return False
    return column.startswith(LABEL_PREFIX)


def _unknown_column(column: str) -> str:
    near = difflib.get_close_matches(column, [*COLUMNS, "label_"], 1, 0.5)
    allowed = ", ".join(["image", "label_<defect>", *COLUMNS[1:]])
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown column {column!r} ({hint}allowed are {allowed})"


def _row(path: Path, number: int, cells: dict[str, str]) -> ManifestRow:
    cells = {_canonical(name): cell for name, cell in cells.items()}
    if not cells["image"]:
        raise _refused(path, number, "E_MANIFEST", "the cell of the column 'image' is empty")
    side = cells.get("side") or "auto"
    if side not in SIDES:
        raise _refused(
            path, number, "E_MANIFEST", f"side {side!r} is not one of {', '.join(SIDES)}"
        )
    sizes = {c: _number(path, number, c, cells.get(c, "")) for c in NUMBERS}
    labels = {
        c.removeprefix(LABEL_PREFIX): cell
        for c, cell in cells.items()
        if c.startswith(LABEL_PREFIX) and cell
    }
    given = "" if sizes["pixel_size_nm"] is None else "manifest"
    row = ManifestRow(
        image=cells["image"],
        labels=labels,
        ignore=tuple(p.strip() for p in cells.get("ignore", "").split(";") if p.strip()),
        specimen=cells.get("specimen", ""),
        condition=cells.get("condition", ""),
        side=side,
        pixel_size_nm=sizes["pixel_size_nm"],
        pixel_size_source=cells.get("pixel_size_source", "") or given,
        thickness_nm=sizes["thickness_nm"],
        thickness_sd_nm=sizes["thickness_sd_nm"],
        licence=cells.get("licence", ""),
        source=cells.get("source", ""),
    )
    if "pixel_size_nm" in cells or "pixel_size_source" in cells:
        _check_pixel_size(path, number, row)
    return row


def _number(path: Path, number: int, column: str, cell: str) -> float | None:
    code = "E_PX_INVALID" if column == "pixel_size_nm" else "E_MANIFEST"
    try:
        value = number_or_none(cell)
    except ValueError as error:
        raise _refused(path, number, code, f"{column}: {error}") from error
    may_be_zero = column == "thickness_sd_nm"
    if value is not None and (value < 0 or (value == 0 and not may_be_zero)):
        what = "pixel size" if column == "pixel_size_nm" else column
        raise _refused(path, number, code, f"{column}: {what} {cell} must be positive, in nm")
    return value


def _check_pixel_size(path: Path, number: int, row: ManifestRow) -> None:
    if row.pixel_size_nm is None and not row.uncalibrated:
        raise _refused(
            path,
            number,
            "E_PX_MISSING",
            f"{row.image} has no pixel size; give pixel_size_nm, or the pixel_size_source "
            f"{UNCALIBRATED!r} if none is known",
        )
    if row.pixel_size_nm is not None and row.uncalibrated:
        raise _refused(
            path,
            number,
            "E_PX_CONFLICT",
            f"the pixel size {row.pixel_size_nm} nm contradicts its source {UNCALIBRATED!r}",
        )


def _check_duplicates(path: Path, images: Iterable[tuple[int, str]]) -> None:
    seen: dict[str, tuple[int, str]] = {}
    for number, image in images:
        key = same_name_key(image)
        if key in seen:
            first, name = seen[key]
            raise _refused(
                path,
                number,
                "E_DUPLICATE",
                f"{image!r} is a duplicate of {name!r} in row {first} (names must differ in more "
                "than suffix and case)",
            )
        seen[key] = (number, image)


def same_name_key(name: str) -> str:
    """Return what two names share if some file system or label folder cannot tell them apart.

    >>> same_name_key("A.tif") == same_name_key("a.PNG")
    True
    """
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix(""))).casefold()


def _check_place(path: Path, number: int, name: str, *allowed: str) -> None:
    if str(PurePosixPath(name).parent) not in allowed:
        raise _refused(path, number, "E_MANIFEST", f"{name!r} must lie in {' or '.join(allowed)}")


def _label_column(defect: str) -> str:
    return f"{LABEL_PREFIX}{defect}" if defect else "label"


def _cell(row: ManifestRow, column: str) -> str:
    value = getattr(row, column)
    if column == "ignore":
        return ";".join(value)
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _refused(path: Path, number: int, code: str, message: str) -> ManifestRefused:
    return ManifestRefused(f"{path.name} row {number}", code, message)
