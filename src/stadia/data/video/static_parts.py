"""Find what never moves in a video of a moving camera: black bars, which are cut off, and a hood or a watermark.

The search is done once for a video or a folder of images, with frames spread over it, and the result is cached.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError
from stadia.core.types import Recording
from stadia.data.recordings import FrameCrop
from stadia.geometry.cameras import CropWindow
from stadia.io.array_files import read_npz
from stadia.io.atomic_files import atomic_write
from stadia.io.image_files import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.io.input_files import find_cache_folder
from stadia.io.video_decoding import estimate_frame_count, hash_source, stream_segment, stream_selected

MIN_IMAGES = 12
MIN_COHERENCE = 0.9
"""An edge counts as static if its gradient is almost the same in all images.

The criterion is the length of the mean gradient over the root mean square of the gradients, which must reach this
value.
"""

MIN_EDGE = 12.0  # gray levels of the mean gradient (Sobel / 8)
MAX_CONSTANT = 2.0  # deviation of a pixel over time, gray levels, of a painted or black part
MIN_CHANGE = 6.0  # median deviation of the other pixels, without which nothing moves
MIN_AREA = 0.001  # share of the image
MAX_BLACK_GRAY = 30.0  # mean of a black bar, which may lie beside an even sky
MIN_BAR_EDGE = 0.9  # share of the edge of a black bar that never moves
MIN_SKY_GRAY = 90.0
"""A static region of the upper half of the image with a higher mean gray level is sky or a bright frame, and not
marked.
"""


SEARCH_IMAGES, SEARCH_WIDTH = 40, 800
"""Largest number of images that are compared, and the width after larger ones are shrunk.

With half of this width, even skies look static.
"""


def find_static_parts(recording: Recording) -> NDArray[np.bool_]:
    """Return a mask (H, W) bool that is true for what never moves in the images of a recording, such as the car's hood.

    It is empty if there are fewer than 12 images or if little changes in them.

    Raises DataError for an image that cannot be read.
    """
    camera = recording.camera(0)
    scale = min(1.0, SEARCH_WIDTH / camera.width)
    size = round(scale * camera.height), round(scale * camera.width)
    parts = StaticParts(*size)
    indices = np.linspace(0, len(recording) - 1, min(SEARCH_IMAGES, len(recording))).astype(int)
    for index in indices if len(indices) >= MIN_IMAGES else ():
        gray = cv2.cvtColor(recording.image(int(index)), cv2.COLOR_RGB2GRAY)
        parts.add(cv2.resize(gray, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8))
    found = parts.find().astype(np.uint8)
    return cv2.resize(found, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST_EXACT) > 0


class StaticParts:
    """Collects gray images of a video, and computes the mask of what never moves in them.

    height, width: size of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        self.count = 0
        self._sum = np.zeros((height, width))
        self._squares = np.zeros((height, width))
        self._gradient = np.zeros((2, height, width))
        self._gradient_squares = np.zeros((height, width))

    def add(self, gray: NDArray[np.uint8]) -> None:
        """Add a gray image (H, W) of the video to the sums that determine the mask."""
        values = gray.astype(np.float64)
        gradient = np.stack([cv2.Sobel(values, cv2.CV_64F, *order) / 8 for order in ((1, 0), (0, 1))])
        self.count += 1
        self._sum += values
        self._squares += values**2
        self._gradient += gradient
        self._gradient_squares += (gradient**2).sum(0)

    def find(self) -> NDArray[np.bool_]:
        """Return a mask (H, W) bool that is true for what never moved in the images that were added.

        It is empty for fewer than MIN_IMAGES images, or if little changes in the video.
        """
        nothing = np.zeros(self._sum.shape, bool)
        if self.count < MIN_IMAGES:
            return nothing
        mean = self._sum / self.count
        deviation = np.sqrt(np.maximum(self._squares / self.count - mean**2, 0))
        if np.median(deviation) < MIN_CHANGE:
            return nothing
        length = np.linalg.norm(self._gradient / self.count, axis=0)
        power = np.sqrt(self._gradient_squares / self.count)
        is_edge = (length > MIN_EDGE) & (length > MIN_COHERENCE * power)
        return _select_parts(deviation, is_edge, mean)


def _select_parts(
    deviation: NDArray[np.float64], is_edge: NDArray[np.bool_], mean: NDArray[np.float64]
) -> NDArray[np.bool_]:
    parts = np.zeros(deviation.shape, bool)
    least = MIN_AREA * deviation.size
    constant = (deviation < MAX_CONSTANT).astype(np.uint8)
    near_edge = cv2.dilate(is_edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    count, labels, stats, centers = cv2.connectedComponentsWithStats(constant, connectivity=4)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] < least:
            continue
        region = (labels == label).astype(np.uint8)
        ring = (cv2.dilate(region, np.ones((7, 7), np.uint8)) > 0) & (
            cv2.dilate(region, np.ones((3, 3), np.uint8)) == 0
        )
        border = (cv2.dilate(region, np.ones((3, 3), np.uint8)) > 0) & (region == 0)
        still_share = float(near_edge[border].mean()) if border.any() else 0.0
        is_bar = mean[region > 0].mean() < MAX_BLACK_GRAY and still_share > MIN_BAR_EDGE
        changes = ring.any() and np.median(deviation[ring]) > 3 * MAX_CONSTANT
        is_sky = centers[label][1] < len(deviation) / 2 and mean[region > 0].mean() > MIN_SKY_GRAY
        if is_bar or (changes and not is_sky):
            parts |= region > 0
    beside = cv2.dilate(parts.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    glyphs = cv2.morphologyEx((is_edge & ~beside).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(glyphs, connectivity=8)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] >= least:
            parts |= labels == label
    return parts


# -- found once for a user's video, image or folder, and kept in the cache

BLACK_GRAY = 32  # largest gray value of black bars, with the ripples that a video codec adds
MIN_BRIGHT_FRAMES = 0.1  # share of the frames in which a pixel of the picture is brighter
MAX_BLACK_SHARE, MIN_PICTURE_SHARE = 0.1, 0.5
"""Limits of the share of bright pixels in a line (row or column) of the image.

A line of a black bar has at most the first share, MAX_BLACK_SHARE; the line of the picture next to the bar has at least
the second, MIN_PICTURE_SHARE.
"""

MAX_WRITTEN_SHARE = 0.4  # share of a bar that a time stamp or subtitles may cover
MIN_BAR, MAX_BAR = 0.01, 0.45  # width of a bar over the side of the frame
MAX_EDGE_PX, MARGIN_PX, MIN_BLURRED = 5, 2, 240
"""Largest width of the blur between a black bar and the picture, in pixels.

MARGIN_PX is the number of lines of the picture that the blur affects, and MIN_BLURRED the smallest side of frames in
which blur is expected.
"""

MIN_PICTURE_PX = 64
MAX_UNEVEN = 1.5  # ratio of the two bars of a photo, because a dark scene may be taken for one bar
MIN_STATIC_SHARE = 0.002  # share of the image; a smaller static region may be a car ahead that keeps its distance
SHORT_VIDEO = 600  # frames that are decoded one after the other
VERSION = 1
"""Version of the stored results. Results of earlier versions are discarded."""


@dataclass(frozen=True, eq=False)
class StaticContent:
    """What never moves in a video of a moving camera.

    crop: window of the picture without black bars; None without bars.
    mask: (H, W) bool, inside this window, true for other static parts such as a car's hood or a watermark; None without
        them.
    """

    crop: FrameCrop | None = None
    mask: NDArray[np.bool_] | None = None


def find_static_content(source: Path) -> StaticContent:
    """Return what never moves in a video, an image or a folder of images: black bars and other static parts.

    The result is cached. It is empty if the images cannot be read.

    source: path of the video, image or folder.
    """
    try:
        return _find_static_content(source, hash_source(source))
    except (StadiaError, OSError):
        return StaticContent()  # reported by those who read the frames


@lru_cache(maxsize=64)
def _find_static_content(source: Path, content: str) -> StaticContent:
    stored = find_cache_folder() / f"static-{VERSION}-{content}.npz"
    with suppress(StadiaError, OSError, KeyError, ValueError):
        return _unpack(read_npz(stored))
    found = search_static_content(source)
    numbers: list[int] = []
    if (crop := found.crop) is not None:
        numbers = [*astuple(crop.window), crop.height, crop.width]
    mask = np.zeros((0, 0), bool) if found.mask is None else found.mask
    with suppress(StadiaError, OSError):  # a cache that cannot be written only costs time
        stored.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(stored) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, crop=np.array(numbers, np.int64), mask=mask)
    return found


def _unpack(arrays: Mapping[str, NDArray[np.generic]]) -> StaticContent:
    numbers, mask = arrays["crop"].astype(int).tolist(), np.asarray(arrays["mask"], bool)
    crop = FrameCrop(CropWindow(*numbers[:4]), *numbers[4:]) if numbers else None
    return StaticContent(crop, mask if mask.any() else None)


def sample_frames(source: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield up to `count` images (H, W, 3) of one size, spread over a video or a folder of images. An image file yields
    one.

    source: path of the video, image or folder.
    count: largest number of images.

    Raises DataError for an image that cannot be read.
    """
    size: tuple[int, ...] | None = None
    for image in _sample_all(source, count):
        size = size or image.shape
        if image.shape == size:
            yield image


def _sample_all(source: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    if source.is_dir() or source.suffix.lower() in IMAGE_SUFFIXES:
        files = list_images(source) if source.is_dir() else [source]
        for index in np.unique(np.linspace(0, len(files) - 1, count).astype(int)).tolist():
            yield read_rgb(files[index])
        return
    total, seen = estimate_frame_count(source) or SHORT_VIDEO, set[int]()
    for share in np.arange(count) / count if total > SHORT_VIDEO else ():
        frame = next(stream_segment(source, float(share)))
        if frame.index not in seen:
            yield frame.image
        seen.add(frame.index)
    if len(seen) < min(count, MIN_IMAGES):  # too short, or too few keyframes to jump to
        wanted = np.linspace(0, min(total, SHORT_VIDEO) - 1, count).astype(int)
        yield from (frame.image for frame in stream_selected(source, frozenset(wanted.tolist())))


def search_static_content(source: Path) -> StaticContent:
    """Return what never moves in a video, an image or a folder of images, without using the cache.

    Raises DataError for images that cannot be read.
    """
    bright, grays = np.zeros((0, 0), np.int64), list[NDArray[np.uint8]]()
    for image in sample_frames(source, SEARCH_IMAGES):
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        bright = (gray > BLACK_GRAY) + (bright if grays else 0)
        scale = min(1.0, SEARCH_WIDTH / gray.shape[1])
        grays.append(np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8))
    if not grays:
        return StaticContent()
    window = find_bars(bright >= max(1, MIN_BRIGHT_FRAMES * len(grays)), needs_both=len(grays) < MIN_IMAGES)
    crop = None if window is None else FrameCrop(window, *bright.shape)
    if window is not None:
        scale = grays[0].shape[1] / bright.shape[1]
        edges = (window.top, window.top + window.height, window.left, window.left + window.width)
        top, bottom, left, right = (round(scale * edge) for edge in edges)
        grays = [gray[top:bottom, left:right] for gray in grays]
    parts = StaticParts(*grays[0].shape)
    for gray in grays:
        parts.add(gray)
    mask = parts.find()
    return StaticContent(crop, mask if mask.mean() >= MIN_STATIC_SHARE else None)


def find_bars(bright: NDArray[np.bool_], *, needs_both: bool = False) -> CropWindow | None:
    """Return the window of the picture between black bars at the edges of video frames; None without bars.

    bright: (H, W) bool mask of the pixels that are brighter than black in some of the frames.
    needs_both: whether a bar counts only if there is a bar about as wide at the opposite edge.
    """
    columns = _find_edges(bright.mean(0), needs_both=needs_both)
    rows = _find_edges(bright[:, slice(*columns)].mean(1), needs_both=needs_both)
    columns = _find_edges(bright[slice(*rows)].mean(0), needs_both=needs_both)  # rows of bars make columns dark
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    if (height, width) == bright.shape or min(height, width) < MIN_PICTURE_PX:
        return None
    return CropWindow(rows[0], columns[0], height, width)


def _find_edges(share: NDArray[np.float64], *, needs_both: bool) -> tuple[int, int]:
    """Return the first line of the picture and the line after the last one, by the share of bright pixels."""
    size = len(share)
    first, last = _find_bar(share), _find_bar(share[::-1])
    if needs_both and max(first, last) > MAX_UNEVEN * min(first, last):
        first = last = 0
    return first, size - last


def _find_bar(share: NDArray[np.float64]) -> int:
    size, found = len(share), 0
    for line in np.flatnonzero(share[: int(MAX_BAR * size)] <= MAX_BLACK_SHARE).tolist():
        picture = np.flatnonzero(share[line + 1 : line + 1 + MAX_EDGE_PX] >= MIN_PICTURE_SHARE)
        if len(picture) and share[: line + 1].mean() <= MAX_WRITTEN_SHARE:
            found = line + 1 + int(picture[0])
    if found < max(MIN_BAR * size, 2):
        return 0
    return found + (MARGIN_PX if size >= MIN_BLURRED else 0)
