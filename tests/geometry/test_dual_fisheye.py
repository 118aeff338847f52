"""Laws of two fisheye lenses: their picture joins to the panorama that they show, and its lenses are found in it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.errors import GeometryError
from stadia.geometry.dual_fisheye import DualFisheye, find_dual_fisheye, is_dual_fisheye
from stadia.geometry.panorama import make_rays, project_rays

SIZE = 256


def make_panorama(seed: int = 0) -> NDArray[np.uint8]:
    """Return smooth colors (256, 512, 3) of the rays, brighter above."""
    rays, rng = make_rays(256, 512), np.random.default_rng(seed)
    waves = [np.sin(rays @ rng.normal(0, 7, 3) + phase) for phase in rng.uniform(0, 6, 24)]
    mixed = np.stack(waves, -1) @ rng.normal(0, 1, (24, 3))
    return (120 - 50 * rays[..., 1:2] + 12 * mixed).clip(0, 255).astype(np.uint8)


def film(panorama: NDArray[np.uint8], field_deg: float, turn_deg: float = 0.0) -> NDArray[np.uint8]:
    """Return the picture (SIZE, 2 SIZE, 3) of two equidistant lenses, computed for each circle from its own axes."""
    rows, columns = (np.indices((SIZE, SIZE)) + 0.5) / (SIZE / 2) - 1
    radius, circles = np.hypot(rows, columns), []
    for axes, turn in ((np.eye(3), 0.0), (np.diag([-1.0, 1.0, -1.0]), math.radians(turn_deg))):
        angle, around = radius * math.radians(field_deg) / 2, np.arctan2(rows, columns) - turn
        rays = np.stack((np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)), -1)
        x, y = np.moveaxis(project_rays(rays @ axes.T, *panorama.shape[:2]).astype(np.float32), -1, 0)
        wrapped = cv2.copyMakeBorder(panorama, 0, 0, 1, 1, cv2.BORDER_WRAP)
        circle = cv2.remap(wrapped, x + 1, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        circle[radius > 1] = 0
        circles.append(circle)
    return np.hstack(circles)


@pytest.mark.parametrize(("field_deg", "turn_deg"), [(190.0, 0), (204.0, 180), (188.0, 90)])
def test_the_lenses_are_found_and_join_to_the_panorama(field_deg: float, turn_deg: int) -> None:
    panorama = make_panorama()
    picture = film(panorama, field_deg, turn_deg)
    assert is_dual_fisheye(picture)
    found = find_dual_fisheye([picture])
    assert abs(found.field_deg - field_deg) <= 1
    assert (found.turn_deg, round(found.agreement, 1)) == (turn_deg, 1.0)
    joined = found.join(picture)
    expected = cv2.resize(panorama, joined.shape[1::-1], interpolation=cv2.INTER_AREA)
    rows = slice(joined.shape[0] // 10, -joined.shape[0] // 10)  # a pixel spans many degrees near the poles
    assert np.abs(joined[rows].astype(float) - expected[rows]).mean() < 3


def test_a_ray_is_seen_at_its_angle_from_the_axis() -> None:
    lenses = DualFisheye(180.0)
    pixels, angle = lenses.project(np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]]), 0, 100)
    np.testing.assert_allclose(pixels, [[49.5, 49.5], [99.5, 49.5], [49.5, 99.5]])
    np.testing.assert_allclose(np.degrees(angle), [0, 90, 90])
    behind, _ = lenses.project(np.array([[0, 0, -1.0], [1.0, 0, 0]]), 1, 100)
    np.testing.assert_allclose(behind, [[149.5, 49.5], [99.5, 49.5]])  # the seam: x is on the left of the right circle


def test_lenses_that_show_different_scenes_are_refused() -> None:
    first, second = (film(make_panorama(seed), 190.0) for seed in (0, 1))
    with pytest.raises(GeometryError, match="agree at the seam"):
        find_dual_fisheye([np.hstack((first[:, :SIZE], 255 - second[:, SIZE:]))])
