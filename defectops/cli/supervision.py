"""Runs long work in a child process, so that a stop never waits for a library that is busy.

Python hears Ctrl-C and SIGTERM between two of its own steps; a watershed of a large picture is one
step of many seconds. The parent only waits, so it hears them at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType

from defectops.errors import EnvironmentFault

OURS_ALONE = "ours_alone"
"""Key in the context's object: the process runs this command and nothing else."""

_PATIENCE_S = 3.0  # for a clean stop; a stop within 5 s is promised
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_STOPS = (signal.SIGINT, signal.SIGTERM)


def supervised(call: Callable[[], int]) -> int:
    """Run `call` in a child process; return in the child what it returns, end the parent with it.

    Call it before anything starts threads. Whatever the child is killed in the middle of must be
    written whole or not at all.

    Parameters
    ----------
    call : callable
        Returns the exit code.

    Returns
    -------
    int
        In the child only, where the caller goes on as if nothing had happened. Where a child cannot
        be tied to its parent (not Linux), there is none.

    Raises
    ------
    SystemExit
        In the parent, with the child's exit code; 143 if it had to be killed after SIGTERM.
    KeyboardInterrupt
        In the parent, if it had to kill the child after Ctrl-C.
    EnvironmentFault
        In the parent, if somebody else killed the child: the system does when memory is short.
    """
    prctl = _prctl()
    if prctl is None:
        return call()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
        return call()
    raise SystemExit(_outcome(child))


def _outcome(child: int) -> int:
    """Wait for the child, hand stops on to it, and return the exit code."""
    with _listening() as heard:
        asked = 0.0
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return _code(status, heard)
            if heard and not asked:
                asked = time.monotonic()
                os.kill(child, heard[0])
            elif asked and time.monotonic() - asked > _PATIENCE_S:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)


def _code(status: int, heard: list[int]) -> int:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if heard and heard[0] == signal.SIGINT:
        raise KeyboardInterrupt  # the rim says so; the child could not any more
    if heard:
        return 128 + heard[0]
    raise EnvironmentFault(
        "defectops",
        "E_MEMORY",
        f"killed by {signal.Signals(-code).name}, as the system does when memory is short; the "
        "same command goes on, with smaller images or on a larger machine",
    )


@contextlib.contextmanager
def _listening() -> Iterator[list[int]]:
    """Yield a list to which each stop adds its number."""
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = {number: signal.signal(number, note) for number in _STOPS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prctl() -> Callable[[int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        found: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return found
