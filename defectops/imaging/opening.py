"""Open a foreign file only when it is an ordinary file with something in it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from defectops.errors import InputRefused

_KINDS = (
    (stat.S_ISDIR, "is a directory, not a file"),
    (stat.S_ISFIFO, "not a regular file (a named pipe)"),
    (stat.S_ISSOCK, "not a regular file (a socket)"),
    (stat.S_ISBLK, "not a regular file (a device)"),
    (stat.S_ISCHR, "not a regular file (a device)"),
)
_REASONS = {
    errno.ELOOP: "symbolic link loop; not a regular file",
    errno.ENOENT: "no such file (or a symbolic link to nowhere)",
    errno.ENOTDIR: "no such file: a part of its path is not a directory",
    errno.EACCES: "permission denied; make the file readable",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def opened(path: Path, refused: type[InputRefused]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular, non-empty file for reading; never blocks on a pipe or device.

    Parameters
    ----------
    path : Path
        Symbolic links to ordinary files are followed.
    refused : type
        Error class to raise, for example `MicrographRefused`.

    Yields
    ------
    (stream, size)
        Binary stream at its start, and the size in bytes (at least 1).

    Raises
    ------
    InputRefused
        Of class `refused`: ``E_IO`` or ``E_EMPTY``.
    """
    name = path.name or str(path)
    with _regular(path, name, refused) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise refused(name, "E_EMPTY", "file is empty (0 bytes); copy it again from its source")
        yield stream, size


def _regular(path: Path, name: str, refused: type[InputRefused]) -> BinaryIO:
    try:
        # Looked at before it is opened (a tape rewinds on open), and again afterwards.
        _refuse_special(path.stat().st_mode, name, refused)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or "cannot be opened")
        raise refused(name, "E_IO", reason) from error
    except ValueError as error:  # a NUL character in the name
        raise refused(name, "E_IO", "the name holds a NUL character: no such file") from error
    stream = os.fdopen(handle, "rb")
    try:
        _refuse_special(os.fstat(handle).st_mode, name, refused)
    except InputRefused:
        stream.close()
        raise
    return stream


def _refuse_special(mode: int, name: str, refused: type[InputRefused]) -> None:
    for is_kind, reason in _KINDS:
        if is_kind(mode):
            raise refused(name, "E_IO", reason)
