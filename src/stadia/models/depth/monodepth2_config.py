"""Configuration of the depth network `monodepth2`. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from stadia.models.depth.config import DepthNetworkConfig


class Monodepth2Config(DepthNetworkConfig):
    """A published network of Monodepth2.

    weights: folder with encoder.pth, depth.pth, and pose_encoder.pth and pose.pth of video; null: random weights.
    encoder: ResNet of the network.
    metres_per_unit: unit of its depth: 5.4 for networks of stereo video of KITTI; null predicts depth up to scale.
    motion: whether there is a pose network.
    size: (height, width) of its training images.
    """

    weights: str | None = None
    encoder: Literal["resnet18", "resnet50"] = "resnet18"
    metres_per_unit: PositiveFloat | None = None
    motion: bool = True
    size: tuple[int, int] = (192, 640)

    @property
    def num_scales(self) -> int:
        return 4

    @property
    def title(self) -> str:
        return f"{self.name} {self.encoder}"
