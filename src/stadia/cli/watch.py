"""How far long work is: progress bars on stderr, so that stdout stays for results; in a log a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Progress, TaskID

T = TypeVar("T")

PAUSE_S = 30.0
"""Between two lines of a log."""


@dataclass(frozen=True)
class Bars:
    """Bars of one display. A finished loop takes its bar away: nothing is left of hundreds of recordings."""

    display: Progress
    told: dict[str, TaskID] = field(default_factory=dict)

    def watch(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """A `stadia.evaluation.watch.Watch`."""
        bar = self.display.add_task(what, total=count)
        try:
            yield from self.display.track(items, task_id=bar)
        finally:
            self.display.remove_task(bar)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A `stadia.data.cache.Progress`."""
        if what not in self.told:
            self.told[what] = self.display.add_task(what, total=total)
        self.display.update(self.told[what], completed=done, total=total)


class Lines:
    """What `Bars` shows, as a line every PAUSE_S: of work that takes less there is none."""

    def __init__(self) -> None:
        self.told_s = time.monotonic()

    def watch(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        """A `stadia.evaluation.watch.Watch`."""
        for done, item in enumerate(items):
            self.progress(what, done, count)
            yield item

    def progress(self, what: str, done: int, total: int | None) -> None:
        """A `stadia.data.cache.Progress`."""
        if (now := time.monotonic()) - self.told_s >= PAUSE_S:
            self.told_s = now
            typer.echo(f"{what}: {done}{'' if total is None else f' of {total}'}", err=True)


@contextmanager
def on_stderr() -> Iterator[Bars | Lines]:
    """Give bars that a terminal shows until the block ends; a file or a pipe gets lines."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as display:
        yield Bars(display)
