"""Key frames follow motion, and frames of a standing camera, cuts and frames without detail are named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from stadia.data.frame_selection import LOST_MOTION, KeyFrames, KeyFrameSelector, thin_keys
from stadia.sfm import frame_stream


def make_texture(seed: int = 0, height: int = 120, width: int = 640) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def select(frames: list[np.ndarray]) -> KeyFrameSelector:
    selector = KeyFrameSelector()
    for frame in frames:
        selector.add(frame)
    return selector


@pytest.mark.slow
def test_a_key_frame_follows_once_corners_have_moved():
    texture = make_texture()
    found = select([texture[:, shift : shift + 320] for shift in range(40)]).found  # .3 % of the width a frame
    assert found.keys == list(range(0, 40, 3))
    assert not found.standing + found.cuts + found.blank


def test_a_standing_camera_has_one_key_frame():
    found = select([make_texture()[:, :320]] * 12).found
    assert (found.keys, found.standing) == ([0], [8, 9, 10, 11])


def test_frames_on_both_sides_are_key_frames_where_tracking_is_lost():
    texture, second = make_texture(0), np.random.default_rng(0).integers(0, 255, (120, 320), np.uint8)
    found = select([texture[:, shift : shift + 320] for shift in (0, 1, 2)] + [second, second]).found
    assert found.keys == [0, 2, 3]
    assert found.motion[-1] == LOST_MOTION


def test_a_hood_with_more_corners_than_the_scene_does_not_hide_the_motion():
    texture, hood = make_texture(), make_texture(1)[:70, :320]
    frames = [np.vstack((texture[:50, shift : shift + 320], hood)) for shift in range(8)]
    assert select(frames).found.keys == [0]
    selector = KeyFrameSelector(static=np.arange(120)[:, None].repeat(320, 1) >= 50)
    assert [selector.add(frame) for frame in frames].count(True) == 3


def test_the_mask_of_a_video_leaves_out_its_hood(tmp_path, monkeypatch):
    """The stream's mask reaches the choice of keyframes."""
    chosen = []
    monkeypatch.setattr(frame_stream, "KeyFrameSelector", lambda static: chosen.append(static) or KeyFrameSelector())
    mask = np.ones((120, 320), bool)
    stream = SimpleNamespace(
        find_static=lambda: mask, count=lambda: 0, first=0, source=Path("video.mp4"), has_several_cameras=False
    )
    frame_stream._select_key_frames(stream, tmp_path, lambda frames, *_: [])
    assert chosen[0] is mask


def test_quick_turns_keep_more_key_frames_and_thinning_takes_sharp_ones():
    turn = KeyFrames(list(range(160)), [0.06] * 160, [1.0] * 160, frames=160)
    assert thin_keys(turn).keys == turn.keys
    sharp = [float(index % 4 == 1) for index in range(400)]
    kept = thin_keys(KeyFrames(list(range(400)), [0.005] * 400, sharp, frames=400)).keys
    assert np.mean([sharp[key] for key in kept]) > 0.45  # of which a quarter is sharp


def test_frames_of_a_folder_that_mostly_differ_are_photos(tmp_path):
    found = KeyFrames(keys=[10, 11, 12, 14], frames=15)
    assert found.are_photos(tmp_path)
    assert not found.are_photos(tmp_path / "video.mp4")
    assert not KeyFrames(keys=[10, 14], frames=15).are_photos(tmp_path)
    assert not KeyFrames().are_photos(tmp_path)
