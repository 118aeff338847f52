"""Print lines without what a terminal obeys, and show progress: bars on a terminal, lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

from stadia.core.errors import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Progress, TaskID

    from stadia.core.types import TrackProgress

T = TypeVar("T")

SLOW_START_S = 1.5
"""Time after which a command that has shown nothing prints that it loads: torch and a network take seconds."""

PHASE_S = 5.0
"""A loop that begins so long after the last line of a log has a line: nobody waits without knowing for what."""

MEASURED_S = 5.0
"""After this time the expected time of a loop is printed, if it is MIN_EXPECTED_S or more."""

MIN_EXPECTED_S = 20.0
"""An expected time below is not worth a line."""

MAX_SKIPPED = 8
"""The first items, at most a fifth of all, are not measured: they open files, load the network and compile loops."""

MIN_LATE = 8
"""Items in the later half of the measured time from which it alone is measured: the first ones still compile loops."""

END_S = 4.0
"""Time after the last frame: for the verdict, the drawing of the path, and the end of video and files."""


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes. `nl` adds a line end.

    On a terminal that is closed nothing is printed. Raises OutputClosedError if nobody reads a pipe any more.
    """
    from stadia.process.shown_progress import SHOWN_PROGRESS

    SHOWN_PROGRESS.mark_shown()
    try:
        typer.echo(escape_controls(str(text)), err=err, nl=nl)
    except OSError as error:
        from stadia.process.signals import handle_output_error

        handle_output_error(error)


@contextmanager
def note_slow_start() -> Iterator[None]:
    """Print a line on a terminal where the command of this block has shown nothing for SLOW_START_S."""
    from stadia.process.shown_progress import SHOWN_PROGRESS

    def note() -> None:
        if not (SHOWN_PROGRESS.shown_s is not None or SHOWN_PROGRESS.is_silent):
            echo("loading ...", err=True)

    SHOWN_PROGRESS.shown_s = None
    timer = threading.Timer(SLOW_START_S, note)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.is_alive():  # it may be printing: what comes next follows its line
            timer.join()


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print results on stdout, notes on stderr, and with `err` all of it there."""
    for line in lines:
        echo(line, err=err or line.startswith("note: "))


# -- progress


def make_tracker() -> TrackProgress:
    """Return a function that shows each loop by a display of its own, for a command that also trains."""
    from stadia.process.shown_progress import SHOWN_PROGRESS

    lines = ProgressLines()

    def track(items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
        lines.last_line_s = max(lines.last_line_s, SHOWN_PROGRESS.shown_s or 0.0)
        with show_progress() as shown:
            yield from (lines if isinstance(shown, ProgressLines) else shown).track(items, count, what)

    return track


@dataclass(frozen=True)
class ProgressBars:
    """Progress bars of one display. The bar of a finished loop is removed."""

    display: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """A `stadia.core.types.TrackProgress`."""
        bar = self.display.add_task(what, total=count)
        try:
            yield from self.display.track(items, task_id=bar)
        finally:
            self.display.remove_task(bar)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A `stadia.datasets.frame_store.ReportProgress`."""
        if what not in self.tasks:
            self.tasks[what] = self.display.add_task(what, total=total)
        self.display.update(self.tasks[what], completed=done, total=total)


class ProgressLines:
    """The same progress as lines, one every PAUSE_S, and one for a loop that begins PHASE_S after the last line.

    Shorter work prints none.
    """

    def __init__(self) -> None:
        self.last_line_s = time.monotonic()

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """A `stadia.core.types.TrackProgress`."""
        if (started := time.monotonic()) - self.last_line_s >= PHASE_S:
            self.last_line_s = started
            echo(f"{what} ...", err=True)
        times: list[float] = []  # of the measured items
        is_expected = False
        skipped = 1 if count is None else max(min(MAX_SKIPPED, count // 5), 1)
        for done, item in enumerate(items):
            now = time.monotonic()
            if done >= skipped and count is not None and not is_expected:
                times.append(now)
                if now - times[0] >= MEASURED_S:
                    is_expected = True
                    self._print_expected(what, count, measure_pace(times) * (count - done) + END_S)
            self.progress(what, done, count)
            yield item

    def _print_expected(self, what: str, count: int, left_s: float) -> None:
        if left_s < MIN_EXPECTED_S:
            return
        import psutil

        memory_gb = psutil.Process().memory_info().rss / 1e9
        self.last_line_s = time.monotonic()
        echo(f"expected: {what}, {count} in all: {left_s:.0f} s more; memory {memory_gb:.1f} GB", err=True)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A `stadia.datasets.frame_store.ReportProgress`."""
        from stadia.process.progress import PAUSE_S

        if (now := time.monotonic()) - self.last_line_s >= PAUSE_S:
            self.last_line_s = now
            echo(f"{what}: {done}{'' if total is None else f' of {total}'}", err=True)


class NoProgress:
    """The same interface, silent."""

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """A `stadia.core.types.TrackProgress`."""
        return items

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A `stadia.datasets.frame_store.ReportProgress`."""


def measure_pace(times: list[float]) -> float:
    """Return seconds per item, from their times, of the later half of the time where that has items enough."""
    middle = (times[0] + times[-1]) / 2
    late = [time_s for time_s in times if time_s >= middle]
    measured = late if len(late) > MIN_LATE else times
    return (measured[-1] - measured[0]) / (len(measured) - 1)


@contextmanager
def show_progress() -> Iterator[ProgressBars | ProgressLines | NoProgress]:
    """Give bars on a terminal until the block ends, lines elsewhere; nothing with `--quiet` and `--json`."""
    from stadia.process.progress import make_progress
    from stadia.process.shown_progress import SHOWN_PROGRESS
    from stadia.process.terminal import Terminal

    console = Terminal(stderr=True)
    if SHOWN_PROGRESS.is_silent:
        yield NoProgress()
    elif console.is_terminal:
        SHOWN_PROGRESS.mark_shown()
        with make_progress(console, "frames") as display:
            yield ProgressBars(display)
    else:
        yield ProgressLines()
