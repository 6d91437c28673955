"""Find out which of a user's files is which: images, their labels, masks, sides and specimens.

Names are compared, nothing is decoded or written here. Whatever is ambiguous is refused.
"""

from __future__ import annotations

import csv
import fnmatch
import glob
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from defectops.dataset.manifest import number_or_none, same_name_key
from defectops.errors import LabelRefused, ManifestRefused, MicrographRefused

if TYPE_CHECKING:
    from defectops.dataset.splits import Fractions

NameFrom = Literal["stem", "parent"]

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".dm3", ".dm4", ".emd", ".mrc")
LABEL_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".txt")

SIDE_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "test": "test",
    "testing": "test",
    "gate": "gate",
    "auto": "auto",
}
"""How split files call the sides, and how we do."""

_LABEL_ENDINGS = re.compile(
    r"[ ._-](masks?|labels?|gt|ground[_-]?truth|seg(mentation)?|annotations?)$", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"[;\\/:]|^\.")
_MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class Source:
    """One image to import.

    Parameters
    ----------
    name : str
        File name that it gets in ``micrographs/``.
    image : Path
        Where it is now.
    label, ignore : Path or None
        File that holds its label (of one type or several), and its mask of pixels to ignore.
    """

    name: str
    image: Path
    label: Path | None = None
    ignore: Path | None = None

    @property
    def stem(self) -> str:
        """Name without suffix."""
        return Path(self.name).stem


def find_files(places: Iterable[str], suffixes: Sequence[str], what: str) -> list[Path]:
    """List the files that folders, file names and patterns stand for.

    Parameters
    ----------
    places : iterable of str
        A folder stands for the files directly in it that have one of the suffixes and do not
        start with a dot; a pattern such as ``'set/*/GT.png'`` for what it matches.
    suffixes : sequence of str
        Lower case, with the dot.
    what : str
        Named in errors, for example ``images``.

    Returns
    -------
    list of Path
        Sorted, each once, at least one a place.

    Raises
    ------
    MicrographRefused
        ``E_IO``: a place that does not exist or stands for no file.
    """
    found: set[Path] = set()
    for place in places:
        here = Path(place)
        if here.is_dir():
            files = [
                p
                for p in here.iterdir()
                if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file()
            ]
        elif here.is_file():
            files = [here]
        else:
            files = [Path(p) for p in glob.glob(place) if Path(p).is_file()]  # noqa: PTH207
        if not files:
            raise MicrographRefused(
                place, "E_IO", f"no {what} here; give a folder, a file or a quoted pattern"
            )
        found.update(files)
    return sorted(found)


def pair(
    images: Sequence[Path],
    labels: Sequence[Path],
    masks: Sequence[Path],
    name_from: NameFrom,
) -> list[Source]:
    """Put images together with their labels and ignore masks by name.

    Parameters
    ----------
    images, labels, masks : sequence of Path
        No labels at all: the images are imported unlabelled. Masks may be fewer than images.
    name_from : {"stem", "parent"}
        ``stem``: ``a.tif`` goes with ``a.png``, ``a_mask.tif``, ``a_gt.png`` and the like.
        ``parent``: files of one folder belong together, and the image is named after the folder.

    Raises
    ------
    MicrographRefused, LabelRefused
        ``E_DUPLICATE`` for two images, labels or masks with one name, ``E_LABEL_MISSING`` for an
        image without a label, ``E_IMAGE_MISSING`` for a label or mask without an image.
    """
    by_key: dict[str, Path] = {}
    for image in images:
        key = same_name_key(final_name(image, name_from))
        if key in by_key:
            raise MicrographRefused(
                image,
                "E_DUPLICATE",
                f"would have the same name as {by_key[key]}; rename one, or use --name-from parent",
            )
        by_key[key] = image
    label_of = _by_image(labels, by_key, name_from, "label")
    mask_of = _by_image(masks, by_key, name_from, "ignore mask")
    if labels:
        for key, image in by_key.items():
            if key not in label_of:
                raise LabelRefused(
                    image,
                    "E_LABEL_MISSING",
                    "no label found for this image; an image without defects needs an empty label",
                )
    return [
        Source(final_name(image, name_from), image, label_of.get(key), mask_of.get(key))
        for key, image in by_key.items()
    ]


def final_name(image: Path, name_from: NameFrom) -> str:
    """Return the file name under which an image is stored.

    Raises
    ------
    MicrographRefused
        ``E_PATH``: the name would be ambiguous or unsafe in the manifest.
    """
    name = image.name if name_from == "stem" else image.absolute().parent.name + image.suffix
    if _FORBIDDEN.search(name) or not name.isprintable() or name != name.strip():
        raise MicrographRefused(
            name,
            "E_PATH",
            "this name is not allowed: no ; : or backslash, no control character, no dot or space "
            "at its start; rename the file",
        )
    return name


def read_split_file(path: Path, part: str | None = None) -> dict[str, str]:
    """Read which image is on which side.

    Parameters
    ----------
    path : Path
        CSV with columns ``image`` and ``side`` (or ``split``), or JSON
        ``{"train": [names], "val": [names], ...}``, also several of these by name.
    part : str, optional
        Which of several.

    Returns
    -------
    dict of str to str
        Image name, as written in the file, to train, dev, test, gate or auto.

    Raises
    ------
    ManifestRefused
        ``E_MANIFEST``, or ``E_DUPLICATE`` for an image on two sides.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ManifestRefused(path.name, "E_TOO_LARGE", f"exceeds {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
        pairs = _json_pairs(path, text, part) if path.suffix == ".json" else _csv_pairs(path, text)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise ManifestRefused(path.name, "E_MANIFEST", f"cannot be read: {error}") from error
    sides: dict[str, str] = {}
    for image, word in pairs:
        side = SIDE_NAMES.get(word.strip().lower())
        if side is None:
            raise ManifestRefused(
                path.name,
                "E_MANIFEST",
                f"unknown side {word!r} of {image}; known are {', '.join(SIDE_NAMES)}",
            )
        if sides.setdefault(image, side) != side:
            raise ManifestRefused(
                path.name, "E_DUPLICATE", f"{image} is on two sides, {sides[image]} and {side}"
            )
    return sides


def listed(sources: Sequence[Source], sides: Mapping[str, str]) -> dict[str, str]:
    """Return the side of each image that a split file lists, by the image's final name.

    Entries match an image's name, its stem, or the name of the file that it comes from.

    Raises
    ------
    ManifestRefused
        ``E_IMAGE_MISSING``: a listed image is not among the sources.
    """
    names = {}
    for s in sources:
        for alias in (s.image.stem, s.image.name, s.stem, s.name):
            names[alias] = s.name
    found = {}
    for image, side in sides.items():
        if image not in names:
            raise ManifestRefused(
                "split file", "E_IMAGE_MISSING", f"no image {image!r} among those to import"
            )
        found[names[image]] = side
    return found


def chosen(option: str, words: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Read an option that holds for all or, written ``NAME=VALUE``, for some.

    Parameters
    ----------
    option : str
        Named in errors, for example ``--side``.
    words : sequence of str
        ``VALUE`` or ``PATTERN=VALUE``; later ones win. A pattern is a name, a stem, or one with
        ``*`` and ``?``.
    names : sequence of str

    Returns
    -------
    dict of str to str
        Name to value; names that nothing applies to are absent.

    Raises
    ------
    ManifestRefused
        ``E_MANIFEST``: a pattern that matches no name.
    """
    values: dict[str, str] = {}
    for word in words:
        pattern, equals, value = word.rpartition("=")
        hits = [
            n
            for n in names
            if not equals
            or fnmatch.fnmatchcase(n, pattern)
            or fnmatch.fnmatchcase(Path(n).stem, pattern)
        ]
        if equals and not hits:
            raise ManifestRefused(
                option, "E_MANIFEST", f"{pattern!r} matches none of {', '.join(names)}"
            )
        values.update(dict.fromkeys(hits, value))
    return values


def parse_thickness(text: str) -> tuple[float, float | None]:
    """Read a foil thickness with or without its standard uncertainty, in nm.

    Examples
    --------
    >>> parse_thickness("136+-10"), parse_thickness("136 ± 10"), parse_thickness("45")
    ((136.0, 10.0), (136.0, 10.0), (45.0, None))
    """
    value, plus_minus, sd = re.sub(r"\s*(\+/?-|±)\s*", "±", text.strip()).partition("±")
    try:
        numbers = number_or_none(value), number_or_none(sd)
    except ValueError as error:
        raise ManifestRefused("--thickness-nm", "E_MANIFEST", str(error)) from error
    if numbers[0] is None or numbers[0] <= 0 or (numbers[1] or 0) < 0 or (plus_minus and not sd):
        raise ManifestRefused(
            "--thickness-nm", "E_MANIFEST", f"{text!r} must be positive, as in 136 or 136+-10"
        )
    return numbers[0], numbers[1]


def parse_rectangle(text: str) -> tuple[str, Fractions]:
    """Read a rectangle of a side in fractions of height and width.

    Examples
    --------
    >>> parse_rectangle("train=0:0.5,0:1")
    ('train', (0.0, 0.5, 0.0, 1.0))
    """
    number = r"(\d*\.?\d+)"
    match = re.fullmatch(rf"(\w+)={number}:{number},{number}:{number}", text.replace(" ", ""))
    if not match:
        raise ManifestRefused(
            "--rectangle",
            "E_MANIFEST",
            f"{text!r} is not SIDE=TOP:BOTTOM,LEFT:RIGHT in fractions, as train=0:0.5,0:1",
        )
    top, bottom, left, right = (float(match[i]) for i in range(2, 6))
    return match[1], (top, bottom, left, right)


def parse_colour(text: str) -> tuple[str, tuple[int, int, int]]:
    """Read ``TYPE=R,G,B``.

    Examples
    --------
    >>> parse_colour("voids=255,0,0")
    ('voids', (255, 0, 0))
    """
    match = re.fullmatch(r"(\w+)=(\d{1,3}),(\d{1,3}),(\d{1,3})", text.replace(" ", ""))
    if not match or any(int(match[i]) > 255 for i in (2, 3, 4)):
        raise ManifestRefused(
            "--label-colour", "E_MANIFEST", f"{text!r} is not TYPE=R,G,B with 0 to 255"
        )
    return match[1], (int(match[2]), int(match[3]), int(match[4]))


def parse_index(text: str) -> tuple[str, int]:
    """Read ``TYPE=NUMBER``.

    Examples
    --------
    >>> parse_index("voids=2")
    ('voids', 2)
    """
    match = re.fullmatch(r"(\w+)=(\d{1,9})", text.replace(" ", ""))
    if not match:
        raise ManifestRefused("--label-index", "E_MANIFEST", f"{text!r} is not TYPE=NUMBER")
    return match[1], int(match[2])


def _by_image(
    files: Sequence[Path], images: Mapping[str, Path], name_from: NameFrom, what: str
) -> dict[str, Path]:
    """Return each image's file; a file goes with exactly one image."""
    found: dict[str, Path] = {}
    for file in files:
        key = _image_key(file, images, name_from)
        if key is None:
            raise LabelRefused(file, "E_IMAGE_MISSING", f"no image found for this {what}")
        if key in found:
            raise LabelRefused(
                file,
                "E_DUPLICATE",
                f"{images[key].name} has two {what}s, this and {found[key]}: ambiguous",
            )
        found[key] = file
    return found


def _image_key(file: Path, images: Mapping[str, Path], name_from: NameFrom) -> str | None:
    names = [file.absolute().parent.name if name_from == "parent" else file.stem]
    if name_from == "stem":
        names.append(_LABEL_ENDINGS.sub("", file.stem))
    # A suffix is added because the key drops one, and a stem may hold dots.
    keys = [same_name_key(name + ".x") for name in names]
    return next((k for k in keys if k in images), None)


def _json_pairs(path: Path, text: str, part: str | None) -> list[tuple[str, str]]:
    data = json.loads(text)
    if part is None and isinstance(data, dict) and all(isinstance(v, dict) for v in data.values()):
        raise ManifestRefused(
            path.name,
            "E_MANIFEST",
            f"holds several splits; say --split-name with one of {', '.join(data)}",
        )
    if part is not None:
        if not isinstance(data, dict) or part not in data:
            raise ManifestRefused(path.name, "E_MANIFEST", f"has no split named {part!r}")
        data = data[part]
    if not isinstance(data, dict) or not all(isinstance(v, list) for v in data.values()):
        raise ManifestRefused(
            path.name, "E_MANIFEST", 'must be a mapping of sides to lists, {"train": [...], ...}'
        )
    return [(str(name), str(side)) for side, names in data.items() for name in names]


def _csv_pairs(path: Path, text: str) -> list[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = reader.fieldnames or []
    side = next((c for c in ("side", "split") if c in columns), None)
    if "image" not in columns or side is None:
        raise ManifestRefused(path.name, "E_MANIFEST", "needs the columns image and side")
    return [((row["image"] or "").strip(), row[side] or "") for row in reader]
