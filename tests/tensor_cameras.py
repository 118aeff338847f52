"""Cameras and pixels as tensors of torch, for tests of functions with gradients."""

from typing import Any

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.images import camera_to_torch
from stadia.geometry import cameras


def intrinsics(*focals_and_center: float, dtype: torch.dtype = torch.float64, **size: int) -> Camera[Tensor]:
    """`geometry.cameras.intrinsics` as a tensor."""
    return camera_to_torch(cameras.intrinsics(*focals_and_center, **size), dtype)


def from_field_of_view(horizontal_deg: float, **size: Any) -> Camera[Tensor]:
    """`geometry.cameras.from_field_of_view` as a tensor."""
    return camera_to_torch(cameras.from_field_of_view(horizontal_deg, **size))


def pixel_grid(height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """`geometry.cameras.pixel_grid` as a tensor."""
    return torch.from_numpy(cameras.pixel_grid(height, width)).to(dtype)
