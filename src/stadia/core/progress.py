"""Record what this process has shown of its progress. The module is light to import."""

import os
import time
from dataclasses import dataclass, field

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

    def mark_shown(self) -> None:
        """Record that a line is printed now."""
        self.shown_s = time.monotonic()


SHOWN_PROGRESS = ShownProgress()
