"""Turn the camera of a sample about its center: image, depth, masks and motion change together, K stays.

A turned camera sees the same rays, so image points move by the homography K R K^-1 (Hartley and Zisserman, 8.4.2).
Depth z changes with the direction of the optical axis; under a roll it stays.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


def make_tilt(*, roll_deg: float, pitch_deg: float) -> Matrix:
    """Return R_tilted_camera (3, 3): points of the camera to those of the tilted one, roll about z, then pitch about x.

    Examples:
        >>> make_tilt(roll_deg=90, pitch_deg=0).round() @ [1, 0, 5]  # a point on the right comes to lie below
        array([0., 1., 5.])
    """
    roll, pitch = math.radians(roll_deg), math.radians(pitch_deg)
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return about_x @ about_z


def tilt_image(image: NDArray[np.uint8], K: Matrix, R_tilted_camera: Matrix) -> NDArray[np.uint8]:
    """Return (H, W, C) of the tilted camera; outside the image its reflection."""
    height, width = image.shape[:2]
    homography = K @ R_tilted_camera @ np.linalg.inv(K)
    flags = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    tilted: NDArray[np.uint8] = cv2.warpPerspective(image, homography, (width, height), **flags)
    return tilted


def tilt_planar(images: Tensor, K: Tensor, R_tilted_camera: Matrix) -> Tensor:
    """Return (N, 3, H, W) uint8 of the tilted cameras K (N, 3, 3)."""
    turned = [
        tilt_image(image.permute(1, 2, 0).numpy(), matrix.double().numpy(), R_tilted_camera)
        for image, matrix in zip(images, K, strict=True)
    ]
    return torch.from_numpy(np.stack(turned)).permute(0, 3, 1, 2).contiguous()


def tilt_values(values: NDArray[np.float32], K: Matrix, R_tilted_camera: Matrix) -> NDArray[np.float32]:
    """Return (H, W) of the tilted camera by the nearest pixel; 0 outside the image."""
    height, width = values.shape
    homography = K @ R_tilted_camera @ np.linalg.inv(K)
    tilted: NDArray[np.float32] = cv2.warpPerspective(
        np.ascontiguousarray(values), homography, (width, height), flags=cv2.INTER_NEAREST, borderValue=0
    )
    return tilted


def tilt_depth(depth_m: Tensor, K: Tensor, R_tilted_camera: Matrix) -> Tensor:
    """Return depth (1, H, W) along the axis of the tilted camera, 0 = none."""
    matrix = K.double().numpy()
    seen = tilt_values(depth_m[0].numpy(), matrix, R_tilted_camera)
    height, width = seen.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.linalg.inv(matrix) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    z_over_tilted_z = (R_tilted_camera[:, 2] @ rays).reshape(height, width)
    in_front = z_over_tilted_z > 1e-3
    return torch.from_numpy(np.where(in_front, seen / np.where(in_front, z_over_tilted_z, 1), 0).astype(np.float32))[
        None
    ]


def find_unseen_pixels(K: Tensor, R_tilted_camera: Matrix, height: int, width: int) -> Tensor:
    """Return (1, H, W) bool: the pixels of the tilted camera that the image does not show."""
    ones = np.ones((height, width), np.float32)
    return torch.from_numpy(tilt_values(ones, K.double().numpy(), R_tilted_camera) == 0)[None]


def tilt_motion(T_source_target: Tensor, R_tilted_camera: Matrix) -> Tensor:
    """Return (N, 4, 4) between cameras that are all tilted alike; NaN stays."""
    T_tilted_camera = torch.eye(4, dtype=T_source_target.dtype)
    T_tilted_camera[:3, :3] = torch.from_numpy(R_tilted_camera)
    return T_tilted_camera @ T_source_target @ T_tilted_camera.T
