"""The pixel size in a TIFF file: resolution tags, ImageJ's description, OME-XML."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from defectops.errors import CalibrationRefused, MicrographRefused
from defectops.imaging.calibration import Evidence, lengths, nm_per

if TYPE_CHECKING:
    from defectops.imaging.tiff_directories import TiffDirectories

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_NONE, _INCH, _CM = 1, 2, 3
_NM_IN = {_INCH: 2.54e7, _CM: 1e7}


def tiff_evidence(tiff: TiffDirectories, page: int, description: str) -> Evidence:
    """Collect what one page of a TIFF file says about its pixel size.

    In an ImageJ file the unit of the resolution stands in the description (y and z units are
    left out when equal); in an OME file the sizes stand in the XML, micrometres by default; in any
    other file ResolutionUnit counts, inch when absent, as the specification has it.

    Raises
    ------
    CalibrationRefused
        ``E_PX_ANISO``, ``E_PX_RECIPROCAL``, ``E_PX_INVALID``, ``E_PX_CONFLICT``
    MicrographRefused
        ``E_METADATA`` or ``E_PATH`` for an OME-XML that cannot be trusted.
    """
    unit = tiff.number(page, RESOLUTION_UNIT, 0)
    evidence = Evidence()
    if description.startswith("ImageJ="):
        evidence = _imagej(tiff, page, description)
        unit = unit or _NONE
    elif is_ome(description):
        evidence = _ome(tiff.name, description)
        unit = unit or _NONE
    unit = unit or _INCH
    if evidence.doubts:  # the file's own program gives no usable size: the tags cannot mend it
        return evidence
    if X_RESOLUTION not in tiff.pages[page]:
        return evidence
    if unit in _NM_IN:
        evidence += _resolution(tiff, page, _NM_IN[unit], "inch" if unit == _INCH else "cm")
    elif unit != _NONE:
        evidence += Evidence(doubts=(f"pixel size: ResolutionUnit {unit} is not known",))
    return evidence


def is_ome(description: str) -> bool:
    """Whether a TIFF description is OME-XML."""
    return bool(re.search(r"<(\w+:)?OME[\s>]", description[:100_000]))


def _resolution(
    tiff: TiffDirectories, page: int, nm_in: float, unit: str, nm_in_y: float | None = None
) -> Evidence:
    x = _per_unit(tiff, page, X_RESOLUTION)
    y = _per_unit(tiff, page, Y_RESOLUTION) if Y_RESOLUTION in tiff.pages[page] else None
    shown = f"{x:.6g} pixels per {unit}"
    return lengths(
        tiff.name,
        nm_in / x if x else math.inf,
        None if y is None else ((nm_in_y or nm_in) / y if y else math.inf),
        f"the resolution tags ({shown})",
    )


def _per_unit(tiff: TiffDirectories, page: int, tag: int) -> float:
    """Return a resolution as a float; NaN for 0/0 and anything that is not one number."""
    found = tiff.values(page, tag)
    if found.shape[0] != 1:
        return math.nan
    if found.ndim == 1:
        return float(found[0])
    numerator, denominator = (int(v) for v in found[0])
    return numerator / denominator if denominator else math.nan


def _imagej(tiff: TiffDirectories, page: int, description: str) -> Evidence:
    keys = dict(line.partition("=")[::2] for line in description.splitlines())
    unit = keys.get("unit", "")
    nm_in = nm_per(unit, tiff.name)
    if nm_in is None or X_RESOLUTION not in tiff.pages[page]:
        return Evidence()
    nm_in_y = nm_per(keys["yunit"], tiff.name) if keys.get("yunit") else nm_in
    return _resolution(tiff, page, nm_in, unit, nm_in_y)


@dataclass
class _OmeReader:
    """Collects pixel sizes and file names from OME-XML; knows no entities and opens no file."""

    name: str
    sizes: list[dict[str, str]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "Pixels":
            self.sizes.append(attributes)
        elif tag == "UUID":
            self._check_file(attributes.get("FileName", ""))

    def _check_file(self, file: str) -> None:
        if "/" in file or "\\" in file:
            raise MicrographRefused(
                self.name,
                "E_PATH",
                f"its OME-XML metadata name another file {file!r}, outside this folder; only the "
                "pixels of the file itself are read, and such a path is not allowed",
            )
        self.files |= {file} if file else set()
        if len(self.files) > 1:  # one name is the file itself, perhaps before it was renamed
            raise MicrographRefused(
                self.name,
                "E_MULTIPAGE",
                f"its OME-XML metadata say that pages lie in another file, {file!r}: a "
                "series of several files; export the plane you need as one file",
            )

    def refuse(self, *_: object) -> None:
        raise MicrographRefused(
            self.name,
            "E_METADATA",
            "its OME-XML metadata declare a document type or entities, which is not allowed",
        )


def _ome(name: str, description: str) -> Evidence:
    reader = _OmeReader(name)
    _parse(name, description, reader.start, reader.refuse)
    evidence = Evidence()
    for attributes in reader.sizes:
        evidence += _ome_size(name, attributes)
    return evidence


def _parse(
    name: str,
    text: str,
    start: Callable[[str, dict[str, str]], None],
    refuse: Callable[..., None],
) -> None:
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise MicrographRefused(
            name, "E_METADATA", f"its OME-XML metadata are not valid XML ({error})"
        ) from error


def _ome_size(name: str, attributes: dict[str, str]) -> Evidence:
    nm = []
    for axis in ("X", "Y"):
        text = attributes.get(f"PhysicalSize{axis}")
        if text is None:
            continue
        unit = nm_per(attributes.get(f"PhysicalSize{axis}Unit", "µm"), name)
        if unit is None:
            return Evidence()
        try:
            nm.append(float(text) * unit)
        except ValueError as error:
            raise CalibrationRefused(
                name, "E_PX_INVALID", f"pixel size {text!r} in the OME-XML is not a number"
            ) from error
    if not nm:
        return Evidence()
    return lengths(name, nm[0], nm[1] if len(nm) > 1 else None, "the OME-XML")
