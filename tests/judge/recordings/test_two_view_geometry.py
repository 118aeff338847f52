"""What the checks measure with, on points and images whose geometry is known."""

import cv2
import numpy as np
import pytest

from stadia.geometry.image_features import MAX_DESCRIPTOR_RATIO, detect_features, gray, match_features
from stadia.geometry.two_views import (
    angle_deg,
    epipolar_distance_px,
    estimate_metric_motion,
    estimate_motion,
    pixel_rays,
    rotation_vector_deg,
    triangulate,
    triangulate_inverse_depth,
)
from stadia.judge.recordings.image_residuals import compute_gray_residual, plane_sweep, warp_identity_ratio
from stadia.judge.recordings.recording_survey import sample_depth

K = np.array([[300.0, 0, 160], [0, 290.0, 90], [0, 0, 1]])
HEIGHT, WIDTH = 180, 320


def motion(turn_deg: tuple[float, float, float], t: tuple[float, float, float]) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.radians(turn_deg))[0]
    T[:3, 3] = t
    return T


def repeated(T: np.ndarray, points: int = 200, noise_px: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels in the first image, their depth, pixels in the second."""
    random = np.random.default_rng(0)
    first = random.uniform((0, 0), (WIDTH, HEIGHT), (points, 2))
    depth = random.uniform(4, 30, points)
    moved = (pixel_rays(first, K) * depth[:, None]) @ T[:3, :3].T + T[:3, 3]
    projected = moved @ K.T
    return first, depth, projected[:, :2] / projected[:, 2:] + random.normal(0, noise_px, (points, 2))


def texture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8, smooth enough to be followed and sampled."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.clip((soft - soft.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def test_triangulation_gives_both_depths_and_the_epipolar_distance_is_zero() -> None:
    T = motion((1, -2, 0.5), (-0.5, 0.1, 0.2))
    first, depth, second = repeated(T)
    z_first, z_second = triangulate(first, second, K, K, T)
    np.testing.assert_allclose(z_first, depth, rtol=1e-9)
    np.testing.assert_allclose(
        z_second, (pixel_rays(first, K) * depth[:, None] @ T[:3, :3].T + T[:3, 3])[:, 2], rtol=1e-9
    )
    assert epipolar_distance_px(first, second, K, K, T).max() < 1e-9


def test_inverse_depth_is_that_of_triangulation_and_0_at_infinity() -> None:
    T = motion((1, -2, 0.5), (-0.5, 0.1, 0.2))
    first, depth, second = repeated(T)
    np.testing.assert_allclose(triangulate_inverse_depth(first, second, K, K, T), 1 / depth, rtol=1e-9)
    aside = motion((0, 0, 0), (-0.5, 0, 0))
    assert (triangulate_inverse_depth(first, first, K, K, aside) == 0).all()
    assert (triangulate_inverse_depth(first, first + np.array([1, 0]), K, K, aside) < 0).all()


@pytest.mark.parametrize("unit", [1.0, 1000.0, 0.001])
def test_motion_from_depth_has_the_unit_of_the_depth(unit: float) -> None:
    T = motion((0.5, 1.5, -0.3), (0.1, -0.05, -1.2))
    first, depth, second = repeated(T, noise_px=0.2)
    second[:40] += 30  # one in five matches is wrong
    found = estimate_metric_motion(first, second, depth * unit, K, K)
    assert found is not None
    assert found.metric
    np.testing.assert_allclose(found.t / unit, T[:3, 3], atol=0.01)
    assert np.linalg.norm(rotation_vector_deg(found.R.T @ T[:3, :3])) < 0.05
    assert not found.inliers[:40].any()
    assert found.inliers[40:].mean() > 0.95


def test_motion_up_to_scale_has_the_direction() -> None:
    T = motion((0.5, 1.5, -0.3), (0.3, -0.1, -1.2))
    first, _, second = repeated(T, noise_px=0.2)
    found = estimate_motion(first, second, K)
    assert found is not None
    assert angle_deg(found.t, T[:3, 3]) < 2
    assert np.linalg.norm(found.t) == pytest.approx(1)


def test_too_few_matches_have_no_motion() -> None:
    first, depth, second = repeated(motion((0, 0, 0), (1, 0, 0)), points=10)
    assert estimate_motion(first, second, K) is None
    assert estimate_metric_motion(first, second, depth, K, K) is None


@pytest.mark.slow
@pytest.mark.parametrize("width", [160, 800, 1600])  # enlarged, as it is, reduced
def test_points_are_counted_from_the_center_of_the_first_pixel(width: int) -> None:
    """Half a turn takes pixel x to W - 1 - x, whatever the size at which features are found."""
    image = texture(width // 2, width)
    matches = match_features(detect_features(image), detect_features(np.ascontiguousarray(image[::-1, ::-1])))
    assert len(matches) >= 30
    assert matches.displacement_px > width / 10
    np.testing.assert_allclose(
        np.median(matches.first_px + matches.second_px, axis=0), (width - 1, width // 2 - 1), atol=0.1
    )


@pytest.mark.slow
def test_matches_are_those_of_opencv() -> None:
    """Of the nearest that pass the ratio test, one for each feature of the second image."""
    image = texture(240, 640)
    blurred = cv2.GaussianBlur(image, None, 1.5)  # some features are no longer those of one point
    first, second = map(detect_features, (image, blurred))
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [best for best, other in pairs if best.distance < MAX_DESCRIPTOR_RATIO * other.distance]
    best = {m.trainIdx: m for m in sorted(good, key=lambda m: -m.distance)}
    rows = np.array(sorted((m.queryIdx, m.trainIdx) for m in best.values()))
    assert len(pairs) > 1.2 * len(good) > 1.2 * len(rows) > 36
    matches = match_features(first, second)
    np.testing.assert_array_equal(matches.first_index, rows[:, 0])
    np.testing.assert_array_equal(matches.second_px, second.pixels[rows[:, 1]])


def test_sweep_finds_the_side() -> None:
    wide = gray(texture(120, 420))
    left, right = wide[:, :400], wide[:, 12:412]  # what the left sees at x is at x - 12 in the right image
    forward, backward = plane_sweep(left, right, 1), plane_sweep(left, right, -1)
    assert forward.residual < 0.5 * backward.residual
    assert np.abs(forward.warped.astype(int) - forward.left).mean() < 1
    assert plane_sweep(right, left, -1).residual < 0.5 * plane_sweep(right, left, 1).residual


def test_warping_by_the_true_depth_and_motion_leaves_little() -> None:
    """A fronto-parallel plane at 10 m, seen 0.5 m further to the right: the image shifts by fx 0.5 / 10 = 15 px."""
    wide = gray(texture(HEIGHT, WIDTH + 15))
    target, source = wide[:, :WIDTH], wide[:, 15:]
    depth = np.full(target.shape, 10, np.float32)
    T = motion((0, 0, 0), (-0.5, 0, 0))
    sparse = np.where(np.random.default_rng(0).uniform(size=depth.shape) < 0.05, depth, 0).astype(np.float32)
    for known in (depth, sparse):
        assert warp_identity_ratio(target, source, known, K, K, T) == pytest.approx(0, abs=0.02)
        wrong = warp_identity_ratio(target, source, known, K, K, np.linalg.inv(T))
        assert wrong is not None
        assert wrong > 0.8
    assert warp_identity_ratio(target, source, np.zeros_like(depth), K, K, T) is None
    assert warp_identity_ratio(target, target, depth, K, K, T) is None  # nothing to explain


def test_depth_is_sampled_nearby_and_not_across_an_edge() -> None:
    depth = np.zeros((20, 30), np.float32)
    depth[5, 5], depth[10, 10], depth[10, 12] = 8, 8, 16
    pixels = np.array([[5.4, 6.0], [11.0, 10.0], [20.0, 15.0], [-3.0, 5.0], [29.0, 19.0]])
    np.testing.assert_array_equal(sample_depth(depth, pixels), [8, 0, 0, 0, 0])


def test_residual_is_zero_for_the_same_image_and_grows_with_the_difference() -> None:
    a, b = gray(texture()), gray(texture(seed=1))
    assert float(compute_gray_residual(a, a).max()) < 1e-5
    assert float(compute_gray_residual(a, b).mean()) > 0.3
    assert float(compute_gray_residual(np.zeros_like(a), np.full_like(a, 255)).mean()) == pytest.approx(
        0.15 + 0.85 * 0.5, abs=0.01
    )
