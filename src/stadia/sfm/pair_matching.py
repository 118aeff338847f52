"""Find the features of key frames, match them by COLMAP, and hold out a part of the matches."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.types import TrackProgress
from stadia.geometry.image_features import FrameFeatures, describe_places, find_features
from stadia.io.array_files import read_npz
from stadia.io.atomic_files import atomic_write, write_json, write_lines
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.reconstruction import MAX_ERROR_PX, Workers
from stadia.sfm.sparse_map import Array, import_pycolmap

OVERLAP, WIDE_OVERLAP = 7, 15
"""Key frames that each one is matched with, at first and if the map misses some."""

SIMILAR = 4
"""Most similar key frames beyond the neighbors that each one is matched with if the map misses some."""

MAX_EXHAUSTIVE = 120
"""Photos without order are matched with each other up to this number; more are matched by similarity."""

SIMILAR_PHOTOS = 20
MIN_ORDERED = 0.5
"""Share of neighbors that match in images with an order."""

MIN_BRIDGE = 15
"""Matches across a cut, of COLMAP's default, below which no pair is used."""

MIN_FEATURES = 60
"""Fewer features in the median frame cannot be matched."""

MATCHES = "matches.db"

BATCH = 64
"""Pairs that are matched between two lines of progress."""

HELD_FEATURES = 0.1056
"""Share of each frame's features that take no part in mapping: (1 - .1056)^2 leaves four fifths of the matches."""


@dataclass(frozen=True, slots=True, eq=False)
class FramePair:
    """Verified matches of two key frames.

    first, second: indices of the frames.  xy_first, xy_second: (N, 2) pixels.  is_held: (N,), not used for the map.
    """

    first: int
    second: int
    xy_first: Array
    xy_second: Array
    is_held: NDArray[np.bool_]


def write_features(path: Path, features: FrameFeatures) -> None:
    """Write the features of a frame as .npz."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, xy=features.xy, descriptors=features.descriptors, colors=features.colors)


def read_features(path: Path) -> FrameFeatures:
    """Read what `write_features` wrote. Raises DataError for any other file."""
    arrays: dict[str, Any] = read_npz(path, only=("xy", "descriptors", "colors"))
    return FrameFeatures(arrays["xy"], arrays["descriptors"], arrays["colors"])


def collect_features(stream: FrameStream, keys: Sequence[int], work: Path, track: TrackProgress) -> dict[int, Path]:
    """Return the file of each key frame's features, in the folder `work`. Raises DataError if they are too few."""
    files = {index: work / f"features-{index:08d}.npz" for index in keys}
    missing = {index for index, file in files.items() if not file.is_file()}
    for frame in track(stream.select(missing), len(missing), "features") if missing else ():
        found, movable = find_features(frame.image, frame.gray), stream.find_movable(frame.index)
        write_features(files[frame.index], found if movable is None else found.outside(movable))
    count = int(np.median([len(read_features(file).xy) for file in files.values()]))
    if count < MIN_FEATURES:
        raise stream.make_no_map_error(f"only {count} features in a frame (blur, darkness, no detail)", "sharp frames")
    return files


def match_key_frames(
    work: Path,
    files: Mapping[int, Path],
    lens: Any,
    static: NDArray[np.bool_] | None,
    workers: Workers,
    *,
    is_wide: bool,
) -> list[FramePair]:
    """Return the verified matches of key frames, and keep them in COLMAP's database `work/MATCHES`.

    files: features by key frame.
    lens: the pycolmap.Camera of all key frames.
    static: (h, w), true on what never moves, whose features are left out; or None.
    is_wide: whether to match further neighbors and similar key frames too. Call it without first.
    """
    keys, database, done = sorted(files), work / MATCHES, work / f"matched-{int(is_wide)}.json"
    if not done.is_file():
        if not is_wide:
            write_database(database, files, [lens] * len(files), static)
        wanted = list_neighbors(keys, WIDE_OVERLAP if is_wide else OVERLAP)
        match_pairs(database, wanted + (list_similar(files, SIMILAR) if is_wide else []), workers)
        if not is_wide and not is_ordered(read_matches(database), keys):
            match_pairs(database, list_photo_pairs(files), workers)
        write_json(done, {"frames": len(files)})
    return read_matches(database)


def write_database(
    database: Path, files: Mapping[int, Path], cameras: Sequence[Any], mask: NDArray[np.bool_] | None
) -> None:
    """Write the features of key frames, in the order of the video, into a new database of COLMAP.

    files: of `write_features`, by the index of each key frame.  cameras: pycolmap.Camera of each, in order.
    mask: (h, w), true outside the scene.
    """
    pycolmap = import_pycolmap()
    database.unlink(missing_ok=True)
    with pycolmap.Database.open(str(database)) as store:
        for camera in {camera.camera_id: camera for camera in cameras}.values():
            store.write_camera(camera, use_camera_id=True)
        for (index, file), camera in zip(sorted(files.items()), cameras, strict=True):
            features = read_features(file)
            if mask is not None:
                features = features.outside(mask)
            image_id = store.write_image(pycolmap.Image(name=f"{index:08d}", camera_id=camera.camera_id))
            rows = np.zeros((len(features.xy), 4), np.float32)
            rows[:, :2], rows[:, 2] = features.xy + 0.5, 1  # COLMAP's first pixel has its center at one half
            store.write_keypoints(image_id, rows)
            descriptors = pycolmap.FeatureDescriptors()
            descriptors.type, descriptors.data = pycolmap.FeatureExtractorType.SIFT, features.descriptors
            store.write_descriptors(image_id, descriptors)


def match_pairs(database: Path, pairs: Iterable[tuple[int, int]], workers: Workers) -> None:
    """Match and verify pairs of key frames, by their indices; pairs that were matched before are skipped."""
    pycolmap = import_pycolmap()
    listed, wanted = database.with_suffix(".pairs"), sorted(set(pairs))
    matching, pairing = pycolmap.FeatureMatchingOptions(), pycolmap.ImportedPairingOptions()
    matching.use_gpu, matching.num_threads, pairing.match_list_path = False, workers.threads, str(listed)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed, verification.ransac.max_error = 0, MAX_ERROR_PX
    starts = range(0, len(wanted), BATCH)
    for start in workers.track(starts, len(starts), "matching"):
        write_lines(listed, [f"{first:08d} {second:08d}" for first, second in wanted[start : start + BATCH]])
        pycolmap.match_image_pairs(str(database), matching, pairing, verification)


def list_neighbors(keys: Sequence[int], overlap: int) -> list[tuple[int, int]]:
    """Return each key frame with the next ones.

    Examples:
        >>> list_neighbors([0, 4, 9], 1)
        [(0, 4), (4, 9)]
    """
    return [(keys[row], later) for row in range(len(keys)) for later in keys[row + 1 : row + 1 + overlap]]


def list_similar(files: Mapping[int, Path], count: int) -> list[tuple[int, int]]:
    """Return each key frame with the `count` most similar ones by VLAD that are no neighbors."""
    keys = sorted(files)
    places = describe_places([read_features(files[key]) for key in keys])
    similarity = places @ places.T
    rows = np.arange(len(keys))
    similarity[np.abs(rows[:, None] - rows) <= WIDE_OVERLAP] = -np.inf
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    pairs = [(row, int(other)) for row in rows.tolist() for other in nearest[row] if similarity[row, other] > -np.inf]
    return sorted({(keys[min(pair)], keys[max(pair)]) for pair in pairs})


def list_photo_pairs(files: Mapping[int, Path]) -> list[tuple[int, int]]:
    """Return the pairs to match of images without order."""
    keys = sorted(files)
    every = list_neighbors(keys, len(keys))
    return every if len(keys) <= MAX_EXHAUSTIVE else list_similar(files, SIMILAR_PHOTOS)


def is_ordered(pairs: Sequence[FramePair], keys: Sequence[int]) -> bool:
    """Return whether most neighbors match, as in a video."""
    matched = {(pair.first, pair.second) for pair in pairs if len(pair.is_held) >= MIN_BRIDGE}
    neighbors = list_neighbors(keys, 1)
    return sum(pair in matched for pair in neighbors) >= MIN_ORDERED * len(neighbors)


def find_cuts(pairs: Sequence[FramePair], keys: Sequence[int]) -> list[int]:
    """Return the key frames that no match connects with those before."""
    ends = np.searchsorted(keys, [(pair.first, pair.second) for pair in pairs if len(pair.is_held) >= MIN_BRIDGE])
    bridged = np.zeros(len(keys), bool)
    for first, second in ends.reshape(-1, 2):
        bridged[first + 1 : second + 1] = True
    return [key for key, is_bridged in zip(keys[1:], bridged[1:], strict=True) if not is_bridged]


def read_matches(database: Path) -> list[FramePair]:
    """Return the verified matches of a database of COLMAP."""
    pycolmap = import_pycolmap()
    with pycolmap.Database.open(str(database)) as store:
        images = {image.image_id: image for image in store.read_all_images()}
        xy = {key: np.asarray(store.read_keypoints(key), float)[:, :2] - 0.5 for key in images}
        ids, geometries = store.read_two_view_geometries()
    pairs = []
    for pair_id, geometry in zip(ids, geometries, strict=True):
        ends = sorted(pycolmap.pair_id_to_image_pair(pair_id))
        rows = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2).T
        if rows.size:
            first, second = (int(images[end].name) for end in ends)
            places = [xy[end][row] for end, row in zip(ends, rows, strict=True)]
            held = [_hold_features(end, len(xy[end]))[row] for end, row in zip(ends, rows, strict=True)]
            pairs.append(FramePair(first, second, places[0], places[1], held[0] | held[1]))
    return pairs


def _hold_features(image_id: int, count: int) -> NDArray[np.bool_]:
    return np.random.default_rng(image_id).random(count) < HELD_FEATURES


def hold_out(database: Path, reduced: Path) -> None:
    """Write a copy of the database without the matches that `read_matches` marks as held."""
    pycolmap = import_pycolmap()
    shutil.copyfile(database, reduced)
    with pycolmap.Database.open(str(reduced)) as store:
        counts = {image.image_id: len(store.read_keypoints(image.image_id)) for image in store.read_all_images()}
        held = {image_id: _hold_features(image_id, count) for image_id, count in counts.items()}
        ids, geometries = store.read_two_view_geometries()
        for pair_id, geometry in zip(ids, geometries, strict=True):
            first, second = sorted(pycolmap.pair_id_to_image_pair(pair_id))
            rows = np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2)
            geometry.inlier_matches = rows[~(held[first][rows[:, 0]] | held[second][rows[:, 1]])]
            store.update_two_view_geometry(first, second, geometry)
