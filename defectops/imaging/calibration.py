"""The pixel size of a picture, from everything that is said about it; nothing is guessed."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectops.errors import CalibrationRefused
from defectops.imaging.opening import opened
from defectops.micrograph import UNCALIBRATED, Calibration

PLAUSIBLE_NM = (0.001, 100.0)
"""nm per pixel of an electron micrograph. The dpi values of image editors lie far above."""

_TOLERANCE = 0.01  # sources further apart than this contradict each other
_SIDECAR_KEYS = ("pixel_size_nm", "thickness_nm", "thickness_sd_nm", "ignore_tags")
_MAX_SIDECAR_BYTES = 1_000_000

# nm in one unit. ImageJ, OME and microscopes spell them in many ways; compared in lower case,
# except pm and Pm (no Pm occurs, so that lower case is safe).
_NM = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "picometre": 1e-3,
    "å": 0.1,
    "a": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "ångstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "µm": 1e3,
    "um": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "inch": 2.54e7,
    "in": 2.54e7,
}
_NO_LENGTH = {"", "pixel", "pixels", "px", "none", "reference frame"}
_RECIPROCAL = re.compile(r"^\s*1?\s*/|\^\s*\(?-|⁻|-1\b|reciprocal|inverse|\bper\b", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """One source's pixel size.

    Parameters
    ----------
    source : str
        ``tags``, ``sidecar`` or ``option``.
    nm : float
        nm per pixel.
    said : str
        What it says, for messages.
    """

    source: str
    nm: float
    said: str


@dataclass(frozen=True)
class Evidence:
    """What is known about a pixel size: statements, and marks that cannot be one.

    Parameters
    ----------
    statements : tuple of Statement
    doubts : tuple of str
        Resolution marks that are no calibration, such as 72 dpi, and why.
    """

    statements: tuple[Statement, ...] = ()
    doubts: tuple[str, ...] = ()

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.statements + other.statements, self.doubts + other.doubts)


@dataclass(frozen=True)
class Sidecar:
    """Content of ``<stem>.json`` beside a picture; see `read_sidecar`."""

    name: str
    pixel_size_nm: float | None = None
    thickness_nm: float | None = None
    thickness_sd_nm: float | None = None
    ignore_tags: bool = False


def nm_per(unit: str, name: str) -> float | None:
    r"""Return the nm in one unit; None for a unit that is no length (``pixel``, empty).

    Parameters
    ----------
    unit : str
        As ImageJ, OME or a microscope spells it; ImageJ's escape ``\u00B5m`` included.
    name : str
        File, named in errors.

    Raises
    ------
    CalibrationRefused
        ``E_PX_RECIPROCAL`` for a reciprocal length, ``E_PX_INVALID`` for an unknown unit.

    Examples
    --------
    >>> nm_per("Angstrom", "a.tif"), nm_per("\\u00B5m", "a.tif"), nm_per("pixel", "a.tif")
    (0.1, 1000.0, None)
    """
    text = unit.replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\\u00C5", "Å")
    text = text.replace("μ", "µ").replace("\u212b", "Å").strip()
    if _RECIPROCAL.search(text):
        raise CalibrationRefused(
            name,
            "E_PX_RECIPROCAL",
            f"unit is {text!r}, a reciprocal length: a diffraction pattern, not a micrograph",
        )
    known = text.lower()
    if known in _NO_LENGTH:
        return None
    for spelling in (known, known.removesuffix("s")):
        if spelling in _NM:
            return _NM[spelling]
    raise CalibrationRefused(
        name,
        "E_PX_INVALID",
        f"the pixel size is in the unit {text!r}, which is not known; allowed are pm, Angstrom, "
        "nm, µm, mm, cm, m; correct the tags",
    )


def lengths(name: str, x: float, y: float | None, said: str) -> Evidence:
    """Weigh one pixel size from the tags: `x` and `y` in nm, along columns and rows.

    A size that is no positive number or outside `PLAUSIBLE_NM` is a doubt, not a statement.

    Raises
    ------
    CalibrationRefused
        ``E_PX_ANISO`` if x and y differ by more than 1 %.
    """
    y = x if y is None else y
    if not all(math.isfinite(v) and v > 0 for v in (x, y)):
        return Evidence(doubts=(f"pixel size from {said} is not a positive number",))
    low, high = PLAUSIBLE_NM
    if not any(low <= v <= high for v in (x, y)):
        return Evidence(
            doubts=(
                f"pixel size {x:.6g} nm from {said} is not plausible for an electron micrograph "
                f"({low:g} to {high:g} nm)",
            )
        )
    if abs(x - y) > _TOLERANCE * min(x, y):
        raise CalibrationRefused(
            name,
            "E_PX_ANISO",
            f"pixel size differs between x and y ({x:.6g} and {y:.6g} nm, from {said}): pixels "
            "must be square; resample the picture",
        )
    # The mean that keeps areas; exact when both are equal.
    nm = x if x == y else math.sqrt(x * y)
    return Evidence((Statement("tags", nm, f"{said}: {nm:.6g} nm"),))


def option_statement(name: str, pixel_size_nm: float) -> Statement:
    """Return the statement of a pixel size given by the caller (an option, a manifest).

    Raises
    ------
    CalibrationRefused
        ``E_PX_INVALID``
    """
    _check_plausible(name, pixel_size_nm)
    return Statement("option", pixel_size_nm, f"the size given for it: {pixel_size_nm:.6g} nm")


def read_sidecar(path: Path) -> Sidecar:
    """Read ``<stem>.json``: ``{"pixel_size_nm": 0.05, "thickness_nm": 45}``.

    Keys: ``pixel_size_nm``, ``thickness_nm``, ``thickness_sd_nm`` (numbers, in nm) and
    ``ignore_tags`` (true: the tags of the picture are known to be wrong). Other keys belong to
    other programs and are left alone, unless they look like one of ours misspelt.

    Raises
    ------
    CalibrationRefused
        ``E_PX_INVALID`` for anything that is not such an object, ``E_IO``, ``E_EMPTY``.
    """
    data = _json_object(path)
    for key in data:
        near = difflib.get_close_matches(key, _SIDECAR_KEYS, 1, 0.75)
        if key not in _SIDECAR_KEYS and near:
            raise _sidecar_refused(path, f"unknown key {key!r}; did you mean {near[0]!r}?")
    ignore = data.get("ignore_tags", False)
    if not isinstance(ignore, bool):
        raise _sidecar_refused(path, f"ignore_tags must be true or false, got {ignore!r}")
    numbers = {k: _number(path, data, k) for k in _SIDECAR_KEYS[:3]}
    if numbers["pixel_size_nm"] is not None:
        _check_plausible(path.name, numbers["pixel_size_nm"])
    return Sidecar(path.name, **numbers, ignore_tags=ignore)


def settle(
    name: str, evidence: Evidence, sidecar: Sidecar | None, uncalibrated: bool
) -> tuple[Calibration, tuple[str, ...]]:
    """Decide the calibration of one picture.

    1. Sources are the file's own tags, the sidecar and the option. Any two that differ by more
       than 1 % are a conflict and refused, whoever they are: one of them is wrong, and we cannot
       know which. A sidecar with ``"ignore_tags": true`` takes the tags out.
    2. Of agreeing sources the option counts first, then the sidecar, then the tags.
    3. A resolution that cannot be a pixel size (72 dpi, 0/1) is set aside with a warning when
       another source gives one, and is the reason of the refusal when none does.
    4. Without any source the picture is refused, unless `uncalibrated` says that the user knows.

    Returns
    -------
    (Calibration, warnings)

    Raises
    ------
    CalibrationRefused
        ``E_PX_CONFLICT``, ``E_PX_INVALID``, ``E_PX_MISSING``
    """
    statements, doubts = list(evidence.statements), list(evidence.doubts)
    if sidecar is not None and sidecar.ignore_tags:
        doubts += [f"{s.said} is ignored: {sidecar.name}" for s in statements if _tags(s)]
        statements = [s for s in statements if not _tags(s)]
    if sidecar is not None and sidecar.pixel_size_nm is not None:
        nm = sidecar.pixel_size_nm
        statements.append(Statement("sidecar", nm, f"{sidecar.name}: {nm:.6g} nm"))
    _refuse_conflict(name, statements)
    thickness = (None, None) if sidecar is None else (sidecar.thickness_nm, sidecar.thickness_sd_nm)
    if statements:
        rank = ("option", "sidecar", "tags")
        best = min(statements, key=lambda s: rank.index(s.source))
        return Calibration(best.nm, best.source, *thickness), tuple(doubts)
    if uncalibrated:
        return Calibration(None, UNCALIBRATED, *thickness), tuple(doubts)
    todo = "give --pixel-size-nm, or a sidecar <stem>.json, or --uncalibrated to stay in pixels"
    if doubts:
        raise CalibrationRefused(name, "E_PX_INVALID", f"{doubts[0]}; {todo}")
    raise CalibrationRefused(name, "E_PX_MISSING", f"no pixel size; {todo}")


def _tags(statement: Statement) -> bool:
    return statement.source == "tags"


def _refuse_conflict(name: str, statements: Sequence[Statement]) -> None:
    for a in statements:
        for b in statements:
            if abs(a.nm - b.nm) > _TOLERANCE * min(a.nm, b.nm):
                raise CalibrationRefused(
                    name,
                    "E_PX_CONFLICT",
                    f"pixel size conflict: {a.said}, but {b.said}; correct the wrong one, or put "
                    '"ignore_tags": true into the sidecar if the tags are wrong',
                )


def _json_object(path: Path) -> dict[str, Any]:
    with opened(path, CalibrationRefused) as (stream, size):
        if size > _MAX_SIDECAR_BYTES:
            raise _sidecar_refused(path, f"{size} bytes are over the limit {_MAX_SIDECAR_BYTES}")
        raw = stream.read(_MAX_SIDECAR_BYTES + 1)
    try:
        data = json.loads(
            raw.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_no_twins
        )
    except (ValueError, RecursionError) as error:
        raise _sidecar_refused(path, f"not valid JSON in UTF-8 ({error})") from error
    if not isinstance(data, dict):
        raise _sidecar_refused(path, f"must be an object {{...}}, got a {type(data).__name__}")
    return data


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _number(path: Path, data: dict[str, Any], key: str) -> float | None:
    value = data.get(key)
    if value is None and key not in data:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _sidecar_refused(
            path, f"{key} must be a number without unit or quotes, got {str(value)[:60]!r}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    allowed = number > 0 or (number == 0 and key == "thickness_sd_nm")
    if not (math.isfinite(number) and allowed):
        raise _sidecar_refused(path, f"{key} must be a positive number, got {str(value)[:60]}")
    return number


def _check_plausible(name: str, nm: float) -> None:
    low, high = PLAUSIBLE_NM
    if not low <= nm <= high:
        raise CalibrationRefused(
            name,
            "E_PX_INVALID",
            f"pixel size {nm:g} nm is not plausible for an electron micrograph "
            f"({low:g} to {high:g} nm)",
        )


def _sidecar_refused(path: Path, what: str) -> CalibrationRefused:
    return CalibrationRefused(
        path.name,
        "E_PX_INVALID",
        f'{what}; the sidecar gives the pixel size: {{"pixel_size_nm": 0.05}}',
    )
