"""Ctrl-C and SIGTERM that are noticed even where Python drops the exception that they raise.

An exception that a signal handler raises while Python runs the callback of a weak reference or a
finaliser is printed and lost, and a database library runs many of them: one stop in about fifty
would go unheard.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

_Handler = Callable[[int, FrameType | None], object]


class Interruptions:
    """Remembers a signal during a block, so that `check` can raise again what it raised.

    The end of the block checks too, unless an exception is on its way already. Outside the main
    thread, and for a signal that no Python function handles, it does nothing.

    Examples
    --------
    >>> with Interruptions() as interruptions:
    ...     interruptions.check()
    """

    def __init__(self) -> None:
        self._before: dict[int, _Handler] = {}
        self._noted: int | None = None

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raise what the signal's handler raises, if there was one and we are still here."""
        if self._noted is not None:
            number, self._noted = self._noted, None
            self._before[number](number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        self._before[number](number, frame)
