"""How far long work is: progress bars on stderr, so that stdout stays for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Progress, TaskID

T = TypeVar("T")


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


@contextmanager
def on_stderr() -> Iterator[Bars]:
    """Give bars that a terminal shows until the block ends; a file or a pipe gets none."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # in a log a bar would be an empty line
    with Progress(*columns, console=console, transient=True) as display:
        yield Bars(display)
