"""Print lines without control characters, and show progress: bars on a terminal, lines in a log file."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

from stadia.core.errors import clean_text
from stadia.core.progress import PAUSE_S, SHOWN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from stadia.judge.purposes import PurposeVerdict

T = TypeVar("T")

SILENCE_S = 4.5
"""A log gets a line with the elapsed time if none came for this many seconds, and is checked every WATCH_S."""

WATCH_S = 0.25

PHASE_S = 2.0
"""A loop gets a line at its start if the last line of the log file is this many seconds old."""


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text on stdout, or on stderr with `err`; control characters become escapes, `nl` ends the line.

    Raises BrokenPipeError if nobody reads the output any more.
    """
    SHOWN_PROGRESS.shown_s = time.monotonic()
    typer.echo(clean_text(str(text)), err=err, nl=nl)


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print results on stdout and lines that start with "note: " on stderr; with `err` print everything on stderr."""
    for line in lines:
        echo(line, err=err or line.startswith("note: "))


def list_purposes(purposes: Sequence[PurposeVerdict], width: int = 17) -> Iterator[str]:
    """Yield a line for each purpose: those that hold, those that do not, and those that are open.

    purposes: the purposes.
    width: number of letters of the first column.
    """
    for holds, words in ((True, "good for"), (False, "not good for"), (None, "open")):
        for purpose in purposes:
            if purpose.holds is holds:
                yield f"  {words + ':':{width}}{purpose.purpose.key} ({purpose.reason})"


# -- progress


@contextmanager
def show_progress(idle: str = "working") -> Iterator[ProgressBars | ProgressLines]:
    """Open a progress display: bars on a terminal, lines in a log file, nothing with `--quiet` and `--json`.

    idle: what the command does between its loops.
    """
    from stadia.core.terminal import Terminal, make_progress

    console = Terminal(stderr=True)
    if SHOWN_PROGRESS.is_silent or not console.is_terminal:
        lines = ProgressLines(idle)
        with lines.watch():
            yield lines
        return
    with make_progress(console, "frames") as display:
        yield ProgressBars(display, display.add_task(idle, total=None))


def track_loop(items: Iterable[T], count: int | None, what: str) -> Iterator[T]:
    """Show the progress of one loop, in a command that also trains a network. It is a `TrackProgress`."""
    with show_progress() as shown:
        yield from shown.track(items, count, what)


@dataclass(frozen=True)
class ProgressBars:
    """Progress bars in one display; the bar of a finished loop is removed.

    display: rich's progress display.
    idle: the bar that shows the elapsed time while no other bar is shown.
    tasks: bars of `progress` by their name.
    """

    display: Progress
    idle: TaskID
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Yield the items while a bar called `what` shows how many of `count` are done (None: unknown)."""
        bar = self.display.add_task(what, total=count)
        self.display.update(self.idle, visible=False)
        try:
            yield from self.display.track(items, task_id=bar)
        finally:
            self.display.remove_task(bar)
            self.display.update(self.idle, visible=len(self.display.tasks) == 1)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Show in the bar called `what` that `done` of `total` items are done (None: unknown)."""
        if what not in self.tasks:
            self.tasks[what] = self.display.add_task(what, total=total)
        self.display.update(self.tasks[what], completed=done, total=total)


@dataclass
class Stage:
    """A loop that runs now.

    what: its name.
    count: number of its items; None if unknown.
    started_s: time.monotonic of its start.
    done: number of finished items.
    """

    what: str
    count: int | None
    started_s: float
    done: int = 0

    def describe(self, now_s: float) -> str:
        """Return a line with the elapsed time and, if it can be estimated, the remaining time."""
        spent_s = now_s - self.started_s
        if self.count is None or self.count < 2:
            return f"{self.what}: {f'{self.done}, ' if self.done else ''}{spent_s:.0f} s so far"
        left = f", about {spent_s * (self.count - self.done) / self.done:.0f} s left" if self.done else ""
        return f"{self.what}: {self.done} of {self.count}, {spent_s:.0f} s so far{left}"


class ProgressLines:
    """Progress as lines in a log file: one when a loop begins, and one every SILENCE_S while no other line comes."""

    def __init__(self, idle: str) -> None:
        self.stages = [Stage(idle, None, time.monotonic())]

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Print a line, in a thread of its own, whenever none came for SILENCE_S."""
        has_ended = threading.Event()

        def print_when_silent() -> None:
            while not has_ended.wait(WATCH_S):
                self._print(self.stages[-1].describe(time.monotonic()), SILENCE_S)

        thread = threading.Thread(target=print_when_silent, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join()

    def track(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """Yield the items while lines show how many of `count` are done (None: unknown)."""
        self._print(f"{what} ...", PHASE_S)
        stage = Stage(what, count, time.monotonic())
        self.stages.append(stage)
        try:
            for stage.done, item in enumerate(items):
                if stage.done:
                    self._print(stage.describe(time.monotonic()), PAUSE_S)
                yield item
        finally:
            self.stages.remove(stage)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Print a line that `done` of `total` items of `what` are done, if the last line is old enough."""
        self._print(f"{what}: {done}" if total is None else f"{what}: {done} of {total}", PAUSE_S)

    def _print(self, line: str, pause_s: float) -> None:
        if not SHOWN_PROGRESS.is_silent and time.monotonic() - SHOWN_PROGRESS.shown_s >= pause_s:
            echo(line, err=True)
