"""A copy of an image is known again by what its file holds; recordings of one drive by their session."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stadia.datasets.formats.kitti import _ODOMETRY_DRIVES as _DRIVES
from stadia.datasets.image_files import HASH_DIGITS, hash_file, hash_frames, join_hashes, split_hashes
from stadia.datasets.open_dataset import open_recordings
from stadia.datasets.recordings import FrameRange, crop_recording


def test_hash_identifies_copies_and_separates_images(tmp_path: Path) -> None:
    """Frames of one view that differ by the camera's noise alone."""
    digits = set()
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 2, (200, 300, 3))
        for suffix in (".png", ".jpg"):
            file = tmp_path / f"{number}{suffix}"
            cv2.imwrite(str(file), np.clip(120 + noise, 0, 255).astype(np.uint8))
            digits.add(hash_file(file))
    assert len(digits) == 8
    assert {len(each) for each in digits} == {HASH_DIGITS}
    assert hash_file(Path(shutil.copy(tmp_path / "0.png", tmp_path / "another name.png"))) == hash_file(
        tmp_path / "0.png"
    )


def test_hashes_of_selected_frames(tmp_path: Path, world: Any) -> None:
    (recording,) = open_recordings(world.recording(tmp_path / "a", 4))
    found = hash_frames(recording, [1, 3])
    assert list(found) == [1, 3]
    assert found[3] == hash_file(tmp_path / "a" / "left" / "000003.png")
    assert hash_frames(recording, [1], "right") != hash_frames(recording, [1])
    assert split_hashes(join_hashes(list(found.values()))) == list(found.values())


def test_recordings_of_one_drive_share_a_session(tmp_path: Path, world: Any) -> None:
    """Odometry's sequences are cut out of raw drives; a part of a recording is of its session."""
    (sequence,) = open_recordings(world.kitti_odometry(tmp_path / "odometry", 4, sequence="07"))
    assert sequence.session == "2011_09_30_drive_0027"
    assert FrameRange(sequence, 0, 2).session == sequence.session
    assert crop_recording(sequence, "none").session == sequence.session
    (own,) = open_recordings(world.recording(tmp_path / "a", 4))
    assert own.session == own.name
    assert len(set(_DRIVES.values())) == len(_DRIVES) == 11
