"""Laws of sparse maps: projection, joining, uncertainty of points and of the camera."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stadia.sfm.camera_intervals import PARAMETERS, differentiate_lens, measure_lens
from stadia.sfm.sparse_map import LensCamera, SparseMap, align_cameras, join_maps

LENS = LensCamera(400.0, (310.0, 190.0), (-0.1, 0.02, 0.001, -0.002), 400, 640)


def turn(deg: float, axis: tuple[float, float, float] = (0, 1, 0)) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(np.radians(deg) * np.array(axis, np.float64))[0])


def make_map(
    *, turn_deg: float, frames: int = 12, noise_px: float = 0.2, lens: LensCamera = LENS, seed: int = 0
) -> SparseMap:
    """A drive forward by half a metre a frame that turns by `turn_deg` in all, through points at random."""
    random = np.random.default_rng(seed)
    points = random.uniform((-8, -3, 4), (8, 3, 30), (300, 3))
    poses, center = [], np.zeros(3)
    for frame in range(frames):
        R = turn(turn_deg * frame / (frames - 1)).T
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R, -R @ center
        poses.append(T)
        center = center + 0.5 * R[2]
    return observe(lens, np.array(poses), points, noise_px=noise_px, random=random)


def observe(
    lens: LensCamera, T: np.ndarray, points: np.ndarray, *, noise_px: float = 0, random: np.random.Generator
) -> SparseMap:
    observed, xy = [], []
    for row in range(len(T)):
        inside = points @ T[row, :3, :3].T + T[row, :3, 3]
        seen = inside[:, 2] > 1
        pixels = lens.project(np.where(seen[:, None], inside, 1.0))
        seen &= ((pixels > 0) & (pixels < (lens.width, lens.height))).all(1)
        observed += [(row, point) for point in np.flatnonzero(seen)]
        xy.append(pixels[seen] + noise_px * random.standard_normal((int(seen.sum()), 2)))
    colors = np.zeros((len(points), 3), np.uint8)
    return SparseMap(lens, np.arange(len(T)), T, points, colors, np.array(observed), np.concatenate(xy))


def test_projection_is_that_of_opencv():
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (50, 3))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), LENS.K, np.array(LENS.distortion))[0][:, 0]
    np.testing.assert_allclose(LENS.project(points), expected, atol=1e-9)


def test_an_undistorted_image_is_that_of_a_pinhole():
    ray = np.array([[0.5, 0.3, 1.0]])
    x, y = LENS.project(ray)[0]
    columns, rows = np.meshgrid(np.arange(640), np.arange(400))
    dot = (255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)).astype(np.uint8)
    found = LENS.undistort(dot).astype(float)
    center = [(found * grid).sum() / found.sum() for grid in (columns, rows)]
    np.testing.assert_allclose(center, (LENS.K @ ray[0])[:2], atol=0.1)


def test_a_resized_camera_projects_to_the_resized_pixel():
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (50, 3))
    np.testing.assert_allclose(LENS.resized(800, 1280).project(points), (LENS.project(points) + 0.5) * 2 - 0.5)


def test_a_camera_returns_from_pycolmap_unchanged_and_projects_there_as_here():
    pytest.importorskip("pycolmap")
    camera = LENS.to_pycolmap()
    back = LensCamera.from_pycolmap(camera)
    assert back.distortion == LENS.distortion
    np.testing.assert_allclose(back.K, LENS.K)
    points = np.random.default_rng(0).uniform((-1, -1, 2), (1, 1, 5), (50, 3))
    np.testing.assert_allclose(camera.img_from_cam(points), LENS.project(points) + 0.5, atol=1e-6)


def test_cameras_of_a_straight_path_are_aligned_by_their_rotations():
    source = make_map(turn_deg=0).T_camera_world
    R, scale, t = turn(30, (0, 0, 1)), 2.5, np.array([1.0, -2, 3])
    target = source.copy()
    target[:, :3, :3] = source[:, :3, :3] @ R.T
    target[:, :3, 3] = scale * source[:, :3, 3] - np.einsum("nij,j->ni", target[:, :3, :3], t)
    found = align_cameras(source, target)
    np.testing.assert_allclose(found[0], scale)
    np.testing.assert_allclose(found[1], R, atol=1e-12)
    np.testing.assert_allclose(found[2], t, atol=1e-12)


def select(sparse: SparseMap, start: int, stop: int) -> SparseMap:
    kept = (sparse.observed[:, 0] >= start) & (sparse.observed[:, 0] < stop)
    observed = sparse.observed[kept] - (start, 0)
    T = sparse.T_camera_world[start:stop]
    return SparseMap(
        sparse.camera, sparse.frames[start:stop], T, sparse.points, sparse.colors, observed, sparse.xy[kept]
    )


def move(sparse: SparseMap, scale: float, R: np.ndarray, t: np.ndarray) -> SparseMap:
    T = sparse.T_camera_world.copy()
    T[:, :3, :3] = T[:, :3, :3] @ R.T
    T[:, :3, 3] = scale * sparse.T_camera_world[:, :3, 3] - np.einsum("nij,j->ni", T[:, :3, :3], t)
    points = scale * sparse.points @ R.T + t
    return SparseMap(sparse.camera, sparse.frames, T, points, sparse.colors, sparse.observed, sparse.xy)


def test_joined_maps_explain_the_same_pixels():
    whole = make_map(turn_deg=20, noise_px=0)
    parts = [select(whole, 0, 8), move(select(whole, 5, 12), 3.0, turn(50, (1, 0, 0)), np.array([4.0, 5, 6]))]
    (joined,) = join_maps(parts)
    assert joined.frames.tolist() == whole.frames.tolist()
    np.testing.assert_allclose(joined.T_camera_world, whole.T_camera_world, atol=1e-9)
    np.testing.assert_allclose(joined.residuals_px(), 0, atol=1e-7)
    assert len(joined.xy) == len(whole.xy)


@pytest.mark.parametrize("name", PARAMETERS)
def test_derivatives_by_the_camera_are_finite_differences(name):
    sparse = make_map(turn_deg=10, noise_px=0)
    step = 1e-4 if name.endswith("_px") else 1e-6
    values = dict(zip(PARAMETERS, (LENS.focal_px, *LENS.center_px, *LENS.distortion), strict=True))
    values[name] += step
    moved = LensCamera(
        values["focal_px"],
        (values["center_x_px"], values["center_y_px"]),
        tuple(values[k] for k in PARAMETERS[3:]),
        400,
        640,
    )
    inside = sparse.in_camera()
    expected = (moved.project(inside) - LENS.project(inside)) / step
    np.testing.assert_allclose(differentiate_lens(sparse, (name,))[:, :, 0], expected, rtol=1e-3, atol=1e-3)


def test_a_straight_path_does_not_determine_the_focal_length_and_a_turn_does():
    straight, curved = (measure_lens(make_map(turn_deg=deg)) for deg in (0, 40))
    assert straight.deviations["focal_px"] > 50 * curved.deviations["focal_px"]
    assert not straight.is_focal_determined(LENS)
    assert curved.is_focal_determined(LENS)
    assert curved.turn_deg == pytest.approx(40)


def test_points_are_less_certain_along_the_ray_and_far_away():
    sparse = make_map(turn_deg=0)
    relative, seen = sparse.relative_deviations(), sparse.track_lengths() > 5
    distance = np.linalg.norm(sparse.points, axis=1)
    side = np.abs(sparse.points[:, 0]) > 2
    near, far = (np.median(relative[seen & side & part]) for part in (distance < 12, distance > 22))
    assert far > 1.5 * near > 0
    assert sparse.point_deviations()[1] == pytest.approx(0.2, rel=0.1)
