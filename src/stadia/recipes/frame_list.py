"""Read a list of frames to score, in the format of KITTI's Eigen split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stadia.core.errors import DataError
from stadia.core.recording import LEFT, Recording
from stadia.data.splits import read_split_file


@dataclass(frozen=True)
class FrameList:
    """Frames to score.

    indices: ascending, by recording name.
    file, sha256: identity of the list.
    """

    file: str
    sha256: str
    indices: Mapping[str, Sequence[int]]

    def to_json(self) -> dict[str, str | int]:
        """Return the metadata for a score file."""
        return {"file": self.file, "sha256": self.sha256, "count": sum(map(len, self.indices.values()))}


def read_frame_list(path: Path, recordings: Sequence[Recording]) -> FrameList:
    """Read lines `recording frame l` or `recording frame`: `2011_09_26/2011_09_26_drive_0002_sync 0000000069 l`.

    Raises DataError for a line that does not parse, for frames that `recordings` lack (the first, and their number),
    for
    repeated frames, and for right images: only left images are predicted and scored.
    """
    indices: dict[str, Sequence[int]] = {}
    for frames in read_split_file(path, recordings):
        name = frames.recording.name
        if frames.side != LEFT:
            raise DataError(
                path, found=f"right images of '{name}'", expected="left ones (`l`)", fix="remove these lines"
            )
        once = sorted(set(frames.indices))
        if repeated := len(frames.indices) - len(once):
            raise DataError(
                path,
                found=f"{repeated} frames of '{name}' twice",
                expected="each once",
                fix="remove the repeated lines",
            )
        indices[name] = once
    if not indices:
        raise DataError(path, found="an empty list", expected="a frame a line", fix="is this the right file?")
    return FrameList(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), indices)
