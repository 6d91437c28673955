"""TIFF to samples: every claim checked against the file first, decoding left to tifffile."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import tifffile

from defectops.errors import InputRefused, MicrographRefused
from defectops.imaging.calibration import Evidence
from defectops.imaging.raster import Claim, Raster
from defectops.imaging.tiff_calibration import is_ome, tiff_evidence
from defectops.imaging.tiff_directories import TiffDirectories

if TYPE_CHECKING:
    from defectops.micrograph import Array

# Tag numbers, TIFF 6.0.
_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_DESCRIPTION, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP = 270, 273, 274, 277, 278
_STRIP_COUNTS, _PLANAR = 279, 284
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA_SAMPLES, _FORMAT = 338, 339

_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
    34925: "LZMA",
    50000: "zstd",
}
_LOSSY = 7
_COLOURS = {
    0: "white-is-zero",
    1: "grey",
    2: "rgb",
    3: "palette",
    4: "transparency mask",
    5: "CMYK",
    6: "rgb",  # YCbCr; the JPEG decoder returns RGB
    8: "Lab",
    9: "Lab",
    32803: "colour filter array",
}
_FORMATS = {1: "unsigned integer", 2: "integer", 3: "floating point"}
_BIT_DEPTHS = {1: (1, 8, 16, 32), 2: (8, 16, 32), 3: (16, 32, 64)}
_MAX_TEXT = 8_000_000


@dataclass(frozen=True)
class _Layout:
    """Geometry of one page as its tags have it."""

    claim: Claim
    segment_rows: int
    segment_columns: int
    tiled: bool
    planar: bool

    @property
    def segments(self) -> int:
        """How many strips or tiles the page needs."""
        across = -(-self.claim.columns // self.segment_columns)
        down = -(-self.claim.rows // self.segment_rows)
        return across * down * (self.claim.samples if self.planar else 1)

    def needed(self, index: int) -> int:
        """Bytes of an uncompressed segment."""
        rows = self.segment_rows
        if not self.tiled:
            down = -(-self.claim.rows // rows)
            rows = min(rows, self.claim.rows - index % down * rows)
        samples = 1 if self.planar else self.claim.samples
        return rows * -(-self.segment_columns * samples * self.claim.bits // 8)


def read_tiff(
    stream: BinaryIO,
    size: int,
    name: str,
    page: int | None,
    max_pixels: int,
    refused: type[InputRefused] = MicrographRefused,
) -> Raster:
    """Decode one page of a TIFF or BigTIFF file.

    Parameters
    ----------
    stream : binary file
        At any position; `size` bytes long.
    name : str
        Named in errors.
    page : int or None
        Which full-size page, from 0. None takes the only one.
    max_pixels : int
        See `raster.Claim.check`.
    refused : type
        Error class to raise.

    Returns
    -------
    Raster

    Raises
    ------
    InputRefused
        ``E_UNREADABLE``, ``E_TRUNCATED``, ``E_CORRUPT``, ``E_TOO_LARGE``, ``E_MULTIPAGE``,
        ``E_DTYPE``, ``E_CHANNELS``, ``E_METADATA``.
    CalibrationRefused
        See `tiff_calibration.tiff_evidence`.
    """
    tiff = TiffDirectories(stream, size, name, refused)
    index = _choose(tiff, page)
    description = tiff.text(index, _DESCRIPTION, _MAX_TEXT)
    # ImageJ and OME describe all pages in the first.
    whole = description if index == 0 else tiff.text(0, _DESCRIPTION, _MAX_TEXT)
    layout = _layout(tiff, index, max_pixels)
    _check_samples(tiff, index)
    _check_segments(tiff, index, layout)
    _refuse_hidden_pages(tiff, index, whole, layout)
    evidence = (
        tiff_evidence(tiff, index, whole if _shared(whole) else description)
        if refused is MicrographRefused
        else Evidence()
    )
    pixels, warnings = _decode(tiff, index, layout)
    if tiff.number(index, _COMPRESSION, 1) == _LOSSY:
        warnings += ("JPEG compression inside: small defects may be altered",)
    return Raster(
        pixels,
        "TIFF",
        _COLOURS.get(tiff.number(index, _PHOTOMETRIC, 1), "unknown colours"),
        alpha=layout.claim.samples in (2, 4) and _EXTRA_SAMPLES in tiff.pages[index],
        orientation=tiff.number(index, _ORIENTATION, 1),
        evidence=evidence,
        warnings=warnings,
    )


def _shared(description: str) -> bool:
    return description.startswith("ImageJ=") or is_ome(description)


def _choose(tiff: TiffDirectories, page: int | None) -> int:
    """Return the index of the wanted directory; reduced copies (thumbnails) are no pages."""
    full = [i for i in range(len(tiff.pages)) if not tiff.number(i, _SUBFILE, 0) & 1]
    full = full or list(range(len(tiff.pages)))
    if page is None and len(full) > 1:
        raise tiff.refused(
            tiff.name,
            "E_MULTIPAGE",
            f"{len(full)} pages; one is needed: choose with --page, from 0",
        )
    if page is not None and not 0 <= page < len(full):
        raise tiff.refused(
            tiff.name, "E_MULTIPAGE", f"page {page} does not exist; pages 0 to {len(full) - 1}"
        )
    return full[page or 0]


def _layout(tiff: TiffDirectories, page: int, max_pixels: int) -> _Layout:
    rows, columns = tiff.number(page, _LENGTH, 0), tiff.number(page, _WIDTH, 0)
    samples = tiff.number(page, _SAMPLES, 1)
    tiled = _TILE_OFFSETS in tiff.pages[page]
    counts = tiff.integers(page, _TILE_COUNTS if tiled else _STRIP_COUNTS)
    stored = int(counts.sum(dtype=np.float64)) if counts.size else tiff.size
    bits = tiff.number(page, _BITS, 1)
    claim = Claim(rows, columns, samples, bits, min(stored, tiff.size))
    claim.check(tiff.name, tiff.refused, max_pixels)
    if tiled:
        high, wide = tiff.number(page, _TILE_LENGTH, 0), tiff.number(page, _TILE_WIDTH, 0)
        _check_tile(tiff, high, wide, claim, max_pixels)
    else:
        high, wide = min(tiff.number(page, _ROWS_PER_STRIP, rows), rows), columns
        if high < 1:
            raise tiff.refused(tiff.name, "E_CORRUPT", f"corrupt: invalid strips of {high} rows")
    planar = tiff.number(page, _PLANAR, 1) == 2 and samples > 1
    return _Layout(claim, high, wide, tiled, planar)


def _check_tile(tiff: TiffDirectories, high: int, wide: int, claim: Claim, max_pixels: int) -> None:
    if high < 1 or wide < 1:
        raise tiff.refused(tiff.name, "E_CORRUPT", f"corrupt: invalid tiles of {high} x {wide}")
    Claim(high, wide, claim.samples, claim.bits, tiff.size).check(
        tiff.name, tiff.refused, max_pixels
    )


def _check_samples(tiff: TiffDirectories, page: int) -> None:
    """Refuse sample types that are no intensities, and codecs that are not read."""
    kinds = {int(v) for v in tiff.integers(page, _FORMAT)} or {1}
    depths = {int(v) for v in tiff.integers(page, _BITS)} or {1}
    kind, depth = min(kinds), min(depths)
    if len(kinds) > 1 or len(depths) > 1:
        raise tiff.refused(
            tiff.name, "E_DTYPE", "unsupported data type: the channels have different bit depths"
        )
    if kind not in _FORMATS:
        what = "complex numbers" if kind in (5, 6) else f"sample format {kind}"
        raise tiff.refused(
            tiff.name, "E_DTYPE", f"unsupported data type: {what}; intensities are real numbers"
        )
    if depth not in _BIT_DEPTHS[kind]:
        raise tiff.refused(
            tiff.name,
            "E_DTYPE",
            f"unsupported data type: {depth}-bit {_FORMATS[kind]}; allowed are 8, 16 and 32 bit",
        )
    compression = tiff.number(page, _COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        names = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise tiff.refused(
            tiff.name, "E_UNREADABLE", f"unsupported compression {compression}; read are {names}"
        )


def _check_segments(tiff: TiffDirectories, page: int, layout: _Layout) -> None:
    """Refuse a page whose strips or tiles are not all inside the file."""
    kind = "tile" if layout.tiled else "strip"
    offsets = tiff.integers(page, _TILE_OFFSETS if layout.tiled else _STRIP_OFFSETS).astype(float)
    counts = tiff.integers(page, _TILE_COUNTS if layout.tiled else _STRIP_COUNTS).astype(float)
    plain = tiff.number(page, _COMPRESSION, 1) == 1
    if counts.size == 0 and plain and offsets.size == 1 == layout.segments:
        counts = np.array([float(layout.needed(0))])  # old writers leave the only count out
    if min(offsets.size, counts.size) < layout.segments:
        raise _cut(tiff, f"{min(offsets.size, counts.size)} of {layout.segments} {kind}s listed")
    if plain:
        needed = [layout.needed(i) for i in range(layout.segments)]
        counts = np.maximum(counts[: layout.segments], np.array(needed, float))
    for i in range(layout.segments):
        if offsets[i] <= 0 or counts[i] <= 0:
            raise _cut(tiff, f"{kind} {i} is missing")
        if offsets[i] + counts[i] > tiff.size:
            has = max(0, tiff.size - int(offsets[i]))
            raise _cut(tiff, f"{kind} {i} needs {int(counts[i])} bytes, the file has {has} there")


def _cut(tiff: TiffDirectories, what: str) -> InputRefused:
    return tiff.refused(tiff.name, "E_TRUNCATED", f"truncated: {what}; copy the file again")


def _refuse_hidden_pages(
    tiff: TiffDirectories, page: int, description: str, layout: _Layout
) -> None:
    """Refuse stacks of which only the first plane has a directory (ImageJ, tifffile)."""
    planes = len(tiff.pages)
    if description.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,9})\s*$", description, re.MULTILINE)
        planes = int(found[1]) if found else planes
    elif description.startswith('{"shape"'):
        planes = _planes(description, layout.claim)
    if planes > len(tiff.pages):
        raise tiff.refused(
            tiff.name,
            "E_MULTIPAGE",
            f"a stack of {planes} planes with {len(tiff.pages)} page; export the one you need",
        )


def _planes(description: str, claim: Claim) -> int:
    try:
        shape = [float(n) for n in json.loads(description)["shape"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return 1
    return int(np.clip(np.prod(shape) // (claim.rows * claim.columns * claim.samples), 1, 1e9))


def _decode(tiff: TiffDirectories, page: int, layout: _Layout) -> tuple[Array, tuple[str, ...]]:
    """Return samples as (H, W) or (H, W, C) in native byte order, and what tifffile said."""
    claim = layout.claim
    try:
        with _listening() as heard:
            tiff.stream.seek(0)
            # No other file is opened, whatever OME-XML says.
            with tifffile.TiffFile(tiff.stream, name=tiff.name, _multifile=False) as file:
                found = np.asarray(file.pages[page].asarray(maxworkers=1))
    except MemoryError:
        raise
    except Exception as error:
        # Codecs raise classes of their own; whatever it is, the pixels cannot be had.
        raise tiff.refused(
            tiff.name,
            "E_CORRUPT",
            f"pixel data are corrupt or truncated ({type(error).__name__}: {str(error)[:120]}); "
            "copy the file again",
        ) from error
    if layout.planar:
        found = np.moveaxis(found.reshape(claim.samples, claim.rows, claim.columns), 0, -1)
    shape = (claim.rows, claim.columns) + ((claim.samples,) if claim.samples > 1 else ())
    if found.size != np.prod(shape):
        raise tiff.refused(
            tiff.name, "E_CORRUPT", f"corrupt: decoded to shape {found.shape}, claimed {shape}"
        )
    return found.reshape(shape).astype(found.dtype.newbyteorder("="), copy=False), tuple(heard)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect tifffile's log lines, so that they become warnings and not lines on stderr."""
    heard: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage()[:200])
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield heard
    finally:
        logger.removeFilter(keep)
