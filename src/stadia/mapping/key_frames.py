"""Choose key frames by how far corners move, extract features and match them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.datasets.video.frame_selection import FLOW_WIDTH, MAX_STANDING_MOTION, find_corners, measure_motion
from stadia.files.array_files import read_npz
from stadia.files.atomic_files import atomic_write
from stadia.geometry.image_features import FrameFeatures

KEY_MOTION = 0.008
"""Median motion of corners between key frames, as a share of the width: 6 px of 800."""

MIN_KEYS = 70
FRAMES_PER_KEY = 12
"""At most MIN_KEYS key frames, or one for FRAMES_PER_KEY frames, which bounds the time."""

MAX_CUT_CORRELATION = 0.3
"""Frames whose thumbnails correlate less show different scenes; neighbors reach 0.9."""

THUMBNAIL_PX = 32

MIN_STANDING_FRAMES = 8
"""A camera stands after so many frames within twice MAX_STANDING_MOTION of the first one."""

MAX_CORNERS = 100  # strongest ones of a frame that are followed

MIN_CORNERS = 25
"""A frame with fewer corners has no detail: sky, blur, darkness."""


@dataclass
class KeyFrames:
    """Indices of key frames, frames of a standing camera, first frames after a cut, and frames without detail.

    frames: number of frames of the video, with lost ones.
    """

    keys: list[int] = field(default_factory=list)
    standing: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)
    frames: int = 0


class KeyFrameSelector:
    """Select key frames in order, with two small gray images in memory.

    Motion is measured from the last key frame, so that slow motion adds up. After lost corners a key frame follows.
    """

    def __init__(self, key_motion: float = KEY_MOTION) -> None:
        self.key_motion = key_motion
        self.found = KeyFrames()
        self._key: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._before: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None
        self._still_since = 0

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
        has_detail = self._before is not None and min(len(corners), len(self._before[1])) >= MIN_CORNERS
        is_cut = self._before is not None and has_detail and _correlate(self._before[0], small) < MAX_CUT_CORRELATION
        if self._stands(small, corners, index, step):
            found.standing.append(index)
        self._before = small, corners
        if is_cut:
            found.cuts.append(index)
        moved = measure_motion(*self._key, small) if self._key is not None else float("inf")
        if (moved < self.key_motion and not is_cut) or (index and len(corners) < MIN_CORNERS):
            return False
        self._key = small, corners
        found.keys.append(index)
        return True

    def _stands(self, small: NDArray[np.uint8], corners: NDArray[np.float32], index: int, step: float) -> bool:
        if (
            step >= MAX_STANDING_MOTION
            or self._still is None
            or measure_motion(*self._still, small) >= 2 * MAX_STANDING_MOTION
        ):
            self._still, self._still_since = (small, corners), index
        return index - self._still_since >= MIN_STANDING_FRAMES


def _correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    height = max(2, round(THUMBNAIL_PX * first.shape[0] / first.shape[1]))
    thumbnails = [cv2.resize(image, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA) for image in (first, second)]
    centered = [thumbnail.astype(np.float64) - thumbnail.mean() for thumbnail in thumbnails]
    power = np.sqrt((centered[0] ** 2).sum() * (centered[1] ** 2).sum())
    return float((centered[0] * centered[1]).sum() / max(power, 1e-9))


def thin_keys(keys: list[int], frames: int) -> list[int]:
    """Return at most as many key frames as a video of `frames` can have, evenly chosen; the last one stays.

    Examples:
        >>> len(thin_keys(list(range(221)), 221)), thin_keys([0, 4, 9], 10)
        (70, [0, 4, 9])
    """
    most = max(MIN_KEYS, frames // FRAMES_PER_KEY)
    if len(keys) <= most:
        return keys
    return [keys[place] for place in np.linspace(0, len(keys) - 1, most).round().astype(int).tolist()]


OVERLAP = 7
"""Key frames that each one is matched with."""


def write_features(path: Path, features: FrameFeatures) -> None:
    """Write the features of a frame as .npz."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, xy=features.xy, descriptors=features.descriptors, colors=features.colors)


def read_features(path: Path) -> FrameFeatures:
    """Read what `write_features` wrote. Raises DataError for any other file."""
    arrays: dict[str, Any] = read_npz(path, only=("xy", "descriptors", "colors"))
    return FrameFeatures(arrays["xy"], arrays["descriptors"], arrays["colors"])


def import_pycolmap() -> Any:
    """Return the module pycolmap without its log. Raises StadiaError if it is not installed."""
    is_first = "pycolmap" not in sys.modules
    try:
        import pycolmap
    except ImportError as error:
        expected, fix = "the package pycolmap", "pip install 'stadia[map]'"
        raise StadiaError("stadia map", found="no pycolmap", expected=expected, fix=fix) from error
    pycolmap.logging.minloglevel = 3
    if is_first and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):  # its handlers print where the program was, and end it
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)
    return pycolmap


def match_key_frames(
    database: Path, files: Mapping[int, Path], camera: Any, mask: NDArray[np.bool_] | None, *, threads: int
) -> dict[int, int]:
    """Write features and matches of key frames, in the order of the video, into a new database.

    files: of `write_features`, by the index of each key frame.
    camera: a pycolmap.Camera.
    mask: (h, w), true outside the scene.

    Returns the image id of each key frame.
    """
    pycolmap = import_pycolmap()
    database.unlink(missing_ok=True)
    image_ids: dict[int, int] = {}
    with pycolmap.Database.open(str(database)) as store:
        camera_id = store.write_camera(camera)
        for index, file in sorted(files.items()):
            features = read_features(file)
            if mask is not None:
                features = features.outside(mask)
            image_id = store.write_image(pycolmap.Image(name=f"{index:08d}", camera_id=camera_id))
            rows = np.zeros((len(features.xy), 4), np.float32)
            rows[:, :2], rows[:, 2] = features.xy + 0.5, 1  # COLMAP's first pixel has its center at one half
            store.write_keypoints(image_id, rows)
            descriptors = pycolmap.FeatureDescriptors()
            descriptors.type, descriptors.data = pycolmap.FeatureExtractorType.SIFT, features.descriptors
            store.write_descriptors(image_id, descriptors)
            image_ids[index] = image_id
    matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.SequentialPairingOptions()
    matching.use_gpu, matching.num_threads = False, threads
    pairing.overlap, pairing.quadratic_overlap = OVERLAP, False
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = 0
    pycolmap.match_sequential(str(database), matching, pairing, verification)
    return image_ids
