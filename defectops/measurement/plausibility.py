"""Whether calibrations, counts and sizes that are claimed of a field can be true together."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Literal

from defectops.errors import CalibrationRefused

Verdict = Literal["impossible", "suspicious"]

# Electrons of 200 to 300 keV form usable images of steel up to about this thickness; thicker is
# suspicious, ten times thicker impossible.
_THICKEST_NM = 500.0
# Two ways to the same number may differ by this factor before it is suspicious (counting noise,
# rounding, overlap) and before no such excuse is left.
_SUSPICIOUS, _IMPOSSIBLE = 1.4, 2.5
# No packing of equal spheres fills more; mixed sizes hardly reach the second.
_DENSEST_PACKING = math.pi / math.sqrt(18)
_DENSE = 0.4
_FEWEST_PX = 4.0  # mean diameters below this hang on where the edge of the mask was drawn
# Lines closer than this merge in any picture and annihilate in any metal.
_CLOSEST_LINES_NM = 1.5
_CROWDED_COVER, _CROWDED_LINES = 0.4, 0.2


@dataclass(frozen=True)
class Claims:
    """What somebody says of one field; any of it may be missing.

    Parameters
    ----------
    pixel_size_nm : float or None
    field_px : (int, int) or None
        Rows and columns.
    thickness_nm : float or None
    count : float or None
        Particles in the field.
    number_density_m3 : float or None
        Particles, m^-3.
    diameter_nm, diameter_sd_nm : float or None
        Mean and standard deviation of particle diameters.
    largest_diameter_nm : float or None
        Of the widest particle.
    area_fraction : float or None
        Share of the field that particles cover.
    dislocation_density_m2 : float or None
        Line length per volume, m^-2.
    line_share : float or None
        Share of the field's pixels on lines.
    line_width_px : float or None
        How wide those lines are drawn.

    Raises
    ------
    CalibrationRefused
        A value that is not a positive number, or a share above 1.
    """

    pixel_size_nm: float | None = None
    field_px: tuple[int, int] | None = None
    thickness_nm: float | None = None
    count: float | None = None
    number_density_m3: float | None = None
    diameter_nm: float | None = None
    diameter_sd_nm: float | None = None
    largest_diameter_nm: float | None = None
    area_fraction: float | None = None
    dislocation_density_m2: float | None = None
    line_share: float | None = None
    line_width_px: float | None = None

    def __post_init__(self) -> None:
        for column in fields(self):
            value = getattr(self, column.name)
            numbers = value if isinstance(value, tuple) else (value,)
            most = 1.0 if column.name in ("area_fraction", "line_share") else math.inf
            least = 0.0 if column.name == "diameter_sd_nm" else math.nextafter(0.0, 1.0)
            if any(n is not None and not (least <= n <= most and n < math.inf) for n in numbers):
                raise CalibrationRefused(
                    "claims",
                    "E_IMPLAUSIBLE",
                    f"{column.name} must be positive{' and at most 1' if most == 1 else ''}, "
                    f"got {value}",
                )

    @property
    def area_nm2(self) -> float | None:
        """Area of the field, or None if pixel size or field is missing."""
        if self.pixel_size_nm is None or self.field_px is None:
            return None
        return self.field_px[0] * self.field_px[1] * self.pixel_size_nm**2


@dataclass(frozen=True)
class Finding:
    """One contradiction, as a sentence that names what disagrees and what would fit."""

    verdict: Verdict
    sentence: str


def check(claims: Claims) -> list[Finding]:
    """Derive what can be derived in two ways, and compare.

    Parameters
    ----------
    claims : Claims

    Returns
    -------
    list of Finding
        Impossible ones first; empty if nothing contradicts, or nothing can be compared.

    Notes
    -----
    With field area A, foil thickness t, n particles of mean diameter d and standard deviation s::

        t            = n / (number density A), less up to d where cut particles are counted
        covered area = 1 - exp(-n pi/4 (d^2 + s^2) / A)       (particles at random, overlapping)
        line share   = pi/4 dislocation density t (width pixel size)

        volume fraction = number density pi/6 (d^3 + 3 d s^2)

    A foil 2.5 times thinner than the particles it holds or ten times thicker than electrons can
    cross, particles that fill more than the densest packing, and lines closer than 1.5 nm are
    impossible whatever else is claimed.
    """
    found = [
        _foil_of_count(claims),
        _thickness_twice(claims),
        _wider_than_foil(claims),
        _thick_foil(claims),
        _cover(claims),
        _crowded(claims),
        _packed(claims),
        _few_pixels(claims),
        _line_share(claims),
        _close_lines(claims),
    ]
    return sorted((f for f in found if f is not None), key=lambda f: f.verdict)


def refuse_impossible(claims: Claims, subject: str) -> list[str]:
    """Raise if the claims cannot be true together; return sentences on what is suspicious.

    Parameters
    ----------
    claims : Claims
    subject : str
        Named in the error: usually a file.

    Raises
    ------
    CalibrationRefused
        With the first impossible finding.
    """
    found = check(claims)
    for finding in found:
        if finding.verdict == "impossible":
            raise CalibrationRefused(subject, "E_IMPLAUSIBLE", finding.sentence)
    return [finding.sentence for finding in found]


def parse_field(text: str) -> tuple[int, int]:
    """Read rows and columns of a field.

    Examples
    --------
    >>> parse_field("1024x512"), parse_field("1024 × 512")
    ((1024, 512), (1024, 512))
    """
    match = re.fullmatch(r"(\d{1,6})\s*[x×*,]\s*(\d{1,6})", text.strip())
    if match is None:
        raise CalibrationRefused(
            "claims", "E_USAGE", f"a field is rows x columns in pixels, as 1024x512; got {text!r}"
        )
    return int(match[1]), int(match[2])


def implied_thickness_nm(claims: Claims) -> float | None:
    """Thickness at which the counted particles have the claimed density; None if unknown."""
    if claims.area_nm2 is None or claims.count is None or claims.number_density_m3 is None:
        return None
    return claims.count / (claims.number_density_m3 * 1e-27 * claims.area_nm2)


def fitting_pixel_sizes_nm(claims: Claims) -> tuple[float, float] | None:
    """Pixel sizes at which count and density make a foil that holds its particles.

    Returns
    -------
    (float, float) or None
        From a foil of 500 nm to one as thick as a mean particle, in nm per pixel; None without
        field, count, number density and diameter.
    """
    n, density, d = claims.count, claims.number_density_m3, claims.diameter_nm
    if n is None or density is None or d is None or claims.field_px is None:
        return None
    # Thickness times pixel size squared is fixed by count and density.
    fixed = n / (density * 1e-27 * math.prod(claims.field_px))
    return math.sqrt(fixed / _THICKEST_NM), math.sqrt(fixed / d)


def _foil_of_count(claims: Claims) -> Finding | None:
    implied, d = implied_thickness_nm(claims), claims.diameter_nm
    if implied is None or d is None or implied >= d:
        return None
    verdict: Verdict = "impossible" if d / implied > _SUSPICIOUS else "suspicious"
    low, high = fitting_pixel_sizes_nm(claims) or (math.nan, math.nan)
    return Finding(
        verdict,
        f"{claims.count:g} particles in {_field(claims)} at {claims.number_density_m3:.3g} m^-3 "
        f"make a foil {implied:.2g} nm thick, thinner than one particle of {d:.3g} nm; this count "
        f"and density need a pixel size of {low:.2g} to {high:.2g} nm",
    )


def _thickness_twice(claims: Claims) -> Finding | None:
    implied, t = implied_thickness_nm(claims), claims.thickness_nm
    if implied is None or t is None:
        return None
    with_cut = t + (claims.diameter_nm or 0.0)
    factor = max(t / implied, implied / with_cut)
    return _graded(
        factor,
        f"{claims.count:g} particles in {_field(claims)} at {claims.number_density_m3:.3g} m^-3 "
        f"make a foil {implied:.3g} nm thick, but {t:.3g} nm are claimed; a thickness of "
        f"{implied / _SUSPICIOUS:.2g} to {implied * _SUSPICIOUS:.2g} nm would fit",
    )


def _wider_than_foil(claims: Claims) -> Finding | None:
    t, d, widest = claims.thickness_nm, claims.diameter_nm, claims.largest_diameter_nm
    if t is None:
        return None
    if d is not None and d > t:
        p = claims.pixel_size_nm
        smaller = "" if p is None else f", or a pixel size of {p * t / d:.2g} nm or less"
        return Finding(
            "impossible" if d > _IMPOSSIBLE * t else "suspicious",
            f"particles of {d:.3g} nm are wider than their foil of {t:.3g} nm: both surfaces cut "
            f"them, and spheres need a foil of {d:.3g} nm or more{smaller}",
        )
    if widest is not None and widest > t:
        return Finding(
            "suspicious",
            f"the widest particle of {widest:.3g} nm is wider than the foil of {t:.3g} nm: both "
            f"surfaces cut it; is it one particle, and the foil not {widest:.3g} nm or more?",
        )
    return None


def _thick_foil(claims: Claims) -> Finding | None:
    t = claims.thickness_nm if claims.thickness_nm is not None else implied_thickness_nm(claims)
    if t is None or t <= _THICKEST_NM:
        return None
    sentence = (
        f"a foil {t:.3g} nm thick lets no electrons through for such an image; usual are 30 to "
        f"{_THICKEST_NM:.0f} nm"
    )
    fitting = fitting_pixel_sizes_nm(claims)
    if claims.thickness_nm is None and fitting is not None:
        sentence += f", which needs a pixel size of {fitting[0]:.2g} to {fitting[1]:.2g} nm"
    return Finding("impossible" if t > 10 * _THICKEST_NM else "suspicious", sentence)


def _cover(claims: Claims) -> Finding | None:
    area, n, d = claims.area_nm2, claims.count, claims.diameter_nm
    if area is None or n is None or d is None or claims.area_fraction is None:
        return None
    disc = math.pi / 4 * (d**2 + (claims.diameter_sd_nm or 0.0) ** 2)
    expected = -math.expm1(-n * disc / area)
    factor = max(expected / claims.area_fraction, claims.area_fraction / expected)
    bare = -math.log1p(-min(claims.area_fraction, 1 - 1e-9))
    pixels = math.prod(claims.field_px or (1, 1))
    fits = math.sqrt(n * disc / bare / pixels)
    return _graded(
        factor,
        f"{n:g} particles of {d:.3g} nm cover {100 * expected:.2g} % of {_field(claims)}, but "
        f"{100 * claims.area_fraction:.3g} % are claimed; that fits a pixel size of "
        f"{fits / math.sqrt(_SUSPICIOUS):.2g} to {fits * math.sqrt(_SUSPICIOUS):.2g} nm",
    )


def _line_share(claims: Claims) -> Finding | None:
    rho, t, p = claims.dislocation_density_m2, claims.thickness_nm, claims.pixel_size_nm
    if rho is None or t is None or p is None or claims.line_width_px is None:
        return None
    if claims.line_share is None:
        return None
    density = math.pi / 4 * rho * 1e-18 * t
    expected = -math.expm1(-density * claims.line_width_px * p)
    factor = max(expected / claims.line_share, claims.line_share / expected)
    fits = -math.log1p(-min(claims.line_share, 1 - 1e-9)) / (
        math.pi / 4 * rho * 1e-18 * claims.line_width_px * p
    )
    return _graded(
        factor,
        f"dislocations at {rho:.3g} m^-2 in {t:.3g} nm of foil cover {100 * expected:.2g} % of the "
        f"pixels with lines {claims.line_width_px:g} px wide, but {100 * claims.line_share:.3g} % "
        f"are claimed; that fits a foil of {fits / _SUSPICIOUS:.2g} to {fits * _SUSPICIOUS:.2g} nm",
    )


def _crowded(claims: Claims) -> Finding | None:
    for share, most, what in (
        (claims.area_fraction, _CROWDED_COVER, "particles"),
        (claims.line_share, _CROWDED_LINES, "lines"),
    ):
        if share is not None and share > most:
            return Finding(
                "suspicious",
                f"{what} cover {100 * share:.3g} % of the field: above {100 * most:g} % many hide "
                "each other, so that counts and lengths read low; or mask and background are "
                "swapped",
            )
    return None


def _packed(claims: Claims) -> Finding | None:
    n, d, sd = claims.number_density_m3, claims.diameter_nm, claims.diameter_sd_nm or 0.0
    if n is None or d is None:
        return None
    share = n * 1e-27 * math.pi / 6 * (d**3 + 3 * d * sd**2)
    if share <= _DENSE:
        return None
    return Finding(
        "impossible" if share > _DENSEST_PACKING else "suspicious",
        f"particles of {d:.3g} nm at {n:.3g} m^-3 fill {100 * share:.3g} % of the volume; spheres "
        f"can fill {100 * _DENSEST_PACKING:.0f} % at most, so this diameter needs at most "
        f"{_DENSEST_PACKING / share * n:.2g} m^-3",
    )


def _few_pixels(claims: Claims) -> Finding | None:
    p, d = claims.pixel_size_nm, claims.diameter_nm
    if p is None or d is None or d >= _FEWEST_PX * p:
        return None
    return Finding(
        "suspicious",
        f"particles of {d:.3g} nm are {d / p:.2g} pixels wide at {p:g} nm per pixel; their size "
        f"hangs on the edge of the mask below {_FEWEST_PX:g} pixels, which a pixel size of "
        f"{d / _FEWEST_PX:.2g} nm or less would give",
    )


def _close_lines(claims: Claims) -> Finding | None:
    rho = claims.dislocation_density_m2
    if rho is None:
        return None
    spacing = 1e9 / math.sqrt(rho)
    if spacing >= 10 * _CLOSEST_LINES_NM:
        return None
    return Finding(
        "impossible" if spacing < _CLOSEST_LINES_NM else "suspicious",
        f"dislocations at {rho:.3g} m^-2 are {spacing:.2g} nm apart; cold-worked metals reach "
        f"1e16 m^-2 (10 nm), and pixel size or thickness must be larger for that",
    )


def _graded(factor: float, sentence: str) -> Finding | None:
    if factor <= _SUSPICIOUS:
        return None
    return Finding("impossible" if factor > _IMPOSSIBLE else "suspicious", sentence)


def _field(claims: Claims) -> str:
    rows, columns = claims.field_px or (0, 0)
    p = claims.pixel_size_nm or 0.0
    return f"{rows * p:.4g} x {columns * p:.4g} nm ({p:g} nm per pixel)"
