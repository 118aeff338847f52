"""Laws of fused depth maps: views of one wall become one wall, whatever the scale of each view."""

import numpy as np
import pytest

from stadia.evaluation.depth_fusion import DepthView, fit_scales, fuse_views, make_view, shrink_view

K = np.array([[60.0, 0, 39.5], [0, 60.0, 29.5], [0, 0, 1]])
WALL = 2.0


def look(x: float, depth: float | np.ndarray = WALL) -> DepthView:
    """A view of 60 x 80 pixels along z from the position (x, 0, 0)."""
    T = np.eye(4)
    T[0, 3] = x
    image = np.full((60, 80, 3), (200, 30, 10), np.uint8)
    return make_view(f"{x}", image, np.full((60, 80), depth, np.float32), K, T)


def test_views_with_scales_of_their_own_become_one_wall() -> None:
    factors = np.array([0.8, 1.0, 1.3, 1.1])
    views = [look(0.3 * number, WALL * factor) for number, factor in enumerate(factors)]
    expected = factors.prod() ** 0.25 / factors
    np.testing.assert_allclose(fit_scales(views), expected, rtol=0.02)
    fused = fuse_views(views)
    z = WALL * factors.prod() ** 0.25
    assert np.abs(fused.points[:, 2] / z - 1).max() < 0.02
    assert len(fused.points) < 1.6 * 60 * 80, "a surface that several views show is kept once"
    assert fused.points[:, 0].max() > 0.9 + 0.9 * z * 40 / 60, "what only the last view shows is kept"
    assert fused.views.max() == 4
    assert (fused.colors == (200, 30, 10)).all()


def test_points_that_other_views_see_through_are_left_out() -> None:
    depth = np.full((60, 80), WALL)
    depth[25:35, 35:45] = 1.0  # of an error: two views see the wall behind it
    views = [look(0.0), look(0.1, depth), look(0.2)]
    assert fuse_views(views).points[:, 2].min() == pytest.approx(WALL, rel=0.01)
    assert fuse_views(views[1:2]).points[:, 2].min() == 1.0, "nothing contradicts a single view"


def test_a_smaller_depth_map_has_the_points_of_the_larger_one() -> None:
    view = look(0.0)
    small = shrink_view(view, 40)
    assert small.depth.shape == (30, 40)
    points, fewer = (fuse_views([one]).points for one in (view, small))
    np.testing.assert_allclose(fewer, points.reshape(60, 80, 3)[::2, ::2].reshape(-1, 3), atol=1e-6)


def test_nothing_is_fused_from_nothing() -> None:
    assert len(fuse_views([]).points) == 0
    assert len(fuse_views([look(0.0, 0.0)]).points) == 0
