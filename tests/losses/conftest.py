"""An exact scene: a textured slanted wall whose pictures, depth and camera motion are known in closed form."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stadia.core.types import Camera, Prediction, Targets
from stadia.geometry.se3 import inverse, se3_exp

sys.path.insert(0, str(Path(__file__).parents[1] / "geometry"))  # traffic: ray-cast roads

NORMAL, DISTANCE_M = (0.25, -0.15, 1.0), 8.0  # the wall: normal . p = distance, in the target's frame
MOTIONS = {  # p_source = exp(v, w) p_target
    "-1": (0.05, 0.02, 0.5, 0.002, -0.01, 0.001),
    "+1": (-0.04, 0.01, -0.5, -0.001, 0.012, 0.002),
    "stereo": (-0.5, 0.0, 0.0, 0.0, 0.0, 0.0),
}
EXPOSURES = {"-1": (0.8, 0.05), "+1": (1.05, -0.05), "stereo": (0.9, 0.02)}  # gain and offset; pictures stay within [0, 1]


@dataclass(frozen=True)
class Scene:
    """What a loss is called with, and the truth."""

    targets: Targets
    inverse_depth: Tensor  # (B, 1, H, W)
    twist: Tensor  # (B, N, 6), T_source_target = se3_exp(twist)
    source_names: tuple[str, ...]
    inverse_depth_of_sources: Tensor  # (B, N, 1, H, W), each in its own camera

    def prediction(
        self, *, depth_times: float = 1.0, scales: int = 1, inverse_depth: Tensor | None = None, twist: Tensor | None = None
    ) -> Prediction:
        finest = (self.inverse_depth if inverse_depth is None else inverse_depth) / depth_times
        maps = tuple(torch.nn.functional.avg_pool2d(finest, 2**s) if s else finest for s in range(scales))
        return Prediction(maps, se3_exp(self.twist if twist is None else twist))

    @property
    def brightness(self) -> Tensor:
        """(B, N, 2) of the sources as `exposed` records them."""
        exposures = torch.tensor([EXPOSURES[name] for name in self.source_names], dtype=self.targets.image.dtype)
        return exposures.expand(len(self.targets.image), -1, 2)

    def exposed(self) -> Scene:
        """The same scene, its sources recorded with other exposures than the target."""
        gain, offset = self.brightness[..., None, None, None].unbind(2)
        return replace(self, targets=replace(self.targets, sources=gain * self.targets.sources + offset))

    def d3vo_prediction(self, *, depth_times: float = 1.0, right_times: float = 1.0, scales: int = 1, right: bool = True) -> Prediction:
        """All that D3VO's networks say of it as `exposed` records it, said right; of Sigma, that it is the same everywhere."""
        plain = self.prediction(depth_times=depth_times, scales=scales)
        finest = self.inverse_depth_of_sources[:, -1] / right_times
        return replace(
            plain,
            inverse_depth_right=tuple(torch.nn.functional.avg_pool2d(finest, 2**s) for s in range(scales)) if right else None,
            log_uncertainty=tuple(torch.full_like(m, -2.0) for m in plain.inverse_depth),
            brightness=self.brightness,
        )


def _texture(points: Tensor, phase: Tensor) -> Tensor:
    """(B, H, W, 3) points to (B, 3, H, W) colours: waves along the wall, a different mixture for each colour and sample."""
    x, y = points[..., 0], points[..., 1]
    waves = [torch.sin(a * x + b * y + c + phase) for a, b, c in ((3.1, 0.7, 0.0), (1.3, 2.9, 1.0), (4.7, -2.1, 2.0), (-2.3, 4.3, 0.5))]
    mixture = ((0.2, 0.1, 0.1, 0.05), (0.1, 0.2, 0.05, 0.1), (0.05, 0.1, 0.2, 0.1))
    return torch.stack([0.5 + sum(m * wave for m, wave in zip(row, waves, strict=True)) for row in mixture], dim=1)


def _picture(K: Tensor, T_camera_target: Tensor, height: int, width: int, phase: Tensor) -> tuple[Tensor, Tensor]:
    """The wall from a camera, pixel by pixel where its ray meets the wall: (B, 3, H, W) and z (B, 1, H, W)."""
    y, x = torch.meshgrid(torch.arange(height, dtype=K.dtype), torch.arange(width, dtype=K.dtype), indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(K).T  # (H, W, 3), z = 1
    T_target_camera = inverse(T_camera_target)
    directions = torch.einsum("bij,hwj->bhwi", T_target_camera[:, :3, :3], rays)
    origin = T_target_camera[:, None, None, :3, 3]
    normal = torch.tensor(NORMAL, dtype=K.dtype)
    z = (DISTANCE_M - (origin * normal).sum(-1)) / (directions * normal).sum(-1)
    return _texture(origin + z[..., None] * directions, phase), z[:, None]


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    def make(
        *,
        height: int = 24,
        width: int = 40,
        names: tuple[str, ...] = ("-1", "+1", "stereo"),
        batch: int = 1,
        dtype: torch.dtype = torch.float64,
    ) -> Scene:
        K = torch.tensor([[0.9 * width, 0, 0.48 * width], [0, 1.5 * height, 0.53 * height], [0, 0, 1]], dtype=torch.float64)
        phase = torch.arange(batch, dtype=torch.float64).view(-1, 1, 1)
        twist = torch.tensor([MOTIONS[name] for name in names], dtype=torch.float64).expand(batch, -1, 6)
        T_source_target = se3_exp(twist)
        here = torch.eye(4, dtype=torch.float64).expand(batch, 4, 4)
        target, z = _picture(K, here, height, width, phase)
        pictures = [_picture(K, T_source_target[:, i], height, width, phase) for i in range(len(names))]
        sources, z_of_sources = (torch.stack(one_each, dim=1) for one_each in zip(*pictures, strict=True))
        targets = Targets(
            target,
            sources,
            Camera(K.expand(batch, 3, 3), height, width),
            Camera(K.expand(batch, len(names), 3, 3), height, width),
            T_source_target,
        )
        return Scene(targets.to(dtype), (1 / z).to(dtype), twist.to(dtype), names, (1 / z_of_sources).to(dtype))

    return make
