"""Record the output of this process. Light to import."""

import time
from dataclasses import dataclass


@dataclass
class ShownProgress:
    """The state of the progress bars and lines of this process.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last finding of a training or check, its level and code such as "warn K03".
    shown_s: time.monotonic of the command's last line, or None.
    """

    is_silent: bool = False
    finding: str = ""
    shown_s: float | None = None

    def mark_shown(self) -> None:
        """Record that a line is printed now."""
        self.shown_s = time.monotonic()


SHOWN_PROGRESS = ShownProgress()
