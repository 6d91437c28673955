"""Tables as CSV that any spreadsheet opens without harm, and the same as Parquet."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from defectops.atomic import replacing, write_text

Kind = Literal["text", "whole", "real", "truth"]

NOTHING = "null"

_ARROW = {"text": pa.string(), "whole": pa.int64(), "real": pa.float64(), "truth": pa.bool_()}
RUNS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula
_UNIT = re.compile(r"(nm|m|px)(?:\^(-?\d+))?")


class Table:
    """A table that is written row by row and appears whole or not at all; use as a context.

    Parameters
    ----------
    path : Path
        Of the CSV file; the Parquet file lies beside it.
    columns : mapping of str to {"text", "whole", "real", "truth"}
        In their order.

    Notes
    -----
    CSV follows RFC 4180: comma, CRLF, quotes where needed. What is undefined or absent is
    ``null``, which pandas and R (``na.strings``) read as such: an empty cell cannot be told from
    a lost one. A text that a spreadsheet would take for a formula gets an apostrophe in front;
    numbers stay numbers. Parquet has the texts as they are, and true nulls.
    """

    def __init__(self, path: Path, columns: Mapping[str, Kind]) -> None:
        self.path = path
        self.columns = dict(columns)
        self._schema = pa.schema([(name, _ARROW[kind]) for name, kind in self.columns.items()])
        self._stack = ExitStack()

    def __enter__(self) -> Table:
        with ExitStack() as stack:
            parquet = stack.enter_context(replacing(self.path.with_suffix(".parquet")))
            text = stack.enter_context(replacing(self.path))
            stream: TextIO = stack.enter_context(text.open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(stream, lineterminator="\r\n")
            self._csv.writerow([cell(name) for name in self.columns])
            self._parquet = stack.enter_context(pq.ParquetWriter(parquet, self._schema))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type] # passed on as it came

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows; what a row does not name is empty."""
        if not rows:
            return
        plain = [{name: _plain(row.get(name)) for name in self.columns} for row in rows]
        self._csv.writerows([[cell(v) for v in row.values()] for row in plain])
        self._parquet.write_table(pa.Table.from_pylist(plain, self._schema))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a small table of texts and numbers, as `Table` does, without Parquet."""
    stream = io.StringIO()
    out = csv.writer(stream, lineterminator="\r\n")
    out.writerow(columns)
    out.writerows([cell(_plain(v)) for v in row] for row in rows)
    write_text(path, stream.getvalue())


def cell(value: object) -> str:
    """Return a value as the text of a CSV cell.

    >>> cell("=1+1"), cell(-0.5), cell(None), cell(2.0e21), cell("a.tif")
    ("'=1+1", '-0.5', 'null', '2e+21', 'a.tif')
    """
    if value is None or value == "":
        return NOTHING
    if isinstance(value, str):
        return f"'{value}" if value.startswith(RUNS) else value
    return repr(value)


def column_of(quantity: str, unit: str, end: Literal["", "low", "high"] = "") -> str:
    """Return the name of a column for a quantity: its unit is a part of it.

    >>> column_of("number_density", "m^-3", "low"), column_of("area_fraction", "1")
    ('number_density_low_per_m3', 'area_fraction')
    """
    parts = [quantity, end, _unit_in_name(unit)]
    return "_".join(part for part in parts if part)


def _unit_in_name(unit: str) -> str:
    if unit == "1":
        return ""
    match = _UNIT.fullmatch(unit)
    if match is None:
        return unit.lower()
    power = int(match[2] or 1)
    size = "" if abs(power) == 1 else str(abs(power))
    return f"{'per_' if power < 0 else ''}{match[1]}{size}"


def _plain(value: Any) -> Any:
    """Return a Python value; what is undefined is None."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
