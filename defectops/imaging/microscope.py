"""DM3, DM4, EMD and MRC through RosettaSciIO, where the user has installed it.

RosettaSciIO is under GPL-3; defectops is not, and neither installs nor ships it. The extra
``microscope`` brings it in.
"""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from defectops.errors import InputRefused, MicrographRefused
from defectops.imaging.calibration import Evidence, lengths, nm_per
from defectops.imaging.raster import Claim, Raster

READERS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".mrc": "mrc",
    ".mrcz": "mrcz",
}


def read_microscope(
    path: Path,
    head: bytes,
    size: int,
    page: int | None,
    max_pixels: int,
) -> Raster:
    """Read a microscope's own format.

    Parameters
    ----------
    path : Path
        A regular file whose suffix is in `READERS`.
    head : bytes
        Its first bytes.
    size : int
        Its length in bytes.
    page : int or None
        Which picture or plane, from 0; None takes the only one.
    max_pixels : int

    Raises
    ------
    MicrographRefused
        ``E_UNREADABLE`` without the extra, ``E_TRUNCATED``, ``E_CORRUPT``, ``E_MULTIPAGE``,
        ``E_TOO_LARGE``.
    CalibrationRefused
    """
    form = path.suffix[1:].upper()
    _check_dm_length(path.name, head, size)
    try:
        reader = importlib.import_module(f"rsciio.{READERS[path.suffix.lower()]}")
    except ImportError as error:
        raise MicrographRefused(
            path.name,
            "E_UNREADABLE",
            f"{form} files are unsupported without an extra: pip install 'defectops[microscope]', "
            "or export the picture as TIFF",
        ) from error
    try:
        # Lazy: shapes first, so that a claim is checked before it is allocated.
        signals = reader.file_reader(str(path), lazy=True)
        signal = _choose(path.name, signals, page)
        data = signal["data"]
        _check(path.name, data.shape, data.dtype, size, max_pixels)
        pixels = np.asarray(data.compute() if hasattr(data, "compute") else data)
    except (InputRefused, MemoryError):
        raise
    except Exception as error:
        raise MicrographRefused(
            path.name,
            "E_CORRUPT",
            f"corrupt or truncated {form} file ({type(error).__name__}: {str(error)[:120]})",
        ) from error
    return Raster(pixels, form, evidence=_evidence(path.name, signal["axes"]))


def _check_dm_length(name: str, head: bytes, size: int) -> None:
    """Compare the length in a DM3 or DM4 header with the file (the reader does not)."""
    if not name.lower().endswith((".dm3", ".dm4")) or len(head) < 16:
        return
    version, length = struct.unpack_from(">I", head)[0], 0
    if version == 3:
        length = struct.unpack_from(">I", head, 4)[0] + 12
    elif version == 4:
        length = struct.unpack_from(">Q", head, 4)[0] + 16
    else:
        raise MicrographRefused(
            name, "E_UNREADABLE", f"not a DM3 or DM4 file (version {version} in its header)"
        )
    if length > size:
        raise MicrographRefused(
            name, "E_TRUNCATED", f"truncated: the header says {length} bytes, the file has {size}"
        )


def _choose(name: str, signals: list[dict[str, Any]], page: int | None) -> dict[str, Any]:
    if page is None and len(signals) != 1:
        raise MicrographRefused(
            name, "E_MULTIPAGE", f"{len(signals)} pictures; one is needed: choose with --page"
        )
    if page is not None and not 0 <= page < len(signals):
        raise MicrographRefused(
            name, "E_MULTIPAGE", f"page {page} does not exist; pages 0 to {len(signals) - 1}"
        )
    return signals[page or 0]


def _check(
    name: str, shape: tuple[int, ...], dtype: np.dtype[Any], size: int, max_pixels: int
) -> None:
    if len(shape) != 2:
        raise MicrographRefused(
            name, "E_MULTIPAGE", f"shape {shape} is a stack or spectrum; export one plane as TIFF"
        )
    rows, columns = shape
    Claim(rows, columns, 1, 8 * dtype.itemsize, size).check(name, MicrographRefused, max_pixels)


def _evidence(name: str, axes: list[dict[str, Any]]) -> Evidence:
    """Pixel size from the two axes, rows first."""
    nm = []
    for axis in axes[-2:]:
        unit = nm_per(str(axis.get("units") or ""), name)
        if unit is None:
            return Evidence()
        nm.append(float(axis["scale"]) * unit)
    return lengths(name, nm[-1], nm[0], "the file's axes")
