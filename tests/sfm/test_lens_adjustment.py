"""The lens of a map: none is found where there is none, and a bent one in spite of wrong matches, at any image size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.sfm.camera_search import find_rotation_focal
from stadia.sfm.reconstruction import adjust, adjust_camera, change_model
from stadia.sfm.sparse_map import LensCamera

pycolmap = pytest.importorskip("pycolmap", reason="the extra `map` is not installed")

NOISE_PX, WRONG_SHARE, WRONG_PX = 0.03, 0.3, 0.8
FRAMES, POINTS = 8, 250


def make_lens(k1: float, size: int = 1) -> LensCamera:
    lens = LensCamera(300, (159.5, 99.5), (k1, 0.15 * k1**2, 0.0, 0.0), 200, 320)
    return lens.resized(200 * size, 320 * size)


def make_model(lens: LensCamera, *, noise_px: float, wrong_px: float) -> Any:
    """Return a pycolmap.Reconstruction of a camera on an arc; a share of the matches lies up to wrong_px outwards."""
    random, model = np.random.default_rng(0), pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(lens.to_pycolmap())
    points = np.column_stack([random.uniform(*ends, POINTS) for ends in ((-6, 6), (-3, 3), (4, 14))])
    poses, pixels, seen = list[NDArray[np.float64]](), list[NDArray[np.float64]](), list[NDArray[np.bool_]]()
    for frame, angle in enumerate(np.radians(np.linspace(-20, 20, FRAMES))):
        R = cv2.Rodrigues(np.array([0.05 * np.sin(frame), angle, 0.03 * frame]))[0]
        poses.append(np.column_stack((R, -R @ (3 * np.sin(-angle), 0.3 * np.sin(2 * frame), 0.2 * frame))))
        inside = points @ R.T + poses[-1][:, 3]
        pixels.append(lens.project(inside) + 0.5)
        is_inside = (pixels[-1] > 0).all(1) & (pixels[-1] < (lens.width, lens.height)).all(1)
        seen.append((inside[:, 2] > 0.5) & is_inside)
    kept = np.sum(seen, 0) > 1
    ids = [model.add_point3D(point, pycolmap.Track()) for point in points]
    for frame, (pose, xy, is_seen) in enumerate(zip(poses, pixels, seen, strict=True)):
        outwards = xy - (lens.width / 2, lens.height / 2)
        outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
        wrong = (random.random(POINTS) < WRONG_SHARE)[:, None] * random.uniform(0, wrong_px, (POINTS, 1))
        shown = xy + random.normal(0, noise_px, xy.shape) + wrong * outwards
        rows = np.flatnonzero(is_seen & kept)
        image = pycolmap.Image(name=f"{frame:08d}", camera_id=1, image_id=frame + 1)
        image.points2D = [pycolmap.Point2D(shown[row]) for row in rows]
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        for place, row in enumerate(rows):
            model.add_observation(ids[row], pycolmap.TrackElement(frame + 1, place))
    change_model(model, "RADIAL")
    (camera,) = model.cameras.values()
    camera.params = [1.1 * lens.focal_px, lens.center_px[0] + 0.5, lens.center_px[1] + 0.5, 0, 0]
    return model


def measure_distortion_px(found: LensCamera, true: LensCamera) -> float:
    """Return the largest error of the distortion at the corner, with the focal length that fits best."""
    r = np.linspace(0.01, np.hypot(true.width, true.height) / 2 / true.focal_px, 50)
    rays = np.column_stack((r, np.zeros_like(r), np.ones_like(r)))
    shown, expected = ((lens.project(rays) - np.array(lens.center_px))[:, 0] for lens in (found, true))
    return float(np.abs(shown * (shown @ expected) / (shown @ shown) - expected).max())


def read_camera(model: Any) -> LensCamera:
    return LensCamera.from_pycolmap(next(iter(model.cameras.values())))


@pytest.mark.parametrize("k1", [0.0, -0.15, 0.1])
@pytest.mark.parametrize("size", [1, 2])
def test_exact_matches_give_the_lens_that_is_there(k1, size):
    lens = make_lens(k1, size)
    model = make_model(lens, noise_px=1e-4, wrong_px=0)
    adjust_camera(model, threads=1)
    assert read_camera(model).focal_px == pytest.approx(lens.focal_px, rel=1e-3)
    assert measure_distortion_px(read_camera(model), lens) < 0.02


@pytest.mark.parametrize("k1", [0.0, -0.15])
def test_wrong_matches_within_a_pixel_do_not_bend_the_lens(k1):
    """The wide cost alone is twice as far off."""
    lens = make_lens(k1)
    narrow, wide = (make_model(lens, noise_px=NOISE_PX, wrong_px=WRONG_PX) for _ in range(2))
    adjust_camera(narrow, threads=1)
    adjust(wide, refine_focal=True, refine_lens=True, threads=1)
    assert read_camera(narrow).focal_px == pytest.approx(lens.focal_px, rel=0.01)
    error_px = measure_distortion_px(read_camera(narrow), lens)
    assert error_px < 0.2
    assert measure_distortion_px(read_camera(wide), lens) > 2 * error_px


HEIGHT, WIDTH, FOCAL_PX = 200, 320, 260.0

Pairs = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def make_pairs(step_deg: float, step: float, *, size: int = 1, is_wall: bool = False, noise_px: float = 0.2) -> Pairs:
    """Return the matches of frames that turn by step_deg and move to the right by `step`."""
    random = np.random.default_rng(0)
    depth = np.full(400, 8.0) if is_wall else random.uniform(3, 20, 400)
    points = np.column_stack((depth * random.uniform(-1, 1, 400), depth * random.uniform(-0.4, 0.4, 400), depth))
    views = list[NDArray[np.float64]]()
    for frame in range(8):
        R = cv2.Rodrigues(np.radians([0.3 * step_deg * frame, step_deg * frame, 0]))[0]
        inside = (points - (step * frame, 0, 0)) @ R.T
        xy = FOCAL_PX * inside[:, :2] / inside[:, 2:] + ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
        views.append(xy + random.normal(0, noise_px, xy.shape))
    pairs: Pairs = []
    for first, second in ((views[a], views[b]) for a in range(8) for b in range(a + 3, 8)):
        seen = ((first > 0) & (second > 0) & (first < (WIDTH, HEIGHT)) & (second < (WIDTH, HEIGHT))).all(1)
        pairs.append((size * (first[seen] + 0.5) - 0.5, size * (second[seen] + 0.5) - 0.5))
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
def test_a_turn_on_the_spot_gives_its_focal_length_at_any_size(size):
    pairs = make_pairs(4, 0, size=size, noise_px=0.1)
    found = find_rotation_focal(pairs, size * HEIGHT, size * WIDTH)
    assert found == pytest.approx(size * FOCAL_PX, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step_deg", "step", "is_wall"),
    [(0, 0.4, False), (4, 0.4, False), (0, 0.4, True), (0.5, 0.4, True), (0.1, 0, False)],
    ids=["moves", "turns and moves", "along a wall", "along a wall, turning", "hardly turns"],
)
def test_parallax_or_too_little_motion_is_no_turn_on_the_spot(step_deg, step, is_wall):
    assert find_rotation_focal(make_pairs(step_deg, step, is_wall=is_wall), HEIGHT, WIDTH) is None


def test_few_matches_are_no_turn_on_the_spot():
    assert find_rotation_focal([], HEIGHT, WIDTH) is None
    few = [(first[:9], second[:9]) for first, second in make_pairs(4, 0)]
    assert find_rotation_focal(few, HEIGHT, WIDTH) is None
