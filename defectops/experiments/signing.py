"""Who does something here, and when: what journal and ledger write down."""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime


def who() -> str:
    """Return this user and machine, such as ``ada@lab``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a numeric user in a container has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """Return this second in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
