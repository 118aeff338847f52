"""Videos that a map cannot hold, or only in part: one line each, and what is left is mapped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

from stadia.core.errors import DataError
from stadia.data.video.video_map import find_map_folder, read_map
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.map_parts import check_motion, find_connected
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.sparse_map import LensCamera

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


def draw_turn(room: TexturedRoom, number: int) -> np.ndarray:
    R = cv2.Rodrigues(np.array([0, 0.4 * np.sin(number / 3), 0]))[0]
    return room.draw(R, np.array([0, 0, 3.0]))


def draw_zoom(room: TexturedRoom, number: int) -> np.ndarray:
    image = room.draw(np.eye(3), np.array([0, 0, 3.0]))
    scale = 1 + 0.06 * number
    A = np.array([[scale, 0, 160 * (1 - scale)], [0, scale, 100 * (1 - scale)]])
    return np.asarray(cv2.warpAffine(image, A, (320, 200), flags=cv2.INTER_CUBIC))


def draw_arc(room: TexturedRoom, number: int) -> np.ndarray:
    return room.draw(*find_arc_pose(number))


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "why"), [(draw_turn, "only turns"), (draw_zoom, "only zooms"), (draw_arc, "")])
def test_a_camera_in_one_place_is_named_by_a_few_key_frames(
    draw: Callable[[TexturedRoom, int], np.ndarray], why: str, tmp_path: Path
) -> None:
    room, count = TexturedRoom(0), 24
    stream = FrameStream.open(write_images(tmp_path / "images", [draw(room, number) for number in range(count)]))
    work = tmp_path / "work"
    work.mkdir()
    keys = list(range(count))
    if why:
        with pytest.raises(DataError, match=why):
            check_motion(stream, keys, work, None)
        given = LensCamera(300.0, (159.5, 99.5), (0.0, 0.0, 0.0, 0.0), 200, 320)
        check_motion(stream, keys, work, None, given)  # a known lens may be turned by hand
    else:
        check_motion(stream, keys, work, None)
