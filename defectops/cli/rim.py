"""The rim of every command: whatever goes wrong inside ends as one line and an exit code here."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer

from defectops.errors import DefectopsError, one_line

# PyTorch's threads spin while they wait for one another: beside another busy process a step then
# takes many times as long. Set here, since OpenMP looks but once, when PyTorch is loaded, and
# every command and stage loads this module first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

LOG = Path(".defectops/log")
BUG, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 1, 2, 4, 130, 143

# What the machine does to us, as against what we did wrong.
_ENVIRONMENT = {
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
}


def guarded(call: Callable[[], object], debug: bool = False) -> int:
    """Run `call` and return the exit code; an error becomes one line on stderr.

    Parameters
    ----------
    call : callable
        What the command does; an int that it returns is the exit code, anything else is 0.
    debug : bool
        Also print the traceback of whatever went wrong.

    Returns
    -------
    int
        See ``docs/reference/exit-codes.md``.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if not debug:
        # A library's warning on stderr would stand beside our one line.
        warnings.simplefilter("ignore")
    try:
        code = call()
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else BUG
    except BaseException as error:
        if debug:
            traceback.print_exc()
        return _report(error)
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code before we see it
        return _report(KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def _terminate(number: int, frame: object) -> NoReturn:
    # As an exception, so that every `finally` on the way out runs.
    raise SystemExit(TERMINATED)


def _report(error: BaseException) -> int:
    code, line = _verdict(error)
    sys.stderr.write(line + "\n")
    return code


def _verdict(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the one line of an error."""
    if isinstance(error, DefectopsError):
        return error.exit_code, str(error)
    if isinstance(error, typer.TyperException):
        return USAGE, _usage(error)
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return (
            INTERRUPTED,
            "defectops: E_INTERRUPTED: stopped by Ctrl-C; run the same command again",
        )
    if isinstance(error, MemoryError):
        return ENVIRONMENT, "defectops: E_MEMORY: not enough memory; use smaller images or windows"
    if machine_fails(error) and isinstance(error, OSError):
        return ENVIRONMENT, one_line(
            f"{error.filename or 'defectops'}: E_IO: {error.strerror}; mend it and run again"
        )
    return BUG, f"defectops: E_BUG: {as_bug(error)}"


def machine_fails(error: BaseException) -> bool:
    """Say whether an error is the disk's or the system's: the next file would meet it too."""
    return isinstance(error, OSError) and error.errno in _ENVIRONMENT


def as_bug(error: BaseException) -> str:
    """Write the traceback of a bug to the log; return the sentence that names it."""
    said = f"{type(error).__name__}: {str(error)[:200]}"
    return one_line(f"{said}; a bug of ours, please report it with {_log(error)}")


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "defectops"
    return one_line(f"{command}: E_USAGE: {error.format_message()} (see {command} --help)")


def _log(error: BaseException) -> str:
    """Write the traceback to a file of its own and return where it is."""
    text = "".join(traceback.format_exception(error))
    for folder in (LOG, Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(".txt", "traceback-", folder, text=True)
        except OSError:
            continue
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        return name
    return "--debug (no place to write a log)"
