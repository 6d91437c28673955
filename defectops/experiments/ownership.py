"""Which process owns a run, and whether that process is still alive.

A process id alone does not say it: ids are used again, and process 1 of two containers is not the
same process (treeverse/dvc#3370). The owner is host, boot, process namespace, id and start time.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Life = Literal["alive", "gone", "elsewhere"]

_PREFIX = "owner."
_PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process, told from every other one.

    Parameters
    ----------
    host : str
        Name of the machine, with a digest of its machine id where there is one.
    boot : str
        Id of this start of the machine; empty where the system does not tell.
    namespace : str
        Process namespace (a container has its own); empty where there is none.
    pid : str
        Process id in that namespace.
    started : str
        Start of the process in clock ticks since the boot; empty where unknown.
    """

    host: str
    boot: str
    namespace: str
    pid: str
    started: str

    def tags(self) -> dict[str, str]:
        """Return the owner as tags of a run."""
        return {_PREFIX + key: value for key, value in asdict(self).items()}


def this_process() -> Owner:
    """Return the owner that this process is."""
    pid = str(os.getpid())
    return Owner(_host(), _boot(), _namespace(), pid, started(pid) or "")


def owner_of(tags: Mapping[str, str]) -> Owner | None:
    """Return the owner written in a run's tags, None if they do not name one."""
    keys = ("host", "boot", "namespace", "pid", "started")
    found = {key: tags.get(_PREFIX + key, "") for key in keys}
    return Owner(**found) if found["host"] and found["pid"].isdigit() else None


def life(owner: Owner, here: Owner) -> Life:
    """Say whether an owner still lives, as far as can be seen from the process `here`.

    Returns
    -------
    {"alive", "gone", "elsewhere"}
        ``elsewhere``: on another host or in another container; cannot be seen from here.
    """
    if owner.host != here.host:
        return "elsewhere"
    if owner.boot != here.boot:
        return "gone"
    if owner.namespace != here.namespace:
        return "elsewhere"
    start = started(owner.pid)
    if start is None:
        return "gone"
    return "alive" if owner.started in {"", start} else "gone"


def started(pid: str) -> str | None:
    """Return when a process started, ``""`` if it lives but nobody tells, None if it is gone.

    A zombie is gone: it has ended and only waits for its parent to notice.
    """
    if (_PROC / "self" / "stat").exists():
        return _started_on_linux(pid)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""
    return ""


def _started_on_linux(pid: str) -> str | None:
    try:
        text = (_PROC / pid / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may itself hold blanks and parentheses; state is field 3, start 22.
    rest = text.rpartition(")")[2].split()
    return None if rest[0] in {"Z", "X"} else rest[19]


def _host() -> str:
    name = socket.gethostname()
    machine = _text(Path("/etc/machine-id"))
    if not machine:
        return name
    return f"{name}-{hashlib.sha256(machine.encode()).hexdigest()[:12]}"


def _boot() -> str:
    return _text(_PROC / "sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
