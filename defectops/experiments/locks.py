"""One process at a time: advisory locks that go with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import glob
from collections.abc import Iterator
from pathlib import Path

from defectops.errors import EnvironmentFault


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock; it goes with the process, so a killed holder blocks nobody."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError as error:
        raise EnvironmentFault(path, "E_IO", f"cannot lock here: {error.strerror}") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def sweep(target: Path) -> None:
    """Delete what killed processes left of `target`'s temporary files; hold its lock."""
    for stray in target.parent.glob(f".{glob.escape(target.name)}.*.tmp*"):
        stray.unlink(missing_ok=True)
