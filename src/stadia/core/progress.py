"""Functions that show progress, and what this process has shown. The module is light to import."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")


class TrackProgress(Protocol):
    """Passes items through, and shows the progress of `what` over `count` items, if the count is known."""

    def __call__(self, items: Iterable[T], count: int | None, what: str) -> Iterable[T]: ...


def no_progress(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
    """Return the items unchanged, without showing progress.

    items: the items.
    count, what: not used.
    """
    return items


PAUSE_S = float(os.environ.get("STADIA_PROGRESS_S", "30"))
"""A log gets a line at most every this many seconds while a loop runs; `stadia app` reads the lines of its processes
more often.
"""


@dataclass
class ShownProgress:
    """The state of the progress bars and lines of this process.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last finding of a training or check, its level and code such as "warn K03".
    shown_s: time.monotonic of the last printed line, at first of the start of this process.
    """

    is_silent: bool = False
    finding: str = ""
    shown_s: float = field(default_factory=time.monotonic)


SHOWN_PROGRESS = ShownProgress()
