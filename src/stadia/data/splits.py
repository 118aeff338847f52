"""Which frames train and which validate: split files, whole recordings, the dataset's own split, or blocks of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stadia.core.recording import LEFT, Recording


@dataclass(frozen=True)
class Frames:
    """Frames of one recording's side that become targets; their neighbours are read from the whole recording."""

    recording: Recording
    indices: Sequence[int]
    side: str = LEFT

    @classmethod
    def all_of(cls, recording: Recording, side: str = LEFT) -> Frames:
        return cls(recording, range(len(recording)), side)
