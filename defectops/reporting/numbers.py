"""Numbers as a reader wants them: few digits, one power of ten a row, true minus signs, units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

UNDEFINED = "–"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """How the numbers of one row are written: divided by 10^exponent, so many decimals."""

    exponent: int = 0
    decimals: int = 2

    @property
    def factor(self) -> str:
        """The power of ten for the unit, for example ``10²¹``; empty for 1."""
        return f"10{raised(self.exponent)}" if self.exponent else ""


def raised(power: int) -> str:
    """Return an integer in superscript digits.

    >>> raised(-3)
    '⁻³'
    """
    return str(power).translate(_RAISED)


def unit_text(unit: str) -> str:
    """Return a unit of the quantity tables as it is printed; the unit 1 is not printed.

    >>> unit_text("m^-3"), unit_text("1"), unit_text("nm")
    ('m⁻³', '', 'nm')
    """
    if unit.strip() in ("", "1"):
        return ""
    return re.sub(r"\^(-?\d+)", lambda found: raised(int(found[1])), unit.strip())


def common_scale(values: Iterable[float | None]) -> Scale:
    """Return a scale that gives the largest of `values` three significant digits.

    Values from 0.001 to 9999 keep the exponent 0. Without a finite value other than zero it is
    ``Scale(0, 2)``.

    >>> common_scale([6.63e21, 5.9e21]), common_scale([14.27, None])
    (Scale(exponent=21, decimals=2), Scale(exponent=0, decimals=1))
    """
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    if not sizes:
        return Scale()
    order = math.floor(math.log10(max(sizes)))
    if -3 <= order < 4:
        return Scale(0, max(0, 2 - order))
    return Scale(order, 2)


def number(value: float | None, scale: Scale) -> str:
    """Return `value` in `scale`, an en dash if it is undefined.

    >>> number(6.63e21, Scale(21, 2)), number(-0.5, Scale(0, 1)), number(None, Scale())
    ('6.63', '−0.5', '–')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    text = f"{value / 10.0**scale.exponent:.{scale.decimals}f}"
    return _minus(text)


def column_unit(unit: str, scale: Scale) -> str:
    """Return the unit with the power of ten of its row.

    >>> column_unit("m^-3", Scale(21, 2)), column_unit("1", Scale())
    ('10²¹ m⁻³', '')
    """
    return " ".join(part for part in (scale.factor, unit_text(unit)) if part)


def quantity(value: float | None, unit: str) -> str:
    """Return a value with its unit, as it is written in a sentence.

    >>> quantity(6.63e21, "m^-3"), quantity(14.27, "nm"), quantity(None, "nm")
    ('6.63 × 10²¹ m⁻³', '14.3 nm', '–')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    scale = common_scale([value])
    times = f"{number(value, scale)} × {scale.factor}" if scale.exponent else number(value, scale)
    return " ".join(part for part in (times, unit_text(unit)) if part)


def percent(value: float | None, decimals: int = 1) -> str:
    """Return a fraction in percent, without the sign of percent.

    >>> percent(0.4434), percent(None)
    ('44.3', '–')
    """
    return number(None if value is None else 100.0 * value, Scale(0, decimals))


def signed_percent(fraction: float | None) -> str:
    """Return a relative deviation in percent with its sign.

    >>> signed_percent(0.034), signed_percent(-0.15), signed_percent(0.0)
    ('+3.4', '−15.0', '0.0')
    """
    if fraction is None or not math.isfinite(fraction):
        return UNDEFINED
    text = f"{100.0 * fraction:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else _minus(text)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> plural(1, "image"), plural(2, "image")
    ('1 image', '2 images')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _minus(text: str) -> str:
    return text.replace("-", "−")
