"""How models are shown: what is known of one, what two differ in, how they compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from defectops.cli import output

if TYPE_CHECKING:
    from defectops.workflows.comparing_models import Comparison
    from defectops.workflows.describing_models import Facts
    from defectops.workflows.verifying_models import Verified

_DIGEST = 12
_ERROR = "_error_percent"


def show_verified(found: Verified) -> None:
    """Print what was checked."""
    output.table(("check", "found"), ((c.what, c.found) for c in found.checks))
    output.line(f"{found.subject}: nothing is wrong, sha256 {found.sha256}")


def show_facts(facts: Facts) -> None:
    """Print what is known of a model, a row each; empty sections are left out."""
    rows = [
        (section, name, cell(value))
        for section, values in facts.items()
        for name, value in values.items()
    ]
    output.table(("section", "name", "value"), _once_each(rows), facts["version"]["name"])


def show_differences(rows: Sequence[Mapping[str, Any]], one: str, two: str) -> None:
    """Print what two models differ in; one line if in nothing."""
    if not rows:
        output.line(f"{one} and {two} are the same in all that they say of themselves")
        return
    cells = [(row["section"], row["name"], cell(row["a"]), cell(row["b"])) for row in rows]
    output.table(("section", "name", _short(one), _short(two)), _once_each(cells))


def show_comparison(found: Comparison, one: str, two: str) -> None:
    """Print scores and quantities of two models on the gate pack, with intervals."""
    if found.reason:
        output.line(f"not measured: {found.reason}")
        return
    scores = [
        (
            row["score"].replace(_ERROR, " error").replace("_", " "),
            _interval(row, "a", row["unit"]),
            _interval(row, "b", row["unit"]),
            _interval(row, "change", row["change_unit"], signed=True),
        )
        for row in found.scores
    ]
    over = f"{found.scores[0]['over']}, {found.draws} draws, seed {found.seed}"
    title = f"gate pack: {', '.join(found.images)}"
    output.table(("score", _short(one), _short(two), "change"), scores, title)
    output.note(
        f"95 % intervals, bootstrap over {over}; the change of an error is that of its size"
    )
    quantities = [
        (
            row["quantity"].replace("_", " "),
            row["unit"],
            *(_interval(row, side, "") for side in ("label", "a", "b")),
        )
        for row in found.quantities
    ]
    output.table(
        ("quantity", "unit", "label", _short(one), _short(two)),
        quantities,
        "quantities of the material, each with its own interval",
    )


def _short(name: str) -> str:
    return name.removeprefix("defectops-")


def cell(value: Any) -> str:
    """Return a value as a table shows it.

    >>> cell(0.123456), cell("a" * 64), cell(None), cell([8, 8])
    ('0.1235', 'aaaaaaaaaaaa', '', '8, 8')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str) and len(value) == 64 and value.isalnum():
        return value[:_DIGEST]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_place(v) if isinstance(v, Mapping) else cell(v) for v in value)
    return str(value)


def _place(place: Mapping[str, Any]) -> str:
    rows = f"{place['top']}-{place['bottom']}"
    return f"{place['image']} {rows} x {place['left']}-{place['right']}"


def _interval(row: Mapping[str, Any], name: str, unit: str, *, signed: bool = False) -> str:
    """Return ``0.61 [0.58,0.64]``, a dash where the number is undefined."""
    value = row.get(name)
    if value is None:
        return "-"
    sign = "+" if signed or unit == "%" else ""
    digits = "3f" if unit == "1" else ("1f" if unit in ("%", "percentage points") else "3g")
    shown, *ends = (
        "-" if v is None else f"{v:{sign}.{digits}}"
        for v in (value, row.get(f"{name}_low"), row.get(f"{name}_high"))
    )
    mark = {"%": " %", "percentage points": " pp"}.get(unit, "")
    # Cells are wrapped at spaces: before the interval, or inside where ends have exponents.
    return f"{shown}{mark} [{(',' if unit else ', ').join(ends)}]"


def _once_each(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Name a section in its first row only when a person reads it; a machine wants it in each."""
    if not output.is_terminal():
        return list(rows)
    shown, last = [], ""
    for section, name, *rest in rows:
        words = name.replace("_percent", " %")  # the longest names, beside two more columns
        shown.append(("" if section == last else section, words, *rest))
        last = section
    return shown
