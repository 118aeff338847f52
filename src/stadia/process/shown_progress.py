"""What this process has shown: whether anything, whether progress is silent, and the last finding. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ShownProgress:
    """What bars and lines show.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last one of a training or check, as "warn K03".
    has_shown: whether the command has printed anything.
    """

    is_silent: bool = False
    finding: str = ""
    has_shown: bool = False


SHOWN_PROGRESS = ShownProgress()
"""Of this process: a command has one display at a time."""
