"""How a training shows itself: a bar in a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defectops.learning.training import EpochRecord


@contextlib.contextmanager
def training_progress(name: str, epochs: int) -> Iterator[Callable[[EpochRecord], None]]:
    """Yield a listener for epoch records; everything goes to stderr."""
    if not sys.stderr.isatty():

        def write(record: EpochRecord) -> None:
            sys.stderr.write(plain_line(name, epochs, record) + "\n")

        yield write
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[scores]}"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(name, total=epochs, scores="")

        def listen(record: EpochRecord) -> None:
            bar.update(task, completed=record.epoch + 1, scores=scores(record))
            if record.stopped:
                bar.update(task, total=record.epoch + 1)

        yield listen


def plain_line(name: str, epochs: int, record: EpochRecord) -> str:
    """Return one epoch as a line without control characters."""
    return f"{name} epoch {record.epoch + 1}/{epochs} {scores(record)}"


def scores(record: EpochRecord) -> str:
    """Return what one wants to see of an epoch while waiting."""
    best = " best" if record.improved else ""
    return (
        f"loss {record.loss:.3f} IoU train {record.train_iou:.3f} dev {record.dev_iou:.3f}{best} "
        f"{record.images_per_s:.1f} images/s"
    )
