"""A console of rich for text of files: characters that a terminal obeys become escapes.

Plain lines are printed by `cli/printing.py`. `tests/core/test_input_boundary.py` finds what prints in another way.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from stadia.core.errors import escape_controls
from stadia.core.quick_stop import is_hangup_ignored, leave_closed_output


def _raise_broken_pipe() -> None:
    raise BrokenPipeError


class Terminal(Console):
    """A console whose texts hold no control characters; styles and cursor movements of rich stay.

    when_closed: called once nobody reads the output any more (`stadia train 2>&1 | tee log`, whose tee Ctrl-C ends as
        well). Raises BrokenPipeError, which ends a command; a training sets another one. Not called where `nohup`
        started the command.
    """

    when_closed: Callable[[], None] = staticmethod(_raise_broken_pipe)

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, and call `when_closed`."""
        self.quiet = True
        leave_closed_output()
        if not is_hangup_ignored():
            self.when_closed()

    def __exit__(self, *raised: Any) -> None:
        """Write what was printed. Where the terminal is closed, and no signal said so (`disown`), go on without it."""
        try:
            super().__exit__(*raised)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.quiet = True
            leave_closed_output()

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


MIN_STEP_S = 1.0
"""A step of the set-up that took less prints no time."""


@contextmanager
def announce_step(console: Console, step: str) -> Iterator[None]:
    """Print a step of the set-up when it begins, "checking the data ...", and its time when it is done."""
    console.print(f"{step} ...", markup=False, highlight=False, soft_wrap=True)
    started = time.monotonic()
    yield
    if (seconds := time.monotonic() - started) >= MIN_STEP_S:
        console.print(f"  done in {seconds:.1f} s", markup=False, highlight=False)
