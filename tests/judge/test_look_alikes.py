"""Two sides of a building look alike: poses that make them one are doubted, and poses that keep them apart are not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from stadia.core.verdict import Verdict
from stadia.geometry.poses import invert_pose
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction
from stadia.judge.reconstructions.look_alikes import LookAlikes, Overlap, find_look_alikes, measure_overlaps
from stadia.sfm.image_matches import ImageMatches, list_following
from stadia.sfm.match_triangulation import pose_images, triangulate_features, view_matches
from stadia.sfm.pair_matching import FramePair

Array = NDArray[np.float64]
SIDE, NOISE_PX = 8, 0.3
SIZE = (640, 480)
K = np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]])


def look_at_facade(angle: float, height: float) -> Array:
    """Camera-to-world pose 20 m from the origin, which looks at the facade at x = 8."""
    center = np.array([20 * np.cos(angle), 20 * np.sin(angle), height])
    ahead = np.array([8.0, 0, 2]) - center
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2], T[:3, 3] = right, np.cross(ahead, right), ahead, center
    return T


@cache
def make_poses() -> Array:
    """Poses of both sides, as if they were one."""
    random = np.random.default_rng(1)
    angles = np.concatenate([np.linspace(-0.4, 0.4, SIDE) + random.normal(0, 0.01, SIDE) for _ in range(2)])
    return np.stack([look_at_facade(angle, 1.7 + random.normal(0, 0.1)) for angle in angles])


HALF_TURN = np.diag([-1.0, -1, 1, 1])


def turn_back(T: Array) -> Array:
    """The true poses: those of the second side are on the other side of the building."""
    T = T.copy()
    T[SIDE:] = HALF_TURN @ T[SIDE:]
    return T


@cache
def make_matches(own: int) -> ImageMatches:
    """Matches of a facade that both sides share, and of `own` points in front of it that each side has for itself."""
    random = np.random.default_rng(0)
    facade = np.column_stack((np.full(400, 8.0), random.uniform(-7, 7, 400), random.uniform(0, 6, 400)))
    stands = [(random.uniform(10, 12), random.uniform(-5, 5)) for _ in range(8)]
    fronts = []
    for number in range(2):
        places = np.array(stands[4 * number : 4 * number + 4])[np.arange(own) % 4]
        around = random.uniform((-0.1, -0.8, 0), (0.1, 0.8, 2), (own, 3))
        fronts.append(around + np.column_stack((places, np.zeros(own))))
    points = np.concatenate((facade, *fronts))
    side = np.concatenate((np.full(400, -1), np.repeat((0, 1), own)))
    T_world_camera = make_poses()
    count = len(T_world_camera)
    xy, seen = np.zeros((count, len(points), 2)), np.zeros((count, len(points)), bool)
    for row, T in enumerate(invert_pose(T_world_camera)):
        inside = points @ T[:3, :3].T + T[:3, 3]
        xy[row] = inside[:, :2] / inside[:, 2:] * 500 + K[:2, 2] + NOISE_PX * random.standard_normal((len(points), 2))
        seen[row] = (inside[:, 2] > 0) & ((xy[row] > 0) & (xy[row] < SIZE)).all(1) & np.isin(side, (-1, row // SIDE))
    pairs = []
    for first, second in list_following(range(count), (1, 2, 3, SIDE - 1, SIDE, SIDE + 1)):
        both = np.flatnonzero(seen[first] & seen[second])
        is_held = random.random(len(both)) < 0.1
        if len(both) >= 30 and (first // SIDE == second // SIDE or second - first >= SIDE - 1):
            pairs.append(FramePair(first, second, xy[first, both], xy[second, both], is_held))
    return ImageMatches(tuple(f"{row:04d}.png" for row in range(count)), np.tile(SIZE, (count, 1)), pairs)


def make_result(T_world_camera: Array, own: int) -> Reconstruction:
    matches, count = make_matches(own), len(T_world_camera)
    kept = np.zeros((count, 4))
    return Reconstruction(matches.names, invert_pose(T_world_camera), np.tile(K, (count, 1, 1)), kept, matches.sizes)


def find(result: Reconstruction, own: int) -> LookAlikes | None:
    view = view_matches(pose_images(result, make_matches(own)), make_matches(own))
    sparse, of_feature = triangulate_features(view)
    return find_look_alikes(measure_overlaps(view, sparse.points, of_feature), len(result))


def test_both_places_are_found_if_the_poses_make_them_one() -> None:
    found = find(make_result(make_poses(), 160), 160)
    assert found is not None
    sides = sorted((np.array(place) // SIDE for place in (found.first, found.second)), key=np.mean)
    assert (sides[0] == 0).mean() > 0.8
    assert (sides[1] == 1).mean() > 0.8
    assert len(found.first) + len(found.second) == 2 * SIDE
    assert all(first // SIDE != second // SIDE for first, second in found.pairs)


def test_a_facade_without_anything_of_its_own_shows_no_second_place() -> None:
    assert find(make_result(make_poses(), 0), 0) is None


def test_right_poses_have_no_places_that_look_alike() -> None:
    assert find(make_result(turn_back(make_poses()), 160), 160) is None


def test_one_place_is_not_two() -> None:
    overlaps = {(row, row + 1): Overlap(200, 150, 0) for row in range(9)}
    assert find_look_alikes(overlaps, 10) is None
    overlaps |= {(row, row + 2): Overlap(200, 90, 40) for row in range(8)}  # as much within places as across
    assert find_look_alikes(overlaps, 10) is None


@pytest.mark.slow
def test_matches_between_look_alikes_accuse_only_poses_that_make_them_one() -> None:
    folded = judge_reconstruction(make_result(make_poses(), 160), make_matches(160))
    assert folded.grade == Verdict.DOUBTFUL
    assert [cause.name for cause in folded.causes] == ["look-alikes"]
    assert all(purpose.holds is None for purpose in folded.purposes)
    right = judge_reconstruction(make_result(turn_back(make_poses()), 160), make_matches(160))
    assert right.grade == Verdict.USABLE
    assert not right.causes
    assert any("look alike" in note for note in right.notes)


def test_the_world_does_not_matter() -> None:
    T = make_poses().copy()
    moved = replace(make_result(T, 160), T_camera_world=make_result(T, 160).T_camera_world @ HALF_TURN)
    assert find(moved, 160) == find(make_result(T, 160), 160)
