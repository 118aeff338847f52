"""Tilt consistency: the depth of a rolled image must equal the rolled depth of the image.

A roll about the optical axis does not change the z of a point.
"""

import math

import torch
from torch import Tensor

from stadia.core.types import Camera
from stadia.differentiable.view_synthesis import sample_image
from stadia.geometry.cameras import apply_to_pixels, inverse_intrinsics
from stadia.geometry.poses import matmul, so3_exp


def roll_pixels(camera: Camera, roll_deg: float) -> tuple[Tensor, Tensor]:
    """Return the pixels (B, 2, H, W) of the image that a rolled camera sees, and which are inside it (B, 1, H, W).

    roll_deg: roll angle in degrees.
    """
    K = camera.K
    back = so3_exp(K.new_tensor([0.0, 0.0, -math.radians(roll_deg)]))
    homogeneous = apply_to_pixels(
        matmul(matmul(K, back.expand_as(K)), inverse_intrinsics(K)), camera.height, camera.width
    )
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    x, y = pixels[:, :1], pixels[:, 1:]
    return pixels, (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)


def roll_images(images: Tensor, camera: Camera, roll_deg: float) -> tuple[Tensor, Tensor]:
    """Return the images or maps (B, C, H, W) of the rolled camera, and the mask (B, 1, H, W) of pixels inside.

    Edge pixels are repeated outside the image.
    """
    pixels, inside = roll_pixels(camera, roll_deg)
    return sample_image(images, pixels), inside


def tilt_consistency(inverse_depth: Tensor, inverse_depth_of_rolled: Tensor, camera: Camera, roll_deg: float) -> Tensor:
    """Return the mean relative difference of the rolled map and the rolled image's map, a scalar.

    The rolled map acts as a constant teacher.

    inverse_depth: (B, 1, H, W) predicted from the images.
    inverse_depth_of_rolled: (B, 1, H, W) predicted from the images rolled by `roll_images`.
    roll_deg: roll angle in degrees.
    """
    expected, inside = roll_images(inverse_depth.detach(), camera, roll_deg)
    difference = (inverse_depth_of_rolled - expected).abs() / expected.clamp(min=torch.finfo(expected.dtype).tiny)
    return difference.where(inside, 0.0).sum() / inside.sum().clamp(min=1)
