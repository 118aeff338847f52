"""Match images with each other, without any model of the cameras or poses, so that the matches can judge such a model.

Following images and images that look alike are matched, so the work is linear in the number of images. The matches of a
pair are verified by its fundamental matrix, and the result is cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError, StadiaError
from stadia.core.progress import TrackProgress, no_progress
from stadia.data.frame_selection import spread_indices
from stadia.geometry.image_features import FrameFeatures, find_features, match_sift_features
from stadia.geometry.two_views import find_epipolar_inliers
from stadia.io.array_files import read_npz
from stadia.io.atomic_files import atomic_write, hold_folder
from stadia.io.image_files import IMAGE_SUFFIXES, read_rgb, read_rgb_near, read_upright_size
from stadia.io.input_files import find_cache_folder, natural_sort_key, parse_json
from stadia.io.records.reconstruction import Reconstruction
from stadia.io.video_decoding import estimate_frame_count, hash_source, stream_selected, stream_video
from stadia.sfm.pair_matching import (
    MIN_BRIDGE,
    SIMILAR_PHOTOS,
    FramePair,
    hold_features,
    is_ordered,
    list_photo_pairs,
    list_similar,
    read_features,
    write_features,
)
from stadia.sfm.reconstruction import MAX_ERROR_PX, Workers
from stadia.sfm.sparse_map import Array

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_FRAMES = 1000
"""Most frames of a video that are matched; of more, MAX_FRAMES are taken at equal distances. All images of a folder are
matched.
"""

MAX_SIDE_PX = 640
"""Longer side, pixels, of the images for features."""

MAX_FEATURES = 1000
OFFSETS = (1, 2, 3, 5, 8, 13, 21)
"""Each image of a video is matched with the ones that follow at these distances: far ones show translation, near ones
connect the images.
"""

SIMILAR = 3
"""Number of images of most similar appearance, beyond the following ones, with which each image of a video is matched.
"""

AHEAD = 8
"""Number of images or pairs that are read, computed or wait at one time."""

CACHED = 64
"""Number of images whose features are in memory at one time: those that OFFSETS reaches, twice over."""

MAX_BLACK = 4
"""Largest value of a pixel of a mask or bar; JPEG changes 0 by a few."""

EVEN_BLACK, MIN_EVEN_SHARE = 1, 0.95
"""Farther than MARGIN_PX from the edge of a mask or bar, at least this share of its pixels are at most EVEN_BLACK."""

MIN_INSIDE_SHARE = 0.25
"""Least share of the pixels of a mask or bar that are farther than MARGIN_PX from its edge; shadows are ragged."""

BLACK_WIDTH_PX = 7
"""Least width of a mask or bar, pixels of the images for features."""

MIN_BLACK_SHARE = 0.005
"""Least share of the pixels of a mask or bar."""

MARGIN_PX = 6
"""Width of the margin around a mask or bar, pixels of the images for features: JPEG changes pixels next to it."""

MIN_IMAGES = 3

VERSION = 4
"""Version of the cached file; a file of another version is not read."""

_FILE = "matches.npz"


@dataclass(frozen=True, slots=True, eq=False)
class ImageMatches:
    """Matches between the images of a folder or video, found without a camera model.

    names: M names of all images, paths relative to the folder; six-digit numbers for the frames of a video.
    sizes: (M, 2) width and height of the images, pixels.
    pairs: verified matches of pairs of images, in pixels of the images as they are. `first` and `second` count all
        images; `is_held` marks matches that take no part in triangulation, so that they can check it.
    times_s: (M,) times of the images, seconds; None if unknown.
    is_ordered: whether successive images overlap, as in a video.
    source: the folder or video; None for images that were not read from one.
    """

    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    pairs: list[FramePair]
    times_s: Array | None = None
    is_ordered: bool = True
    source: Path | None = None

    def read_images(self, wanted: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """Read some images again, (H, W, 3) RGB by their index.

        Raises DataError if the matches have no source.
        """
        if self.source is None:
            raise DataError("matches", found="no images", expected="a folder or a video", fix="match the images again")
        return {index: image for index, _, image in _read_images(self.source, sorted(set(wanted)))}


def match_images(
    images: Path | str, work: Path | None = None, track: TrackProgress = no_progress, *, workers: int | None = None
) -> ImageMatches:
    """Match the images of a folder or the frames of a video with each other, by their pixels alone.

    All images of a folder are matched, and at most MAX_FRAMES frames of a video. A second call for the same images
    reads the cached matches.

    images: a folder of images, which may have subfolders, or a video.
    work: folder for the cached matches; None takes a folder in the user's cache.
    track: shows progress.
    workers: number of threads; None takes one for each processor.

    Raises DataError if there are fewer than MIN_IMAGES images, or no pair of them matches.
    """
    source = Path(images)
    digest = hashlib.blake2b(f"{VERSION} {_hash_images(source)}".encode(), digest_size=12).hexdigest()
    with ExitStack() as closing:
        try:
            kept = work or find_cache_folder() / f"matches-{digest}"
            closing.enter_context(hold_folder(kept))
        except (StadiaError, OSError):
            if work is not None:
                raise
            kept = Path(closing.enter_context(tempfile.TemporaryDirectory()))  # a cache only saves time
        work = kept
        if (work / _FILE).is_file() and (found := _read_matches(work / _FILE, source, digest)) is not None:
            return found
        with tempfile.TemporaryDirectory(dir=work) as stages:
            found = _match(source, Path(stages), Workers(workers or os.cpu_count() or 1, track))
        _write_matches(work / _FILE, found, digest)
    return found


def list_image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder in natural order; the images of its subfolders if the folder itself has no
    images.
    """
    for listed in (folder.iterdir(), folder.rglob("*")):
        files = [path for path in listed if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
        if any(".color." in file.name for file in files):  # 7-Scenes has depth maps next to them
            files = [file for file in files if ".color." in file.name]
        if files:
            return sorted(files, key=lambda path: natural_sort_key(path.relative_to(folder), whole=True))
    return []


def check_images(reconstruction: Reconstruction, images: Path | str) -> None:
    """Check that images are those of a reconstruction, by their names and shapes, before they are matched.

    Reconstructions without names, and videos, are not checked.

    reconstruction: the result of a program.
    images: a folder of images, or a video.

    Raises DataError if these are not the images of the reconstruction.
    """
    source = Path(images)
    files = list_image_files(source) if source.is_dir() and any(reconstruction.names) else []
    if len(files) < MIN_IMAGES:
        return
    sizes = np.zeros((len(files), 2), np.int64)
    for index in spread_indices(len(files), CHECKED_SIZES):
        sizes[index] = read_upright_size(files[index])[::-1]
    reconstruction.match_images([file.relative_to(source).as_posix() for file in files], sizes)


CHECKED_SIZES = 9
"""Number of images whose size is read before all images are read."""


def _hash_images(source: Path) -> str:
    if not source.is_dir():
        return hash_source(source)
    files = [(str(path.relative_to(source)), path.stat().st_size) for path in list_image_files(source)]
    return hashlib.blake2b(repr(files).encode(), digest_size=16).hexdigest()


def _read_images(source: Path, wanted: Sequence[int]) -> Iterator[tuple[int, float | None, NDArray[np.uint8]]]:
    """Yield index, time in seconds (None if unknown) and RGB image of the wanted images of a folder or video."""
    if source.is_dir():
        files = list_image_files(source)
        yield from ((index, None, read_rgb(files[index])) for index in wanted)
    else:
        yield from ((frame.index, frame.time_s, frame.image) for frame in stream_selected(source, wanted))


def _match(source: Path, stages: Path, workers: Workers) -> ImageMatches:
    """Find features, match pairs, and return the matches in pixels of the images as they are."""
    files = list_image_files(source) if source.is_dir() else []
    count = len(files)
    if not source.is_dir():
        count = estimate_frame_count(source) or sum(1 for _ in stream_video(source))
    if count < MIN_IMAGES:
        expected, fix = f"at least {MIN_IMAGES} images that overlap", "check the path"
        raise DataError(source, found=f"{count} images", expected=expected, fix=fix)
    features, scales, times = dict[int, Path](), dict[int, Array](), dict[int, float]()
    sizes = [read_upright_size(file)[::-1] for file in files]
    chosen = range(count) if files else spread_indices(count, MAX_FRAMES)
    frames: Iterable[Any] = enumerate(files) if files else stream_selected(source, chosen)

    def extract(frame: Any) -> tuple[int, float | None, tuple[int, int], Array]:
        if files:
            (index, (image, factor)), time_s = (frame[0], read_rgb_near(frame[1], MAX_SIDE_PX)), None
        else:
            index, time_s, image, factor = frame.index, frame.time_s, frame.image, 1
        found, scale = find_image_features(image)
        features[index] = stages / f"features-{index:08d}.npz"
        write_features(features[index], found)
        return index, time_s, image.shape[1::-1], scale * factor

    with ThreadPoolExecutor(workers.threads) as pool:
        for index, time_s, size, scale in workers.track(_map_ahead(pool, extract, frames), len(chosen), "features"):
            scales[index] = scale
            times.update({} if time_s is None else {index: time_s})
            sizes = sizes or [size] * count
    found, ordered = match_features(features, scales, workers)
    if not found:
        fix = "check that the images show one scene from several places"
        raise DataError(source, found="no two images that match", expected="images that overlap", fix=fix)
    known = sorted(times)
    return ImageMatches(
        names=tuple(file.relative_to(source).as_posix() for file in files) or tuple(f"{i:06d}" for i in range(count)),
        sizes=np.array(sizes, np.int64),
        pairs=found,
        times_s=np.interp(np.arange(count), known, [times[index] for index in known]) if known else None,
        is_ordered=ordered,
        source=source,
    )


def _map_ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of all items in order, computed in threads; few items and results are in memory at one time."""
    running = deque[Future[Result]]()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) >= AHEAD:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def find_image_features(image: NDArray[np.uint8]) -> tuple[FrameFeatures, Array]:
    """Return the features of an image that is reduced to MAX_SIDE_PX, and the size (2,) of its pixels in the image."""
    height, width = image.shape[:2]
    shrink = min(1.0, MAX_SIDE_PX / max(height, width))
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    masked = find_black_parts(small)
    if masked.any():
        gray = fill_parts(gray, masked)
    features = find_features(small, gray, MAX_FEATURES)
    return features.outside(masked), np.array([width / size[0], height / size[1]])


def find_black_parts(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the parts (H, W) of an image that are masked out, bars, or outside of a lens: black, even and not small.

    They are wider than BLACK_WIDTH_PX and have at least MIN_BLACK_SHARE of the pixels. A margin of MARGIN_PX around
    them belongs to them, where JPEG and resizing mix their color with the image's. A shadow is less even.

    image: (H, W, 3) uint8 RGB.
    """
    brightest = image.max(-1)
    bordered = cv2.copyMakeBorder((brightest <= MAX_BLACK).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(bordered, cv2.MORPH_OPEN, np.ones((BLACK_WIDTH_PX, BLACK_WIDTH_PX), np.uint8))[1:-1, 1:-1]
    count, labels = cv2.connectedComponents(opened)
    areas = np.bincount(labels.ravel(), minlength=count)
    inside = cv2.erode(opened, np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8)) > 0
    insides = np.bincount(labels[inside], minlength=count)
    evens = np.bincount(labels[inside & (brightest <= EVEN_BLACK)], minlength=count)
    is_large = (areas >= MIN_BLACK_SHARE * brightest.size) & (insides >= MIN_INSIDE_SHARE * areas)
    is_masked = is_large & (evens >= MIN_EVEN_SHARE * insides)
    is_masked[0] = False
    grown = cv2.dilate(is_masked[labels].astype(np.uint8), np.ones((2 * MARGIN_PX + 1, 2 * MARGIN_PX + 1), np.uint8))
    return np.asarray(grown > 0)


def fill_parts(gray: NDArray[np.uint8], parts: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return an image (H, W) whose parts have the value of the nearest pixel outside, so that they have no edge.

    gray: (H, W) uint8.
    parts: (H, W), true on the pixels to fill.
    """
    if parts.all():
        return gray
    _, nearest = cv2.distanceTransformWithLabels(
        parts.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.uint8)
    values[nearest[~parts]] = gray[~parts]
    return np.asarray(values[nearest])


def match_features(
    files: Mapping[int, Path], scales: Mapping[int, Array], workers: Workers
) -> tuple[list[FramePair], bool]:
    """Match following images, then images that look alike.

    files: file of the features of each image by its index, from `write_features`.
    scales: size (2,) of the pixels of these features in the image, by its index.
    workers: number of threads, and how progress is shown.

    Returns the matches in pixels of the images as they are, and whether the images have an order.
    """
    keys, read = sorted(files), lru_cache(CACHED)(read_features)
    held = {key: hold_features(row + 1, len(read(files[key]).xy)) for row, key in enumerate(keys)}

    def match(ends: tuple[int, int]) -> FramePair | None:
        first, second = (read(files[end]) for end in ends)
        rows = match_sift_features(first, second)
        if len(rows) < MIN_BRIDGE:
            return None
        xy_first, xy_second = first.xy[rows[:, 0]], second.xy[rows[:, 1]]
        inliers = find_epipolar_inliers(xy_first, xy_second, MAX_ERROR_PX)
        if inliers.sum() < MIN_BRIDGE:
            return None
        is_held = held[ends[0]][rows[:, 0]] | held[ends[1]][rows[:, 1]]
        return FramePair(*ends, xy_first[inliers].astype(float), xy_second[inliers].astype(float), is_held[inliers])

    following = sorted(list_following(keys, OFFSETS))
    with ThreadPoolExecutor(workers.threads) as pool:
        found = list(workers.track(_map_ahead(pool, match, following), len(following), "matching"))
        ordered = is_ordered([pair for pair in found if pair is not None], keys)
        alike = list_similar(files, SIMILAR) if ordered else list_photo_pairs(files, SIMILAR_PHOTOS + 1)
        missing = sorted(set(alike) - set(following))
        found += list(workers.track(_map_ahead(pool, match, missing), len(missing), "matching"))
    pairs = [_enlarge(pair, scales) for pair in found if pair is not None]
    return sorted(pairs, key=lambda pair: (pair.first, pair.second)), ordered


def list_following(keys: Sequence[int], offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Pair each key with the keys that follow it at the given distances.

    Examples:
        >>> list_following([0, 4, 9], (1, 2))
        [(0, 4), (0, 9), (4, 9)]
    """
    return [(keys[row], keys[row + step]) for row in range(len(keys)) for step in offsets if row + step < len(keys)]


def _enlarge(pair: FramePair, scales: Mapping[int, Array]) -> FramePair:
    first, second = (
        ((xy + 0.5) * scales[end] - 0.5).astype(np.float32).astype(np.float64)
        for end, xy in ((pair.first, pair.xy_first), (pair.second, pair.xy_second))
    )
    return FramePair(pair.first, pair.second, first, second, pair.is_held)


def _write_matches(path: Path, found: ImageMatches, digest: str) -> None:
    head = json.dumps({"digest": digest, "names": found.names, "is_ordered": found.is_ordered})
    every = [np.column_stack((pair.xy_first, pair.xy_second)) for pair in found.pairs]
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            head=np.frombuffer(head.encode(), np.uint8),
            sizes=found.sizes,
            times_s=np.empty(0) if found.times_s is None else found.times_s,
            ends=np.array([(pair.first, pair.second) for pair in found.pairs], np.int64),
            counts=np.array([len(pair.is_held) for pair in found.pairs], np.int64),
            xy=np.concatenate(every).astype(np.float32),
            is_held=np.concatenate([pair.is_held for pair in found.pairs]),
        )


def _read_matches(path: Path, source: Path, digest: str) -> ImageMatches | None:
    """Return cached matches; None if they belong to other images."""
    arrays: dict[str, Any] = read_npz(path)
    head = parse_json(path, arrays["head"].tobytes().decode(), "matches of images")
    if head["digest"] != digest:
        return None
    stops = np.cumsum(arrays["counts"])[:-1]
    xy, is_held = np.split(arrays["xy"].astype(np.float64), stops), np.split(arrays["is_held"], stops)
    return ImageMatches(
        names=tuple(head["names"]),
        sizes=arrays["sizes"],
        pairs=[
            FramePair(first, second, places[:, :2], places[:, 2:], held)
            for (first, second), places, held in zip(arrays["ends"].tolist(), xy, is_held, strict=True)
        ],
        times_s=arrays["times_s"] if len(arrays["times_s"]) else None,
        is_ordered=head["is_ordered"],
        source=source,
    )
