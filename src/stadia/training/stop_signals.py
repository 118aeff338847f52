"""Stop a training in order at Ctrl-C, SIGTERM, a closed terminal, or output that nobody reads any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any, Self

from rich.console import Console

from stadia.process.signals import TERMINATIONS, discard_closed_output
from stadia.process.terminal import Terminal

_NOTE_S = 1.0
"""Time for the last note: a terminal that Ctrl-S holds would take for ever."""


class StopNow(BaseException):
    """Raised at the second signal, wherever the training is."""


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP requests a stop; a second SIGINT or SIGTERM raises StopNow.

    A closed terminal can send several SIGHUP. One that is ignored, as `nohup` starts commands, stays ignored. Output
    that nobody reads any more requests a stop too.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._is_requested = self._is_ordered = False
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._before_stop: Callable[[], None] | None = None
        self._notes: SimpleQueue[str | None] = SimpleQueue()
        self._printer = threading.Thread(target=self._print_notes, name="stop signals", daemon=True)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there can handlers be set
            self._printer.start()
            numbers = [one for one in TERMINATIONS if signal.getsignal(one) != signal.SIG_IGN]
            self._before = {one: signal.signal(one, self._handle) for one in (signal.SIGINT, *numbers)}
        if isinstance(self.console, Terminal):
            self._before_stop, self.console.request_stop = self.console.request_stop, self._request
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._printer.is_alive():
            self._notes.put(None)
            self._printer.join(_NOTE_S)
        if isinstance(self.console, Terminal):
            self.console.request_stop = self._before_stop

    def is_requested(self) -> bool:
        """Return whether a signal, or output that nobody reads, requested a stop."""
        return self._is_requested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked process of a loader: its parent decides
        if number in (signal.SIGINT, signal.SIGTERM):
            if self._is_ordered:
                raise StopNow
            self._is_ordered = True
        else:
            discard_closed_output()
        if not self._is_requested:
            self._is_requested = True
            self._notes.put("stopping at the end of this step; once more to stop at once")

    def _request(self) -> None:
        self._is_requested = True

    def _print_notes(self) -> None:
        """Print in a thread: a handler interrupts whoever holds the locks of the console and its stream."""
        while (note := self._notes.get()) is not None:
            self.console.print(note)
