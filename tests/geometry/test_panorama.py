"""Laws of panoramas: projections are inverse, views turn with the panorama, joined views reproduce the scene."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.geometry.panorama import (
    fit_log_factors,
    join_views,
    lift_pixels,
    make_rays,
    make_rotation,
    make_views,
    project_rays,
)

HEIGHT, WIDTH = 64, 128
VIEWS = make_views(((0, 6), (50, 4), (-50, 4)), side=48, fov_deg=90)


def find_box_distance(rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from the middle of a box of 6 x 3 x 8 to its walls along unit rays."""
    with np.errstate(divide="ignore"):
        return np.min(np.array([3.0, 1.5, 4.0]) / np.abs(rays), axis=-1)


def test_projection_and_rays_are_inverse() -> None:
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1)
    rays = lift_pixels(pixels, HEIGHT, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1)
    np.testing.assert_allclose(project_rays(7 * rays, HEIGHT, WIDTH), pixels, atol=1e-9)
    np.testing.assert_allclose(rays, make_rays(HEIGHT, WIDTH))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_view_projects_its_own_rays_to_its_pixels(view) -> None:
    xy, is_seen = view.project(view.make_rays())
    assert is_seen.all()
    np.testing.assert_allclose(xy, np.stack(np.meshgrid(*2 * [np.arange(view.side)]), -1), atol=1e-9)
    assert not view.project(-view.make_rays())[1].any()
    np.testing.assert_allclose(view.R_panorama_view @ view.R_panorama_view.T, np.eye(3), atol=1e-12)


def test_a_view_shows_what_its_rays_hit() -> None:
    """The colors of the panorama are its rays, so each pixel of a view shows its own ray."""
    rays = make_rays(128, 256)
    for view in VIEWS:
        expected = view.make_rays() / np.linalg.norm(view.make_rays(), axis=-1, keepdims=True)
        np.testing.assert_allclose(view.cut(rays.astype(np.float32)), expected, atol=0.03)


def test_turning_the_panorama_and_the_view_changes_nothing() -> None:
    panorama = np.random.default_rng(0).random((HEIGHT, WIDTH, 3)).astype(np.float32)
    first, second = make_views(((10, 4),), side=32, fov_deg=70)[:2]  # finer than the panorama
    turned = np.roll(panorama, WIDTH // 4, axis=1)  # right by 90 degrees
    np.testing.assert_allclose(second.cut(turned), first.cut(panorama), atol=1e-4)


def test_pitch_looks_up_and_yaw_to_the_right() -> None:
    up, right = make_rotation(0, 30)[:, 2], make_rotation(30, 0)[:, 2]
    np.testing.assert_allclose(up, (0, -math.sin(math.pi / 6), math.cos(math.pi / 6)), atol=1e-12)
    np.testing.assert_allclose(right, (math.sin(math.pi / 6), 0, math.cos(math.pi / 6)), atol=1e-12)


def test_joined_views_are_the_distance_of_the_scene_up_to_one_factor() -> None:
    truth = find_box_distance(make_rays(HEIGHT, WIDTH))
    factors = np.exp(np.random.default_rng(1).normal(0, 0.3, len(VIEWS)))
    depths = []
    for view, factor in zip(VIEWS, factors, strict=True):
        rays = view.make_rays()
        length = np.linalg.norm(rays, axis=-1)
        depths.append(find_box_distance(rays / length[..., None]) / length / factor)
    joined = join_views(depths, VIEWS, HEIGHT, WIDTH)
    np.testing.assert_allclose(joined.factors, factors / np.median(factors), rtol=0.02)
    ratio = joined.distance * np.median(factors) / truth
    assert np.abs(np.log(ratio)).max() < 0.05  # bilinear interpolation across the box's edges
    assert joined.disagreement < 0.01


def test_offsets_close_around_the_circle() -> None:
    """Differences that do not add up to 0 around the circle are shared by all overlaps."""
    logs = np.full((4, 10, 80), np.nan)
    for number in range(4):
        logs[number, :, (np.arange(40) + 20 * number) % 80] = 0.1 * number
    offsets = fit_log_factors(logs, np.ones(10))
    np.testing.assert_allclose(np.diff(offsets), -0.1, atol=1e-9)
    assert abs(np.median(offsets)) < 1e-12
