"""How a running study is shown: a table that renews itself in a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from defectops.cli.output import note
from defectops.cli.tune_progress import COLUMNS, Progress, View, columns_for
from defectops.errors import DefectopsError, one_line

if TYPE_CHECKING:
    from rich.console import Group

    from defectops.experiments.study_trials import Plan, StudyState

Listen = Callable[[Mapping[str, Any]], None]
Say = Callable[[Mapping[str, Any], str], None]
Look = Callable[[str], "tuple[StudyState, Plan]"]

_HEAD_LINES = 4  # the title, the header, the line below, and one for the cursor
_GAP = 3  # between two columns of Rich's simple table
_NUMBERS = {"trial", "gen", "epoch", "dev IoU", "best"}
_STYLES = {"running": "bold", "pruned": "dim", "failed": "red", "stopped": "dim", "lost": "dim"}


@contextlib.contextmanager
def study_progress(
    progress: Progress, deadline: float | None = None, look: Look | None = None
) -> Iterator[Listen]:
    """Yield a listener for events; everything goes to stderr.

    Parameters
    ----------
    progress : Progress
    deadline : float or None
        When the budget is used up, on `time.monotonic`.
    look : callable, optional
        Reads the study of a name from its store, so that what was there before, and what other
        machines do, is shown too.
    """
    with _terminal(progress, deadline) if sys.stderr.isatty() else _pipe() as say:

        def listen(event: Mapping[str, Any]) -> None:
            if look is not None and event.get("event") in {"ready", "ended"}:
                # A store that is away for a moment is the workers' business; they say so.
                with contextlib.suppress(DefectopsError):
                    progress.adopt(*look(str(event.get("study", progress.name))))
            say(event, progress.heard(event))

        yield listen


@contextlib.contextmanager
def _pipe() -> Iterator[Say]:
    def say(event: Mapping[str, Any], text: str) -> None:
        if text:
            note(text)

    yield say


@contextlib.contextmanager
def _terminal(progress: Progress, deadline: float | None) -> Iterator[Say]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)

    def render() -> Group:
        left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        room = max(console.height - _HEAD_LINES, 1)
        return drawn(progress.view(room, left), console.width)

    with Live(get_renderable=render, console=console, refresh_per_second=2) as live:

        def say(event: Mapping[str, Any], text: str) -> None:
            # The table says the rest.
            if event.get("event") == "line":
                live.console.print(one_line(text), markup=False, highlight=False)

        yield say


def drawn(view: View, width: int) -> Group:
    """Return the line and the table as Rich draws them, in the columns that fit."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = columns_for(width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in names:
        # No wrapping: a row that grows by a line would push the table beyond the screen.
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=True)
    rows = [[one_line(cell) for cell in cells[: len(names)]] for cells in view.rows]
    if names[-1] == "remark":
        _shorten_remarks(rows, width)
    for at, cells in enumerate(rows):
        style = "green" if at == view.best else _STYLES.get(cells[2], "")
        # As Text: what a reason quotes is not markup.
        table.add_row(*(Text(cell, style) for cell in cells))
    return Group(Text(one_line(view.title), "bold", no_wrap=True, overflow="ellipsis"), table)


def _shorten_remarks(rows: list[list[str]], width: int) -> None:
    """Cut the last cells to the room that the others leave; Rich would take it from all alike."""
    columns = list(zip(COLUMNS, *rows, strict=True))[:-1]
    taken = sum(max(map(len, column)) + _GAP for column in columns)
    room = max(width - taken, 1)
    for row in rows:
        if len(row[-1]) > room:
            row[-1] = row[-1][: room - 1] + "…"
