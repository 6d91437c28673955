"""Write a file whole or not at all: temporary file beside it, fsync, rename."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from defectops.errors import EnvironmentFault

_NO_ROOM = (28, 30, 122)  # ENOSPC, EROFS, EDQUOT


class replacing:
    """Hand out a temporary file that takes the place of `path` when the block ends well.

    Examples
    --------
    >>> from pathlib import Path; import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=self.path.parent, prefix=f".{self.path.name[:80]}.", suffix=".tmp"
            )
            os.close(handle)
        except OSError as error:
            raise EnvironmentFault(
                self.path, "E_IO", f"cannot write here: {error.strerror}"
            ) from error
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._commit()
        except OSError as fault:
            raise EnvironmentFault(
                self.path, "E_IO", f"cannot write: {fault.strerror}; the old file is untouched"
            ) from fault
        finally:
            self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise EnvironmentFault(
                self.path, "E_IO", f"cannot write: {error.strerror}; the old file is untouched"
            ) from error

    def _commit(self) -> None:
        umask = os.umask(0)
        os.umask(umask)
        self.temporary.chmod(0o666 & ~umask)
        _fsync(self.temporary)
        self.temporary.replace(self.path)
        _fsync(self.path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
