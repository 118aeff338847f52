"""A console of rich for text of files: characters that a terminal obeys become escapes.

Plain lines are printed by `cli/output.py`. `tests/files/test_input_boundary.py` finds what prints in another way.
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
from stadia.process.signals import OutputClosedError, handle_output_error


class Terminal(Console):
    """A console whose texts hold no control characters; styles and cursor movements of rich stay.

    request_stop: called once where nobody reads the output any more (`stadia train 2>&1 | tee log`, whose tee Ctrl-C
        ends as well). Without it OutputClosedError is raised, which ends a command.
    """

    request_stop: Callable[[], None] | None = None

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, and call `request_stop`. Called by rich in a handler of BrokenPipeError."""
        self._stop_printing(BrokenPipeError(errno.EPIPE, "nobody reads the output"))

    def __exit__(self, *raised: Any) -> None:
        """Write what was printed. Where the terminal is closed, go on without it."""
        try:
            super().__exit__(*raised)
        except OutputClosedError:
            raise
        except OSError as error:
            self._stop_printing(error)

    def _stop_printing(self, error: OSError) -> None:
        try:
            handle_output_error(error, self._find_descriptor())
        except OutputClosedError:
            self.quiet = True
            if self.request_stop is None:
                raise
            self.request_stop()
        self.quiet = True

    def _find_descriptor(self) -> int | None:
        try:
            return self.file.fileno()
        except (OSError, AttributeError, ValueError):  # a stream in memory, or a closed one
            return None

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
