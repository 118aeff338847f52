"""Refined poses: disturbed ones return, right ones stay, noise changes nothing, and deviations are those of trials."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial.transform import Rotation

from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.refine_reconstruction import RefinedReconstruction, refine_poses, write_refined
from stadia.sfm import pose_adjustment, pose_deviations
from stadia.sfm.held_out import Candidate, HeldOutGain, compare_held_out, judge_candidate
from stadia.sfm.image_matches import ImageMatches, list_following
from stadia.sfm.map_evidence import measure_epipolar, measure_errors
from stadia.sfm.match_triangulation import (
    measure_matches,
    pose_images,
    triangulate_features,
    triangulate_view,
    view_matches,
)
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.pose_adjustment import choose_points, keep_world, search_poses
from stadia.sfm.pose_deviations import (
    SHARED_DEG,
    SHARED_PX,
    SharedErrors,
    find_parts,
    measure_camera_deviations,
    measure_covariances,
    measure_free_cameras,
    select_observations,
)
from stadia.sfm.pose_refinement import adjust_poses
from stadia.sfm.sparse_map import LensCamera, SparseMap, align_cameras, import_pycolmap

Array = NDArray[np.float64]
COUNT, POINTS, NOISE_PX = 9, 220, 0.3
SIZE = (640, 400)
K = np.array([[500.0, 0, 325.5], [0, 510, 195.5], [0, 0, 1]])
DISTORTION = np.array([-0.05, 0.01, 0.001, -0.001])


def make_poses() -> Array:
    """World-to-camera poses of a person who walks in a curve and looks around."""
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    for row, t in enumerate(np.linspace(0, 1, COUNT)):
        R = Rotation.from_euler("yxz", [20 * np.sin(5 * t), 8 * np.sin(4 * t + 1), 5 * np.sin(6 * t)], degrees=True)
        center = np.array([3 * t, 0.4 * np.sin(3 * t), 1.2 * np.sin(2.5 * t)])
        T[row, :3, :3], T[row, :3, 3] = R.as_matrix().T, -R.as_matrix().T @ center
    return T


T_TRUE = make_poses()


@cache
def make_matches(seed: int = 0, is_noise: bool = False) -> ImageMatches:
    random = np.random.default_rng(seed)
    points = random.uniform((-4, -3, 3), (7, 3, 10), (POINTS, 3))
    xy, seen = np.zeros((COUNT, POINTS, 2)), np.zeros((COUNT, POINTS), bool)
    for row in range(COUNT):
        inside = points @ T_TRUE[row, :3, :3].T + T_TRUE[row, :3, 3]
        seen[row] = inside[:, 2] > 0.5
        xy[row] = cv2.projectPoints(inside, np.zeros(3), np.zeros(3), K, DISTORTION)[0][:, 0]
        xy[row] += NOISE_PX * random.standard_normal((POINTS, 2))
        seen[row] &= ((xy[row] > 0) & (xy[row] < SIZE)).all(1)
    if is_noise:
        xy = random.uniform(0, SIZE, xy.shape)
    held = random.random((COUNT, POINTS)) < 0.1
    pairs = []
    for first, second in list_following(range(COUNT), (1, 2, 3)):
        both = np.flatnonzero(seen[first] & seen[second])[:: 4 if is_noise else 1]
        is_held = held[first, both] | held[second, both]
        pairs.append(FramePair(first, second, xy[first, both], xy[second, both], is_held))
    return ImageMatches(tuple(f"{row:04d}.png" for row in range(COUNT)), np.tile(SIZE, (COUNT, 1)), pairs)


def make_reconstruction(T: Array, K: Array = K) -> Reconstruction:
    names, sizes = make_matches().names, make_matches().sizes
    return Reconstruction(names, T, np.tile(K, (COUNT, 1, 1)), np.tile(DISTORTION, (COUNT, 1)), sizes)


def disturb(T: Array, degrees: float, share: float, seed: int = 0) -> Array:
    """Turn and move each camera independently, by a share of the path."""
    random = np.random.default_rng(seed)
    T_world_camera = np.linalg.inv(T)
    length = np.linalg.norm(np.diff(T_world_camera[:, :3, 3], axis=0), axis=1).sum()
    axes, ways = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in random.normal(size=(2, len(T), 3)))
    T_world_camera[:, :3, :3] @= Rotation.from_rotvec(np.deg2rad(degrees) * axes).as_matrix()
    T_world_camera[:, :3, 3] += share * length * ways
    return np.asarray(np.linalg.inv(T_world_camera))


def measure_ate(T: Array) -> float:
    """Root mean square distance of the positions from the true ones, after alignment, as a share of the path."""
    moved = keep_world(T, T_TRUE, [np.arange(COUNT)])
    centers, true = (np.linalg.inv(poses)[:, :3, 3] for poses in (moved, T_TRUE))
    return float(np.sqrt(((centers - true) ** 2).sum(1).mean()) / np.linalg.norm(np.diff(true, axis=0), axis=1).sum())


@cache
def refine_disturbed() -> RefinedReconstruction:
    return refine_poses(make_reconstruction(disturb(T_TRUE, 4, 0.03)), make_matches())


@pytest.mark.slow
def test_disturbed_poses_return() -> None:
    given, refined = disturb(T_TRUE, 4, 0.03), refine_disturbed()
    assert refined.is_changed
    assert refined.gain.after_px < 2 * NOISE_PX < refined.gain.before_px
    T = refined.reconstruction.T_camera_world
    assert measure_ate(T) < 0.002 < 0.02 < measure_ate(given)
    scale, R, t = align_cameras(T, given)  # the world is that of the given poses
    assert scale == pytest.approx(1, abs=0.03)
    assert np.abs(R - np.eye(3)).max() < 0.03
    assert np.abs(t).max() < 0.15
    assert np.array_equal(refined.reconstruction.K, make_reconstruction(given).K)


@pytest.mark.slow
def test_poses_that_explain_nothing_start_from_pairs_of_images() -> None:
    T = T_TRUE[np.random.default_rng(1).permutation(COUNT)]
    refined = refine_poses(make_reconstruction(T), make_matches())
    assert refined.is_changed
    assert measure_ate(refined.reconstruction.T_camera_world) < 0.002


@pytest.mark.parametrize(("far", "is_taken"), [(0.35, False), (0.15, True)])
def test_another_start_leaves_fewer_matches_unexplained(
    monkeypatch: pytest.MonkeyPatch, far: float, is_taken: bool
) -> None:
    """Poses that fit a car which stands in the images cost less, since its matches miss the right poses by far."""
    matches = make_matches()
    given = judge_candidate(pose_images(make_reconstruction(T_TRUE), matches), matches)

    def miss(share: float, near_px: float, far_px: float) -> Candidate:
        errors = [np.where(np.arange(len(line)) < share * len(line), far_px, near_px) for line, _ in given.held]
        return replace(given, held=[(error, error) for error in errors])

    right, other = miss(0.2, 0.3, 300), miss(far, 0.9, 3)
    assert compare_held_out(right.held, other.held).is_sure()
    monkeypatch.setattr(pose_adjustment, "converge", lambda start, *_: start)
    monkeypatch.setattr(pose_adjustment, "_exchange_poses", lambda start: start)
    monkeypatch.setattr(pose_adjustment, "_list_focals", lambda *_: iter([]))
    monkeypatch.setattr(pose_adjustment, "_list_starts", lambda *_: iter([other]))
    best, is_given = search_poses(right, matches, 1.0, 1)
    assert (best is other, best is right, is_given) == (is_taken, not is_taken, not is_taken)


@pytest.mark.parametrize("exchanged", [(0, 5), (2, 6)])
def test_exchanged_poses_of_images_that_share_only_pairs_return(exchanged: tuple[int, int]) -> None:
    """Points of other images cannot place an image whose features each match one other image."""
    whole, pairs = make_matches(), list[FramePair]()
    for number, pair in enumerate(whole.pairs):
        apart_px = 0.03 * number if {pair.first, pair.second} & set(exchanged) else 0.0  # so it is another feature
        pairs.append(replace(pair, xy_first=pair.xy_first + apart_px, xy_second=pair.xy_second + apart_px))
    T = T_TRUE.copy()
    T[list(exchanged)] = T[list(exchanged[::-1])]
    adjusted = adjust_poses(make_reconstruction(T), replace(whole, pairs=pairs), threads=1)
    assert measure_ate(adjusted.posed.T_camera_world) < 0.01 < measure_ate(T)
    assert adjusted.has_converged  # from the given poses, not from pairs of images


@pytest.mark.slow
def test_right_poses_stay() -> None:
    """Adjusted poses are not changed again, and true ones at most within their deviation."""
    once = refine_disturbed().reconstruction
    again = refine_poses(once, make_matches())
    assert not again.is_changed
    assert again.reconstruction is once
    refined = refine_poses(make_reconstruction(T_TRUE), make_matches())
    assert measure_ate(refined.reconstruction.T_camera_world) <= 2 * np.median(refined.deviations)


@pytest.mark.slow
def test_a_similarity_of_the_world_moves_the_result_alike() -> None:
    scale, moved = 7.0, np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.random(random_state=3).as_matrix(), [5, -2, 1]
    T = disturb(T_TRUE, 4, 0.03) @ moved
    T[:, :3, 3] *= scale
    refined, before = refine_poses(make_reconstruction(T), make_matches()), refine_disturbed()
    expected = before.reconstruction.T_camera_world @ moved
    expected[:, :3, 3] *= scale
    found = refined.reconstruction.T_camera_world
    assert np.abs(found[:, :3, :3] - expected[:, :3, :3]).max() < 1e-3
    assert np.abs(found[:, :3, 3] - expected[:, :3, 3]).max() < 1e-2 * scale
    assert refined.deviations == pytest.approx(before.deviations, rel=0.05)


@pytest.mark.slow
def test_a_wrong_focal_length_is_refined() -> None:
    wrong = K.copy()
    wrong[(0, 1), (0, 1)] *= 1.08
    refined = refine_poses(make_reconstruction(T_TRUE, wrong), make_matches())
    assert refined.error.focal_share is not None
    assert refined.error.focal_share.value == pytest.approx(0.08, abs=0.01)
    assert refined.reconstruction.K[:, 1, 1] == pytest.approx(510, rel=0.01)


@pytest.mark.slow
def test_cameras_explain_their_own_errors_and_right_poses_stay() -> None:
    """A principal point that rotations could explain as well is named, and the rotations are not accused."""
    wrong = K.copy()
    wrong[:2, 2] += 15, -10
    adjusted = adjust_poses(make_reconstruction(T_TRUE, wrong), make_matches(), threads=1)
    (camera,) = adjusted.cameras
    assert camera.shift_px == pytest.approx([-15, 10], abs=1)
    assert (np.abs(camera.shift_px - [-15, 10]) < 4 * camera.shift_deviation_px).all()
    assert adjusted.posed.K[:, :2, 2] == pytest.approx(np.tile(K[:2, 2], (COUNT, 1)), abs=1)
    turns = Rotation.from_matrix(adjusted.posed.T_camera_world[:, :3, :3] @ T_TRUE[:, :3, :3].transpose(0, 2, 1))
    assert np.rad2deg(turns.magnitude()).max() < 0.2
    scattered = adjust_poses(make_reconstruction(disturb(T_TRUE, 2, 0.01), K), make_matches(), threads=1)
    assert np.array_equal(scattered.posed.K, scattered.given.K)


@pytest.mark.parametrize(("names", "moves"), [(("center", "aspect", "lens"), True), (("lens",), False)])
def test_a_principal_point_that_is_not_open_stays(names: tuple[str, ...], moves: bool) -> None:
    """That of a map whose camera nobody gave is a convention."""
    shifted = K + 12.0 * (np.arange(9).reshape(3, 3) == 2)
    adjusted = adjust_poses(make_reconstruction(T_TRUE, shifted), make_matches(), open_parameters=names, threads=1)
    assert (np.abs(adjusted.posed.K[0, 0, 2] - K[0, 2]) < 3) == moves
    assert (adjusted.posed.K[0, 0, 2] == shifted[0, 2]) != moves
    assert np.isfinite(adjusted.cameras[0].shift_deviation_px).all() == moves


def test_errors_that_neighbors_share_grow_with_the_change_of_view() -> None:
    points = np.random.default_rng(0).uniform((-2, -2, 5), (2, 2, 7), (40, 3))
    T = T_TRUE[[0, 0, COUNT - 1]]
    sparse = make_map(T, points, np.zeros((3, len(points), 2)))
    sparse = replace(sparse, xy=sparse.camera.project(sparse.in_camera()))
    every = np.arange(len(sparse.xy))
    same = SharedErrors(replace(sparse, T_camera_world=T[[0, 0, 0]])).draw(every)
    assert np.abs(same).max() < 1e-6
    drawn = SharedErrors(sparse).draw(every).reshape(3, len(points), -1)
    rays = np.linalg.inv(T)[:, None, :3, 3] - points
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    middle = rays.sum(0) / np.linalg.norm(rays.sum(0), axis=-1, keepdims=True)
    angles = np.rad2deg(np.arccos((rays * middle).sum(-1)))
    sizes = np.sqrt((drawn**2).mean((1, 2)))
    assert sizes == pytest.approx(SHARED_PX / SHARED_DEG * np.sqrt((angles**2).mean(1)), rel=0.2)


def make_map(T: Array, points: Array, xy: Array) -> SparseMap:
    camera = LensCamera(500.0, (320.0, 200.0), (0.0, 0.0, 0.0, 0.0), 401, 641)
    observed = np.stack(np.meshgrid(np.arange(len(T)), np.arange(len(points)), indexing="ij"), -1).reshape(-1, 2)
    colors = np.zeros((len(points), 3), np.uint8)
    return SparseMap(camera, np.arange(len(T)), T, points, colors, observed, xy.reshape(-1, 2))


@pytest.mark.slow
def test_deviations_are_those_of_trials() -> None:
    """Poses that are adjusted to noise of a known size scatter as far as measured."""
    from scipy.optimize import least_squares

    T, points = T_TRUE[::3], np.random.default_rng(0).uniform((-3, -2, 4), (5, 2, 8), (18, 3))
    exact = make_map(T, points, np.zeros((len(T), len(points), 2)))
    exact = replace(exact, xy=exact.camera.project(exact.in_camera()))

    def place(values: Array) -> SparseMap:
        poses, moved = values[: 6 * len(T)].reshape(-1, 6), points + values[6 * len(T) :].reshape(-1, 3)
        changed = np.linalg.inv(T)
        changed[:, :3, :3] = changed[:, :3, :3] @ Rotation.from_rotvec(poses[:, :3]).as_matrix()
        changed[:, :3, 3] += poses[:, 3:]
        return replace(exact, T_camera_world=np.linalg.inv(changed), points=moved)

    turned, off, measured = [], [], []
    for seed in range(8):
        xy = exact.xy + NOISE_PX * np.random.default_rng(seed).standard_normal(exact.xy.shape)
        fit = least_squares(
            lambda values, xy=xy: replace(place(values), xy=xy).residuals_px().ravel(),
            np.zeros(6 * len(T) + points.size),
        )
        adjusted = replace(place(fit.x), xy=xy)
        (covariance,) = measure_covariances(adjusted, shared_px=0)
        degrees, positions = covariance.deviations_deg, covariance.deviations
        measured.append((np.sqrt((degrees**2).mean()), np.sqrt((positions**2).mean())))
        moved = keep_world(adjusted.T_camera_world, T, [np.arange(len(T))])
        turn = Rotation.from_matrix(moved[:, :3, :3] @ T[:, :3, :3].transpose(0, 2, 1)).magnitude()
        turned.append(np.rad2deg(turn))
        off.append(np.linalg.norm(np.linalg.inv(moved)[:, :3, 3] - np.linalg.inv(T)[:, :3, 3], axis=1))
    found = np.sqrt(np.mean(np.square(turned))), np.sqrt(np.mean(np.square(off)))
    assert np.median(measured, 0) == pytest.approx(found, rel=0.35)


def make_exact_map(T: Array, seen: NDArray[np.bool_], seed: int = 0) -> SparseMap:
    """Points (P,) that poses (F, 4, 4) see where `seen` (F, P) says so, with noise of NOISE_PX."""
    random = np.random.default_rng(seed)
    points = random.uniform((-3, -2, 4), (5, 2, 8), (seen.shape[1], 3))
    exact = make_map(T, points, np.zeros((*seen.shape, 2)))
    exact = replace(exact, xy=exact.camera.project(exact.in_camera()))
    kept = seen[tuple(exact.observed.T)]
    xy = exact.xy[kept] + NOISE_PX * random.standard_normal((int(kept.sum()), 2))
    return replace(exact, observed=exact.observed[kept], xy=xy)


def test_parts_share_a_camera_as_measurements_of_it_do() -> None:
    """The information of parts that no point joins adds up: the poses of one are no more known to the other."""
    halves = np.zeros((COUNT, 160), bool)
    halves[:4, :80] = halves[4:, 80:] = True
    both = make_exact_map(T_TRUE, halves)
    alone = [make_exact_map(T_TRUE, halves & rows[:, None]) for rows in (np.arange(COUNT) < 4, np.arange(COUNT) >= 4)]
    cameras = np.zeros(COUNT, np.intp)
    of_focal = [measure_free_cameras(one, cameras, ("focal",))[0, 0] ** 2 for one in (both, *alone)]
    assert of_focal[0] == pytest.approx(1 / (1 / of_focal[1] + 1 / of_focal[2]), rel=0.5)
    assert len(measure_covariances(both, free=("focal",))) == 2


def test_points_of_two_images_join_no_parts() -> None:
    """They tell nothing of the scale between the parts."""
    seen = np.zeros((COUNT, 200), bool)
    seen[:4, :80] = seen[4:, 80:160] = True
    seen[3:5, 160:] = True  # 40 points of the images between the parts
    assert [part.tolist() for part in find_parts(make_exact_map(T_TRUE, seen))] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    seen[2, 160:180] = True  # 20 have a depth, which gives the place of an image, and no scale
    assert [part.tolist() for part in find_parts(make_exact_map(T_TRUE, seen))] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    seen[5, 160:180] = True
    assert [part.tolist() for part in find_parts(make_exact_map(T_TRUE, seen))] == [[*range(COUNT)]]


def test_a_camera_alone_is_known_as_well_as_poses_are() -> None:
    exact = make_exact_map(T_TRUE, np.ones((COUNT, 80), bool))
    cameras = np.zeros(COUNT, np.intp)
    deviations = [
        measure_camera_deviations(exact, cameras, ("focal",), (noise, noise))[0, 0] for noise in (0.0, 1e-3, 1e-2, 1e9)
    ]
    assert sorted(deviations) == deviations
    assert deviations[-1] == pytest.approx(measure_free_cameras(exact, cameras, ("focal",))[0, 0], rel=0.05)
    assert deviations[0] < 0.5 * deviations[-1]


def test_a_camera_that_may_be_off_makes_poses_uncertain() -> None:
    exact = make_exact_map(T_TRUE, np.ones((COUNT, 80), bool))
    known, open_ = (measure_covariances(exact, known=names)[0].deviations_deg for names in ((), ("focal", "center")))
    assert (open_ > known).all()


def test_a_point_at_a_camera_determines_nothing() -> None:
    """It has any pixel, so that deviations are those without it, and no rounding makes their matrix indefinite."""
    exact = make_exact_map(T_TRUE, np.ones((COUNT, 80), bool))
    inside = np.array([0.0, 0.0, 4e-10, 1.0])
    point = (np.linalg.inv(T_TRUE[3]) @ inside)[:3]
    at = np.column_stack((np.arange(COUNT), np.full(COUNT, 80)))
    xy = np.full((COUNT, 2), 200.0)
    more = replace(
        exact,
        points=np.vstack((exact.points, point)),
        colors=np.zeros((81, 3), np.uint8),
        observed=np.vstack((exact.observed, at[3:5])),
        xy=np.vstack((exact.xy, xy[3:5])),
    )
    cameras = np.zeros(COUNT, np.intp)
    for free in ("focal", "center"):
        found, other = (measure_free_cameras(one, cameras, (free,)) for one in (exact, more))
        assert other == pytest.approx(found, rel=0.02)


def test_a_gain_is_sure_only_beyond_the_scatter_of_pairs() -> None:
    random = np.random.default_rng(0)
    errors = [(np.abs(random.normal(size=40)), np.full(40, np.nan)) for _ in range(30)]
    same = [(np.abs(random.normal(size=40)), np.full(40, np.nan)) for _ in range(30)]
    better = [(0.7 * line, point) for line, point in errors]
    assert compare_held_out(errors, errors).gain == 0
    assert not compare_held_out(errors, same).is_sure()
    assert not compare_held_out(better, errors).is_sure()
    assert compare_held_out(errors, better).is_sure()


def test_the_written_files_have_poses_points_and_deviations(tmp_path: Path) -> None:
    refined, matches = refine_disturbed(), make_matches()
    given = replace(refined.reconstruction, path=tmp_path / "result.json")
    own = write_refined(replace(refined, reconstruction=given), matches, tmp_path / "out")
    assert read_reconstruction(own).T_camera_world == pytest.approx(given.T_camera_world, abs=1e-9)
    rows = list(csv.DictReader((tmp_path / "out" / "deviations.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == list(matches.names)
    assert [float(row["degrees"]) for row in rows] == pytest.approx(refined.deviations_deg, rel=1e-4)
    model = import_pycolmap().Reconstruction(str(tmp_path / "out" / "sparse" / "0"))
    assert model.compute_mean_reprojection_error() < 3 * NOISE_PX
    (camera,) = model.cameras.values()
    assert camera.params == pytest.approx([500, 510, 326, 196, *DISTORTION])
    frames = json.loads((tmp_path / "out" / "transforms.json").read_text())["frames"]
    assert len(frames) == COUNT
    view = view_matches(pose_images(given, matches), matches)
    assert len(view.posed.images) == model.num_reg_images()


def test_a_choice_of_points_keeps_enough_of_each_image_and_the_most_seen_first() -> None:
    given, matches = refine_disturbed().reconstruction, make_matches()
    sparse = triangulate_view(view_matches(pose_images(given, matches), matches))
    chosen = choose_points(sparse, 40)
    every, kept = (np.bincount(one.observed[:, 0], minlength=COUNT) for one in (sparse, chosen))
    assert (kept >= np.minimum(every, 40)).all()
    assert len(chosen.points) < len(sparse.points)
    np.testing.assert_array_equal(np.bincount(chosen.observed[:, 1]) >= 2, True)
    np.testing.assert_allclose(chosen.residuals_px(), sparse.residuals_px()[match_rows(sparse.xy, chosen.xy)])


def match_rows(xy: Array, wanted: Array) -> NDArray[np.intp]:
    """Rows of the pixels `wanted` (N, 2) in `xy`."""
    place = {tuple(pixel): row for row, pixel in enumerate(xy.tolist())}
    return np.array([place[tuple(pixel)] for pixel in wanted.tolist()])


def test_matches_measured_at_once_equal_those_of_each_pair() -> None:
    given, matches = refine_disturbed().reconstruction, make_matches()
    view = view_matches(pose_images(given, matches), matches)
    sparse, of_feature = triangulate_features(view)
    line, point = measure_matches(view, sparse.points, of_feature, np.arange(len(view.features.pairs)))
    pairs = view.list_pairs()
    np.testing.assert_allclose(line, np.concatenate([measure_epipolar(sparse, pair) for pair in pairs]), atol=1e-9)
    np.testing.assert_allclose(point, np.concatenate([measure_errors(sparse, pair) for pair in pairs]), atol=1e-9)


def test_matches_that_a_lens_leaves_out_do_not_count() -> None:
    random = np.random.default_rng(0)
    errors = [(random.uniform(0, 2, 30), random.uniform(0, 2, 30)) for _ in range(4)]
    better = [(line / 2, point / 2) for line, point in errors]
    left_out = [(np.where(np.arange(30) < 5, np.nan, line), point) for line, point in better]
    some = compare_held_out(errors, left_out)
    assert some.count == 4 * 25
    assert some.gain == pytest.approx(
        compare_held_out([(a[5:], b[5:]) for a, b in errors], [(a[5:], b[5:]) for a, b in better]).gain
    )


def test_a_fix_that_leaves_most_of_the_error_is_far_off() -> None:
    known = ((174.7, 143.2, True), (58.0, 35.0, True), (58.0, 1.0, False), (4.0, 3.0, False))
    for before_px, after_px, is_far_off in known:
        assert HeldOutGain(before_px, after_px, 0.3, 0.2, 100).is_far_off == is_far_off


def make_street(count: int = 40) -> SparseMap:
    """A map whose images see only points near them."""
    random = np.random.default_rng(0)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, 0, 3] = -np.arange(count)
    points = random.uniform((-3, -2, 4), (count + 3, 2, 8), (25 * count, 3))
    sparse = make_map(T, points, np.zeros((count, len(points), 2)))
    xy = sparse.camera.project(sparse.in_camera())
    seen = ((xy > 0) & (xy < (640, 400))).all(1)
    sparse = replace(
        sparse, observed=sparse.observed[seen], xy=(xy + NOISE_PX * random.standard_normal(xy.shape))[seen]
    )
    return select_observations(sparse, np.ones(len(sparse.xy), bool))


def test_many_columns_of_a_covariance_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = np.zeros(40, np.intp)
    (exact,) = measure_covariances(make_street(), cameras, ("focal",), shared_px=0)
    for name, value in (("MAX_COLUMNS", 200), ("BATCH", 500)):
        monkeypatch.setattr(pose_deviations, name, value)
    (summed,) = measure_covariances(make_street(), cameras, ("focal",), shared_px=0)
    assert summed.root.shape[2] < exact.root.shape[2]
    assert (summed.deviations / exact.deviations).mean() == pytest.approx(1, abs=0.1)
    assert (summed.deviations_deg / exact.deviations_deg).mean() == pytest.approx(1, abs=0.1)


def test_a_covariance_leaves_the_world_free_and_does_not_depend_on_the_order_of_the_images() -> None:
    """Where the blocks of a band are solved one after the other, every order gives the same deviations."""
    street, order = make_street(), np.random.default_rng(1).permutation(40)
    number = np.argsort(order)
    observed = np.column_stack((number[street.observed[:, 0]], street.observed[:, 1]))
    moved = replace(street, T_camera_world=street.T_camera_world[order], observed=observed)
    for free in ((), ("focal", "center")):
        (found,), (other,) = (
            measure_covariances(sparse, np.zeros(40, np.intp), free, shared_px=0) for sparse in (street, moved)
        )
        assert other.deviations == pytest.approx(found.deviations[order], rel=1e-3)
        assert other.deviations_deg == pytest.approx(found.deviations_deg[order], rel=1e-3)
        assert np.abs(found.of_positions.sum(0)).max() < 1e-6 * np.linalg.norm(found.of_positions)


def test_a_matrix_that_rounding_makes_indefinite_is_solved() -> None:
    """Changes that no match shows have eigenvalues near 0, below 0 by rounding; the others are solved."""
    random = np.random.default_rng(0)
    J = random.normal(size=(300, 40)) * np.logspace(0, 5, 40)
    J[:, -1] = J[:, :-1].sum(1)  # free
    A = J.T @ J - 1e-3 * np.eye(40)
    assert np.linalg.eigvalsh(A)[0] < 0
    right = A @ random.normal(size=(40, 2))
    solved = pose_deviations._solve(csr_matrix(A), right)
    np.testing.assert_allclose(A @ solved, right, rtol=0, atol=1e-3 * np.abs(right).max())
    B = J[:, :30].T @ J[:, :30]
    np.testing.assert_allclose(pose_deviations._solve(csr_matrix(B), B @ np.ones((30, 1))), 1, atol=1e-4)
