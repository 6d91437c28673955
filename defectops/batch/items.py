"""Which files a batch is made of, what each is called in the tables, and what each reads."""

from __future__ import annotations

import glob
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from defectops.errors import MicrographRefused, one_line
from defectops.imaging.opening import opened

_PATTERN = "*?["
_STEM_BYTES = 150  # names of files end at 255 bytes, and a type and a suffix follow
_MAX_BYTES = 6 * 2**30  # as much as a reader takes; it says why it refuses more
_BLOCK_BYTES = 2**20
_ABSENT = "absent"


@dataclass(frozen=True)
class Item:
    """One micrograph of a batch.

    Parameters
    ----------
    path : Path
    name : str
        In the tables: the file's name, with as many of its folders as tell it from the others;
        on one line.
    stem : str
        Of the files written for it; different for each item, also where case does not count.
    beside : tuple of Path
        Further files that decide about its result, there or not: a sidecar, masks.
    given : mapping
        What is said of it alone, for example in a manifest; plain values.
    """

    path: Path
    name: str
    stem: str
    beside: tuple[Path, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the item is, apart from the content of its files: 16 hexadecimal digits."""
        return digest_of([self.name, self.stem, [p.name for p in self.beside], self.given])

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the item reads, by role.

        Raises
        ------
        MicrographRefused
            The picture is no ordinary file, or empty.
        """
        found = {"image": _sha256(self.path)}
        for number, path in enumerate(self.beside, 1):
            there = path.exists() or path.is_symlink()
            found[f"beside_{number}"] = _sha256(path) if there else _ABSENT
        return found


def digest_of(plain: object) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of plain values, whatever the order of keys."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_items(places: Iterable[str], suffixes: Sequence[str], out: Path) -> list[Item]:
    """List the micrographs that folders, files and patterns stand for.

    Parameters
    ----------
    places : iterable of str
        A folder stands for all that lies directly in it with one of the suffixes and without a
        dot in front, be it a file or not: what is no picture is refused later, by name. A pattern
        stands for what it matches, ``**`` for any folders. Anything else is one file, there or
        not.
    suffixes : sequence of str
        Lower case, with the dot.
    out : Path
        Where results go; what lies there is never taken for a micrograph.

    Returns
    -------
    list of Item
        Sorted by name, each file once.

    Raises
    ------
    MicrographRefused
        ``E_IO``: a folder or pattern that stands for nothing.
    """
    found: dict[str, Path] = {}
    results = out.resolve()
    for place in places:
        own = [p for p in _files(place, suffixes) if not _inside(p, results)]
        if not own:
            what = "a directory without micrographs" if Path(place).is_dir() else "matches none"
            raise MicrographRefused(
                place, "E_IO", f"{what}; give a folder of them, a file or a quoted pattern"
            )
        # The parent is resolved, the file is not: a link to a file goes by its own name.
        found.update({str(_parent(p) / p.name): p for p in own})
    return named([Path(p) for p in found], list(found.values()))


def named(places: Sequence[Path], paths: Sequence[Path]) -> list[Item]:
    """Return items with names that differ.

    Parameters
    ----------
    places : sequence of Path
        Absolute; decide about names and order.
    paths : sequence of Path
        The same files as the user wrote them.
    """
    names = _different(places)
    rows = sorted(zip(names, paths, strict=True), key=lambda row: (row[0], str(row[1])))
    plain = [_plain_stem(name) for name, _ in rows]
    seen = Counter(_folded(stem) for stem in plain)
    items = []
    for (name, path), stem in zip(rows, plain, strict=True):
        alone = seen[_folded(stem)] == 1 and stem == Path(name).stem
        unique = stem if alone else f"{stem}-{digest_of(name)[:8]}"
        items.append(Item(path, name, unique))
    return items


def with_sidecars(items: Iterable[Item]) -> list[Item]:
    """Return items that read ``<stem>.json`` beside the picture."""
    return [replace(i, beside=(*i.beside, i.path.with_suffix(".json"))) for i in items]


def _files(place: str, suffixes: Sequence[str]) -> Iterator[Path]:
    here = Path(place)
    if here.is_dir():
        inside = here.iterdir()
        yield from (p for p in inside if p.suffix.lower() in suffixes and p.name[0] != ".")
    elif any(c in place for c in _PATTERN) and not here.is_symlink() and not here.exists():
        matches = glob.glob(place, recursive=True)  # noqa: PTH207 - patterns may be absolute
        yield from (p for p in map(Path, matches) if not p.is_dir())
    else:
        yield here


def _parent(path: Path) -> Path:
    try:
        return path.parent.resolve()
    except (OSError, RuntimeError):  # a loop on the way
        return path.parent.absolute()


def _inside(path: Path, folder: Path) -> bool:
    return folder in (_parent(path), *_parent(path).parents)


def _different(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell them apart, on one line each."""
    parts = [[one_line(part) for part in p.parts] for p in places]
    depth = [1] * len(parts)
    while True:
        names = ["/".join(p[-d:]) for p, d in zip(parts, depth, strict=True)]
        seen = Counter(names)
        short = [i for i, n in enumerate(names) if seen[n] > 1 and depth[i] < len(parts[i])]
        if not short:
            return names
        for i in short:
            depth[i] += 1


def _plain_stem(name: str) -> str:
    """Return the stem of a name as it can stand in any file system."""
    stem = Path(name).stem
    safe = "".join("_" if c in '\\/:*?"<>|' else c for c in stem).strip(" .") or "image"
    while len(safe.encode()) > _STEM_BYTES:
        safe = safe[:-1]
    return safe


def _folded(stem: str) -> str:
    """Return what two names share if some file system cannot tell them apart."""
    return unicodedata.normalize("NFC", stem).casefold()


def _sha256(path: Path) -> str:
    with opened(path, MicrographRefused) as (stream, size):
        if size > _MAX_BYTES:
            return f"{size} bytes"
        total = hashlib.sha256()
        while block := stream.read(_BLOCK_BYTES):
            total.update(block)
        return total.hexdigest()
