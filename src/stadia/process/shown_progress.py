"""What the progress of this process shows: whether it is silent, and the last finding. Imports nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ShownProgress:
    """What bars and lines show.

    is_silent: whether `--quiet` or `--json` silences them.
    finding: the last one of a training or check, as "warn K03".
    """

    is_silent: bool = False
    finding: str = ""


SHOWN_PROGRESS = ShownProgress()
"""Of this process: a command has one display at a time."""
