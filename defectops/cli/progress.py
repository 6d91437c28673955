"""How a training or a batch shows itself: a bar in a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from defectops.learning.training import EpochRecord

_SECONDS_BETWEEN_LINES = 30.0


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


@contextlib.contextmanager
def batch_progress(total: int) -> Iterator[Callable[[bool], None]]:
    """Yield a listener that is told of each image, and whether it was worked on just now.

    Speed and time left are those of fresh images: what an earlier run did cost nothing now. In a
    pipe a line appears every half a minute at most.
    """
    pace = Pace(total)
    if not sys.stderr.isatty():
        said = time.monotonic()

        def write(fresh: bool) -> None:
            nonlocal said
            pace.count(fresh)
            if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                sys.stderr.write(pace.line() + "\n")

        yield write
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(
        TextColumn("[bold]images"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("", total=total, pace="")

        def listen(fresh: bool) -> None:
            pace.count(fresh)
            bar.update(task, completed=pace.done, pace=pace.speed())

        yield listen


class Pace:
    """Counts images, and tells how many a second and how long it will still take."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._fresh = 0
        self._busy_s = 0.0
        self._clock = clock
        self._before = clock()

    def count(self, fresh: bool) -> None:
        """Count one image; only fresh ones tell about the speed."""
        now = self._clock()
        self.done += 1
        if fresh:
            self._fresh += 1
            self._busy_s += now - self._before
        self._before = now

    def speed(self) -> str:
        """Return images a second and the time left; empty before the first fresh image."""
        if not self._busy_s > 0:
            return ""
        rate = self._fresh / self._busy_s
        left = round((self.total - self.done) / rate)
        hours, minutes = divmod(left // 60, 60)
        return f"{rate:.2g} images/s, {hours}:{minutes:02}:{left % 60:02} left"

    def line(self) -> str:
        """Return the state as a line without control characters."""
        return f"images {self.done}/{self.total} {self.speed()}".rstrip()


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
