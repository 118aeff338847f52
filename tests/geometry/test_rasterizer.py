"""Depth, triangle and normal of samples, against closed forms. An independent ray caster checks whole worlds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.synthetic.rendering.mesh import make_sheet
from stadia.synthetic.rendering.rasterizer import (
    NO_TRIANGLE,
    RasterCamera,
    compute_depth_and_normals,
    rasterize_triangles,
)

LENS = RasterCamera(fx=90.0, fy=80.0, cx=61.3, cy=20.7, height=48, width=128, samples=3)
RAY = np.stack(np.meshgrid((np.arange(128) - LENS.cx) / LENS.fx, (np.arange(48) - LENS.cy) / LENS.fy), -1)
RAY = np.concatenate([RAY, np.ones((48, 128, 1))], -1)  # of each pixel's center, at z = 1


def draw(vertices: NDArray, triangles: NDArray, lens: RasterCamera = LENS) -> tuple[NDArray, NDArray]:
    """Z and triangle of each pixel's center."""
    grid = (lens.height * lens.samples, lens.width * lens.samples)
    inverse, index = np.empty(grid), np.empty(grid, np.int32)
    rasterize_triangles(
        np.ascontiguousarray(vertices), np.ascontiguousarray(triangles, dtype=np.int32), lens, inverse, index
    )
    middle = slice(lens.samples // 2, None, lens.samples)
    return inverse[middle, middle], index[middle, middle]


@pytest.mark.parametrize(
    ("normal", "distance"), [((0.0, -1.0, 0.0), 1.6), ((0.1, -0.9, -0.3), 2.0), ((0.4, 0.1, -1.0), 7.0)]
)
def test_depth_of_a_plane(normal: tuple[float, float, float], distance: float) -> None:
    n = np.array(normal) / np.linalg.norm(normal)
    a = np.cross(n, (0.0, 0.0, 1.0)) / np.linalg.norm(np.cross(n, (0.0, 0.0, 1.0)))
    u, v = np.meshgrid(np.linspace(-400, 400, 21), np.linspace(-400, 400, 21))
    plane = make_sheet(-distance * n + u[..., None] * a + v[..., None] * np.cross(n, a), np.zeros((21, 21, 2)), "any")
    inverse, index = draw(plane.vertices, plane.triangles)
    expected = (RAY @ n) / -distance
    inside = expected > 1 / 90  # nearer than the edge of the sheet
    assert inside.mean() > 0.3
    np.testing.assert_allclose(inverse[inside], expected[inside], rtol=1e-9)
    assert (index[inside] != NO_TRIANGLE).all()
    assert (index[expected <= 0] == NO_TRIANGLE).all()


def test_the_nearer_triangle_wins_whatever_the_order() -> None:
    near, far = np.array([[-9, -9, 4.0], [9, -9, 4], [0, 9, 4]]), np.array([[-9, -9, 6.0], [9, -9, 6], [0, 9, 6]])
    for vertices, expected in ((np.vstack([near, far]), 0), (np.vstack([far, near]), 1)):
        _, index = draw(vertices, np.arange(6).reshape(2, 3))
        assert index[LENS.height // 2, LENS.width // 2] == expected


def test_neighboring_triangles_leave_no_gap_between_them() -> None:
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-8, 8, 40), np.linspace(-4, 4, 30)), -1) + random.uniform(
        -0.05, 0.05, (30, 40, 2)
    )
    points = np.concatenate([grid, 5 + random.uniform(-0.3, 0.3, (30, 40, 1))], -1)
    part = make_sheet(points, np.zeros((30, 40, 2)), "any")
    _, index = draw(part.vertices, part.triangles)
    assert (index != NO_TRIANGLE).all()


def test_normals_face_the_camera_from_either_side() -> None:
    triangle = np.array([[-9.0, -9, 4], [9, -9, 4], [0, 9, 4]])
    inverse, index = draw(triangle, np.array([[0, 1, 2]]))
    for sign in (1.0, -1.0):
        depth, normals = np.empty(index.shape, np.float32), np.empty((*index.shape, 3), np.float32)
        compute_depth_and_normals(
            index, inverse, LENS, np.array([[0, 0, sign]]), np.zeros(1, np.int32), np.eye(4)[None], depth, normals
        )
        shown = index != NO_TRIANGLE
        np.testing.assert_array_equal(normals[shown], np.broadcast_to(np.float32([0, 0, -1]), (shown.sum(), 3)))
        np.testing.assert_array_equal(normals[~shown], 0)
        np.testing.assert_allclose(depth[shown], 4.0, rtol=1e-6)
