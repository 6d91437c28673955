"""How `defectops measure` shows what it found: tables in a terminal, lines in a pipe, or JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defectops.cli import output
from defectops.reporting import numbers

if TYPE_CHECKING:
    from defectops.workflows.measuring import Measured

Row = Mapping[str, Any]

_SMALLEST = 0.05  # percent; what rounds to 0.0 is not printed
# What a terminal shows; tables and JSON have all.
MAIN = (
    "areal_density",
    "number_density",
    "mean_diameter",
    "sd_diameter",
    "area_fraction",
    "projected_line_density",
    "dislocation_density_skeleton",
    "dislocation_density_grid",
    "swelling",
    "barrier_hardening",
    "taylor_hardening",
)
_QUESTIONS = {
    "material": "interval material: where the true value of the material lies",
    "model": "interval model: what this model gives on these fields; a label outside it differs",
}


def show(found: Measured, out: Path | None, json: bool) -> None:
    """Print what was found; write tables and figures where asked."""
    for text in found.notes:
        output.note(f"note: {text}")
    written: list[Path] = []
    if out is not None:
        from defectops.workflows.measuring import write_figures, write_tables

        written = [*write_tables(found, out), *write_figures(found, out)]
    if json:
        output.as_json([_finite(row) for row in found.rows])
        return
    if sys.stdout.isatty():
        _drawn(found)
    else:
        output.table(list(found.rows[0]), [[*_finite(row).values()] for row in found.rows])
    for kind in dict.fromkeys(str(row["interval"]) for row in found.rows):
        output.note(f"note: {_QUESTIONS[kind]}")
    for path in written:
        output.note(f"written: {path}")


def _drawn(found: Measured) -> None:
    """Draw the quantities of each image, and the budget of the last: the only one, or pooled."""
    for image in dict.fromkeys(row["image"] for row in found.rows):
        _quantities(str(image), [r for r in found.rows if r["image"] == image])
    last = found.rows[-1]["image"]
    title = f"{last}: standard uncertainty of the main quantities"
    own = [r for r in found.budget if r["image"] == last and r["quantity"] in MAIN]
    _budget(title, own)


def _finite(row: Row) -> dict[str, Any]:
    """Return a row without NaN and infinities, which JSON does not have."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _quantities(image: str, rows: Sequence[Row]) -> None:
    several = len({(r["source"], r["interval"]) for r in rows}) > 1
    columns = ["quantity", "value", f"{100 * rows[0]['level']:g} % interval", "unit", "n"]
    if several:
        columns[1:1] = ["source", "interval"]
    cells = []
    for row in rows:
        scale = numbers.common_scale([row["value"] or row["high"]])
        low, high = (numbers.number(row[end], scale) for end in ("low", "high"))
        line = [
            row["quantity"],
            numbers.number(row["value"], scale),
            f"{low} to {high}",
            numbers.column_unit(row["unit"], scale),
            row["n"],
        ]
        if several:
            line[1:1] = [row["source"], row["interval"]]
        cells.append(line)
    output.table(columns, cells, image)


def _budget(title: str, rows: Sequence[Row]) -> None:
    """One row a quantity: what its uncertainty is made of, the largest first."""
    cells = []
    for name in dict.fromkeys(r["quantity"] for r in rows):
        own = [r for r in rows if r["quantity"] == name and r["relative_sd_percent"] >= _SMALLEST]
        own.sort(key=lambda r: -r["relative_sd_percent"])
        total = math.hypot(*(r["relative_sd_percent"] for r in own)) if own else None
        parts = ", ".join(f"{r['component']} {_percent(r['relative_sd_percent'])}" for r in own)
        cells.append([name, _percent(total), parts or "nothing counted"])
    output.table(["quantity", "%", "made up of, in quadrature"], cells, title)


def _percent(value: float | None) -> str:
    return numbers.number(value, numbers.Scale(0, 1))
