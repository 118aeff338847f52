"""A training may see a crop: image, camera and ground truth are cut by one box, before they are resized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stadia.core.recording import LEFT, Recording
from stadia.core.types import Camera
from stadia.dataloading.samples import VideoSamples
from stadia.datasets.config import CacheConfig
from stadia.datasets.recordings import CroppedRecording, crop_recording
from stadia.geometry.camera import backproject, intrinsics

HEIGHT, WIDTH = 375, 1242
TOP, LEFT_EDGE = 23, 13  # of the KB crop, by hand


class Wide(Recording):
    """An image of KITTI's size whose colors encode each pixel's position; depth in one pixel, some more depth outside
    the crop.
    """

    name, sides = "wide", (LEFT,)

    def __len__(self) -> int:
        return 2

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        return np.stack([rows // 2, columns // 8, np.full_like(rows, index)], -1).astype(np.uint8)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return intrinsics(721.5, 721.5, 609.6, 172.9, height=HEIGHT, width=WIDTH)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32]:
        depth = np.zeros((HEIGHT, WIDTH), np.float32)
        depth[200, 700], depth[:TOP], depth[:, :LEFT_EDGE] = 8.0, 50.0, 50.0
        return depth


def test_image_camera_and_ground_truth_stay_together() -> None:
    whole, crop = Wide(), crop_recording(Wide(), "kb")
    image, camera, depth_m = crop.image(1), crop.camera(1), crop.depth_m(1)
    assert depth_m is not None
    assert image.shape[:2] == depth_m.shape == (camera.height, camera.width) == (352, 1216)
    np.testing.assert_array_equal(image, whole.image(1)[TOP:, LEFT_EDGE : LEFT_EDGE + 1216])
    rows, columns = np.nonzero(depth_m)
    assert (rows.tolist(), columns.tolist()) == ([200 - TOP], [700 - LEFT_EDGE]), "what lies outside is gone"
    before = backproject(torch.from_numpy(whole.depth_m(1))[None, None].double(), whole.camera(1))[0, :, 200, 700]
    after = backproject(torch.from_numpy(depth_m)[None, None].double(), camera)[0, :, 200 - TOP, 700 - LEFT_EDGE]
    torch.testing.assert_close(after, before)


def test_samples_are_cropped_and_cached_separately(tmp_path: Path) -> None:
    cache = CacheConfig(folder=str(tmp_path))
    whole, crop = (
        VideoSamples(
            [recording],
            height=352,
            width=1216,
            offsets=(),
            stereo=False,
            ground_truth_depth=True,
            sparse_depth=True,
            cache=cache,
        )
        for recording in (Wide(), CroppedRecording(Wide(), "kb"))
    )
    assert len(list(tmp_path.glob("*.rgb"))) == 2, "another store"
    sample = crop[0]
    assert sample.inputs.camera.K[:2, 2].tolist() == pytest.approx([609.6 - LEFT_EDGE, 172.9 - TOP], abs=1e-4)
    torch.testing.assert_close(
        sample.inputs.image, torch.from_numpy(crop.recordings[0].image(0)).permute(2, 0, 1) / 255
    )
    assert sample.targets.depth_m is not None
    assert sample.targets.depth_m.nonzero().tolist() == [[0, 200 - TOP, 700 - LEFT_EDGE]]
    assert whole[0].inputs.camera.K[1, 2] != sample.inputs.camera.K[1, 2]
