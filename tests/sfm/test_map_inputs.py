"""`stadia map` takes what `stadia check` takes: the same frames, names and camera come out of every kind of input."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.data.rendered_world import World
from tests.predict.test_bag_output import write_bag
from tests.refusals import refuses
from tests.sfm.textured_room import TexturedRoom, find_arc_pose, write_images

from stadia.core.errors import ConfigError, DataError
from stadia.data.config import CameraConfig
from stadia.data.open_dataset import open_recordings
from stadia.sfm.frame_stream import FrameStream, open_stream
from stadia.sfm.reconstruction import Workers

NONE = CameraConfig()
REAL = {"kitti_odometry": 51, "kitti_raw": None, "sevenscenes/kitchen": None, "euroc/V1_01_easy": None}


def check_like_recording(stream: FrameStream, source: Path, **options: object) -> None:
    (recording,) = open_recordings(source, **options)
    assert stream.stems() == [recording.stem(index) for index in range(len(recording))]
    user = stream.find_camera(NONE)
    assert user is not None
    np.testing.assert_array_equal(user.intrinsics.K, recording.K(0))
    (frame,) = stream.select({2})
    np.testing.assert_array_equal(frame.filmed, recording.image(2))
    assert (frame.index, frame.name, frame.time_s) == (2, recording.stem(2), recording.timestamp_s(2))


@pytest.mark.parametrize("name", REAL)
def test_a_real_data_set_is_read_as_check_reads_it(real_data, name):
    stream = open_stream(real_data / name, NONE, {})
    check_like_recording(stream, real_data / name)
    assert stream.count() == (REAL[name] or stream.count())
    assert stream.name_map().name.endswith(".map")


@pytest.mark.parametrize("suffix", [".bag", ".mcap", ".db3"])
def test_a_bag_is_read_with_every_frame_and_its_camera(tmp_path, real_data, suffix):
    pytest.importorskip("rosbags", reason="the extra `ros` is not installed")
    bag = write_bag(tmp_path / f"drive{suffix}", real_data).bag
    check_like_recording(open_stream(bag, NONE, {}), bag, stride=1)


def test_several_recordings_must_be_chosen(tmp_path):
    root = World().kitti_odometry(tmp_path / "kitti")
    World().kitti_odometry(root, sequence="07")
    with refuses(DataError, where="kitti", found="2", fix="data.recordings=[06]"):
        open_stream(root, NONE, {})
    chosen = open_stream(root, NONE, {"recordings": ("07",)})
    check_like_recording(chosen, root, recordings=("07",))
    assert {path.parent.parent.name for path in chosen.find_files()} == {"07"}
    both = open_stream(root, NONE, {"recordings": ("06", "07"), "frames": (3, 7)})
    assert [frame.index for frame in both] == [3, 4, 5, 6]
    assert len(set(both.stems())) == 10
    assert both.count() == 7


def make_room(folder: Path, indices: range | list[int], size: tuple[int, int] | None = None) -> Path:
    view = TexturedRoom()
    images = [view.draw(*find_arc_pose(index)) for index in indices]
    return write_images(folder, images if size is None else [cv2.resize(image, size) for image in images])


def test_several_videos_of_one_place_need_one_size_and_one_camera(tmp_path):
    for name, size in (("a", None), ("b", None), ("c", (160, 100))):
        make_room(tmp_path / name, range(3), size)
    listed = tmp_path / "videos.txt"
    listed.write_text("a\nb\n")
    stream = open_stream(listed, NONE, {})
    assert stream.stems() == [f"{name}_{index:06d}" for name, index in itertools.product("ab", range(3))]
    assert [frame.name for frame in stream.select({2, 3})] == ["a_000002", "b_000000"]
    assert stream.find_camera(NONE) is None
    (tmp_path / "a" / "K.txt").write_text("300 0 159.5\n0 300 99.5\n0 0 1\n")
    with refuses(DataError, where="videos.txt", found="several cameras", fix="data.camera"):
        stream.find_camera(NONE)
    assert stream.find_camera(CameraConfig(focal_px=300)).intrinsics.K[0, 0] == 300
    listed.write_text("a\nc\n")
    with refuses(DataError, where="videos.txt", found=("160x100", "320x200")):
        open_stream(listed, NONE, {})


def test_frames_beyond_the_end_and_idle_options_are_refused(tmp_path):
    folder = make_room(tmp_path / "room", range(3))
    with refuses(DataError, where="room", found="3 frames", expected="1 to 9", fix="data.frames"):
        open_stream(folder, NONE, {"frames": (1, 9)})
    with refuses(ConfigError, where="data.split"):
        open_stream(folder, NONE, {"split": "train"})


def test_steps_of_a_mapping_are_shown_one_by_one():
    shown = []

    def track(items, count, what):
        for item in items:
            shown.append((item, count, what))
            yield item

    with Workers(1, track).count_steps(3, "mapping") as step:
        step()
        step()
        assert shown == [(index, 3, "mapping") for index in range(3)]
        assert [step() for _ in range(9)] == [None] * 9, "more steps than announced are no error"
