"""Right view of a stereo pair: its inverse depth, predicted from the left image alone.

D3VO (arXiv 2003.01060), section 3.1, after Monodepth (arXiv 1609.03677). It is a separate loss: it neither enters the
left image's minimum nor is weighted by the left image's uncertainty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.warp import inside_frame, reproject, sample
from stadia.losses.reprojection import Images

STEREO = "stereo"
"""Name of the rig's other camera among the sources."""


def swap_target_and_source(images: Images, index: int) -> Images:
    """Return source `index` as the target, with the target as its only source."""
    camera, source_camera = images.camera, images.source_camera
    return Images(
        target=images.sources[:, index],
        camera=Camera(source_camera.K[:, index], source_camera.height, source_camera.width),
        sources=images.target[:, None],
        source_camera=Camera(camera.K[:, None], camera.height, camera.width),
        source_names=(images.source_names[index],),
    )


def left_right_consistency(
    inverse_depth: Tensor, inverse_depth_other: Tensor, camera: Camera, camera_other: Camera, T_other_camera: Tensor
) -> Tensor:
    """Compare the inverse depths of two cameras: mean absolute difference relative to the first one's mean, a scalar.

    Each pixel's point is projected into the other camera, and its inverse depth there is compared with that camera's
    map. Points outside the other image count as 0. Occlusions are penalized although they are correct.

    Args:
        inverse_depth, inverse_depth_other: (B, 1, H, W), (B, 1, Ho, Wo), each in its own camera.
        camera, camera_other: K (B, 3, 3).
        T_other_camera: (B, 4, 4).

    Source: Monodepth (arXiv 1609.03677), eq. 4, there of disparities.
    """
    pixels, nearness = reproject(depth_from_inverse(inverse_depth), camera, camera_other, T_other_camera)
    seen = inside_frame(pixels, nearness, camera_other)
    there = inverse_depth / torch.where(seen, nearness, 1.0)
    relative = (sample(inverse_depth_other, pixels) - there).abs() / inverse_depth.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(seen, relative, 0.0).mean()
