"""The table of a panel: what each expert and each machine measured on each image, checked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from defectops.errors import InputRefused
from defectops.measurement.panel import Reference, reference

TRUTH, EXPERT, MACHINE = "truth", "expert", "machine"
KINDS = (TRUTH, EXPERT, MACHINE)
REQUIRED = ("image", "rater", "kind", "quantity", "value", "unit")
OPTIONAL = ("defect", "minutes")
CELL = ("defect", "image", "quantity")

_MAX_BYTES = 50_000_000
_SECONDS = 60.0
# Columns of the published tables: defect, quantity, unit, ending of the column.
_PUBLISHED: tuple[tuple[Reference, str, str, str, str], ...] = (
    ("table2_density", "dislocations", "dislocation_density_grid", "m^-2", ""),
    ("table2_density", "precipitates", "number_density", "m^-3", ""),
    ("table2_density", "voids", "number_density", "m^-3", ""),
    ("table3_diameter_nm", "precipitates", "mean_diameter", "nm", "_d"),
    ("table3_diameter_nm", "precipitates", "sd_diameter", "nm", "_sd"),
    ("table3_diameter_nm", "voids", "mean_diameter", "nm", "_d"),
    ("table3_diameter_nm", "voids", "sd_diameter", "nm", "_sd"),
)
PUBLISHED_SETS = (1, 2)


@dataclass(frozen=True, eq=False)
class Panel:
    """What a panel measured, one row a number.

    Parameters
    ----------
    values : DataFrame
        ``defect, image, quantity, unit, rater, kind, value``; ``defect`` is empty where the table
        has no such column. Numbers that were not given are absent.
    minutes : DataFrame
        ``defect, image, rater, kind, minutes``: time spent on an image, all quantities together.
    """

    values: pd.DataFrame
    minutes: pd.DataFrame


def read_panel(path: Path) -> Panel:
    """Read and check the table of a panel.

    Parameters
    ----------
    path : Path
        CSV in UTF-8, commas, with a header. Columns ``image, rater, kind, quantity, value, unit``;
        optional ``defect`` (several types on one image) and ``minutes``. ``kind`` is ``expert``,
        ``machine`` or ``truth``. An empty value was not measured.

    Raises
    ------
    InputRefused
        ``E_IO`` if it cannot be read, else ``E_PANEL`` with the row, counted as a spreadsheet does.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InputRefused(path.name, "E_IO", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _refused(path.name, "is not UTF-8; save it as CSV UTF-8") from error
    if len(data) > _MAX_BYTES:
        raise _refused(path.name, f"is larger than {_MAX_BYTES} bytes; give one panel a file")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise _refused(path.name, f"is not a CSV file: {error}") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    _check_header(path.name, header)
    records = []
    for number, line in enumerate(lines[1:], 2):
        if any(cell.strip() for cell in line):
            if len(line) != len(header):
                raise _refused(
                    path.name, f"row {number} has {len(line)} cells, the header {len(header)}"
                )
            records.append((number, dict(zip(header, (c.strip() for c in line), strict=True))))
    return _panel(path.name, records)


def published_panel() -> Panel:
    """Return the paper's Tables 2 to 4 as a panel: six raters, two sets, seven quantities.

    Roberts, G. et al., Sci. Rep. 9, 12744 (2019), doi:10.1038/s41598-019-49105-0. Images are named
    ``set 1`` and ``set 2``; the machine's minutes are segmentation and quantification together.
    """
    rows = []
    times = reference("table4_time")
    for name, defect, quantity, unit, ending in _PUBLISHED:
        table = reference(name)
        for number in PUBLISHED_SETS:
            column = table[f"{defect}_{number}{ending}"]
            for row, kind in _published_raters(table):
                spent = _published_minutes(times, f"{defect}_{number}", row)
                rows.append(
                    {
                        "defect": defect,
                        "image": f"set {number}",
                        "quantity": quantity,
                        "unit": unit,
                        "rater": row,
                        "kind": kind,
                        "value": _written(float(column[row])),
                        "minutes": _written(spent),
                    }
                )
    return _panel("published tables", enumerate(rows, 2))


def _published_raters(table: pd.DataFrame) -> list[tuple[str, str]]:
    experts = [(str(r), EXPERT) for r in table.index if str(r).startswith("expert_")]
    return [("ground_truth", TRUTH), ("prediction", MACHINE), *experts]


def _published_minutes(times: pd.DataFrame, column: str, rater: str) -> float:
    if rater == "ground_truth":
        return math.nan
    if rater == "prediction":
        return float(times.at["total_computer", column]) / _SECONDS  # type: ignore[arg-type]
    return float(times.at[rater, column])  # type: ignore[arg-type]


def _written(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _check_header(name: str, header: list[str]) -> None:
    missing = [c for c in REQUIRED if c not in header]
    unknown = [c for c in header if c not in REQUIRED + OPTIONAL]
    if missing or unknown or len(set(header)) < len(header):
        raise _refused(
            name,
            f"needs the columns {', '.join(REQUIRED)} and may have {', '.join(OPTIONAL)}, each "
            f"once; missing: {', '.join(missing) or 'none'}, unknown: "
            f"{', '.join(unknown) or 'none'}",
        )


def _panel(name: str, records: Iterable[tuple[int, Mapping[str, str]]]) -> Panel:
    """Check rows of texts against each other and turn them into numbers."""
    values: dict[tuple[str, ...], dict[str, object]] = {}
    minutes: dict[tuple[str, ...], dict[str, object]] = {}
    kinds: dict[str, str] = {}
    units: dict[tuple[str, str], str] = {}
    for number, row in records:
        where = f"row {number}"
        _check_texts(name, where, row, kinds, units)
        who = {"rater": row["rater"], "kind": row["kind"]}
        place = {"defect": row.get("defect", ""), "image": row["image"]}
        value = _number(name, where, "value", row["value"], row["kind"] == TRUTH)
        if value is not None:
            what = {"quantity": row["quantity"], "unit": row["unit"]}
            rater = "" if row["kind"] == TRUTH else row["rater"]
            key = (*place.values(), row["quantity"], rater)
            if key in values:
                raise _refused(name, f"{where}: {' '.join(filter(None, key))} is there twice")
            values[key] = {**place, **what, **who, "value": value}
        spent = _number(name, where, "minutes", row.get("minutes", ""), False)
        if spent is not None:
            given = minutes.setdefault(
                (*place.values(), row["rater"]), {**place, **who, "minutes": spent}
            )
            if given["minutes"] != spent:
                raise _refused(
                    name,
                    f"{where}: {row['rater']} spent {given['minutes']} and {spent} minutes on "
                    f"{row['image']}; give the time for the whole image, once or in each row",
                )
    return Panel(
        pd.DataFrame(values.values(), columns=[*CELL, "unit", "rater", "kind", "value"]),
        pd.DataFrame(minutes.values(), columns=["defect", "image", "rater", "kind", "minutes"]),
    )


def _check_texts(
    name: str,
    where: str,
    row: Mapping[str, str],
    kinds: dict[str, str],
    units: dict[tuple[str, str], str],
) -> None:
    empty = [c for c in ("image", "rater", "quantity", "unit") if not row[c]]
    if empty:
        raise _refused(name, f"{where}: {empty[0]} is empty")
    if row["kind"] not in KINDS:
        raise _refused(name, f"{where}: kind must be {', '.join(KINDS)}, got {row['kind']!r}")
    if kinds.setdefault(row["rater"], row["kind"]) != row["kind"]:
        raise _refused(name, f"{where}: {row['rater']} is {kinds[row['rater']]} elsewhere")
    key = (row.get("defect", ""), row["quantity"])
    if units.setdefault(key, row["unit"]) != row["unit"]:
        raise _refused(
            name,
            f"{where}: {row['quantity']} is in {row['unit']} here and in {units[key]} elsewhere; "
            "convert one of them",
        )


def _number(name: str, where: str, column: str, cell: str, positive: bool) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        wanted = "a positive number" if positive else "zero or a positive number"
        raise _refused(name, f"{where}: {column} must be {wanted}, got {cell[:40]!r}")
    return value


def _refused(name: str, message: str) -> InputRefused:
    return InputRefused(name, "E_PANEL", message)
