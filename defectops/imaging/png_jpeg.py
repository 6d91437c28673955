"""PNG and JPEG to samples, with the checks that their decoders leave out."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from PIL import Image

from defectops.errors import InputRefused, MicrographRefused
from defectops.imaging.calibration import Evidence, lengths
from defectops.imaging.raster import Claim, Raster

if TYPE_CHECKING:
    from defectops.micrograph import Array

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"

# PNG colour types (ISO/IEC 15948): samples, our name, bit depths allowed.
_COLOUR_TYPES = {
    0: (1, "grey", (1, 2, 4, 8, 16)),
    2: (3, "rgb", (8, 16)),
    3: (1, "palette", (1, 2, 4, 8)),
    4: (2, "grey", (8, 16)),
    6: (4, "rgb", (8, 16)),
}
_ORIENTATION = 0x0112
_MAX_CHUNKS = 1_000_000


def read_png(data: bytes, name: str, max_pixels: int, refused: type[InputRefused]) -> Raster:
    """Decode a PNG file after checking its chunks, their checksums and its size.

    Bit depths below 8 are scaled to 0..255; a palette gives its indices.

    Raises
    ------
    InputRefused
        ``E_TRUNCATED``, ``E_CORRUPT``, ``E_TOO_LARGE``, ``E_MULTIPAGE`` (animated).
    """
    chunks = [(kind, body) for kind, body in _chunks(data, name, refused)]
    kinds = [kind for kind, _ in chunks]
    if kinds[:1] != [b"IHDR"] or len(chunks[0][1]) != 13:
        raise refused(name, "E_CORRUPT", "corrupt PNG file: it does not start with its header")
    if b"acTL" in kinds:
        raise refused(name, "E_MULTIPAGE", "an animated PNG has several frames; one is needed")
    width, height, bits, colour, *_ = struct.unpack(">IIBBBBB", chunks[0][1])
    samples, colours, depths = _COLOUR_TYPES.get(colour, (1, "", ()))
    if bits not in depths:
        raise refused(
            name, "E_CORRUPT", f"corrupt PNG header: colour type {colour} with {bits} bit"
        )
    stored = sum(len(body) for kind, body in chunks if kind == b"IDAT")
    Claim(height, width, samples, bits, stored).check(name, refused, max_pixels)
    try:
        pixels = _indices(data) if colours == "palette" else imagecodecs.png_decode(data)
    except Exception as error:
        raise _corrupt(name, "PNG", error, refused) from error
    if pixels.shape[:2] != (height, width):
        raise refused(name, "E_CORRUPT", f"corrupt PNG file: decoded to {pixels.shape}")
    alpha = pixels.ndim == 3 and pixels.shape[-1] in (2, 4)  # tRNS adds one
    exif = next((body for kind, body in chunks if kind == b"eXIf"), b"")
    evidence = _physical(name, dict(chunks)) if refused is MicrographRefused else Evidence()
    return Raster(pixels, "PNG", colours, alpha, _orientation(exif), evidence)


def read_jpeg(data: bytes, name: str, max_pixels: int, refused: type[InputRefused]) -> Raster:
    """Decode a JPEG file.

    Raises
    ------
    InputRefused
        ``E_UNREADABLE``, ``E_TRUNCATED`` or ``E_CORRUPT``, ``E_TOO_LARGE``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked here, before decoding
            image = Image.open(io.BytesIO(data), formats=["JPEG"])
            claim = Claim(image.height, image.width, len(image.getbands()), 8, len(data))
            claim.check(name, refused, max_pixels)
            orientation = int(image.getexif().get(_ORIENTATION, 1))
            pixels = np.asarray(image)
    except InputRefused:
        raise
    except Exception as error:
        raise _corrupt(name, "JPEG", error, refused) from error
    colours = {"L": "grey", "RGB": "rgb"}.get(image.mode, image.mode)
    return Raster(
        pixels,
        "JPEG",
        colours,
        orientation=orientation,
        warnings=("JPEG is lossy: small defects may be altered; keep TIFF or PNG",),
    )


def _chunks(data: bytes, name: str, refused: type[InputRefused]) -> Iterator[tuple[bytes, bytes]]:
    """Walk the chunks of a PNG file up to IEND, each with a good checksum."""
    at = len(PNG_MAGIC)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise refused(name, "E_TRUNCATED", "truncated PNG file: it ends before its end mark")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise refused(
                name, "E_TRUNCATED", f"truncated PNG file: a chunk of {length} bytes is cut"
            )
        if zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise refused(
                name, "E_CORRUPT", f"corrupt PNG file: bad checksum (CRC) in chunk {kind!r}"
            )
        yield kind, data[at + 8 : end]
        if kind == b"IEND":
            return
        at = end + 4
    raise refused(name, "E_CORRUPT", f"corrupt PNG file: more than {_MAX_CHUNKS} chunks")


def _indices(data: bytes) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size is checked before
        return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))


def _physical(name: str, chunks: dict[bytes, bytes]) -> Evidence:
    """Pixel size from the chunk pHYs: pixels per metre, or no unit at all."""
    body = chunks.get(b"pHYs", b"")
    if len(body) != 9:
        return Evidence()
    x, y, unit = struct.unpack(">IIB", body)
    if unit != 1 or not x or not y:
        return Evidence()
    return lengths(name, 1e9 / x, 1e9 / y, f"the PNG's pHYs ({x} pixels per metre)")


def _orientation(exif: bytes) -> int:
    """Orientation in a PNG's EXIF chunk; 1 if there is none or it cannot be read."""
    if not exif:
        return 1
    found = Image.Exif()
    try:
        found.load(exif)
        return int(found.get(_ORIENTATION, 1))
    except Exception:
        return 1


def _corrupt(name: str, form: str, error: Exception, refused: type[InputRefused]) -> InputRefused:
    return refused(
        name,
        "E_CORRUPT",
        f"{form} data are corrupt or truncated ({type(error).__name__}: {str(error)[:120]}); copy "
        "the file again",
    )
