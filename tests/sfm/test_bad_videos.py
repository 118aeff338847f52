"""Videos that a map cannot hold, or only in part: one line each, and what is left is mapped."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

from stadia.data.video.video_map import find_map_folder, read_map
from stadia.sfm.map_parts import find_connected
from stadia.sfm.pair_matching import FramePair

pytest.importorskip("pycolmap", reason="the extra `map` is not installed")

GIVEN = "data.camera.focal_px=300"


@pytest.mark.slow
def test_two_scenes_are_two_parts(stadia, tmp_path):
    first, second = TexturedRoom(0), TexturedRoom(1)
    images = [first.draw(*find_arc_pose(index)) for index in range(6)]
    images += [255 - second.draw(*find_arc_pose(index)) for index in range(10, 19)]
    code, _, err = stadia("map", write_images(tmp_path / "images", images), GIVEN)
    assert code == 0, err
    assert "form a part of their own" in err
    folder = find_map_folder(tmp_path / "images")
    assert np.isfinite(read_map(folder).poses).all((1, 2)).tolist() == [True] * 6 + [False] * 9
    (part,) = json.loads((folder / "map.json").read_text())["parts"]
    assert {frame["index"] for frame in part} <= set(range(6, 15))


def test_the_largest_set_of_connected_key_frames_is_searched_for_the_camera():
    def match(first: int, second: int, count: int) -> FramePair:
        return FramePair(first, second, np.zeros((count, 2)), np.zeros((count, 2)), np.zeros(count, bool))

    pairs = [match(0, 2, 40), match(2, 4, 14), match(4, 6, 40), match(6, 9, 15)]
    assert find_connected([0, 2, 4, 6, 9], pairs) == [4, 6, 9]
    assert find_connected([0, 2, 4], []) == [0]
