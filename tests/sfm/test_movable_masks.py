"""Masks of what moves by itself: which frame's mask is taken, and a path that does not follow the traffic."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.refusals import refuses
from tests.sfm.textured_room import HEIGHT, WIDTH, write_images

from stadia.core.errors import DataError
from stadia.data.lens_distortion import DistortedCamera, make_undistortion
from stadia.io.atomic_files import write_json
from stadia.sfm.frame_stream import FrameStream
from stadia.sfm.movable_masks import MovableMasks

CLASSES = {"1": "road", "14": "car", "15": "truck"}


def write_masks(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    """Write class numbers (h, w) by the frames' names."""
    (folder / "semantic" / "left").mkdir(parents=True)
    write_json(folder / "classes.json", CLASSES)
    for stem, mask in masks.items():
        cv2.imwrite(str(folder / "semantic" / "left" / f"{stem}.png"), mask.astype(np.uint8))
    return folder


def test_a_frame_takes_its_mask_or_that_of_a_near_one(tmp_path):
    stems = [f"frame{index:02d}" for index in range(20)]
    car, road = np.full((4, 8), 14), np.full((4, 8), 1)
    masks = MovableMasks.open(write_masks(tmp_path, {"frame02": car, "frame05": road, "other": car}), stems, 4, 8)
    shares = [None if (found := masks.read(index, 2, 4)) is None else found.mean() for index in (0, 2, 3, 4, 10, 11)]
    assert shares == [1, 1, 1, 0, 0, None]


def test_masks_lose_the_distortion_of_the_frames(tmp_path):
    """The straight mask is the mask of the straight image."""
    K = np.array([[150, 0, 159.5], [0, 150, 99.5], [0, 0, 1]])
    lens = make_undistortion(DistortedCamera(K, "radtan", np.array([-0.2, 0, 0, 0]), HEIGHT, WIDTH), "test")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:120, 10:100] = 14
    masks = MovableMasks.open(write_masks(tmp_path, {"a": mask}), ["a"], HEIGHT, WIDTH)
    grown = np.ones((5, 5), np.uint8)
    expected = cv2.dilate(lens(np.where(mask > 0, np.uint8(255), np.uint8(0))), grown) > 0
    np.testing.assert_array_equal(masks.read(0, HEIGHT, WIDTH, lens), expected)
    assert (masks.read(0, HEIGHT, WIDTH) != expected).mean() > 0.01


def test_masks_of_another_video_are_refused(tmp_path):
    masks = write_masks(tmp_path, {"other": np.full((4, 8), 14)})
    with pytest.raises(DataError):
        MovableMasks.open(masks, ["000000"], 4, 8)
    with refuses(DataError, where="other.png", found="8x4", expected="8x8"):
        MovableMasks.open(masks, ["other"], 8, 8).read(0, 4, 4)
    with refuses(DataError, where="nowhere", fix=("stadia masks VIDEO",)):
        MovableMasks.open(tmp_path / "nowhere", ["other"], 4, 8)
    write_json(masks / "classes.json", {"1": "road"})
    with refuses(DataError, where="classes.json"):
        MovableMasks.open(masks, ["other"], 4, 8)


def test_a_photo_takes_only_its_own_mask(tmp_path):
    """The neighbors of a photo show something else, whatever its size."""
    sizes = (60, 80), (60, 80), (80, 60)
    photos = write_images(tmp_path / "photos", [np.zeros((*size, 3), np.uint8) for size in sizes])
    masks = write_masks(tmp_path / "masks", {"000000": np.full((60, 80), 14)})

    def open_masked() -> FrameStream:
        stream = FrameStream.open(photos)
        return replace(stream, masks=MovableMasks.open(masks, stream.stems(), stream.height, stream.width))

    assert [open_masked().find_movable(index) is None for index in range(3)] == [False, True, True]
    shutil.copy(masks / "semantic" / "left" / "000000.png", masks / "semantic" / "left" / "000002.png")
    with refuses(DataError, where="000002.png", found="80x60", expected="60x80"):
        open_masked().find_movable(2)
    (photos / "000002.png").unlink()
    assert open_masked().find_movable(1) is not None, "of a video"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.new("RGB", (80, 60)).save(photos / "000000.png", "JPEG", exif=exif)
    assert open_masked().find_movable(1) is None, "of photos of one size"


def test_a_mask_grows_and_one_of_a_near_frame_grows_more(tmp_path):
    """Features at an outline move with it, and in another frame the outline is elsewhere."""
    mask = np.zeros((100, 200), np.uint8)
    mask[40:60, 80:120] = 14
    masks = MovableMasks.open(write_masks(tmp_path, {"a": mask}), ["a", "b"], 100, 200)
    widths = [int(masks.read(index, 100, 200).any(0).sum()) for index in (0, 1)]
    assert widths == [40 + 2 * 1, 40 + 2 * 3]
