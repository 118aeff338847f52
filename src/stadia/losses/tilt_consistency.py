"""Tilt consistency: the depth of a rolled image is the rolled depth of the image.

A roll about the optical axis keeps each point's z.
"""

import math

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.geometry.camera import apply_to_pixels, inverse_intrinsics
from stadia.geometry.se3 import matmul, so3_exp
from stadia.geometry.warp import sample_image


def roll_pixels(camera: Camera, roll_deg: float) -> tuple[Tensor, Tensor]:
    """Return each rolled pixel's place in the image (B, 2, H, W), and whether it is inside (B, 1, H, W)."""
    K = camera.K
    back = so3_exp(K.new_tensor([0.0, 0.0, -math.radians(roll_deg)]))
    homogeneous = apply_to_pixels(
        matmul(matmul(K, back.expand_as(K)), inverse_intrinsics(K)), camera.height, camera.width
    )
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    x, y = pixels[:, :1], pixels[:, 1:]
    return pixels, (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)


def roll_images(images: Tensor, camera: Camera, roll_deg: float) -> tuple[Tensor, Tensor]:
    """Return images or maps (B, C, H, W) of the rolled camera, edges repeated outside, and the inside mask."""
    pixels, inside = roll_pixels(camera, roll_deg)
    return sample_image(images, pixels), inside


def tilt_consistency(inverse_depth: Tensor, inverse_depth_of_rolled: Tensor, camera: Camera, roll_deg: float) -> Tensor:
    """Return the mean relative difference of the rolled map, a constant teacher, and the rolled image's map.

    inverse_depth: (B, 1, H, W) of the images.
    inverse_depth_of_rolled: (B, 1, H, W) of the images rolled by `roll_images`.
    """
    expected, inside = roll_images(inverse_depth.detach(), camera, roll_deg)
    difference = (inverse_depth_of_rolled - expected).abs() / expected.clamp(min=torch.finfo(expected.dtype).tiny)
    return difference.where(inside, 0.0).sum() / inside.sum().clamp(min=1)
