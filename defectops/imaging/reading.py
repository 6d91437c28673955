"""Microscope file to calibrated micrograph, label file to mask: the only door for foreign files.

Formats are recognised by their content, not by their name. Whatever a file claims is checked
before anything is allocated or decoded; nothing is converted or guessed silently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from defectops.errors import InputRefused, LabelRefused, MicrographRefused
from defectops.imaging.calibration import (
    Evidence,
    Sidecar,
    option_statement,
    read_sidecar,
    settle,
)
from defectops.imaging.microscope import READERS, read_microscope
from defectops.imaging.numpy_files import NPY_MAGIC, read_npy
from defectops.imaging.opening import opened
from defectops.imaging.png_jpeg import JPEG_MAGIC, PNG_MAGIC, read_jpeg, read_png
from defectops.imaging.raster import MAX_PIXELS, Raster
from defectops.imaging.tiff import read_tiff
from defectops.micrograph import Array, Micrograph

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy", *READERS)
"""Names that a folder of pictures is searched for."""

MIN_SIDE_PX = 32
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAX_BYTES = 6 * 2**30
_SATURATED_FRACTION = 0.02
_BLOCK_ROWS = 512  # rows looked at in one go, so that checks need little memory


def read_micrograph(
    path: Path,
    *,
    page: int | None = None,
    max_pixels: int = MAX_PIXELS,
    pixel_size_nm: float | None = None,
    uncalibrated: bool = False,
    sidecar: bool = True,
) -> Micrograph:
    """Read one micrograph with its pixel size and where that comes from.

    Formats: TIFF and BigTIFF (plain, tiled, ImageJ, OME; 8, 16, 32 bit, floats also 64; none, LZW,
    deflate, PackBits, LZMA, zstd), PNG, JPEG with a warning, ``.npy``; DM3, DM4, EMD and MRC with
    the extra ``microscope``. RGB with equal channels is grey. White-is-zero pictures are inverted,
    with a warning. Integers keep their dtype; 16- and 64-bit floats become float32.

    The pixel size is settled by the rules of `calibration.settle`: tags of the file, sidecar
    ``<stem>.json`` and the option must agree within 1 %; none at all is refused unless
    `uncalibrated`.

    Parameters
    ----------
    path : Path
    page : int, optional
        Full-size page of a stack, from 0. A stack without a choice is refused.
    max_pixels : int
        Larger pictures are refused before decoding; memory is bounded by 4 bytes a pixel.
    pixel_size_nm : float, optional
        nm per pixel that the caller knows (source ``option``).
    uncalibrated : bool
        The caller knows that a picture without a pixel size has none.
    sidecar : bool
        Whether to look for ``<stem>.json`` beside the picture.

    Returns
    -------
    Micrograph
        Pixels of shape (H, W), at least 32 x 32, finite, not constant.

    Raises
    ------
    MicrographRefused, CalibrationRefused
        With the reason codes of ``docs/reference/error-codes.md``.
    """
    path = Path(path)
    raster = _raster(path, page, max_pixels, MicrographRefused)
    plane, warnings = _grey(path.name, raster)
    _check_content(path.name, plane)
    evidence = raster.evidence
    if pixel_size_nm is not None:
        evidence += Evidence((option_statement(path.name, pixel_size_nm),))
    beside = _sidecar(path) if sidecar else None
    calibration, doubts = settle(path.name, evidence, beside, uncalibrated)
    return Micrograph(path.name, plane, calibration, (*warnings, *doubts, *_saturation(plane)))


def read_label(path: Path, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.bool_]:
    """Read a binary label: 0 is background, 1 or 255 the defect.

    A label without any defect is a valid example and comes back all False.

    Returns
    -------
    ndarray of bool, shape (H, W)

    Raises
    ------
    LabelRefused
        ``E_LABEL_VALUES`` for any other values (grey edges of a resized mask, several classes),
        ``E_LABEL_CHANNELS`` for colours, ``E_ORIENTATION`` for a rotation tag, and the codes of
        unreadable files.
    """
    values = read_label_values(path, max_pixels=max_pixels)
    found = _levels(values)
    if not (set(found) <= {0.0, 1.0} or set(found) <= {0.0, 255.0}):
        shown = ", ".join(f"{v:g}" for v in found[:5]) + (", ..." if len(found) > 5 else "")
        raise LabelRefused(
            path.name,
            "E_LABEL_VALUES",
            f"{len(found)} different values ({shown}); a binary label has only 0 and 1 (or 0 and "
            "255); a mask resized with interpolation must be made again",
        )
    return np.asarray(values != 0)


def read_label_values(path: Path, *, max_pixels: int = MAX_PIXELS) -> Array:
    """Read a one-channel label as it is stored: indices of a palette, classes, grey values.

    Returns
    -------
    ndarray, shape (H, W)

    Raises
    ------
    LabelRefused
    """
    return _label_values(path, _label_raster(path, max_pixels))


def read_calibrated_label(
    path: Path,
    *,
    max_pixels: int = MAX_PIXELS,
    pixel_size_nm: float | None = None,
    uncalibrated: bool = False,
) -> Micrograph:
    """Read a one-channel label with the pixel size that it says itself, as of a micrograph.

    Tags, sidecar ``<stem>.json`` and the option are weighed by `calibration.settle`.

    Parameters
    ----------
    path : Path
    max_pixels : int
    pixel_size_nm : float, optional
        nm per pixel that the caller knows.
    uncalibrated : bool
        The caller knows that a label without a pixel size has none.

    Returns
    -------
    Micrograph
        Values as `read_label_values` returns them; of any size, all equal if nothing is there.

    Raises
    ------
    LabelRefused, MicrographRefused, CalibrationRefused
    """
    # As a micrograph: tags of a label beside its image are not looked at, since the image has them.
    raster = _label_raster(path, max_pixels, MicrographRefused)
    values = _label_values(path, raster)
    evidence = raster.evidence
    if pixel_size_nm is not None:
        evidence += Evidence((option_statement(path.name, pixel_size_nm),))
    calibration, doubts = settle(path.name, evidence, _sidecar(path), uncalibrated)
    return Micrograph(path.name, values, calibration, doubts)


def _label_values(path: Path, raster: Raster) -> Array:
    # White-is-zero is about display: ImageJ and tifffile store marks as non-zero in it, too.
    if raster.pixels.ndim == 2 and raster.colours in ("grey", "palette", "white-is-zero"):
        values = raster.pixels
    else:
        values = _equal_channels(path.name, raster, LabelRefused, "E_LABEL_CHANNELS")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise LabelRefused(
            path.name, "E_LABEL_VALUES", "label values are NaN or infinite; 0 and 1 are allowed"
        )
    return values


def read_label_colours(path: Path, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Read a colour-coded label as RGB, 8 bit, with its alpha channel if it has one.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3) or (H, W, 4)

    Raises
    ------
    LabelRefused
        ``E_LABEL_CHANNELS`` if it is no 8-bit RGB(A) picture.
    """
    raster = _label_raster(path, max_pixels)
    if raster.colours != "rgb" or raster.pixels.dtype != np.uint8 or raster.pixels.ndim != 3:
        raise LabelRefused(
            path.name,
            "E_LABEL_CHANNELS",
            f"a colour-coded label has three 8-bit channels, this one is {raster.colours} "
            f"{raster.pixels.dtype}",
        )
    return np.ascontiguousarray(raster.pixels)


def read_array(path: Path, *, max_pixels: int = MAX_PIXELS) -> Array:
    """Read the one plane of a ``.npy`` file, checked as the pixels of a micrograph are.

    Returns
    -------
    ndarray, shape (H, W)

    Raises
    ------
    MicrographRefused
    """
    plane, _ = _grey(path.name, _raster(Path(path), None, max_pixels, MicrographRefused))
    _check_content(path.name, plane)
    return plane


def _label_raster(
    path: Path, max_pixels: int, refused: type[InputRefused] = LabelRefused
) -> Raster:
    raster = _raster(Path(path), None, max_pixels, refused)
    if raster.orientation not in (0, 1):
        raise LabelRefused(
            path.name,
            "E_ORIENTATION",
            f"its orientation tag is {raster.orientation} (rotated or mirrored): whether the "
            "pixels match the image is not certain; save it upright, without the tag",
        )
    return raster


def _raster(path: Path, page: int | None, max_pixels: int, refused: type[InputRefused]) -> Raster:
    """Recognise the format by content and decode."""
    with opened(path, refused) as (stream, size):
        if size > _MAX_BYTES:
            raise refused(path.name, "E_TOO_LARGE", f"{size} bytes exceed the limit {_MAX_BYTES}")
        head = stream.read(32)
        stream.seek(0)
        if head.startswith(_TIFF_MAGICS):
            return read_tiff(stream, size, path.name, page, max_pixels, refused)
        if head.startswith(NPY_MAGIC):
            raster = read_npy(stream, path.name, max_pixels, refused)
        elif head.startswith(PNG_MAGIC):
            raster = read_png(stream.read(), path.name, max_pixels, refused)
        elif head.startswith(JPEG_MAGIC):
            raster = read_jpeg(stream.read(), path.name, max_pixels, refused)
        elif path.suffix.lower() in READERS:
            return read_microscope(path, head, size, page, max_pixels)
        else:
            raise refused(path.name, "E_UNREADABLE", _not_known(path.suffix, head))
    if page not in (None, 0):
        raise refused(path.name, "E_MULTIPAGE", f"page {page} does not exist; it has one page")
    return raster


def _not_known(suffix: str, head: bytes) -> str:
    known = {".tif": "TIFF", ".tiff": "TIFF", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if len(head) < 8:
        return f"truncated: only {len(head)} bytes, not a TIFF, PNG, JPEG or .npy file"
    kind = known.get(suffix.lower(), "TIFF, PNG, JPEG or .npy")
    return f"not a {kind} file (starts with {head[:8]!r}); allowed are TIFF, PNG, JPEG, .npy"


def _grey(name: str, raster: Raster) -> tuple[Array, tuple[str, ...]]:
    """Return the one intensity channel of a micrograph and the warnings so far."""
    warnings = list(raster.warnings)
    if raster.orientation not in (0, 1):
        warnings.append(f"orientation tag {raster.orientation} not applied; pixels as stored")
    if raster.colours == "palette":
        raise MicrographRefused(
            name,
            "E_PALETTE",
            "indexed colours (a palette): values are not intensities; save as greyscale",
        )
    if raster.colours in ("grey", "white-is-zero") and raster.pixels.ndim == 2:
        plane = raster.pixels
    else:
        plane = _equal_channels(name, raster, MicrographRefused, "E_CHANNELS")
        warnings.append(f"{raster.pixels.shape[-1]} channels with one intensity: read as grey")
    plane = _real(name, plane)
    if raster.colours == "white-is-zero":
        plane = _inverted(name, plane)
        warnings.append("stored white-is-zero: inverted, so that high is bright")
    return plane, tuple(warnings)


def _equal_channels(name: str, raster: Raster, refused: type[InputRefused], code: str) -> Array:
    """Return one of several colour channels that are all equal, under an opaque alpha."""
    pixels = raster.pixels
    count = pixels.shape[-1] if pixels.ndim == 3 else 1
    alpha = raster.alpha or (raster.colours == "rgb" and count == 4)
    colours = count - 1 if alpha else count
    good = raster.colours in ("grey", "rgb") and colours in (1, 3) and pixels.ndim == 3
    if not good or any((pixels[..., 0] != pixels[..., k]).any() for k in range(1, colours)):
        raise refused(
            name,
            code,
            f"{count} channels ({raster.colours.upper()}); one grey channel is needed; "
            "save as greyscale",
        )
    if alpha and (pixels[..., -1] != pixels[..., -1].flat[0]).any():
        raise refused(
            name, code, f"{count} channels with a varying alpha channel; one channel is needed"
        )
    return np.ascontiguousarray(pixels[..., 0])


def _real(name: str, plane: Array) -> Array:
    """Refuse dtypes that are no intensities; bring floats to float32."""
    kind, bits = plane.dtype.kind, 8 * plane.dtype.itemsize
    if kind not in "uif" or (kind in "ui" and bits > 32):
        what = "bool (1-bit)" if kind == "b" else str(plane.dtype)
        raise MicrographRefused(
            name,
            "E_DTYPE",
            f"unsupported data type {what}; allowed are integers of 8, 16 and 32 bit and floats",
        )
    if kind == "f":
        with np.errstate(over="ignore"):
            _check_finite(name, plane)
            return plane.astype(np.float32, copy=False)
    return plane


def _check_finite(name: str, plane: Array) -> None:
    """Refuse NaN, infinities, and numbers beyond float32."""
    bad, first, limit = 0, "", np.finfo(np.float32).max
    for top in range(0, plane.shape[0], _BLOCK_ROWS):
        block = plane[top : top + _BLOCK_ROWS]
        rows, columns = np.nonzero(~(np.abs(block) <= limit))
        if rows.size and not bad:
            value = float(block[rows[0], columns[0]])
            first = f"first {value:g} at row {top + rows[0]}, column {columns[0]}"
        bad += rows.size
    if bad:
        raise MicrographRefused(
            name,
            "E_NONFINITE",
            f"{bad} of {plane.size} pixels are NaN, infinite or beyond float32 ({first})",
        )


def _inverted(name: str, plane: Array) -> Array:
    if plane.dtype.kind != "u":
        raise MicrographRefused(
            name, "E_DTYPE", f"unsupported data type: {plane.dtype} stored white-is-zero"
        )
    return np.iinfo(plane.dtype).max - plane


def _check_content(name: str, plane: Array) -> None:
    rows, columns = plane.shape
    if min(rows, columns) < MIN_SIDE_PX:
        raise MicrographRefused(
            name,
            "E_TOO_SMALL",
            f"too small: {rows} x {columns} pixels; at least {MIN_SIDE_PX} x {MIN_SIDE_PX} "
            "are needed",
        )
    if plane.min() == plane.max():
        raise MicrographRefused(
            name, "E_CONSTANT", f"constant picture (all pixels are {plane.flat[0]:g})"
        )


def _saturation(plane: Array) -> tuple[str, ...]:
    """Warn when many pixels share the highest or lowest value, as a clipped detector does."""
    found = []
    for word, value in (("highest", plane.max()), ("lowest", plane.min())):
        share = float(np.count_nonzero(plane == value)) / plane.size
        if share > _SATURATED_FRACTION:
            found.append(f"{100 * share:.1f} % of the pixels have the {word} value: clipped?")
    return tuple(found)


def _sidecar(path: Path) -> Sidecar | None:
    beside = path.with_suffix(".json")
    # A broken link is a mistake to report, so lexists and not exists.
    return read_sidecar(beside) if beside.is_symlink() or beside.exists() else None


def _levels(values: Array) -> list[float]:
    """Return the distinct values in order, at most about 1000 of them."""
    found: set[Any] = set()
    for top in range(0, values.shape[0], _BLOCK_ROWS):
        found |= set(np.unique(values[top : top + _BLOCK_ROWS])[:1000].tolist())
        if len(found) > 1000:
            break
    return sorted(float(v) for v in found)
