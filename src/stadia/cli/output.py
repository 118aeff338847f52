"""Print lines without control characters, and show progress: bars on a terminal, lines in a log file."""

from __future__ import annotations

import math
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

BEAT_S = 0.5
"""Pause, seconds, between two looks at the progress of a loop whose item takes long."""

PHASE_S = 5.0
"""A loop gets a line at its start if the last line of the log file is this many seconds old."""


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes, `nl` ends the line.

    Raises OutputClosedError if nobody reads the output any more.
    """
    from stadia.core.signals import SHOWN_PROGRESS

    SHOWN_PROGRESS.mark_shown()
    try:
        typer.echo(escape_controls(str(text)), err=err, nl=nl)
    except OSError as error:
        from stadia.core.signals import handle_output_error

        handle_output_error(error)


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print results on stdout and lines that start with "note: " on stderr; with `err` print everything on stderr."""
    for line in lines:
        echo(line, err=err or line.startswith("note: "))


# -- progress


def make_tracker() -> TrackProgress:
    """Create a `TrackProgress` that opens a progress display for each loop, for a command that also trains a
    network.
    """
    from stadia.core.signals import SHOWN_PROGRESS

    lines = ProgressLines()

    def track(items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
        lines.last_line_s = max(lines.last_line_s, SHOWN_PROGRESS.shown_s or 0.0)
        with show_progress() as shown:
            yield from (lines if isinstance(shown, ProgressLines) else shown).track(items, count, what)

    return track


@dataclass(frozen=True)
class ProgressBars:
    """Progress bars in one display; the bar of a finished loop is removed.

    display: rich's progress display.
    tasks: bars of `progress` by their name.
    """

    display: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Yield the items while a bar called `what` shows how many of `count` are done (None: unknown)."""
        bar = self.display.add_task(what, total=count)
        try:
            yield from self.display.track(items, task_id=bar)
        finally:
            self.display.remove_task(bar)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Show in the bar called `what` that `done` of `total` items are done (None: unknown)."""
        if what not in self.tasks:
            self.tasks[what] = self.display.add_task(what, total=total)
        self.display.update(self.tasks[what], completed=done, total=total)


class ProgressLines:
    """Progress as lines in a log file: one at most every `pause_s` seconds (None: PAUSE_S).

    A loop that begins PHASE_S seconds after the last line gets a line at its start.
    """

    def __init__(self, pause_s: float | None = None) -> None:
        self.pause_s = pause_s
        self.last_line_s = time.monotonic() - (0.0 if pause_s is None else time.process_time())  # imports took time
        self._printing = threading.Lock()
        self._loops: list[_RunningLoop] = []

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Yield the items while lines say how many of `count` are done (None: unknown), also while one item
        takes long.
        """
        if (started := time.monotonic()) - self.last_line_s >= PHASE_S:
            self.last_line_s = started
            echo(f"{what} ...", err=True)
        running, ended = _RunningLoop(what, count, started), threading.Event()
        thread = threading.Thread(target=self._repeat, args=(running, ended), daemon=True)
        if math.isfinite(self._find_pause()):
            thread.start()
        self._loops.append(running)
        try:
            for done, item in enumerate(items):
                running.done = done
                self._print(running)
                yield item
        finally:
            ended.set()
            self._loops.remove(running)

    def _repeat(self, running: _RunningLoop, ended: threading.Event) -> None:
        while not ended.wait(BEAT_S):
            if running in self._loops[-1:]:
                self._print(running)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Print a line that `done` of `total` items of `what` are done, if the last line is old enough."""
        self._print(_RunningLoop(what, total, time.monotonic(), done))

    def _print(self, running: _RunningLoop) -> None:
        with self._printing:
            if (now := time.monotonic()) - self.last_line_s >= self._find_pause():
                self.last_line_s = now
                echo(running.describe(now), err=True)

    def _find_pause(self) -> float:
        from stadia.core.progress import PAUSE_S

        return PAUSE_S if self.pause_s is None else min(self.pause_s, PAUSE_S)


@dataclass(eq=False)
class _RunningLoop:
    what: str
    count: int | None
    started_s: float
    done: int = 0

    def describe(self, now_s: float) -> str:
        """Return what is done and how long the rest takes; the time since the start if no item is done."""
        took_s = now_s - self.started_s
        if not self.done:
            return f"{self.what}: {took_s:.0f} s"
        if self.count is None:
            return f"{self.what}: {self.done}"
        left_s = took_s * (self.count - self.done) / self.done
        return f"{self.what}: {self.done} of {self.count}{f', about {left_s:.0f} s left' if took_s else ''}"


class NoProgress:
    """The methods of `ProgressLines`, which show nothing."""

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Return the items unchanged."""
        return items

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Show nothing."""


@contextmanager
def show_progress(pause_s: float | None = None) -> Iterator[ProgressBars | ProgressLines | NoProgress]:
    """Open a progress display: bars on a terminal, lines in a log file, nothing with `--quiet` and `--json`.

    pause_s: seconds between two lines in a log file; None takes the default.
    """
    from stadia.core.progress import make_progress
    from stadia.core.signals import SHOWN_PROGRESS
    from stadia.core.terminal import Terminal

    console = Terminal(stderr=True)
    if SHOWN_PROGRESS.is_silent:
        yield NoProgress()
    elif console.is_terminal:
        SHOWN_PROGRESS.mark_shown()
        with make_progress(console, "frames") as display:
            yield ProgressBars(display)
    else:
        yield ProgressLines(pause_s)
