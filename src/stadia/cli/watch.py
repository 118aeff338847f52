"""How far a stream of frames is: a progress bar on stderr, so that stdout stays for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stadia.evaluation.predict import Frame
    from stadia.evaluation.recordings import Watch


@contextmanager
def on_stderr() -> Iterator[Watch]:
    """Give a `Watch`; the bars of all its streams are one display."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def watch(frames: Iterable[Frame], count: int | None, name: str) -> Iterable[Frame]:
            return progress.track(frames, total=count, description=name)

        yield watch
