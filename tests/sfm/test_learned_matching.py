"""Learned features join keyframes where the others fail."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.sfm.test_map_verdict import COUNT, make_world
from tests.sfm.textured_room import TexturedRoom, find_arc_pose

from stadia.geometry.image_features import FrameFeatures
from stadia.sfm.learned_matching import MATCHERS, add_learned_matches, has_matcher, list_broken_pairs
from stadia.sfm.map_evidence import select_frames
from stadia.sfm.pair_matching import read_features, read_matches, write_database, write_features

pycolmap = pytest.importorskip("pycolmap", reason="the extra `map` is not installed")


def test_pairs_are_matched_across_each_place_where_a_part_ends_or_a_frame_is_missing():
    sparse, _ = make_world()
    keys = list(range(COUNT))
    parts = [select_frames(sparse, rows) for rows in (np.arange(5), np.arange(5, COUNT))]
    assert list_broken_pairs(keys, [sparse]) == []
    assert list_broken_pairs(keys, parts) == [(2, 5), (3, 5), (3, 6), (4, 5), (4, 6), (4, 7)]
    assert (7, 8) in list_broken_pairs(keys, [select_frames(sparse, np.delete(keys, 8))])


class TrueMatcher:
    """The places of known points as keypoints; the image's value is its row."""

    def __init__(self, sparse) -> None:
        self.sparse = sparse

    def extract(self, image):
        rows = self.sparse.observed[:, 0] == image[0, 0, 0]
        return {"keypoints": torch.from_numpy(self.sparse.xy[rows])[None], "ids": self.sparse.observed[rows, 1]}

    def match(self, first, second):
        return np.column_stack(np.intersect1d(first["ids"], second["ids"], return_indices=True)[1:])


@pytest.mark.parametrize("left_px", [0, 160])
def test_matches_are_added_to_a_database_outside_the_mask(tmp_path, left_px):
    sparse, _ = make_world()
    files = {index: tmp_path / f"{index}.npz" for index in range(3)}
    for index, file in files.items():
        xy = sparse.xy[sparse.observed[:, 0] == index][:9].astype(np.float32)
        write_features(file, FrameFeatures(xy, np.zeros((9, 128), np.uint8), np.zeros((9, 3), np.uint8)))
    database, mask = tmp_path / "matches.db", np.arange(320) < np.full((200, 1), left_px)
    write_database(database, files, [sparse.camera.to_pycolmap()] * len(files), mask)
    images = [np.full((200, 320, 3), index, np.uint8) for index in files]
    frames = [(SimpleNamespace(index=row, image=image, gray=image[..., 0]), mask) for row, image in enumerate(images)]
    extended, matcher = tmp_path / "learned.db", TrueMatcher(sparse)
    found = add_learned_matches(matcher, database, extended, files, [(0, 1), (1, 2)], frames)
    pairs = read_matches(extended)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (1, 2)]
    assert all(left_px - 1 < pair.xy_first[:, 0].min() < left_px + 20 for pair in pairs)
    features = read_features(found[1])
    assert len(features.xy) == len(features.colors) == len(features.descriptors)


@pytest.mark.slow
@pytest.mark.exhaustive  # its package brings a second OpenCV, so the environment of the tests has none
@pytest.mark.skipif(not has_matcher(), reason="the extra `matching` is not installed")
def test_a_matcher_finds_the_motion_of_a_room():
    matcher = MATCHERS.load("disk")()
    views = [np.dstack([TexturedRoom().draw(*find_arc_pose(index))] * 3) for index in (4, 5)]
    first, second = (matcher.extract(view) for view in views)
    rows = matcher.match(first, second)
    moved = (second["keypoints"][0][rows[:, 1]] - first["keypoints"][0][rows[:, 0]]).numpy()
    assert len(rows) > 100
    assert np.percentile(np.linalg.norm(moved - np.median(moved, axis=0), axis=1), 75) < 5
