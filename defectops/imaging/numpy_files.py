"""One array from a .npy file: never a pickle, never more than the file holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from defectops.imaging.raster import Claim, Raster

if TYPE_CHECKING:
    from defectops.errors import InputRefused
    from defectops.micrograph import Array

NPY_MAGIC = b"\x93NUMPY"


def read_npy(stream: BinaryIO, name: str, max_pixels: int, refused: type[InputRefused]) -> Raster:
    """Read a plane, or a plane with channels last, from a .npy file.

    Raises
    ------
    InputRefused
        ``E_DTYPE`` (objects, structures, text, complex numbers), ``E_TRUNCATED``, ``E_CORRUPT``,
        ``E_MULTIPAGE``, ``E_TOO_LARGE``.
    """
    shape, fortran, dtype = _header(stream, name, refused)
    if dtype.hasobject:
        raise refused(
            name,
            "E_DTYPE",
            "dtype object: an array of pickled Python objects is not allowed; save numbers",
        )
    if dtype.kind not in "buif" or dtype.shape:
        raise refused(name, "E_DTYPE", f"dtype {dtype} is unsupported; real numbers are needed")
    if len(shape) not in (2, 3) or (len(shape) == 3 and not 1 <= shape[2] <= 4):
        raise refused(
            name, "E_MULTIPAGE", f"shape {shape} is no single plane (H, W); save one page of it"
        )
    rows, columns, samples = (*shape, 1)[:3]
    needed = math.prod(shape) * dtype.itemsize
    # The limit on size first; what is stored is plain, so the ratio says nothing here.
    Claim(rows, columns, samples, 8 * dtype.itemsize, max(needed, 1)).check(
        name, refused, max_pixels
    )
    raw = stream.read(needed)
    if len(raw) < needed:
        raise refused(
            name,
            "E_TRUNCATED",
            f"truncated: shape {shape} of {dtype} needs {needed} bytes, the file has {len(raw)}",
        )
    found: Array = np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
    if found.ndim == 3 and found.shape[2] == 1:
        found = found[..., 0]
    native = np.ascontiguousarray(found.astype(dtype.newbyteorder("="), copy=False))
    return Raster(native, "NPY", "grey" if native.ndim == 2 else "rgb")


def _header(
    stream: BinaryIO, name: str, refused: type[InputRefused]
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(stream)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, fortran, dtype = reader(stream)
    except KeyError as error:
        raise refused(
            name, "E_UNREADABLE", f"not a readable .npy file: version {error}; 1.0 and 2.0 are"
        ) from error
    except Exception as error:
        # The header is parsed as Python literals: many classes, one meaning.
        raise refused(
            name, "E_CORRUPT", f"corrupt or truncated .npy header ({str(error)[:120]})"
        ) from error
    if any(n < 0 for n in shape):
        raise refused(name, "E_CORRUPT", f"corrupt .npy header: invalid shape {shape}")
    return shape, fortran, dtype
