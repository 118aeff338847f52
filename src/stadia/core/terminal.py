"""A console of rich for text of files: characters that a terminal obeys become escapes.

Plain lines are printed by `cli/printing.py`. `tests/core/test_input_boundary.py` finds what prints in another way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from stadia.core.errors import escape_controls


class Terminal(Console):
    """A console whose texts hold no control characters; styles and cursor movements of rich stay."""

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
