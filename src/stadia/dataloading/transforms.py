"""Augment samples: mirroring, one color draw for all images of a sample, tilt, crop and zoom.

Images are planar, (..., 3, H, W), uint8 until the one conversion to float. Cameras change by `stadia.geometry.camera`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.dataloading.config import AugmentationConfig
from stadia.dataloading.tilt import make_tilt
from stadia.dataloading.weather import WeatherDraw
from stadia.geometry.camera import crop, resize, resize_camera

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as torchvision's gray
_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def mirror_planar(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror (3, H, W) left to right."""
    channels, height, width = image.shape
    return cv2.flip(image.reshape(channels * height, width), 1).reshape(image.shape)


IDENTITY_COLOR = torch.eye(3, 4)


def make_color_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Return (3, 4) float32 for brightness, contrast, saturation (factors, 1 = unchanged) and hue (share of a turn).

    Columns 0 to 2 are a matrix on RGB in [0, 1]. Column 3 is added for each unit of the target's mean gray, the pivot
    of contrast. As in torchvision, each change is a blend (with black, the mean gray, or the pixel's gray) or a
    rotation of the hue. Here the rotation is linear (about the gray axis, in YIQ), so that everything is one small
    matrix product.
    """
    angle = -2 * np.pi * hue  # in YIQ the hue angle decreases from red to yellow to green
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    hue_matrix = np.linalg.solve(_YIQ, turn @ _YIQ)
    saturation_matrix = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), LUMA)
    matrix = contrast * brightness * saturation_matrix @ hue_matrix
    pivot = np.full((3, 1), (1 - contrast) * brightness)
    return torch.from_numpy(np.hstack([matrix, pivot])).float()


def compute_mean_gray(image: Tensor) -> Tensor:
    """Return the mean gray of (..., 3, H, W) as (...)."""
    return image.mean(dim=(-1, -2)) @ torch.as_tensor(LUMA, dtype=image.dtype, device=image.device)


def apply_color(images: Tensor, color: Tensor, target_gray: Tensor) -> Tensor:
    """Apply maps (..., 3, 4), one for all N images of a sample, to (..., N, 3, H, W) in [0, 1].

    target_gray (...): the mean gray of the sample's target. It is the pivot of contrast in every image, so that all
    images change by the same map.
    """
    flat = images.flatten(-2)  # (..., N, 3, HW)
    each = flat.shape[:-2]  # (..., N)
    matrices = color[..., None, :, :3].expand(*each, 3, 3).reshape(-1, 3, 3)
    offsets = (color[..., 3] * target_gray[..., None])[..., None, :, None].expand(*each, 3, 1).reshape(-1, 3, 1)
    return torch.baddbmm(offsets, matrices, flat.reshape(-1, *flat.shape[-2:])).clamp_(0, 1).view_as(images)


@dataclass(frozen=True)
class ZoomWindow:
    """The part of the image that becomes the sample, in pixels, and the size that it is resized to."""

    left: int
    top: int
    height: int
    width: int
    to_height: int
    to_width: int


@dataclass(frozen=True)
class AugmentationDraw:
    """The random draw of one sample; its images, cameras and targets change by the same draw.

    color: (3, 4), see `make_color_matrix`.
    R_tilted_camera: (3, 3) float64, see `dataloading.tilt`.
    """

    mirror: bool = False
    color: Tensor | None = None
    window: ZoomWindow | None = None
    R_tilted_camera: NDArray[np.float64] | None = None
    weather: WeatherDraw | None = None


def draw_augmentation(
    config: AugmentationConfig, height: int, width: int, random: np.random.Generator
) -> AugmentationDraw:
    """Draw for one sample of images (height, width). The numbers do not depend on which changes are enabled."""
    mirror, color, zoom, left, top = random.random(5)
    jitter = config.color
    ranges = jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
    brightness, contrast, saturation, hue = random.uniform(-1, 1, 4) * ranges
    is_colored = color < jitter.probability
    tilted, roll, pitch, bad, kind, strength = random.random(6)
    tilt, weather = config.tilt, config.weather
    angles_deg = {"roll_deg": (2 * roll - 1) * tilt.roll_deg, "pitch_deg": (2 * pitch - 1) * tilt.pitch_deg}
    bad_weather = WeatherDraw(
        kind=weather.kinds[int(kind * len(weather.kinds))],
        strength=weather.strength * (0.25 + 0.75 * strength),
        seed=int(random.integers(1 << 31)),
    )
    return AugmentationDraw(
        mirror=bool(mirror < config.mirror),
        color=make_color_matrix(1 + brightness, 1 + contrast, 1 + saturation, hue) if is_colored else None,
        window=_draw_window(config, 1 + zoom * (config.zoom - 1), left, top, height, width),
        R_tilted_camera=make_tilt(**angles_deg) if tilted < tilt.probability else None,
        weather=bad_weather if bad < weather.probability else None,
    )


def _draw_window(
    config: AugmentationConfig, zoom: float, left: float, top: float, height: int, width: int
) -> ZoomWindow | None:
    """Return the window of a zoom, of a crop, or of both; None for the whole image as it is."""
    to_height, to_width = config.crop or (height, width)
    if config.zoom <= 1 and (to_height, to_width) == (height, width):
        return None
    h, w = round(to_height / zoom), round(to_width / zoom)
    return ZoomWindow(int(left * (width - w + 1)), int(top * (height - h + 1)), h, w, to_height, to_width)


def find_covering_size(config: AugmentationConfig, size: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) that an image is resized to before the draw changes it: `size` without a crop.

    Else the smallest size of the image's own aspect that covers the crop.

    Examples:
        >>> find_covering_size(AugmentationConfig(crop=(64, 64)), (64, 96), (100, 200))
        (64, 128)
    """
    if config.crop is None:
        return size
    scale = max(config.crop[0] / image[0], config.crop[1] / image[1])
    return max(config.crop[0], round(image[0] * scale)), max(config.crop[1], round(image[1] * scale))


def zoom_images(images: Tensor, camera: Camera, window: ZoomWindow) -> tuple[Tensor, Camera]:
    """Resize the window of (N, 3, H, W) uint8 with K (N, 3, 3) to the window's own target size, with the cameras."""
    part, part_camera = crop(images, camera, window.left, window.top, window.height, window.width)
    if (window.height, window.width) == (window.to_height, window.to_width):
        return part.contiguous(), part_camera
    larger, larger_camera = resize(part.float(), part_camera, window.to_height, window.to_width)
    return larger.round().clamp_(0, 255).byte(), larger_camera


def unzoom_K(K: Tensor, window: ZoomWindow | None) -> Tensor:
    """Return K (3, 3) of the image before `zoom_images` resized the window of it."""
    if window is None:
        return K
    K = resize_camera(Camera(K, window.to_height, window.to_width), window.height, window.width).K.clone()
    K[0, 2] += window.left
    K[1, 2] += window.top
    return K


def zoom_depth(depth_m: Tensor, window: ZoomWindow) -> Tensor:
    """Resize the window of (1, H, W) by the nearest pixel."""
    part = depth_m[:, window.top : window.top + window.height, window.left : window.left + window.width]
    return F.interpolate(part[None], (window.to_height, window.to_width), mode="nearest-exact")[0]
