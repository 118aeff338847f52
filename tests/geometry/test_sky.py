"""Sky is told from ceilings and walls by its brightness, its place, and depth."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.geometry.sky import find_far_sky, find_sky

SIZE = 24, 48


def scene(sky_rows: int, light: int = 200) -> NDArray[np.uint8]:
    """Return (48, 96, 3): rows of one brightness above a textured scene."""
    image = np.random.default_rng(0).integers(0, 255, (48, 96, 1), dtype=np.uint8).repeat(3, -1)
    image[:sky_rows] = light
    return image


def test_sky_is_bright_smooth_and_at_the_upper_edge() -> None:
    image = scene(12)
    image[30:] = 200  # a road
    sky = find_sky(image, SIZE)
    assert sky[:5].all()
    assert not sky[7:].any()
    assert not find_sky(scene(12, light=80), SIZE).any()


def test_only_far_sky_is_left_out_of_depth() -> None:
    image, depth = scene(12), np.linspace(40, 2, SIZE[0])[:, None].repeat(SIZE[1], 1)
    sky = find_far_sky(image, depth, margin_px=2)
    assert sky[:7].all()
    assert not sky[9:].any()
    assert not find_far_sky(image, np.full(SIZE, 3.0) - 2 * (np.arange(SIZE[0]) < 6)[:, None]).any()
    assert not find_far_sky(image, np.zeros(SIZE)).any()


@pytest.mark.real
@pytest.mark.parametrize(
    ("images", "has_sky"), [("kitti_odometry/sequences/06/image_0", True), ("euroc/V1_01_easy/mav0/cam0/data", False)]
)
def test_a_street_has_sky_and_a_room_has_none(real_data: Path, images: str, has_sky: bool) -> None:
    files = sorted((real_data / images).glob("*.png"))[::12]
    assert files
    for file in files:
        image = np.asarray(cv2.imread(str(file)), np.uint8)
        assert (find_sky(image, (96, 320)).mean() >= 0.04) == has_sky, file.name
