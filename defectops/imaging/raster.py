"""What a picture file holds, before anybody decides whether it is a micrograph or a label."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from defectops.imaging.calibration import Evidence

if TYPE_CHECKING:
    from defectops.errors import InputRefused
    from defectops.micrograph import Array

MAX_PIXELS = 16384 * 16384
"""Largest picture read unless the user allows more: 1 GiB as float32."""

_BYTES_PER_PIXEL = 4
_MAX_RATIO = 2000  # deflate cannot exceed 1032 : 1; a recorded picture stays below 20 : 1


@dataclass(frozen=True, eq=False)
class Raster:
    """Decoded samples and what the file says about them.

    Parameters
    ----------
    pixels : ndarray, shape (H, W) or (H, W, C)
        Stored samples; C is 2 to 4, alpha last where there is one.
    form : str
        ``TIFF``, ``PNG``, ``JPEG``, ``NPY`` or the name of a microscope format.
    colours : str
        ``grey``, ``rgb``, ``palette``, ``white-is-zero``, or another colour model that is only
        good for a refusal, for example ``CMYK``.
    alpha : bool
        Whether the last channel is an alpha channel.
    orientation : int
        Orientation tag of TIFF and EXIF; 1 is upright.
    evidence : Evidence
        What was found about the pixel size.
    warnings : tuple of str
    """

    pixels: Array
    form: str
    colours: str = "grey"
    alpha: bool = False
    orientation: int = 1
    evidence: Evidence = field(default_factory=Evidence)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """Size that a file claims, to be checked before anything is allocated."""

    rows: int
    columns: int
    samples: int
    bits: int
    stored_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes after decoding."""
        return self.rows * self.columns * self.samples * self.bits // 8

    def check(self, name: str, refused: type[InputRefused], max_pixels: int) -> None:
        """Refuse a picture that is empty, over the limit or claimed out of nothing.

        Raises
        ------
        InputRefused
            ``E_CORRUPT``, ``E_CHANNELS``, ``E_TOO_LARGE`` or ``E_TRUNCATED``.
        """
        if self.rows < 1 or self.columns < 1 or self.samples < 1:
            raise refused(
                name,
                "E_CORRUPT",
                f"corrupt: invalid size {self.rows} x {self.columns} x {self.samples}",
            )
        size = f"claims {self.rows} x {self.columns} pixels of {self.samples} x {self.bits} bit"
        if self.samples > 4:
            raise refused(
                name,
                "E_CHANNELS",
                f"{size}: {self.samples} channels (samples per pixel) are too many; one is needed",
            )
        limit = max_pixels * _BYTES_PER_PIXEL
        if self.rows * self.columns > max_pixels or self.nbytes > limit:
            raise refused(
                name,
                "E_TOO_LARGE",
                f"{size} ({_gib(self.nbytes)}), over the limit of {max_pixels} pixels and "
                f"{_gib(limit)}; crop it, or allow more with --max-pixels",
            )
        if self.nbytes > _MAX_RATIO * self.stored_bytes:
            raise refused(
                name,
                "E_TOO_LARGE",
                f"{size}, more than {_MAX_RATIO} times the {self.stored_bytes} bytes stored: over "
                "the limit, truncated or a decompression bomb",
            )


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
