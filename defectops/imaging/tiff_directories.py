"""What a TIFF file claims about itself, read entry by entry and checked against its size.

Decoders trust these claims: missing strips become zeros, a tag that counts to four billion becomes
an allocation. So the claims are read here first, with the structure alone, before any decoder
opens the file (TIFF 6.0 specification, Adobe 1992; BigTIFF as in libtiff 4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from defectops.errors import InputRefused, MicrographRefused

# Bytes of one value, and how numpy reads it, by TIFF type number.
_TYPES = {
    1: "u1",
    2: "u1",
    3: "u2",
    4: "u4",
    5: "u4",  # RATIONAL: two of them
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    10: "i4",  # SRATIONAL: two of them
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_RATIONAL, _SRATIONAL = 5, 10
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 65536


@dataclass(frozen=True)
class Entry:
    """One tag of a directory: its type, how many values, and where they lie in the file."""

    type: int
    count: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes that the values occupy."""
        return self.count * np.dtype(_TYPES[self.type]).itemsize * _words(self.type)


@dataclass(eq=False)
class TiffDirectories:
    """The chain of directories (pages) of one TIFF file.

    Parameters
    ----------
    stream : binary file
    size : int
        Bytes in the file.
    name : str
        Named in errors.
    refused : type
        Error class to raise.

    Raises
    ------
    InputRefused
        ``E_UNREADABLE``, ``E_TRUNCATED``, ``E_CORRUPT`` or ``E_MULTIPAGE``.
    """

    stream: BinaryIO
    size: int
    name: str
    refused: type[InputRefused] = MicrographRefused
    pages: list[dict[int, Entry]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        head = self._read(0, min(16, self.size))
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        if len(head) < (16 if self.big else 8):
            raise self._cut("the header is incomplete")
        layout, at = ("Q", 8) if self.big else ("I", 4)
        self._follow(struct.unpack_from(self.order + layout, head, at)[0])

    def values(self, page: int, tag: int) -> npt.NDArray[Any]:
        """Return the values of a tag: shape (count,), rationals as (count, 2); empty if absent."""
        entry = self.pages[page].get(tag)
        if entry is None:
            return np.zeros(0, np.int64)
        dtype = np.dtype(self.order + _TYPES[entry.type])
        found = np.frombuffer(self._read(entry.offset, entry.nbytes), dtype)
        found = found.astype(dtype.newbyteorder("="))
        return found.reshape(-1, 2) if _words(entry.type) == 2 else found

    def integers(self, page: int, tag: int) -> npt.NDArray[Any]:
        """Return the values of a tag that must hold integers, shape (count,).

        Raises
        ------
        InputRefused
            ``E_CORRUPT`` if it holds fractions or floats.
        """
        found = self.values(page, tag)
        if found.ndim != 1 or found.dtype.kind not in "ui":
            raise self.refused(self.name, "E_CORRUPT", f"corrupt: tag {tag} must hold integers")
        return found

    def number(self, page: int, tag: int, default: int) -> int:
        """Return the first value of an integer tag; `default` if the tag is absent."""
        found = self.integers(page, tag)
        return int(found[0]) if found.size else default

    def text(self, page: int, tag: int, limit: int) -> str:
        """Return a tag as text, empty if absent; refused beyond `limit` bytes."""
        entry = self.pages[page].get(tag)
        if entry is None:
            return ""
        if entry.nbytes > limit:
            raise self.refused(
                self.name,
                "E_METADATA",
                f"metadata too large: tag {tag} has {entry.nbytes} bytes, limit {limit}",
            )
        raw = self._read(entry.offset, entry.nbytes).split(b"\0", 1)[0]
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def _follow(self, offset: int) -> None:
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise self.refused(
                    self.name, "E_CORRUPT", "corrupt: the chain of pages runs in a loop"
                )
            if len(seen) == _MAX_DIRECTORIES:
                raise self.refused(
                    self.name, "E_MULTIPAGE", f"more than {_MAX_DIRECTORIES} pages, over the limit"
                )
            seen.add(offset)
            offset = self._directory(offset)
        if not self.pages:
            raise self.refused(self.name, "E_UNREADABLE", "not a usable TIFF file: it has no pages")

    def _directory(self, offset: int) -> int:
        """Read one directory, append it, return the offset of the next."""
        number, head, step, tail = ("Q", 8, 20, 8) if self.big else ("H", 2, 12, 4)
        where = "first page" if not self.pages else f"page {len(self.pages)}"
        if offset + head > self.size:
            raise self._cut(f"{where} lies beyond the end of the file")
        (count,) = struct.unpack(self.order + number, self._read(offset, head))
        if count > _MAX_ENTRIES:
            raise self.refused(
                self.name,
                "E_CORRUPT",
                f"corrupt: {count} tags in the {where}, limit {_MAX_ENTRIES}",
            )
        if offset + head + count * step + tail > self.size:
            raise self._cut(f"the tags of the {where} end beyond the end of the file")
        block = self._read(offset + head, count * step + tail)
        page: dict[int, Entry] = {}
        for i in range(count):
            self._entry(block[i * step : (i + 1) * step], offset + head + i * step, page)
        self.pages.append(page)
        return int(
            struct.unpack_from(self.order + ("Q" if self.big else "I"), block, count * step)[0]
        )

    def _entry(self, raw: bytes, position: int, page: dict[int, Entry]) -> None:
        layout, inline = ("HHQQ", 8) if self.big else ("HHII", 4)
        tag, kind, count, offset = struct.unpack(self.order + layout, raw)
        if kind not in _TYPES:  # the specification tells readers to skip unknown types
            return
        entry = Entry(kind, count, offset)
        if entry.nbytes <= inline:
            entry = Entry(kind, count, position + len(raw) - inline)
        elif offset + entry.nbytes > self.size:
            raise self._cut(
                f"tag {tag} claims {count} values up to byte {offset + entry.nbytes}, beyond the "
                f"end of the file at {self.size}"
            )
        if tag in page:
            raise self.refused(self.name, "E_CORRUPT", f"corrupt: tag {tag} is given twice")
        page[tag] = entry

    def _read(self, offset: int, count: int) -> bytes:
        self.stream.seek(offset)
        found = self.stream.read(count)
        if len(found) < count:
            raise self._cut(f"{count} bytes needed at {offset}, the file has {self.size}")
        return found

    def _cut(self, what: str) -> InputRefused:
        return self.refused(self.name, "E_TRUNCATED", f"truncated: {what}; copy the file again")


def _words(kind: int) -> int:
    return 2 if kind in (_RATIONAL, _SRATIONAL) else 1
