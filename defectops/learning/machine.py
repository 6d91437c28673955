"""What this machine can do: device, precision, threads and memory for training and inference."""

from __future__ import annotations

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import torch

from defectops.errors import SettingsRefused

Precision = Literal["auto", "float32", "bfloat16"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def device() -> torch.device:
    """Return CUDA where there is some, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: Precision, on: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        ``auto`` takes bfloat16 where the hardware multiplies it natively: it has the range of
        float32, so no loss scaling is needed.
    on : torch.device

    Raises
    ------
    SettingsRefused
        Unknown precision.
    """
    if precision not in get_args(Precision):
        raise SettingsRefused(
            "precision",
            "E_CONFIG",
            f"must be one of {', '.join(get_args(Precision))}, got {precision!r}",
        )
    if precision == "float32" or (precision == "auto" and not _native_bfloat16(on)):
        return nullcontext()
    return torch.autocast(on.type, dtype=torch.bfloat16)


def torch_version() -> str:
    """Return the version of PyTorch; weights depend on it in the last bits."""
    return str(torch.__version__)


def settle(threads: int = 0) -> int:
    """Make this process deterministic and quick; call once, at the start of a command.

    Parameters
    ----------
    threads : int
        CPU threads; 0 takes every core this process may use. Results depend on it in the last
        bits, so it is recorded with every run.

    Returns
    -------
    int
        Number of threads in force.
    """
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    # As `use_deterministic_algorithms` with warnings, without importing the compiler (a second).
    torch.set_deterministic_debug_mode("warn")
    # That mode also fills every new tensor, which costs and changes nothing for us.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    return count


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory; without it up to half of a training goes to page faults.

    Returns
    -------
    bool
        False where there is no glibc; nothing is changed then.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def _native_bfloat16(on: torch.device) -> bool:
    if on.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _processor_has_bfloat16()


@cache
def _processor_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
