"""Unpack a zip or tar file into a new folder, confined: no member leaves it, no bomb goes off.

The standard library's own filters have known gaps (overlapping zip members are not noticed by
Python 3.11, python/cpython#110016), so every member is judged here before the first byte is
written, and counted again while it is written. Only ordinary files and folders come out.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from defectops.errors import ArchiveRefused, EnvironmentFault, one_line
from defectops.imaging.opening import opened

_COPY_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of name, length of extra
_HARMLESS_BYTES = 64 * 2**20  # below this no ratio does harm: empty masks shrink 1000-fold
_MAX_READ = 2**20 * 16
_ZIP_END_BYTES = 22 + 65535  # end record and the longest comment
_ZIP_ENTRY_BYTES = 1024
_MAX_PATH = 200
_MAX_DEPTH = 20


@dataclass(frozen=True)
class Limits:
    """What an archive may at most contain.

    Parameters
    ----------
    members : int
        Files and folders.
    nbytes : int
        Bytes after unpacking, all files together.
    ratio : int
        Unpacked bytes to bytes of the archive.
    """

    members: int = 20_000
    nbytes: int = 20 * 2**30
    ratio: int = 100


@dataclass(frozen=True)
class _Member:
    """An ordinary file in the archive: where it goes, how long it says it is, how to read it."""

    place: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, into: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack an archive into a folder that does not exist yet, whole or not at all.

    Parameters
    ----------
    archive : Path
        zip, tar, tar.gz, tar.bz2 or tar.xz, recognised by content.
    into : Path
        New folder, or an empty one; its parent is created if needed.
    limits : Limits, optional

    Returns
    -------
    list of Path
        The files written, in the order of their names. Empty for an archive of empty folders.

    Raises
    ------
    ArchiveRefused
        ``E_PATH`` (a member outside, absolute, or a link), ``E_TOO_LARGE``, ``E_DUPLICATE``,
        ``E_ARCHIVE`` (damaged, encrypted, devices), ``E_UNREADABLE``, ``E_IO``, ``E_EMPTY``.
        Nothing is left behind.
    EnvironmentFault
        The disk is full or read-only.
    """
    limits = limits or Limits()
    if into.is_symlink() or (into.exists() and not (into.is_dir() and not any(into.iterdir()))):
        raise ArchiveRefused(
            archive.name, "E_IO", f"the target directory {into} exists and is not empty"
        )
    with opened(archive, ArchiveRefused) as (stream, size), _damage(archive.name):
        members = _members(archive.name, stream, size, limits)
        places = _write_all(archive.name, members, into, _budget(size, limits))
    return [into / p for p in sorted(places)]


def is_archive(path: Path) -> bool:
    """Whether a name looks like an archive's."""
    return path.name.lower().endswith(
        (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
    )


def _members(name: str, stream: BinaryIO, size: int, limits: Limits) -> list[_Member]:
    head = stream.read(512)
    stream.seek(0)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        found = _zip_members(name, stream, size, limits)
    elif head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")) or head[257:262] == b"ustar":
        found = _tar_members(name, stream, size, limits)
    else:
        raise ArchiveRefused(
            name, "E_UNREADABLE", f"not a zip or tar archive (starts with {head[:8]!r})"
        )
    _refuse_collisions(name, found)
    return found


def _zip_members(name: str, stream: BinaryIO, size: int, limits: Limits) -> list[_Member]:
    _check_directory(name, stream, size, limits)
    archive = zipfile.ZipFile(stream)
    infos = archive.infolist()
    _check_totals(name, len(infos), sum(i.file_size for i in infos), size, limits)
    spans, members = [], []
    for info in infos:
        place = _place(name, info.orig_filename)
        if info.flag_bits & 0x1:
            raise ArchiveRefused(
                name,
                "E_ARCHIVE",
                f"member {_short(info.filename)} is encrypted; unpack it yourself",
            )
        _check_mode(name, info.filename, info.external_attr >> 16)
        spans.append((info.header_offset, _zip_end(stream, info), info.filename))
        if not info.is_dir():
            members.append(_Member(place, info.file_size, _zip_opener(archive, info)))
    _refuse_overlap(name, spans, archive.start_dir)
    return members


def _check_directory(name: str, stream: BinaryIO, size: int, limits: Limits) -> None:
    """Refuse a zip whose list of members alone would fill the memory."""
    stream.seek(max(0, size - _ZIP_END_BYTES))
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + 16 > len(tail):
        raise zipfile.BadZipFile("no central directory at its end")
    (listed,) = struct.unpack_from("<I", tail, at + 12)
    if min(listed, size) > limits.members * _ZIP_ENTRY_BYTES:
        raise ArchiveRefused(
            name, "E_TOO_LARGE", f"a list of members of {listed} bytes is over the limit"
        )


def _zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _zip_end(stream: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where the data of a member end, from its local header."""
    stream.seek(info.header_offset)
    raw = stream.read(_LOCAL_HEADER.size)
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(raw)
    if signature != b"PK\3\4":
        raise zipfile.BadZipFile(f"no local header for {info.filename!r}")
    start = info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    return int(start + info.compress_size)


def _refuse_overlap(name: str, spans: list[tuple[int, int, str]], directory: int) -> None:
    """Refuse members that share bytes: the trick of the bomb without compression ratio."""
    end = 0
    for start, stop, member in sorted(spans):
        if start < end or stop > directory:
            raise ArchiveRefused(
                name, "E_ARCHIVE", f"corrupt archive: member {_short(member)} overlaps another"
            )
        end = stop


def _tar_members(name: str, stream: BinaryIO, size: int, limits: Limits) -> list[_Member]:
    reader = _Bounded(name, _decompressed(stream), _budget(size, limits))
    archive = tarfile.TarFile(fileobj=cast("BinaryIO", reader))
    infos: list[tarfile.TarInfo] = []
    total = 0
    # One by one: a compressed bomb is noticed by the size in a header before it is passed over.
    for info in archive:
        infos.append(info)
        total += info.size
        _check_totals(name, len(infos), total, size, limits)
    for info in infos:
        _check_tar_member(name, info)
    # The first pass is over; the second, which copies, has a budget of its own.
    reader.budget += _budget(size, limits)
    return [
        _Member(_place(name, i.name), i.size, _tar_opener(archive, i)) for i in infos if i.isreg()
    ]


def _check_tar_member(name: str, info: tarfile.TarInfo) -> None:
    _place(name, info.name)
    if info.issym() or info.islnk():
        raise ArchiveRefused(
            name,
            "E_PATH",
            f"member {_short(info.name)} is a link to {_short(info.linkname)}; links may lead "
            "outside and are not allowed",
        )
    if not (info.isreg() or info.isdir()) or info.size < 0:
        raise ArchiveRefused(
            name,
            "E_ARCHIVE",
            f"member {_short(info.name)} is a special file (device or pipe); only regular files "
            "are unpacked",
        )


def _decompressed(stream: BinaryIO) -> IO[bytes]:
    head = stream.read(8)
    stream.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    return lzma.LZMAFile(stream) if head.startswith(b"\xfd7zXZ\0") else stream


class _Bounded:
    """A stream that tarfile may read only so much of: no giant header, no endless loop."""

    def __init__(self, name: str, stream: IO[bytes], budget: int) -> None:
        self.name, self.stream, self.budget = name, stream, budget

    def read(self, count: int = -1) -> bytes:
        if count < 0 or count > _MAX_READ:
            raise ArchiveRefused(
                self.name, "E_TOO_LARGE", f"a header of {count} bytes exceeds the limit {_MAX_READ}"
            )
        self.budget -= count
        if self.budget < 0:
            raise ArchiveRefused(
                self.name, "E_TOO_LARGE", "unpacks to more than the limit: a decompression bomb?"
            )
        return self.stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def _tar_opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_member() -> IO[bytes]:
        found = archive.extractfile(info)
        if found is None:
            raise tarfile.ReadError(f"member {info.name!r} has no data")
        return found

    return open_member


def _budget(stored: int, limits: Limits) -> int:
    """Bytes that an archive may unpack to."""
    return min(limits.nbytes, max(_HARMLESS_BYTES, limits.ratio * stored))


def _check_totals(name: str, members: int, total: int, stored: int, limits: Limits) -> None:
    """Refuse by count, bytes and ratio, as the archive's own headers have them."""
    if members > limits.members:
        raise ArchiveRefused(
            name, "E_TOO_LARGE", f"more than {limits.members} members, over the limit"
        )
    if total > _budget(stored, limits):
        raise ArchiveRefused(
            name,
            "E_TOO_LARGE",
            f"{total / 2**30:.3g} GiB after unpacking (ratio {total // stored}:1), over the limit "
            f"of {limits.nbytes / 2**30:.3g} GiB and {limits.ratio}:1: a decompression bomb?",
        )


def _place(name: str, member: str) -> PurePosixPath:
    """Return where a member goes, or refuse a name that could leave the folder."""
    shown = _short(member)
    parts = member.rstrip("/").split("/")
    if not member.isprintable() or "\\" in member or any(0xD800 <= ord(c) < 0xE000 for c in member):
        raise ArchiveRefused(
            name, "E_PATH", f"member {shown} has control characters or a backslash: not allowed"
        )
    if member.startswith("/") or (len(member) > 1 and member[1] == ":"):
        raise ArchiveRefused(
            name, "E_PATH", f"member {shown} is absolute: it lies outside the target folder"
        )
    if ".." in parts:
        raise ArchiveRefused(name, "E_PATH", f"member {shown} lies outside the target folder")
    kept = [p for p in parts if p not in ("", ".")]
    if (
        len(kept) > _MAX_DEPTH
        or len(member.encode()) > _MAX_PATH * 5
        or any(len(p.encode()) > _MAX_PATH for p in kept)
    ):
        raise ArchiveRefused(
            name, "E_PATH", f"member {shown} has too long or too deep a path: not allowed"
        )
    return PurePosixPath(*kept)


def _check_mode(name: str, member: str, mode: int) -> None:
    """Refuse links and special files in a zip made on Unix (mode 0 elsewhere)."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise ArchiveRefused(
            name, "E_PATH", f"member {_short(member)} is a symbolic link; not allowed"
        )
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveRefused(
            name, "E_ARCHIVE", f"member {_short(member)} is a special file (device or pipe)"
        )


def _refuse_collisions(name: str, members: list[_Member]) -> None:
    """Refuse members that are one file on some file system, and a file that is also a folder."""
    files: dict[str, PurePosixPath] = {}
    for member in members:
        key = unicodedata.normalize("NFC", str(member.place)).casefold()
        if key in files or key == ".":
            raise ArchiveRefused(
                name,
                "E_DUPLICATE",
                f"members {_short(str(files.get(key, '.')))} and {_short(str(member.place))} have "
                "the same name (capitals aside): one would overwrite the other",
            )
        files[key] = member.place
    for key in files:
        for parent in PurePosixPath(key).parents:
            if str(parent) in files:
                raise ArchiveRefused(
                    name, "E_DUPLICATE", f"member {_short(key)} collides with a file on its path"
                )


def _write_all(name: str, members: list[_Member], into: Path, budget: int) -> list[PurePosixPath]:
    """Write into a temporary folder beside the target, then rename."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=into.parent) as scratch:
            folder = Path(scratch) / "content"
            folder.mkdir()
            for member in members:
                budget -= _write(name, member, folder / member.place, budget)
            if into.exists():
                into.rmdir()  # empty, as checked
            folder.rename(into)
    except OSError as error:
        if error.filename is None and error.errno is None:  # a codec's complaint, not the disk's
            raise
        raise EnvironmentFault(into, "E_IO", f"cannot unpack here: {error.strerror}") from error
    return [m.place for m in members]


def _write(name: str, member: _Member, path: Path, budget: int) -> int:
    """Copy one member, never more than it claimed; return its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open() as source, path.open("xb") as target:
        while block := source.read(_COPY_BYTES):
            written += len(block)
            if written > min(member.size, budget):
                raise ArchiveRefused(
                    name,
                    "E_TOO_LARGE",
                    f"member {_short(str(member.place))} exceeds the {member.size} bytes it claims",
                )
            target.write(block)
    if written < member.size:
        raise ArchiveRefused(
            name,
            "E_TRUNCATED",
            f"truncated archive: member {_short(str(member.place))} has {written} of "
            f"{member.size} bytes",
        )
    return written


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turn what the decoders raise on damaged archives into one error."""
    try:
        yield
    except (ArchiveRefused, EnvironmentFault, MemoryError):
        raise
    except Exception as error:
        # zipfile, tarfile, zlib, lzma and struct raise many classes for the same thing.
        raise ArchiveRefused(
            name,
            "E_ARCHIVE",
            f"damaged or truncated archive ({type(error).__name__}: {str(error)[:120]}); copy it "
            "again",
        ) from error


def _short(member: str) -> str:
    return repr(one_line(member)[:80])
