"""Find frames that hold several pictures: side by side, one above the other, or four in a square."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.datasets.image_files import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.datasets.video.video_decoding import stream_segment

log = logging.getLogger(__name__)

SAMPLES = 4  # frames, spread over the video
MIN_FRAMES = 3
MAX_SIDE_PX = 1280  # of the frames that are compared
SEAM_PX, BAND_PX = 4, 24  # half widths of the searched seam, and of the band whose jumps it must exceed
MIN_SEAM_SHARE = 0.5  # rows whose jump at the middle exceeds every other one nearby; 0.25 at most in whole pictures
MIN_LIKENESS = 0.6  # correlation of the halves of a stereo pair
MAX_SHIFT_SHARE = 0.15  # of the width, by which the pictures of a stereo pair are shifted


def measure_seam(mean: NDArray[np.float64]) -> float:
    """Return the share of rows with their largest jump at the middle column, of the mean of several frames (H, W).

    Examples:
        >>> halves = np.tile(np.repeat([10.0, 90.0], 40), (8, 1))
        >>> measure_seam(halves), measure_seam(np.tile(np.arange(80.0), (8, 1)))
        (1.0, 0.0)
    """
    middle = mean.shape[1] // 2 - 1
    jumps = np.abs(np.diff(mean, axis=1))
    seam = jumps[:, middle - SEAM_PX + 1 : middle + SEAM_PX].max(axis=1)
    near = jumps[:, middle - BAND_PX : middle - SEAM_PX], jumps[:, middle + SEAM_PX + 1 : middle + BAND_PX + 1]
    return float((seam > np.concatenate(near, axis=1).max(axis=1)).mean())


def find_layout(frames: Sequence[NDArray[np.uint8]]) -> str | None:
    """Return "left-right", "top-bottom" or "four" if frames (H, W, 3) hold several pictures, otherwise None."""
    mean = np.mean([frame.mean(axis=2) for frame in frames], axis=0)
    if min(mean.shape) < 2 * BAND_PX + 4:
        return None
    is_split = measure_seam(mean) >= MIN_SEAM_SHARE, measure_seam(mean.T) >= MIN_SEAM_SHARE
    return {(True, False): "left-right", (False, True): "top-bottom", (True, True): "four"}.get(is_split)


def are_alike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Return whether two pictures show one scene from places next to each other, as a stereo camera's do."""
    small = [
        cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (96, 64)).astype(np.float32) for image in (first, second)
    ]
    margin = round(96 * MAX_SHIFT_SHARE)
    scores = cv2.matchTemplate(small[1], small[0][2:-2, margin:-margin], cv2.TM_CCOEFF_NORMED)
    return bool(scores.max() >= MIN_LIKENESS)


CROPS = {"left-right": "iw/2:ih:0:0", "top-bottom": "iw:ih/2:0:0", "four": "iw/2:ih/2:0:0"}
"""Arguments of FFmpeg's crop for the first picture of each layout."""


@cache  # warns once per video
def warn_composite(source: Path) -> None:
    """Log a warning if the frames of a video or folder hold several pictures, with the command that crops one."""
    try:
        frames = _sample(source)
    except StadiaError:
        return  # reported by those who read the frames
    layout = find_layout(frames) if len(frames) >= MIN_FRAMES else None
    if layout is None:
        return
    height, width = frames[0].shape[:2]
    other = frames[0][:, width // 2 :] if layout == "left-right" else frames[0][height // 2 :]
    what = "two pictures side by side" if layout == "left-right" else "two pictures, one above the other"
    what = "four pictures" if layout == "four" else what
    whose = ""
    if layout != "four":
        is_stereo = are_alike(frames[0][: len(other), : other.shape[1]], other)
        whose = ", of a stereo camera" if is_stereo else ", of two cameras that look in different directions"
    name = source.stem if source.is_file() else source.name
    command = f"ffmpeg -i {source} -vf crop={CROPS[layout]} {source.with_name(f'{name}-first.mp4')}"
    log.warning("%s: each frame holds %s%s. Use one of them: %s", source, what, whose, command)


def _sample(source: Path) -> list[NDArray[np.uint8]]:
    if source.is_dir():
        images = list_images(source)
        frames = [read_rgb(image) for image in images[:: max(len(images) // SAMPLES, 1)][:SAMPLES]]
        frames = [frame for frame in frames if frame.shape == frames[0].shape]
    elif source.suffix.lower() in IMAGE_SUFFIXES:
        return []
    else:
        shares = np.arange(SAMPLES) / SAMPLES
        frames = [frame.image for share in shares for frame in islice(stream_segment(source, float(share)), 1)]
        if all(np.array_equal(frame, frames[0]) for frame in frames):  # one key frame
            frames = [frame.image for frame in islice(stream_segment(source, 0.0), 0, 30, 6)]
    scale = MAX_SIDE_PX / max((max(frame.shape) for frame in frames), default=1)
    if scale >= 1:
        return frames
    return [np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)) for frame in frames]
