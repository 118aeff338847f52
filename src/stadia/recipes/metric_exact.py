"""The loss case of the camera-height loss: the depth of a flat road under a camera of that height."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.diagnostics.contract.exact import Answer, Axis, Exact
from stadia.geometry.segments import segments_of
from stadia.losses.metric_scale import KnownHeights, MetricScaleLoss

HEIGHT_M = 1.65
FARTHEST_M = 60.0
TIMES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0)


def flat_road(height: int = 48, width: int = 96) -> tuple[Tensor, Tensor, Camera]:
    """Return inverse depth (1, 1, H, W), road mask (1, 1, H, W) and camera: level, HEIGHT_M above the road, the horizon
    above the image center.
    """
    fy, cy = 0.9 * width, 0.4 * height
    K = torch.tensor([[[0.9 * width, 0, width / 2 - 0.5], [0, fy, cy], [0, 0, 1]]], dtype=torch.float64)
    rows = torch.arange(height, dtype=torch.float64)[:, None].expand(height, width)
    inverse_depth = ((rows - cy) / (fy * HEIGHT_M)).clamp(min=1 / FARTHEST_M)
    road = inverse_depth > 1.2 / FARTHEST_M
    return inverse_depth[None, None], road[None, None], Camera(K, height, width)


def of_camera_height(loss: MetricScaleLoss) -> Exact:
    """Return the loss case of a known camera height, without objects."""
    inverse_depth, road, camera = flat_road()
    objects = segments_of(torch.zeros_like(road[:, 0], dtype=torch.int64))
    nothing = torch.zeros(0, dtype=torch.float64)
    known = KnownHeights(objects, nothing, nothing, torch.tensor([HEIGHT_M], dtype=torch.float64))

    def evaluate(maps: Answer) -> Any:
        return loss((maps["inverse_depth"],), camera, road, known)

    right = {"inverse_depth": inverse_depth}
    wrong = {x: right if x == 1 else {"inverse_depth": inverse_depth / x} for x in TIMES}
    waves = 1 + 0.05 * torch.linspace(0, 9, inverse_depth.shape[-1], dtype=torch.float64).sin()
    axis = Axis("depth, times the true one", "L01", 1.0, wrong)
    return Exact(evaluate, right, {"inverse_depth": inverse_depth * waves / 1.1}, (axis,), {"road": road})
