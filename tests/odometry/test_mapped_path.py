"""The path of a map: its scale by depth, the estimated motion where it is lost, and how far two paths differ."""

from __future__ import annotations

import numpy as np
import pytest

from stadia.odometry.mapped_path import compare_paths, count_reversing, follow_map, measure_scale


def make_path(steps: np.ndarray, turn_deg: float = 3.0) -> np.ndarray:
    """Poses T_world_camera (N, 4, 4) that move by (N, 3) in their own axes and turn by `turn_deg` each."""
    angle = np.radians(turn_deg)
    path = [np.eye(4)]
    for step in steps:
        T = np.eye(4)
        T[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        T[:3, 3] = step
        path.append(path[-1] @ T)
    return np.array(path)


TRUE = make_path(np.tile([0.0, 0, 1], (9, 1)))
NOISY = make_path(np.tile([0.1, 0, 0.9], (9, 1)), 2.0)


def shrink(path: np.ndarray, scale: float) -> np.ndarray:
    smaller = path.copy()
    smaller[:, :3, 3] *= scale
    return smaller


def test_a_whole_map_gives_its_path_in_the_unit_of_the_depth():
    np.testing.assert_allclose(follow_map(NOISY, shrink(TRUE, 0.2), 5.0), TRUE, atol=1e-12)


def test_lost_frames_follow_the_estimated_motion():
    mapped = TRUE.copy()
    mapped[7:] = np.nan
    path = follow_map(NOISY, mapped, 1.0)
    np.testing.assert_allclose(path[:7], TRUE[:7], atol=1e-12)
    for row in (7, 8, 9):
        expected = np.linalg.inv(NOISY[row - 1]) @ NOISY[row]
        np.testing.assert_allclose(np.linalg.inv(path[row - 1]) @ path[row], expected, atol=1e-12)


def test_frames_before_the_map_begins_follow_the_estimated_motion_and_the_first_is_the_world():
    mapped = TRUE.copy()
    mapped[:2] = np.nan
    path = follow_map(NOISY, mapped, 1.0)
    np.testing.assert_allclose(path[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(path[0]) @ path[1], np.linalg.inv(NOISY[0]) @ NOISY[1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(path[4]) @ path[5], np.linalg.inv(TRUE[4]) @ TRUE[5], atol=1e-12)
    with pytest.raises(ValueError, match="places none"):
        follow_map(NOISY, np.full_like(TRUE, np.nan), 1.0)


def test_the_scale_is_predicted_over_mapped_depth():
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 2), (1, 1, 6), (200, 3))
    K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])
    depth = np.full((48, 64), 4.0)
    x, y = (np.rint(K[row, row] * points[:, row] / points[:, 2] + K[row, 2]).astype(int) for row in (0, 1))
    depth[y.clip(0, 47), x.clip(0, 63)] = 2.5 * points[:, 2]
    assert measure_scale(1 / depth, K, points) == pytest.approx(2.5, rel=0.02)
    assert np.isnan(measure_scale(1 / depth, K, points[:5]))
    behind = points * (1, 1, -1)
    assert np.isnan(measure_scale(1 / depth, K, behind))


def test_paths_that_differ_by_a_similarity_do_not_differ_and_reversing_steps_are_counted():
    assert compare_paths(TRUE, shrink(TRUE, 3.0)).rms_share == pytest.approx(0, abs=1e-9)
    broken = TRUE.copy()
    broken[5, :3, 3] = TRUE[3, :3, 3]
    found = compare_paths(TRUE, broken)
    assert found.rms_share > 0.05
    assert found.reversing == count_reversing(broken).sum() == 2
