"""A console of rich that escapes control characters, its progress bars, and requests to stop a training."""

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
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from stadia.core.errors import clean_text
from stadia.core.progress import SHOWN_PROGRESS
from stadia.core.signals import TERMINATIONS


class Terminal(Console):
    """A console that escapes control characters.

    request_stop: called if nobody reads the output; without it BrokenPipeError is raised.
    """

    request_stop: Callable[[], None] | None = None

    def on_broken_pipe(self) -> None:
        """Discard the output from now on, and call `request_stop`."""
        self.quiet = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())
        os.close(null)
        if self.request_stop is None:
            raise BrokenPipeError(errno.EPIPE, "nobody reads the output")
        self.request_stop()

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, escaped."""
        if not self.quiet:
            SHOWN_PROGRESS.shown_s = time.monotonic()
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(clean_text(segment.text), segment.style)


MIN_STEP_S = 10.0
"""A shorter step of the set-up prints no time."""


@contextmanager
def announce_step(console: Console, step: str) -> Iterator[None]:
    """Print a step of the set-up when it begins, and its time when it is done; nothing with `--quiet` and `--json`."""
    is_shown = not SHOWN_PROGRESS.is_silent
    if is_shown:
        console.print(f"{step} ...", markup=False, highlight=False, soft_wrap=True)
    started = time.monotonic()
    yield
    if is_shown and (seconds := time.monotonic() - started) >= MIN_STEP_S:
        console.print(f"  done in {seconds:.1f} s", markup=False, highlight=False)


# -- progress bars


class SpeedColumn(ProgressColumn):
    """Units a second.

    unit: plural, as "frames".
    """

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed; the unit alone before it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {self.unit}/s" if speed else self.unit, style="progress.data.speed")


class FindingColumn(ProgressColumn):
    """The last finding."""

    def render(self, task: Task) -> Text:
        """Return it in a line; "" before there is one."""
        return Text(SHOWN_PROGRESS.finding, style="yellow", overflow="ellipsis", no_wrap=True)


def make_progress(console: Console, unit: str, *columns: ProgressColumn, transient: bool = True) -> Progress:
    """Return the display of bars; it shows nothing without a terminal.

    unit: unit of the items, plural.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        SpeedColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        FindingColumn(),
        console=console,
        transient=transient,
        disable=SHOWN_PROGRESS.is_silent or not console.is_terminal,
    )


# -- requests to stop


class StopNow(BaseException):
    """Raised at the second signal to stop."""


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP requests a stop; a following SIGINT or SIGTERM raises StopNow.

    An ignored signal, such as SIGHUP under `nohup`, stays ignored. A closed output requests a stop too.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._is_requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # handlers can be set only there
            heard = [each for each in (signal.SIGINT, *TERMINATIONS) if signal.getsignal(each) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, self._handle) for number in heard}
        if isinstance(self.console, Terminal):
            self.console.request_stop = self._request
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if isinstance(self.console, Terminal):
            self.console.request_stop = None

    def is_requested(self) -> bool:
        """Return whether a signal, or a closed output, requested a stop."""
        return self._is_requested

    def _request(self) -> None:
        self._is_requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number not in (signal.SIGINT, signal.SIGTERM):  # the terminal is closed
            self.console.quiet = True
        elif self._is_requested:
            raise StopNow
        elif not self.console.quiet:
            with suppress(OSError):  # the console may be locked by the interrupted code
                os.write(2, b"stopping at the end of this step; once more to stop at once\n")
        self._is_requested = True
