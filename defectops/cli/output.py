"""How commands speak: results as lines, tables or JSON on stdout, never coloured when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from defectops.errors import one_line


def line(text: str) -> None:
    """Write one result line; control characters are escaped."""
    sys.stdout.write(one_line(text) + "\n")


def note(text: str) -> None:
    """Write one line of progress or warning to stderr."""
    sys.stderr.write(one_line(text) + "\n")


def as_json(data: Any) -> None:
    """Write a result for machines: one JSON document, ASCII, without NaN."""
    json.dump(data, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def is_terminal() -> bool:
    """Whether a person reads what is printed, as against a file or a program."""
    return sys.stdout.isatty()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Write a table: drawn by Rich in a terminal, tab-separated with a header when piped."""
    cells = [[one_line("" if c is None else str(c)) for c in row] for row in rows]
    if not is_terminal():
        for row in [list(columns), *cells]:
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # Folded, never cut off: what is shown can be copied.
    drawn = Table(*(Column(c, overflow="fold") for c in columns), title=title or None)
    for row in cells:
        # As Text: a file name like "[red]" is not markup.
        drawn.add_row(*(Text(c) for c in row))
    Console().print(drawn)
