"""Where the part of an image lies that networks see: to the pixel, for KITTI's sizes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from stadia.core.errors import ConfigError, GeometryError
from stadia.dataloading.config import DataConfig
from stadia.geometry.numpy_camera import IMAGE_CROPS, crop_window

KB = {  # rows and columns by hand: H - 352 to H, floor((W - 1216) / 2) to 1216 further
    (375, 1242): ((23, 375), (13, 1229)),
    (370, 1224): ((18, 370), (4, 1220)),
    (370, 1226): ((18, 370), (5, 1221)),
    (374, 1238): ((22, 374), (11, 1227)),
    (376, 1241): ((24, 376), (12, 1228)),
    (352, 1216): ((0, 352), (0, 1216)),
}


@pytest.mark.parametrize(("height", "width"), KB)
def test_the_kb_crop_to_the_pixel(height: int, width: int) -> None:
    box = crop_window("kb", height, width)
    assert ((box.rows.start, box.rows.stop), (box.columns.start, box.columns.stop)) == KB[height, width]
    assert box.cut(np.zeros((height, width, 3))).shape == (352, 1216, 3)
    assert box.cut(torch.zeros(height, width)).shape == (352, 1216)


def test_no_crop_is_the_whole() -> None:
    box = crop_window("none", 20, 30)
    assert (box.rows, box.columns) == (slice(0, 20), slice(0, 30))


@pytest.mark.parametrize(("height", "width"), [(351, 1242), (375, 1215), (192, 640)])
def test_a_smaller_image_is_refused(height: int, width: int) -> None:
    with pytest.raises(
        GeometryError, match=f"crop 'kb': found an image of {width}x{height}; expected at least 1216x352"
    ):
        crop_window("kb", height, width)


def test_an_unknown_crop() -> None:
    with pytest.raises(ConfigError, match="found 'kitti'; expected one of none, kb"):
        crop_window("kitti", 375, 1242)


def test_configurable_crops_are_the_defined_ones() -> None:
    assert get_args(DataConfig.model_fields["crop"].annotation) == tuple(IMAGE_CROPS)
