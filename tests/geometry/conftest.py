"""Cameras, poses and images that the geometry's tests share."""

from collections.abc import Callable

import pytest
import torch
from tests import tensor_cameras
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.poses import se3_exp


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def kitti() -> Camera:
    """KITTI's color cameras of 2011_09_26, as rectified."""
    return tensor_cameras.intrinsics(721.5377, 721.5377, 609.5593, 172.854, height=375, width=1242)


@pytest.fixture
def small() -> Camera:
    """A small camera with unequal focal lengths and an axis off the center."""
    return tensor_cameras.intrinsics(30.0, 28.0, 17.3, 11.8, height=24, width=36)


@pytest.fixture
def poses() -> Callable[..., Tensor]:
    """Random motions (n, 4, 4): up to `reach` metres and `turn` radians."""

    def make(n: int, *, reach: float = 0.5, turn: float = 0.05, dtype: torch.dtype = torch.float64) -> Tensor:
        twist = torch.randn(n, 6, dtype=torch.float64).clamp(-2, 2) / 2
        return se3_exp(twist * twist.new_tensor([reach] * 3 + [turn] * 3)).to(dtype)

    return make
