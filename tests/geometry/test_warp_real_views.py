"""Every convention at once on real images: 7-Scenes' depth and poses explain one image by another; each mistake does
not.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from stadia.geometry import camera as cameras
from stadia.geometry import se3, warp

NOW, LATER = "frame-000000", "frame-000020"  # 2.4 cm and 1.6 degrees apart


def frame(folder: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The image (1, 3, H, W), depth_m (1, 1, H, W), T_world_camera (4, 4)."""
    image = torch.from_numpy(cv2.imread(str(folder / f"{name}.color.jpg"))).flip(-1).permute(2, 0, 1)[None] / 255
    depth_mm = torch.from_numpy(cv2.imread(str(folder / f"{name}.depth.png"), cv2.IMREAD_UNCHANGED).astype(np.float32))[
        None, None
    ]
    depth_m = torch.where(depth_mm == 65535, 0, depth_mm / 1000)
    return image, depth_m, torch.from_numpy(np.loadtxt(folder / f"{name}.pose.txt"))


@pytest.mark.real
def test_a_real_image_is_explained_by_another(real_data):
    folder = real_data / "sevenscenes" / "kitchen" / "seq-01"
    (target, depth_m, T_world_target), (source, _, T_world_source) = frame(folder, NOW), frame(folder, LATER)
    camera = cameras.intrinsics(585.0, 585.0, 320.0, 240.0, height=480, width=640)

    def left_over(T_source_target: Tensor, depth_m: Tensor = depth_m) -> float:
        """The residual after warping, as a share of that before."""
        image, valid = warp.warp_image(source, depth_m, camera, camera, T_source_target[None])
        return (
            (image - target).abs().mean(1, keepdim=True)[valid].mean()
            / (source - target).abs().mean(1, keepdim=True)[valid].mean()
        ).item()

    T = se3.compose(se3.inverse(T_world_source), T_world_target)
    without_turn = se3.from_rotation_translation(torch.eye(3, dtype=T.dtype), T[:3, 3])
    assert left_over(T) < 0.4
    assert left_over(se3.inverse(T)) > 1
    assert left_over(without_turn) > 0.6
    assert left_over(T, 1 / depth_m.clamp(min=0.1)) > 0.4
