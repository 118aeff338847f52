"""Choose key frames by how far corners move."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.types import TrackProgress
from stadia.data.recordings import FLOW_WIDTH, MAX_STANDING_MOTION
from stadia.geometry.image_features import find_corners, measure_motion
from stadia.io.atomic_files import write_json
from stadia.io.json_files import read_json
from stadia.sfm.frame_stream import FrameStream

KEY_MOTION = 0.008
"""Median motion of corners between key frames, as a share of the width: 6 px of 800."""

MIN_KEYS = 70
FRAMES_PER_KEY = 12
MOTION_PER_KEY = 0.05
"""At most MIN_KEYS key frames, one for FRAMES_PER_KEY frames, or one for this motion, which bounds the time.

Quick turns need more: a hand-held camera moves by .07 of the width in a frame, a car by .003 to .01.
"""

LOST_MOTION = 0.15
"""Motion that counts for a frame whose corners are lost."""

SHARPEST_SHARE = 0.5
"""Middle part of the motion between key frames, from which thinning takes the sharpest one."""

MIN_STANDING_FRAMES = 8
"""A camera stands after so many frames within twice MAX_STANDING_MOTION of the first one."""

MAX_CORNERS = 100  # strongest ones of a frame that are followed

MIN_FRAMES = 3
"""Key frames of a map, at least."""

MAX_BLANK = 0.8
"""Largest share of the frames without detail."""

MIN_CORNERS = 25
"""A frame with fewer corners has no detail: sky, blur, darkness."""


@dataclass
class KeyFrames:
    """Indices of key frames, frames of a standing camera, first frames after a cut, and frames without detail.

    cuts: found by `find_cuts` once the key frames are matched.
    motion, sharpness: of each key frame, since the one before as a share of the width; deviation of the Laplacian.
    frames: number of frames of the video, with lost ones.
    """

    keys: list[int] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    standing: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    frames: int = 0


class KeyFrameSelector:
    """Select key frames in order, with two small gray images in memory.

    Motion is measured from the last key frame, so that slow motion adds up. Where tracking loses the corners, the
    frames on both sides are key frames.
    """

    def __init__(self, key_motion: float = KEY_MOTION) -> None:
        self.key_motion = key_motion
        self.found = KeyFrames()
        self._key: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._before: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still_since = self._before_index = 0

    def add(self, gray: NDArray[np.uint8], index: int | None = None) -> bool:
        """Return whether the next frame (h, w) is a key frame. Frames before its `index` were lost."""
        found = self.found
        index = found.frames if index is None else index
        found.frames = index + 1
        height = max(1, round(gray.shape[0] * FLOW_WIDTH / gray.shape[1]))
        small = cv2.resize(gray, (FLOW_WIDTH, height), interpolation=cv2.INTER_AREA)
        corners = find_corners(small)[:MAX_CORNERS]
        if len(corners) < MIN_CORNERS:
            found.blank.append(index)
        step = measure_motion(*self._before, small) if self._before is not None else 0.0
        if self._stands(small, corners, index, step):
            found.standing.append(index)
        moved = measure_motion(*self._key, small) if self._key is not None else float("inf")
        if self._key is not None and self._before is not None and not np.isfinite(moved):
            before, corners_before = self._before
            if len(corners_before) >= MIN_CORNERS and self._before_index > found.keys[-1]:
                self._keep(self._before_index, measure_motion(*self._key, before), before)
                moved = step
        self._before, self._before_index = (small, corners), index
        if moved < self.key_motion or (index and len(corners) < MIN_CORNERS):
            return False
        self._key = small, corners
        self._keep(index, moved if found.keys else 0.0, small)
        return True

    def _keep(self, index: int, motion: float, small: NDArray[np.uint8]) -> None:
        self.found.keys.append(index)
        self.found.motion.append(min(motion, LOST_MOTION))
        self.found.sharpness.append(float(cv2.Laplacian(small, cv2.CV_64F).std()))

    def _stands(self, small: NDArray[np.uint8], corners: NDArray[np.float32], index: int, step: float) -> bool:
        if (
            step >= MAX_STANDING_MOTION
            or self._still is None
            or measure_motion(*self._still, small) >= 2 * MAX_STANDING_MOTION
        ):
            self._still, self._still_since = (small, corners), index
        return index - self._still_since >= MIN_STANDING_FRAMES


def thin_keys(found: KeyFrames) -> KeyFrames:
    """Return at most as many key frames as the video can have, evenly in motion, and sharp; first and last stay.

    Examples:
        >>> many = KeyFrames(list(range(221)), [0.01] * 221, [1.0] * 221, frames=221)
        >>> len(thin_keys(many).keys), thin_keys(KeyFrames([0, 4, 9], [0.01] * 3, [1.0] * 3, frames=10)).keys
        (70, [0, 4, 9])
    """
    progress, sharpness = np.cumsum(found.motion), np.array(found.sharpness)
    most = max(MIN_KEYS, found.frames // FRAMES_PER_KEY, int(progress[-1] / MOTION_PER_KEY) if len(progress) else 0)
    if len(found.keys) <= most:
        return found
    targets = np.linspace(progress[0], progress[-1], most)
    reach = SHARPEST_SHARE * (targets[1] - targets[0]) / 2
    rows = {0, len(found.keys) - 1}
    for target in targets[1:-1]:
        first, last = np.searchsorted(progress, (target - reach, target + reach))
        nearest = int(np.abs(progress - target).argmin())
        rows.add(first + int(sharpness[first:last].argmax()) if last > first else nearest)
    kept = sorted(rows)
    return replace(
        found,
        keys=[found.keys[row] for row in kept],
        motion=[found.motion[row] for row in kept],
        sharpness=[found.sharpness[row] for row in kept],
    )


def choose_key_frames(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    """Return the key frames of an input, and keep them in the folder `work`.

    Raises DataError for a video that is too short, shows no detail, or comes from a camera that hardly moves.
    """
    keys = _select_key_frames(stream, work, track)
    if (frames := keys.frames - stream.first) < MIN_FRAMES:
        raise stream.make_no_map_error(f"{frames} frames", f"{MIN_FRAMES} or more")
    if len(keys.blank) > MAX_BLANK * frames:
        found = f"{len(keys.blank)} of {frames} frames without detail (sky, blur, darkness)"
        raise stream.make_no_map_error(found, "detail")
    if len(keys.keys) < MIN_FRAMES:
        found = f"a camera that hardly moves ({len(keys.keys)} different views)"
        raise stream.make_no_map_error(found, "a moving camera")
    return keys


def _select_key_frames(stream: FrameStream, work: Path, track: TrackProgress) -> KeyFrames:
    stored = work / "keys.json"
    if stored.is_file():
        return KeyFrames(**read_json(stored))
    selector = KeyFrameSelector()
    count = stream.count()
    if count is not None and stream.has_several_cameras:  # images of several sizes have no flow between them
        keys = list(range(stream.first, count))
        return KeyFrames(keys, [LOST_MOTION] * len(keys), [1.0] * len(keys), frames=count)
    for frame in track(stream, None if count is None else count - stream.first, "choosing key frames"):
        selector.add(frame.gray, frame.index)
    found = thin_keys(selector.found)
    write_json(stored, asdict(found))
    return found
