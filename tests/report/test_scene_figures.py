"""Scenes of points and cameras on a page: upright and centered in whatever world they are given."""

import base64
import json

import numpy as np
from scipy.spatial.transform import Rotation

from stadia.report.point_cloud_figures import SceneCamera, SceneView, pack_scene, place_upright

RANDOM = np.random.default_rng(0)


def make_scene() -> tuple[np.ndarray, np.ndarray]:
    """Points, and cameras that look at them from 4 m before, a little turned."""
    points = RANDOM.normal(size=(200, 3))
    T = np.tile(np.eye(4), (9, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("yx", RANDOM.uniform(-10, 10, (9, 2)), degrees=True).as_matrix()
    T[:, :3, 3] = [0, 0, -4] + RANDOM.normal(size=(9, 3)) / 4
    return points, T


def test_a_scene_looks_the_same_in_any_world() -> None:
    points, T = make_scene()
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.random(random_state=1).as_matrix(), (5, -3, 20)
    seen = []
    for world in (np.eye(4), moved):
        of_world = points @ world[:3, :3].T + world[:3, 3]
        T_view_world, radius = place_upright(of_world, world @ T)
        seen.append((of_world @ T_view_world[:3, :3].T, radius))
        down = (T_view_world @ world @ T)[:, :3, 1].mean(0)
        assert down[1] > 0.95 * np.linalg.norm(down), "upright"
        assert ((T_view_world @ world @ T)[:, 2, 3] < 0).all(), "the cameras are in front"
    spread = [np.ptp(points, axis=0) for points, _ in seen]
    np.testing.assert_allclose(spread[0][1], spread[1][1], rtol=1e-6)
    assert 0.5 < seen[0][1] / seen[1][1] < 2


def test_a_page_has_the_images_and_cameras_of_a_scene() -> None:
    points, T = make_scene()
    image = np.full((90, 120, 3), 200, np.uint8)
    K = np.array([[60.0, 0, 60], [0, 60, 45], [0, 0, 1]])
    cameras = [SceneCamera(K, 90, 120, one) for one in T]
    views = [SceneView("a.jpg", "7 points", image, cameras[0]), SceneView("b.jpg", "", None, cameras[1])]
    colors = np.zeros((len(points), 3), np.uint8)
    figure = pack_scene(points.astype(np.float32), colors, "m", lines=[], cameras=cameras, views=views, radius=2.0)
    view = json.loads(figure.view)
    assert (view["count"], view["radius"], len(view["cameras"])) == (200, 2.0, 9)
    assert [one["name"] for one in view["views"]] == ["a.jpg", "b.jpg"]
    assert view["views"][0]["image"].startswith("data:image/jpeg")
    assert view["views"][1]["image"] == ""
    assert view["views"][0]["fov_deg"] == 90
    assert len(base64.b64decode(figure.points)) == 15 * 200
