"""Join pictures of two fisheye lenses that look in opposite directions, as cameras of 360 degrees store them.

The two circles stand side by side in a picture twice as wide as high. Each lens is taken as equidistant: a ray at an
angle theta from the axis is `pixels per radian * theta` pixels from the middle of its circle. The axis of the left lens
becomes the middle of the panorama.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.geometry.panorama import make_rays

Array = NDArray[np.float64]

MAX_OUTSIDE, MIN_CONTRAST = 48.0, 30.0
"""Gray levels: largest 90 % quantile outside of both circles, and least difference to the mean inside of them."""

TURNS_DEG = (0, 90, 180, 270)
"""Orientations of the right circle against the left one that are tried, degrees clockwise."""

FIELDS_DEG = tuple(np.arange(184.0, 236.0, 1.0).tolist())
"""Fields of view that are tried, if the circle were as high as the picture."""

SIDE_PX = 512
"""Height of the pictures in which the lenses are compared."""

SEAM_DEG = 2.0
"""Reach of the compared rays on both sides of the seam, degrees; both lenses see them."""

SHADING = 3
"""Waves around the seam up to which brightness is left out: it falls from the sky to the ground in every scene."""

MIN_AGREEMENT = 0.5
"""Least correlation of what both lenses show around the seam."""


@dataclass(frozen=True)
class DualFisheye:
    """The two lenses of a camera of 360 degrees, whose left circle is upright.

    field_deg: field of view of a circle as high as the picture, degrees.
    turn_deg: orientation of the right circle, degrees clockwise from upright.
    agreement: correlation of what both lenses show around the seam, from -1 to 1.
    """

    field_deg: float
    turn_deg: int = 0
    agreement: float = math.nan

    def project(self, rays: Array, lens: int, height: int) -> tuple[Array, Array]:
        """Project unit rays (..., 3) to pixels (..., 2), x and y, of a picture of this height.

        lens: 0 for the left circle, 1 for the right one.

        Also returns the angles (...) between the rays and the lens's axis, radians.
        """
        sign = 1 - 2 * lens  # The right lens looks back: its x and z point the other way.
        x, y, z = sign * rays[..., 0], rays[..., 1], sign * rays[..., 2]
        angle = np.arctan2(np.hypot(x, y), z)
        radius = angle * height / math.radians(self.field_deg)
        turned = np.arctan2(y, x) + lens * math.radians(self.turn_deg)
        middle = np.array([height * (0.5 + lens) - 0.5, height / 2 - 0.5])
        return middle + radius[..., None] * np.stack((np.cos(turned), np.sin(turned)), -1), angle

    def join(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the panorama (H', 2 H', 3) of a picture (H, 2 H, 3); around the seam, both lenses are mixed."""
        shown = [
            weight[..., None] * cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for x, y, weight in _make_maps(self, image.shape[0])
        ]
        return np.asarray(sum(shown).round(), np.uint8)


@lru_cache(maxsize=1)
def _make_maps(lenses: DualFisheye, height: int) -> list[tuple[NDArray[np.float32], ...]]:
    """Return, for each lens, x and y of the panorama's pixels in a picture of this height, and their weights."""
    rows = round(math.pi * height / math.radians(lenses.field_deg)) // 2 * 2
    rays, maps = make_rays(rows, 2 * rows), list[tuple[NDArray[np.float32], ...]]()
    for lens in (0, 1):
        pixels, angle = lenses.project(rays, lens, height)
        weight = np.clip(0.5 + (math.pi / 2 - angle) / (2 * math.radians(SEAM_DEG)), 0, 1)
        maps.append((*np.moveaxis(pixels.astype(np.float32), -1, 0).copy(), weight.astype(np.float32)))
    return maps


def is_dual_fisheye(image: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) is twice as wide as high, and dark outside of two bright circles side by side.

    Examples:
        >>> image = np.zeros((100, 200, 3), np.uint8)
        >>> is_dual_fisheye(cv2.circle(cv2.circle(image, (50, 50), 49, (200,) * 3, -1), (150, 50), 49, (200,) * 3, -1))
        True
    """
    height, width = image.shape[:2]
    if width != 2 * height:
        return False
    size = 128
    gray = cv2.resize(image, (2 * size, size), interpolation=cv2.INTER_AREA).max(-1).astype(np.float32)
    rows, columns = np.indices((size, size)) + 0.5 - size / 2
    is_outside = np.tile(np.hypot(rows, columns) > 1.04 * size / 2, 2)
    outside, inside = gray[is_outside], gray[~is_outside]
    is_dark = np.quantile(outside, 0.9) < MAX_OUTSIDE
    return bool(is_dark and inside.mean() - outside.mean() > MIN_CONTRAST)


def find_dual_fisheye(images: Sequence[NDArray[np.uint8]]) -> DualFisheye:
    """Find the lenses of pictures (H, 2 H, 3) with two circles: those that agree best around the seam.

    Whether the left circle is upright cannot be found.

    Raises GeometryError if the lenses agree for no field of view and orientation.
    """
    pictures = [_prepare(image) for image in images]
    around, aside = np.meshgrid(np.linspace(-math.pi, math.pi, 720, endpoint=False), np.linspace(-1, 1, 7))
    aside = math.pi / 2 + math.radians(SEAM_DEG) * aside  # the angle from the left lens's axis
    rays = np.stack((np.sin(aside) * np.cos(around), np.sin(aside) * np.sin(around), np.cos(aside)), -1)
    best = DualFisheye(FIELDS_DEG[0], agreement=-1.0)
    for field_deg in FIELDS_DEG:
        left = np.stack([_sample(gray, DualFisheye(field_deg), rays, 0) for gray in pictures])
        for turn_deg in TURNS_DEG:
            right = np.stack([_sample(gray, DualFisheye(field_deg, turn_deg), rays, 1) for gray in pictures])
            if (agreement := float((left * right).mean())) > best.agreement:
                best = DualFisheye(field_deg, turn_deg, agreement)
    if best.agreement < MIN_AGREEMENT:
        found = f"two fisheye circles that agree at the seam by {best.agreement:.2f}"
        fix = "join them with the camera's program, or by ffmpeg -i IN -vf v360=dfisheye:e:ih_fov=190:iv_fov=190 OUT"
        raise GeometryError("dual fisheye", found=found, expected=f"{MIN_AGREEMENT:g} or more", fix=fix)
    return best


def _prepare(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture as blurred brightness (SIDE_PX, 2 SIDE_PX)."""
    small = cv2.resize(image, (2 * SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 2).mean(-1), np.float32)


def _sample(gray: NDArray[np.float32], lenses: DualFisheye, rays: Array, lens: int) -> Array:
    """Return the brightness of rays in the circle of one lens without SHADING, with standard deviation 1."""
    x, y = np.moveaxis(lenses.project(rays, lens, len(gray))[0].astype(np.float32), -1, 0)
    values = np.asarray(cv2.remap(gray, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float64)
    waves = np.fft.rfft(values, axis=1)
    waves[:, : SHADING + 1] = 0
    detail = np.fft.irfft(waves, values.shape[1], axis=1)
    return np.asarray(detail / max(float(detail.std()), 1e-6))
