"""Find the features of keyframes, match them by COLMAP, and hold out a part of the matches to check the map with."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.progress import TrackProgress
from stadia.geometry.image_features import FrameFeatures, describe_places, find_features
from stadia.io.array_files import read_npz
from stadia.io.atomic_files import atomic_write, write_json, write_lines
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.reconstruction import MAX_ERROR_PX, Workers
from stadia.sfm.sparse_map import Array, import_pycolmap

OVERLAP, WIDE_OVERLAP = 7, 15
"""Number of following keyframes with which each keyframe is matched: OVERLAP at first, WIDE_OVERLAP if the first map
leaves out keyframes.
"""

SIMILAR = 4
"""Number of keyframes with the most similar appearance, beyond the neighbors, with which each is matched if the first
map leaves out keyframes.
"""

MAX_EXHAUSTIVE = 120
"""Most photos without order that are matched all with each other; of more, each is matched with SIMILAR_PHOTOS similar
ones.
"""

SIMILAR_PHOTOS = 20
SIMILARITY_ROWS = 512
"""Number of images whose similarity with all others is in memory at one time."""

MIN_ORDERED = 0.5
"""Share of the pairs of successive images that must match for images to count as ordered (a video)."""

MIN_NEXT, BEST_SHARE = 0.5, 0.8
"""Share of the images that must match the one before or after them nearly best for images to count as ordered, and the
least share of the best number of matches: numbers of matches scatter in a slow video.
"""

MIN_BRIDGE = 15
"""Fewest verified matches of a pair of keyframes that connects them; with no such pair across a place, it is a cut.
COLMAP's default.
"""

MIN_FEATURES = 60
"""A map is tried if the median keyframe has at least this many features."""

MATCHES = "matches.db"

BATCH = 64
"""Number of pairs that are matched between two updates of the progress."""

HELD_FEATURES = 0.1056
"""Share of each keyframe's features that take no part in mapping, so that their matches can check the map; (1 -
.1056)^2 leaves four fifths of the matches.
"""


@dataclass(frozen=True, slots=True, eq=False)
class FramePair:
    """Geometrically verified matches of two keyframes.

    first, second: frame indices of both keyframes.
    xy_first, xy_second: (N, 2) pixels of the matches in the first and in the second keyframe.
    is_held: (N,), true for matches that were held out of the mapping.
    """

    first: int
    second: int
    xy_first: Array
    xy_second: Array
    is_held: NDArray[np.bool_]


def write_features(path: Path, features: FrameFeatures) -> None:
    """Write the features of a frame (pixels, descriptors, colors) as an .npz file."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, xy=features.xy, descriptors=features.descriptors, colors=features.colors)


def read_features(path: Path) -> FrameFeatures:
    """Read the features of a frame that `write_features` wrote.

    Raises DataError for any other file.
    """
    arrays: dict[str, Any] = read_npz(path, only=("xy", "descriptors", "colors"))
    return FrameFeatures(arrays["xy"], arrays["descriptors"], arrays["colors"])


def collect_features(stream: FrameStream, keys: Sequence[int], work: Path, track: TrackProgress) -> dict[int, Path]:
    """Find the features of all keyframes, and write them into files; existing files are kept.

    stream: the frames.
    keys: indices of the keyframes.
    work: folder for the files.
    track: shows progress.

    Returns the file of each keyframe by its index.

    Raises DataError if the median keyframe has fewer than MIN_FEATURES features.
    """
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
    """Match keyframes, and store the verified matches in COLMAP's database `work/MATCHES`.

    work: folder of the database.
    files: feature file of each keyframe, by frame index.
    lens: the pycolmap.Camera of all keyframes.
    static: (h, w), true on pixels that show the same all along, whose features are left out; or None.
    workers: number of threads, and how progress is shown.
    is_wide: false for the first call, which matches neighbors; true for a second call, which adds farther neighbors and
        keyframes of similar appearance.

    Returns all verified matches in the database.
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
    """Create a COLMAP database with the features of keyframes, in the order of the video.

    database: path of the file; an existing one is replaced.
    files: feature file of each keyframe, by frame index.
    cameras: the pycolmap.Camera of each keyframe, in the order of the indices.
    mask: (h, w), true on pixels whose features are left out; or None.
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
    """Match pairs of keyframes and verify the matches geometrically; pairs that the database has already are skipped.

    database: COLMAP database with the features.
    pairs: pairs of frame indices.
    workers: number of threads, and how progress is shown.
    """
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
    """Pair each keyframe with the `overlap` keyframes after it.

    Examples:
        >>> list_neighbors([0, 4, 9], 1)
        [(0, 4), (4, 9)]
    """
    return [(keys[row], later) for row in range(len(keys)) for later in keys[row + 1 : row + 1 + overlap]]


class FeatureFiles(Sequence[FrameFeatures]):
    """The features of images in their files; each is read when it is used."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Keep the paths.

        files: files that `write_features` wrote.
        """
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return FeatureFiles(self.files[row])
        return read_features(self.files[row])


def list_similar(files: Mapping[int, Path], count: int, min_gap: int = WIDE_OVERLAP + 1) -> list[tuple[int, int]]:
    """Pair each keyframe with the `count` keyframes of most similar appearance (VLAD) among those at least `min_gap`
    apart.

    files: feature file of each keyframe, by frame index.
    count: number of similar keyframes for each.
    min_gap: least difference of their positions in the order.
    """
    keys = sorted(files)
    places, rows, pairs = describe_places(FeatureFiles([files[key] for key in keys])), np.arange(len(keys)), []
    for start in range(0, len(keys), SIMILARITY_ROWS):
        block = rows[start : start + SIMILARITY_ROWS]
        similarity = places[block] @ places.T
        similarity[np.abs(block[:, None] - rows) < max(min_gap, 1)] = -np.inf
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        found = np.column_stack((np.repeat(block, nearest.shape[1]), nearest.ravel()))
        pairs.append(found[np.isfinite(np.take_along_axis(similarity, nearest, 1)).ravel()])
    return sorted(
        {(keys[min(pair)], keys[max(pair)]) for pair in np.concatenate(pairs or [np.empty((0, 2), int)]).tolist()}
    )


def list_photo_pairs(files: Mapping[int, Path], max_exhaustive: int = MAX_EXHAUSTIVE) -> list[tuple[int, int]]:
    """List the pairs of photos to match if the photos have no order: all pairs of few photos, similar ones of many.

    files: feature file of each photo, by its index.
    max_exhaustive: most photos that are matched all with each other.
    """
    keys = sorted(files)
    every = list_neighbors(keys, len(keys)) if len(keys) <= max_exhaustive else []
    return every or list_similar(files, SIMILAR_PHOTOS, min_gap=1)


def is_ordered(pairs: Sequence[FramePair], keys: Sequence[int]) -> bool:
    """Return whether images have the order of a video.

    At least MIN_ORDERED of the successive keyframes match. At least MIN_NEXT of the matching keyframes match the one
    before or after them nearly best (BEST_SHARE).
    """
    counts = {(pair.first, pair.second): len(pair.is_held) for pair in pairs if len(pair.is_held) >= MIN_BRIDGE}
    neighbors = list_neighbors(keys, 1)
    best, nearest = dict[int, int](), dict[int, int]()
    for ends, count in counts.items():
        for key in ends:
            best[key] = max(best.get(key, 0), count)
    for ends in neighbors:
        for key in ends:
            nearest[key] = max(nearest.get(key, 0), counts.get(ends, 0))
    matching = sum(ends in counts for ends in neighbors)
    are_next = sum(nearest[key] >= BEST_SHARE * count for key, count in best.items())
    return matching >= MIN_ORDERED * len(neighbors) and are_next >= MIN_NEXT * len(best)


def find_cuts(pairs: Sequence[FramePair], keys: Sequence[int]) -> list[int]:
    """Return the keyframes that no pair of matching keyframes connects with those before them: the first ones of a
    scene.
    """
    ends = np.searchsorted(keys, [(pair.first, pair.second) for pair in pairs if len(pair.is_held) >= MIN_BRIDGE])
    bridged = np.zeros(len(keys), bool)
    for first, second in ends.reshape(-1, 2):
        bridged[first + 1 : second + 1] = True
    return [key for key, is_bridged in zip(keys[1:], bridged[1:], strict=True) if not is_bridged]


def read_matches(database: Path) -> list[FramePair]:
    """Read the verified matches of all pairs from a COLMAP database; the same features are marked as held out at each
    call.
    """
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
            held = [hold_features(end, len(xy[end]))[row] for end, row in zip(ends, rows, strict=True)]
            pairs.append(FramePair(first, second, places[0], places[1], held[0] | held[1]))
    return pairs


def hold_features(image_id: int, count: int) -> NDArray[np.bool_]:
    """Return which features (count,) of an image in a COLMAP database are held out: the same ones at each call."""
    return np.random.default_rng(image_id).random(count) < HELD_FEATURES


def hold_out(database: Path, reduced: Path) -> None:
    """Copy a COLMAP database to `reduced`, without the matches that `read_matches` marks as held out."""
    pycolmap = import_pycolmap()
    shutil.copyfile(database, reduced)
    with pycolmap.Database.open(str(reduced)) as store:
        counts = {image.image_id: len(store.read_keypoints(image.image_id)) for image in store.read_all_images()}
        held = {image_id: hold_features(image_id, count) for image_id, count in counts.items()}
        ids, geometries = store.read_two_view_geometries()
        for pair_id, geometry in zip(ids, geometries, strict=True):
            first, second = sorted(pycolmap.pair_id_to_image_pair(pair_id))
            rows = np.asarray(geometry.inlier_matches, np.uint32).reshape(-1, 2)
            geometry.inlier_matches = rows[~(held[first][rows[:, 0]] | held[second][rows[:, 1]])]
            store.update_two_view_geometry(first, second, geometry)
