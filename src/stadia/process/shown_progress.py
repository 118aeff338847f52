"""What this process has shown. Light to import."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class ShownProgress:
    """What bars and lines show.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last one of a training or check, as "warn K03".
    shown_s: when the command printed its last line, by time.monotonic; None before.
    """

    is_silent: bool = False
    finding: str = ""
    shown_s: float | None = None

    def mark_shown(self) -> None:
        """Record that a line is printed now."""
        self.shown_s = time.monotonic()


SHOWN_PROGRESS = ShownProgress()
