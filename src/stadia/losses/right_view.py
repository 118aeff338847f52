"""The pair the other way round: inverse depth of the right camera, said from the left image alone.

D3VO (arXiv 2003.01060), section 3.1, as Godard et al. (Monodepth, arXiv 1609.03677) have it. It is a loss of its own:
no candidate of the left image's minimum, and not weighed by the left image's uncertainty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.depth_maps import depth_from_inverse
from stadia.geometry.warp import inside_frame, reproject, sample
from stadia.losses.reprojection import Images

STEREO = "stereo"
"""The source that is the rig's other camera."""


def other_way_round(images: Images, index: int) -> Images:
    """Source number `index` as the target, and the target as its only source."""
    camera, source_camera = images.camera, images.source_camera
    return Images(
        target=images.sources[:, index],
        camera=Camera(source_camera.K[:, index], source_camera.height, source_camera.width),
        sources=images.target[:, None],
        source_camera=Camera(camera.K[:, None], camera.height, camera.width),
        source_names=(images.source_names[index],),
    )


def inconsistency(
    inverse_depth: Tensor, inverse_depth_other: Tensor, camera: Camera, camera_other: Camera, T_other_camera: Tensor
) -> Tensor:
    """What two cameras' inverse depths say of the same points: the mean absolute difference, relative to the first
    one's mean.

    Each pixel's point is taken to the other camera, where that camera's map is read and compared with the point's own
    inverse depth there. Points outside its image say nothing, and count as 0. What one camera alone sees (an occlusion)
    is wrongly asked to agree.

    Args:
        inverse_depth, inverse_depth_other: (B, 1, H, W), (B, 1, Ho, Wo), each in its own camera.
        camera, camera_other: K (B, 3, 3).
        T_other_camera: (B, 4, 4).

    Returns: a scalar. Source: Monodepth (arXiv 1609.03677), eq. 4, there of disparities.
    """
    pixels, nearness = reproject(depth_from_inverse(inverse_depth), camera, camera_other, T_other_camera)
    seen = inside_frame(pixels, nearness, camera_other)
    there = inverse_depth / torch.where(seen, nearness, 1.0)
    relative = (sample(inverse_depth_other, pixels) - there).abs() / inverse_depth.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(seen, relative, 0.0).mean()
