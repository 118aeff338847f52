"""A console of rich that escapes control characters; requests to stop."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from stadia.core.errors import escape_controls
from stadia.core.signals import (
    SHOWN_PROGRESS,
    TERMINATIONS,
    OutputClosedError,
    discard_closed_output,
    handle_output_error,
)


class Terminal(Console):
    """A console that escapes control characters.

    request_stop: called once when nobody reads the output; without it OutputClosedError is raised.
    """

    request_stop: Callable[[], None] | None = None

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, and call `request_stop`."""
        self._stop_printing(BrokenPipeError(errno.EPIPE, "nobody reads the output"))

    def __exit__(self, *raised: Any) -> None:
        """Write the remaining output. If the terminal is closed, continue without it."""
        try:
            super().__exit__(*raised)
        except OutputClosedError:
            raise
        except OSError as error:
            self._stop_printing(error)

    def _stop_printing(self, error: OSError) -> None:
        try:
            handle_output_error(error, self._find_descriptor())
        except OutputClosedError:
            self.quiet = True
            if self.request_stop is None:
                raise
            self.request_stop()
        self.quiet = True

    def _find_descriptor(self) -> int | None:
        try:
            return self.file.fileno()
        except (OSError, AttributeError, ValueError):  # a stream in memory, or a closed one
            return None

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, escaped."""
        if not self.quiet:
            SHOWN_PROGRESS.mark_shown()
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


MIN_STEP_S = 10.0
"""A shorter step of the set-up prints no time."""


@contextmanager
def announce_step(console: Console, step: str) -> Iterator[None]:
    """Print a step of the set-up when it begins, and its time when it is done."""
    console.print(f"{step} ...", markup=False, highlight=False, soft_wrap=True)
    started = time.monotonic()
    yield
    if (seconds := time.monotonic() - started) >= MIN_STEP_S:
        console.print(f"  done in {seconds:.1f} s", markup=False, highlight=False)


class StopNow(BaseException):
    """Raised at the second signal to stop."""


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP requests a stop; a second SIGINT or SIGTERM raises StopNow.

    An ignored SIGHUP, as under `nohup`, stays ignored. A closed output requests a stop too.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._is_requested = False
        self._is_ordered = False
        self._owner = os.getpid()
        self._handlers: dict[signal.Signals, Any] = {}
        self._request_stop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # handlers can be set only there
            heard = [number for number in TERMINATIONS if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, *heard)}
        if isinstance(self.console, Terminal):
            self._request_stop = self.console.request_stop
            self.console.request_stop = self._request
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if isinstance(self.console, Terminal):
            self.console.request_stop = self._request_stop

    def is_requested(self) -> bool:
        """Return whether a signal, or a closed output, requested a stop."""
        return self._is_requested

    def _request(self) -> None:
        self._is_requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked process of a loader: its parent decides
        if number in (signal.SIGINT, signal.SIGTERM):
            if self._is_ordered:
                raise StopNow
            self._is_ordered = True
        else:
            discard_closed_output()
        if not self._is_requested and not self.console.quiet:
            with suppress(OSError):  # the console may be locked by the interrupted code
                os.write(2, b"stopping at the end of this step; once more to stop at once\n")
        self._is_requested = True
