"""Augment samples: mirroring, one color draw for all images of a sample, tilt, crop, zoom and weather.

Images are planar, (..., 3, H, W), uint8 until they are converted to float. `view_synthesis` changes cameras.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import Camera
from stadia.data.config import AugmentationConfig
from stadia.differentiable.images import crop, resize
from stadia.geometry.cameras import resize_camera

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as torchvision's gray
_YIQ = np.array(  # NTSC: luma and two axes of color, in which a turn changes the hue alone
    [LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
)


def mirror_planar(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (3, H, W) mirrored left to right."""
    channels, height, width = image.shape
    return cv2.flip(image.reshape(channels * height, width), 1).reshape(image.shape)


IDENTITY_COLOR = torch.eye(3, 4)  # RGB and 1 to RGB, unchanged


def make_color_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Return (3, 4) float32 for brightness, contrast, saturation (factors, 1 = unchanged) and hue (share of a turn).

    Columns 0 to 2 are a matrix on RGB in [0, 1]. Column 3 is multiplied by the target's mean gray, the pivot of
    contrast. As in torchvision, except that the hue turns linearly, about the gray axis in YIQ.
    """
    angle = -2 * np.pi * hue  # In YIQ, the hue angle decreases from red to yellow to green.
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    hue_matrix = np.linalg.solve(_YIQ, turn @ _YIQ)
    saturation_matrix = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), LUMA)
    matrix = contrast * brightness * saturation_matrix @ hue_matrix
    pivot = np.full((3, 1), (1 - contrast) * brightness)
    return torch.from_numpy(np.hstack([matrix, pivot])).float()


def compute_mean_gray(image: Tensor) -> Tensor:
    """Return the mean gray (...) of (..., 3, H, W)."""
    return image.mean(dim=(-1, -2)) @ torch.as_tensor(LUMA, dtype=image.dtype, device=image.device)


def apply_color(images: Tensor, color: Tensor, target_gray: Tensor) -> Tensor:
    """Apply maps (..., 3, 4) to (..., N, 3, H, W) in [0, 1]; `target_gray` (...) is the pivot of contrast."""
    flat = images.flatten(-2)  # (..., N, 3, HW)
    each = flat.shape[:-2]  # (..., N)
    matrices = color[..., None, :, :3].expand(*each, 3, 3).reshape(-1, 3, 3)
    offsets = (color[..., 3] * target_gray[..., None])[..., None, :, None].expand(*each, 3, 1).reshape(-1, 3, 1)
    return torch.baddbmm(offsets, matrices, flat.reshape(-1, *flat.shape[-2:])).clamp_(0, 1).view_as(images)


@dataclass(frozen=True)
class ZoomWindow:
    """The part of the image that becomes the sample, in pixels, and its size after resizing."""

    left: int
    top: int
    height: int
    width: int
    to_height: int
    to_width: int


@dataclass(frozen=True)
class AugmentationDraw:
    """The random changes that were drawn for one sample; None for a change that was not drawn.

    color: (3, 4) matrix that changes RGB: a 3x3 matrix and an offset.
    R_tilted_camera: (3, 3) rotation from the camera to the tilted camera, float64.
    """

    mirror: bool = False
    color: Tensor | None = None
    window: ZoomWindow | None = None
    R_tilted_camera: NDArray[np.float64] | None = None
    weather: "WeatherDraw | None" = None


def draw_augmentation(
    config: AugmentationConfig, height: int, width: int, random: np.random.Generator
) -> AugmentationDraw:
    """Draw for one sample of images (height, width). The set of enabled changes does not influence the numbers."""
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
    to_height, to_width = config.crop or (height, width)
    if config.zoom <= 1 and (to_height, to_width) == (height, width):
        return None
    h, w = round(to_height / zoom), round(to_width / zoom)
    return ZoomWindow(int(left * (width - w + 1)), int(top * (height - h + 1)), h, w, to_height, to_width)


def find_covering_size(config: AugmentationConfig, size: tuple[int, int], image: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of an image before the draw changes it: `size`, or the smallest cover of the crop.

    Examples:
        >>> find_covering_size(AugmentationConfig(crop=(64, 64)), (64, 96), (100, 200))
        (64, 128)
    """
    if config.crop is None:
        return size
    scale = max(config.crop[0] / image[0], config.crop[1] / image[1])
    return max(config.crop[0], round(image[0] * scale)), max(config.crop[1], round(image[1] * scale))


def zoom_images(images: Tensor, camera: Camera, window: ZoomWindow) -> tuple[Tensor, Camera]:
    """Resize the window of (N, 3, H, W) uint8 with K (N, 3, 3) to its target size."""
    part, part_camera = crop(images, camera, window.left, window.top, window.height, window.width)
    if (window.height, window.width) == (window.to_height, window.to_width):
        return part.contiguous(), part_camera
    larger, larger_camera = resize(part.float(), part_camera, window.to_height, window.to_width)
    return larger.round().clamp_(0, 255).byte(), larger_camera


def unzoom_K(K: Tensor, window: ZoomWindow | None) -> Tensor:
    """Return K (3, 3) of the image before `zoom_images`."""
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


Matrix = NDArray[np.float64]


def make_tilt(*, roll_deg: float, pitch_deg: float) -> Matrix:
    """Return R_tilted_camera (3, 3), from the camera to the tilted one: roll about z, then pitch about x."""
    roll, pitch = math.radians(roll_deg), math.radians(pitch_deg)
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    return about_x @ about_z


def tilt_image(image: NDArray[np.uint8], K: Matrix, R_tilted_camera: Matrix) -> NDArray[np.uint8]:
    """Return (H, W, C) of the tilted camera, with its reflection outside the image."""
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
    tilted = np.where(in_front, seen / np.where(in_front, z_over_tilted_z, 1), 0)
    return torch.from_numpy(tilted.astype(np.float32))[None]


def find_unseen_pixels(K: Tensor, R_tilted_camera: Matrix, height: int, width: int) -> Tensor:
    """Return (1, H, W) bool, true for pixels of the tilted camera outside the image."""
    ones = np.ones((height, width), np.float32)
    return torch.from_numpy(tilt_values(ones, K.double().numpy(), R_tilted_camera) == 0)[None]


def tilt_motion(T_source_target: Tensor, R_tilted_camera: Matrix) -> Tensor:
    """Return the motion (N, 4, 4) between tilted cameras; NaN stays."""
    T_tilted_camera = torch.eye(4, dtype=T_source_target.dtype)
    T_tilted_camera[:3, :3] = torch.from_numpy(R_tilted_camera)
    return T_tilted_camera @ T_source_target @ T_tilted_camera.T


Image = NDArray[np.float32]

FOG_GRAY = 0.8  # brightness of dense fog, for values in [0, 1]
MAX_FOG = 3.0  # optical thickness at the farthest depth
MAX_DROPS = 900  # streaks of the strongest rain on an image of MAX_DROPS_PIXELS
MAX_DROPS_PIXELS = 640 * 192  # the usual size of driving images
MAX_BLUR_SHARE = 1 / 250  # standard deviation of the blur divided by the width
MAX_NOISE = 0.12  # standard deviation of the noise, for values in [0, 1]


@dataclass(frozen=True)
class WeatherDraw:
    """A kind of `WEATHERS`, its strength in (0, 1], and the seed of its drops and grains."""

    kind: str
    strength: float
    seed: int


def add_weather(images: NDArray[np.uint8], draw: WeatherDraw, horizon_row: float) -> NDArray[np.uint8]:
    """Return images (N, 3, H, W) changed by one kind and strength; fog is thickest at and above `horizon_row`."""
    random = np.random.default_rng(draw.seed)
    change = _CHANGES[draw.kind]
    bad = []
    for planar in images:
        image: Image = np.ascontiguousarray(planar.transpose(1, 2, 0)).astype(np.float32) / np.float32(255)
        bad.append(np.clip(change(image, draw.strength, random, horizon_row), 0, 1))
    return np.ascontiguousarray((np.stack(bad) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2))


def _add_fog(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    height = len(image)
    below = np.clip(np.arange(height) - horizon_row, 0, None) / height
    thickness = strength * MAX_FOG / (1 + 8 * below)
    clear = np.exp(-thickness).astype(np.float32)[:, None, None]
    return image * clear + FOG_GRAY * (1 - clear)


def _add_rain(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    height, width = image.shape[:2]
    count = int(strength * MAX_DROPS * height * width / MAX_DROPS_PIXELS)
    streaks = np.zeros((height, width), np.uint8)
    length = np.array([0.04, 0.16]) * height
    for x, y, size in zip(*random.uniform(0, (width, height, 1), (count, 3)).T, strict=True):
        tip = (round(x + (0.3 + size) * length[0]), round(y + (0.3 + size) * length[1]))
        cv2.line(streaks, (round(x), round(y)), tip, 255, 1, cv2.LINE_AA)
    wet = cv2.GaussianBlur(streaks, (3, 3), 0).astype(np.float32)[..., None] / 255
    dull = image * (1 - 0.3 * strength) + 0.3 * strength * image.mean()
    return dull + 0.6 * wet * (0.9 - dull)


def _blur(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    deviation = strength * MAX_BLUR_SHARE * image.shape[1]
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(deviation, 0.3)), np.float32)


def _add_noise(image: Image, strength: float, random: np.random.Generator, horizon_row: float) -> Image:
    return image + random.normal(0, strength * MAX_NOISE, image.shape).astype(np.float32)


_CHANGES: dict[str, Callable[[Image, float, np.random.Generator, float], Image]] = {
    "fog": _add_fog,
    "rain": _add_rain,
    "blur": _blur,
    "noise": _add_noise,
}
