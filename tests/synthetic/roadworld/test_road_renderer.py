"""Two images of one world agree through the true depth and pose only. The warp here is OpenCV's."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.synthetic.roadworld.road_world import RoadRenderer, RoadView

Frames = list[dict[str, RoadView]]


def warp(source: RoadView, target: RoadView, K: NDArray, T_source_target: NDArray) -> tuple[NDArray, NDArray]:
    height, width = target.depth_m.shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    points = np.linalg.inv(K) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1) * target.depth_m.ravel().astype(float)
    seen = K @ (T_source_target[:3, :3] @ points + T_source_target[:3, 3:])
    z = seen[2].reshape(height, width)
    u, v = (seen[k].reshape(height, width) / np.maximum(z, 1e-6) for k in (0, 1))
    image = cv2.remap(
        source.image.astype(np.float32) / 255,
        np.float32(u),
        np.float32(v),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = (target.depth_m > 0) & (z > 0.1) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    left, top = np.clip(np.floor(u), 0, width - 2).astype(int), np.clip(np.floor(v), 0, height - 2).astype(int)
    around = np.stack([source.depth_m[top + a, left + b] for a in (0, 1) for b in (0, 1)])
    around = np.where(around > 0, around, 1e9)
    return image, inside & (z < 1.03 * around.min(0) + 0.05) & (around.max(0) < 1.5 * around.min(0))


def residuals(
    source: RoadView, target: RoadView, K: NDArray, T_source_target: NDArray, still: NDArray
) -> tuple[float, float, float]:
    image, valid = warp(source, target, K, T_source_target)
    wrong, _ = warp(source, target, K, np.linalg.inv(T_source_target))
    truth, valid = target.image.astype(np.float32) / 255, valid & still
    unwarped = source.image.astype(np.float32) / 255
    first, second, third = (float(np.abs(truth - other)[valid].mean()) for other in (unwarped, image, wrong))
    return first, second, third


@pytest.mark.slow
def test_the_next_frame_by_depth_and_pose(renderer: RoadRenderer, frames: Frames) -> None:
    moving = np.array([False, *(i.moves for i in renderer.world.geometry.instances)])
    for now in (0, 1):
        target, source = frames[now]["left"], frames[now + 1]["left"]
        T = np.linalg.inv(renderer.T_world_camera(now + 1, "left")) @ renderer.T_world_camera(now, "left")
        unwarped, warped, inverted = residuals(source, target, renderer.world.K, T, ~moving[target.instance])
        assert warped < unwarped / 4, (unwarped, warped)
        assert inverted > unwarped, (unwarped, inverted)


@pytest.mark.slow
def test_the_right_image_by_depth_and_baseline(renderer: RoadRenderer, frames: Frames) -> None:
    T_right_left = np.linalg.inv(renderer.T_world_camera(0, "right")) @ renderer.T_world_camera(0, "left")
    np.testing.assert_allclose(T_right_left[:3, 3], [-0.54, 0, 0], atol=1e-12)
    still = np.ones(frames[0]["left"].depth_m.shape, bool)
    unwarped, warped, inverted = residuals(frames[0]["right"], frames[0]["left"], renderer.world.K, T_right_left, still)
    assert warped < unwarped / 7, (unwarped, warped)
    assert inverted > 0.9 * unwarped, (unwarped, inverted)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["now", "right"])
def test_the_true_depth_is_the_best_of_nine(renderer: RoadRenderer, frames: Frames, kind: str) -> None:
    target, source = frames[0]["left"], frames[1]["left"] if kind == "now" else frames[0]["right"]
    other = renderer.T_world_camera(1, "left") if kind == "now" else renderer.T_world_camera(0, "right")
    T = np.linalg.inv(other) @ renderer.T_world_camera(0, "left")
    factors = [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.7]
    errors, valid = [], warp(source, target, renderer.world.K, T)[1] & (target.depth_m < 30)
    for factor in factors:
        scaled = RoadView(
            target.image, target.depth_m * np.float32(factor), target.normals, target.semantic, target.instance
        )
        image, _ = warp(source, scaled, renderer.world.K, T)
        errors.append(cv2.blur(np.abs(image - target.image / np.float32(255)).mean(-1), (5, 5)))
    best = np.argmin(errors, axis=0)[valid]
    assert (np.abs(best - factors.index(1.0)) <= 1).mean() > (0.8 if kind == "now" else 0.9)


def test_normals_belong_to_the_depth(frames: Frames, renderer: RoadRenderer) -> None:
    view, lens = frames[0]["left"], renderer.lens
    shown = view.depth_m > 0
    np.testing.assert_allclose(np.linalg.norm(view.normals[shown], axis=-1), 1, atol=1e-5)
    x, y = np.meshgrid(np.arange(lens.width), np.arange(lens.height))
    ray = np.stack([(x - lens.cx) / lens.fx, (y - lens.cy) / lens.fy, np.ones_like(x, float)], -1)
    assert ((view.normals * ray).sum(-1)[shown] < 0).all()
    points = ray * view.depth_m[..., None].astype(float)
    cross = np.cross(points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1])
    cross /= np.maximum(np.linalg.norm(cross, axis=-1, keepdims=True), 1e-12)
    road = (view.semantic == 1)[:-1, :-1] & (view.depth_m < 15)[:-1, :-1]
    assert np.median(np.abs((cross * view.normals[:-1, :-1]).sum(-1)[road])) > 0.9999


@pytest.mark.slow
def test_a_world_agrees_with_embree(renderer: RoadRenderer, frames: list[dict[str, RoadView]]) -> None:
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh (dev)")
    pytest.importorskip("embreex", reason="needs embreex (dev)")
    geometry, frame, view = renderer.world.geometry, 1, frames[1]["right"]
    vertices = geometry.vertices.copy()
    for body, T in enumerate(geometry.T_world_body[frame]):
        chosen = geometry.body == body
        vertices[chosen] = vertices[chosen] @ T[:3, :3].T + T[:3, 3]
    T = renderer.T_world_camera(frame, "right")
    local = (vertices - T[:3, 3]) @ T[:3, :3]  # Embree is float32: in the camera's frame numbers are small
    rows, columns = np.mgrid[0 : view.depth_m.shape[0] : 3, 0 : view.depth_m.shape[1] : 3].reshape(2, -1)
    ray = np.stack(
        [
            (columns - renderer.lens.cx) / renderer.lens.fx,
            (rows - renderer.lens.cy) / renderer.lens.fy,
            np.ones(len(rows)),
        ],
        1,
    )
    mesh = trimesh.Trimesh(local, geometry.triangles, process=False, validate=False)
    caster = trimesh.ray.ray_pyembree.RayMeshIntersector(mesh)
    index = caster.intersects_first(np.zeros_like(ray), ray)
    corner, normal = (
        local[geometry.triangles[index, 0]],
        np.cross(
            local[geometry.triangles[index, 1]] - local[geometry.triangles[index, 0]],
            local[geometry.triangles[index, 2]] - local[geometry.triangles[index, 0]],
        ),
    )
    z = (normal * corner).sum(1) / (normal * ray).sum(1)
    expected = np.where(index >= 0, z, 0.0)
    found = view.depth_m[rows, columns]
    agree = np.isclose(found, expected, rtol=1e-5)
    assert agree.mean() > 0.999, agree.mean()  # float32 rays slip past silhouettes now and then
    instance = np.where(index >= 0, geometry.instance[index], 0)
    assert (view.instance[rows, columns] == instance)[agree].mean() > 0.9995
    semantic = np.where(index >= 0, geometry.semantic[index], 0)
    assert (view.semantic[rows, columns] == semantic)[agree].mean() > 0.9995
