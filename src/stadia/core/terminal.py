"""A console of rich for text of files: characters that a terminal obeys become escapes.

Plain lines are printed by `cli/printing.py`. `tests/core/test_input_boundary.py` finds what prints in another way.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from stadia.core.errors import escape_controls


class Terminal(Console):
    """A console whose texts hold no control characters; styles and cursor movements of rich stay."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed, escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)
