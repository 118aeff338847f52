"""Print lines without control characters, and show progress: bars on a terminal, lines in a log file."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

from stadia.core.errors import escape_controls
from stadia.core.progress import PAUSE_S, SHOWN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.progress import Progress, TaskID

T = TypeVar("T")

PHASE_S = 2.0
"""A loop gets a line at its start if the last line of the log file is this many seconds old."""


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes, `nl` ends the line.

    Raises BrokenPipeError if nobody reads the output any more.
    """
    SHOWN_PROGRESS.mark_shown()
    typer.echo(escape_controls(str(text)), err=err, nl=nl)


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print results on stdout and lines that start with "note: " on stderr; with `err` print everything on stderr."""
    for line in lines:
        echo(line, err=err or line.startswith("note: "))


# -- progress


@contextmanager
def show_progress() -> Iterator[ProgressBars | ProgressLines]:
    """Open a progress display: bars on a terminal, lines in a log file, nothing with `--quiet` and `--json`."""
    from stadia.core.terminal import Terminal, make_progress

    console = Terminal(stderr=True)
    if SHOWN_PROGRESS.is_silent or not console.is_terminal:
        yield ProgressLines()
        return
    with make_progress(console, "frames") as display:
        yield ProgressBars(display)


def track_loop(items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
    """Open a progress display for this loop alone, in a command that also trains a network (a `TrackProgress`)."""
    with show_progress() as shown:
        yield from shown.track(items, count, what)


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
    """Progress as lines in a log file: one when a loop begins, and one at most every PAUSE_S while it runs."""

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Yield the items while lines say how many of `count` are done (None: unknown)."""
        self._print(f"{what} ...", PHASE_S)
        started_s = time.monotonic()
        for done, item in enumerate(items):
            if done and count is not None:
                left_s = (time.monotonic() - started_s) * (count - done) / done
                self._print(f"{what}: {done} of {count}, about {left_s:.0f} s left", PAUSE_S)
            elif done:
                self._print(f"{what}: {done}", PAUSE_S)
            yield item

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Print a line that `done` of `total` items of `what` are done, if the last line is old enough."""
        self._print(f"{what}: {done}" if total is None else f"{what}: {done} of {total}", PAUSE_S)

    def _print(self, line: str, pause_s: float) -> None:
        if not SHOWN_PROGRESS.is_silent and time.monotonic() - SHOWN_PROGRESS.shown_s >= pause_s:
            echo(line, err=True)
