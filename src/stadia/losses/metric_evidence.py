"""Estimate the camera height from objects of known height, and weight the objects. No gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stadia.geometry.camera import Camera
from stadia.geometry.ground import RoadPixels
from stadia.geometry.horizon import horizon_of
from stadia.geometry.horizon_ratio import horizon_ratios, implied_camera_height, oddness
from stadia.geometry.segments import Segments, segment_quantiles
from stadia.geometry.silhouette import silhouettes


@dataclass(frozen=True, slots=True)
class ObjectEvidence:
    """Camera height in meters by each object, (M,); NaN without a known height, or in an image without road.

    camera_m: from the object's silhouette in depth: its scale times the camera's height in that depth.
    horizon_m: from its mask and the horizon only; 0 for an object above the horizon.
    """

    camera_m: Tensor
    horizon_m: Tensor


@torch.no_grad()
def object_evidence(
    depth: Tensor, camera: Camera, road: RoadPixels, objects: Segments, height_m: Tensor
) -> ObjectEvidence:
    """Estimate the camera height from each object of a batch; heights must be positive.

    Args:
        depth: (B, 1, H, W) z in any unit, which may differ between images.
        camera: K (3, 3) or (B, 3, 3).
        road: of the same depth (`road_pixels`).
        objects: of (B, H, W).
        height_m: (M,) known heights, NaN for none.
    """
    silhouette = silhouettes(depth, camera, road.plane, objects).height
    object_depth = segment_quantiles(objects.of(depth)[:, 0], objects.segment, objects.count, (0.5,))[0]
    fy = camera.fy.to(depth).expand(len(depth))[objects.image]
    # The center of the highest pixel is half a pixel below the edge, on average.
    silhouette = silhouette + 0.5 * object_depth / fy
    camera_m = height_m / silhouette.where(silhouette > 0, torch.nan) * road.median_height[objects.image]
    line = horizon_of(road.normal, camera)
    ratio = horizon_ratios(line, objects, *depth.shape[-2:]).ratio
    return ObjectEvidence(camera_m, implied_camera_height(height_m, ratio))


def object_weights(
    horizon_m: Tensor, reference_m: Tensor, *, spread: float | None = None, tolerance: float = 0.2
) -> Tensor:
    """Return the weight of each object, (M,) from 0 to 1.

    Args:
        horizon_m: (M,) from `object_evidence`.
        reference_m: (M,) camera height of its group; NaN while unknown, which gives weight 1.
        spread: None: weight 1 up to the tolerance and 0 beyond. Else exp(-odd^2 / (2 spread^2)), in the logarithm.
        tolerance: largest accepted oddness.
    """
    odd = oddness(horizon_m, reference_m)
    weight = (
        (odd.abs() < tolerance).to(odd.dtype) if spread is None else (-0.5 * (odd / spread).square()).exp().nan_to_num()
    )
    return weight.where(reference_m.isfinite(), torch.ones_like(weight))
