"""The measured error of poses: disturbances come back with their size, and causes with their name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.core.verdict import Verdict
from stadia.geometry.poses import find_centers, invert_pose
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.error import Measured, MeasuredError
from stadia.judge.purposes import PURPOSES, grade_purposes, judge_purpose, list_good_for, parse_purpose
from stadia.judge.reconstructions import causes
from stadia.judge.reconstructions.causes import _bend_path, _fit_bend, compare_again
from stadia.judge.reconstructions.check_reconstruction import ReconstructionVerdict, judge_reconstruction
from stadia.sfm.image_matches import ImageMatches, list_following
from stadia.sfm.pair_matching import FramePair
from stadia.sfm.pose_error import PoseDifference, align_robustly, compare_poses, measure_change, measure_rms

Array = NDArray[np.float64]
COUNT, POINTS, NOISE_PX = 14, 260, 0.3
SIZE = (640, 400)
LENS = np.array([[500.0, 0, 319.5], [0, 500, 199.5], [0, 0, 1]])


def make_poses() -> Array:
    """World-to-camera poses of a person who walks in a curve, up and down, and looks around."""
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    for row, t in enumerate(np.linspace(0, 1, COUNT)):
        R = Rotation.from_euler("yxz", [25 * np.sin(5 * t), 8 * np.sin(4 * t + 1), 5 * np.sin(6 * t)], degrees=True)
        center = np.array([3 * t, 0.5 * np.sin(3 * t), 1.2 * np.sin(2.5 * t)])
        T[row, :3, :3], T[row, :3, 3] = R.as_matrix().T, -R.as_matrix().T @ center
    return T


T_TRUE = make_poses()


@cache
def make_matches(seed: int = 0) -> ImageMatches:
    random = np.random.default_rng(seed)
    points = random.uniform((-4, -3, 3), (7, 3, 10), (POINTS, 3))
    xy, seen = np.zeros((COUNT, POINTS, 2)), np.zeros((COUNT, POINTS), bool)
    for row in range(COUNT):
        inside = points @ T_TRUE[row, :3, :3].T + T_TRUE[row, :3, 3]
        seen[row] = inside[:, 2] > 0.5
        xy[row] = cv2.projectPoints(inside, np.zeros(3), np.zeros(3), LENS, None)[0][:, 0]
        xy[row] += NOISE_PX * random.standard_normal((POINTS, 2))
        seen[row] &= ((xy[row] > 0) & (xy[row] < SIZE)).all(1)
    held = random.random((COUNT, POINTS)) < 0.1
    pairs = []
    for first, second in list_following(range(COUNT), (1, 2, 3, 5)):
        both = np.flatnonzero(seen[first] & seen[second])
        is_held = held[first, both] | held[second, both]
        pairs.append(FramePair(first, second, xy[first, both], xy[second, both], is_held))
    return ImageMatches(tuple(f"{row:04d}.png" for row in range(COUNT)), np.tile(SIZE, (COUNT, 1)), pairs)


def make_result(T_world_camera: Array, K: Array = LENS) -> Reconstruction:
    matches = make_matches()
    kept = np.zeros((COUNT, 4))
    return Reconstruction(matches.names, invert_pose(T_world_camera), np.tile(K, (COUNT, 1, 1)), kept, matches.sizes)


def draw_directions(seed: int) -> Array:
    rows = np.random.default_rng(seed).normal(size=(COUNT, 3))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def turn(T: Array, degrees: float) -> Array:
    T = T.copy()
    T[:, :3, :3] @= Rotation.from_rotvec(np.deg2rad(degrees) * draw_directions(0)).as_matrix()
    return T


def move(T: Array, share: float) -> Array:
    T = T.copy()
    T[:, :3, 3] += share * np.linalg.norm(np.ptp(T[:, :3, 3], axis=0)) * draw_directions(1)
    return T


def drift(T: Array, degrees: float) -> Array:
    T = T.copy()
    angles = np.linspace(0, np.deg2rad(degrees), COUNT)[:, None] * np.array([[0.6, 0.8, 0.0]])
    T[:, :3, :3] = Rotation.from_rotvec(angles).as_matrix() @ T[:, :3, :3]
    return T


def stretch(T: Array, factor: float) -> Array:
    T = T.copy()
    T[:, 0, 3] *= factor
    return T


def swap(T: Array) -> Array:
    T = T.copy()
    T[[3, 9]] = T[[9, 3]]
    return T


def misplace(T: Array) -> Array:
    T = T.copy()
    T[6, :3, 3] += (0.5, 0.4, 0)
    return T


RIGHT = invert_pose(T_TRUE)


@cache
def judge(name: str) -> ReconstructionVerdict:
    return judge_reconstruction(RESULTS[name](), make_matches())


RESULTS: dict[str, Callable[[], Reconstruction]] = {
    "right": lambda: make_result(RIGHT),
    "rotation-noise": lambda: make_result(turn(RIGHT, 0.5)),
    "position-noise": lambda: make_result(move(RIGHT, 0.01)),
    "focal-length": lambda: make_result(RIGHT, LENS * [[1.05, 1, 1], [1, 1.05, 1], [1, 1, 1]]),
    "principal-point": lambda: make_result(RIGHT, LENS + 12.0 * (np.arange(9).reshape(3, 3) == 2)),
    "aspect": lambda: make_result(RIGHT, LENS * [[1.05, 1, 1], [1, 1, 1], [1, 1, 1]]),
    "lens": lambda: replace(make_result(RIGHT), distortion=np.tile([0.06, 0.0, 0.0, 0.0], (COUNT, 1))),
    "drift": lambda: make_result(drift(RIGHT, 5)),
    "stretched-axis": lambda: make_result(stretch(RIGHT, 1.1)),
    "swapped-images": lambda: make_result(swap(RIGHT)),
    "wrong-images": lambda: make_result(misplace(RIGHT)),
}
SIZES = {
    "rotation-noise": 0.5,
    "position-noise": 0.01,
    "focal-length": 0.05,
    "principal-point": 12.0,
    "aspect": 1 / 1.05 - 1,
    "lens": 0.06 * 320**3 / 500**2,
    "drift": 5.0,
    "stretched-axis": 0.1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RESULTS))
def test_the_cause_is_named_with_its_size_and_undone(name: str) -> None:
    verdict = judge(name)
    if name == "right":
        assert not verdict.causes
        assert verdict.fixed is None
        assert verdict.grade == Verdict.USABLE
        return
    assert verdict.causes[0].name == name
    if name in SIZES:
        size = verdict.causes[0].size
        assert size is not None
        assert abs(abs(size.value) - abs(SIZES[name])) < max(0.2 * abs(SIZES[name]), 2 * size.deviation)
    assert verdict.fixed is not None
    after = compare_poses(verdict.fixed.T_camera_world, T_TRUE)
    before = compare_poses(RESULTS[name]().T_camera_world, T_TRUE)
    of_camera = name in ("focal-length", "principal-point", "aspect", "lens")
    assert np.abs(verdict.fixed.K[0] - LENS).max() < 3
    assert np.abs(verdict.fixed.distortion).max() < 0.01
    assert of_camera or after.degrees.max() + 60 * after.shares.max() < 0.5 * (
        before.degrees.max() + 60 * before.shares.max()
    )


@pytest.mark.slow
def test_refined_poses_confirm_no_shape_of_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poses with noise fit better once they are refined, which says nothing of a scale that drifts."""

    def fit_growth(part: PoseDifference, kept: NDArray[np.bool_]) -> tuple[str, Measured, Array]:
        centers = find_centers(part.T_given)
        growth = np.linspace(0.97, 1.03, len(centers))[:, None]
        return "scale-drift", Measured(0.06, 0.001), centers[0] + growth * (centers - centers[0])

    monkeypatch.setattr(causes, "_fit_positions", fit_growth)
    verdict = judge_reconstruction(make_result(move(turn(RIGHT, 0.4), 0.012)), make_matches())
    assert {cause.name for cause in verdict.causes} == {"rotation-noise", "position-noise"}


@pytest.mark.slow
def test_the_wrong_images_are_named() -> None:
    assert set(judge("swapped-images").causes[0].images) == {"0003.png", "0009.png"}
    cause = judge("wrong-images").causes[0]
    assert cause.images == ("0006.png",)
    assert cause.what.endswith(": 0006.png")


BLOCK = 9


def join_by_one_pair() -> ImageMatches:
    """Matches in which one pair joins the last images to the others; what is not held out of it turns them."""
    matches = make_matches()
    pairs = [one for one in matches.pairs if (one.first < BLOCK) == (one.second < BLOCK)]
    (hinge,) = (one for one in matches.pairs if (one.first, one.second) == (BLOCK - 1, BLOCK))
    turn_px = LENS @ Rotation.from_euler("y", 4, degrees=True).as_matrix() @ np.linalg.inv(LENS)
    moved = cv2.perspectiveTransform(hinge.xy_second[:, None], turn_px)[:, 0]
    xy_second = np.where(hinge.is_held[:, None], hinge.xy_second, moved)
    return replace(matches, pairs=[*pairs, replace(hinge, xy_second=xy_second)])


@pytest.mark.slow
def test_a_block_that_hangs_on_one_pair_is_not_turned_because_it_fits_better_inside() -> None:
    given = make_result(turn(RIGHT, 0.3))
    verdict = judge_reconstruction(given, join_by_one_pair())
    fixed = verdict.fixed or given
    joint = [one[BLOCK, :3, :3] @ one[BLOCK - 1, :3, :3].T for one in (fixed.T_camera_world, T_TRUE)]
    assert "wrong-images" not in {cause.name for cause in verdict.causes}
    assert np.rad2deg(np.linalg.norm(Rotation.from_matrix(joint[0] @ joint[1].T).as_rotvec())) < 1.5


@pytest.mark.slow
def test_errors_of_right_poses_are_within_their_deviations() -> None:
    error = judge("right").error
    for measured in (error.rotation_deg, error.position_share, error.focal_share, error.drift_deg):
        assert measured is not None
        assert abs(measured.value) <= 3 * measured.deviation
    assert error.rotation_deg is not None
    assert error.rotation_deg.deviation < 0.2


@pytest.mark.slow
def test_the_world_does_not_change_the_error() -> None:
    scale, moved = 7.0, np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.random(random_state=3).as_matrix(), [5, -2, 1]
    T = moved @ turn(RIGHT, 0.5)
    T[:, :3, 3] *= scale
    here, there = judge("rotation-noise").error, judge_reconstruction(make_result(T), make_matches()).error
    assert here.rotation_deg is not None
    assert there.rotation_deg is not None
    assert there.rotation_deg == pytest.approx(here.rotation_deg, rel=0.02)
    assert there.extent == pytest.approx(scale * here.extent, rel=0.5)


def test_a_robust_alignment_leaves_wrong_poses_wrong() -> None:
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = Rotation.random(random_state=1).as_matrix(), [1, 2, 3]
    source = T_TRUE @ moved
    source[:, :3, 3] *= 0.3
    target = invert_pose(swap(misplace(RIGHT)))
    aligned = align_robustly(source, target)
    right = np.setdiff1d(np.arange(COUNT), [3, 6, 9])
    np.testing.assert_allclose(aligned[right], T_TRUE[right], atol=0.02)
    found = compare_poses(target, source)
    assert np.flatnonzero(found.is_wrong).tolist() == [3, 6, 9]


def test_the_bend_of_a_path_has_no_part_that_the_path_does_not_show() -> None:
    """A straight path that turns around itself stays the same; a bend across it is measured."""
    along = np.linspace(0, 1, 10)
    noise = np.random.default_rng(0).normal(0, 1e-3, (10, 3))
    straight, kept = np.column_stack((along, 0 * along, 0 * along)), np.ones(10, bool)
    for bend, least, most in ((np.array([0.6, 0, 0]), 0, 4), (np.array([0, 0.3, 0]), 15, 19)):
        given = _bend_path(straight, 0.0, bend) + noise
        (name, degrees, _), _, _ = _fit_bend(given, straight, kept)
        assert name == "bent-path"
        assert least <= degrees <= most


def test_positions_that_fit_by_chance_do_not_turn_cameras() -> None:
    """Any two of three positions fit exactly; the rotations, which are known as well, must not pay for it."""
    target, source = T_TRUE[:3].copy(), T_TRUE[:3].copy()
    centers = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0.3, 0]])
    moved = centers @ Rotation.from_euler("z", 4, degrees=True).as_matrix().T + np.diag([0, 0, 0.3])
    source[:, :3, :3] = Rotation.from_rotvec(0.008 * np.eye(3)).as_matrix() @ source[:, :3, :3]
    for T, at in ((target, centers), (source, moved)):
        T[:, :3, 3] = -np.einsum("nij,nj->ni", T[:, :3, :3], at)
    assert compare_poses(target, source).degrees.min() > 3
    root = np.eye(9).reshape(3, 3, 9)
    known = compare_poses(target, source, of_turns=np.sqrt(1e-5) * root, of_moves=np.sqrt(1e-4) * root)
    assert known.degrees.max() < 1
    again = compare_again(known, target)
    assert again.turns == pytest.approx(known.turns, abs=1e-5)
    assert again.of_moves == pytest.approx(known.of_moves)


def test_the_mean_square_of_noise_is_taken_away() -> None:
    random = np.random.default_rng(0)
    for true in (0.0, 0.5):
        errors = true * draw_directions(3) + 0.1 * random.standard_normal((400, COUNT, 3))
        found = [measure_rms(one, 0.1 * np.eye(3 * COUNT).reshape(COUNT, 3, -1)) for one in errors]
        assert np.mean([np.square(one.value) for one in found]) == pytest.approx(true**2, abs=0.01)
        inside = np.mean([abs(one.value - true) <= one.deviation for one in found])
        assert inside > 0.6


def test_a_change_is_that_of_a_line() -> None:
    along = np.linspace(0, 1, COUNT)
    errors = np.array([1.0, 2, 3]) + along[:, None] * np.array([0.3, 0, 0.4])
    assert measure_change(errors, np.zeros((COUNT, 3, 0)), along).value == pytest.approx(0.5)


def test_a_purpose_holds_below_its_limit_and_is_open_if_the_deviation_is_wide() -> None:
    purpose = PURPOSES["splats"]
    limit = purpose.limits[0].most
    right = MeasuredError(rotation_deg=Measured(0, 0), inconsistent_px=Measured(0.5 * limit, 0.01))
    assert judge_purpose(purpose, right).holds is True
    assert judge_purpose(purpose, replace(right, inconsistent_px=Measured(2 * limit, 0.01))).holds is False
    assert judge_purpose(purpose, replace(right, inconsistent_px=Measured(0, 2 * limit))).holds is None
    assert judge_purpose(purpose, MeasuredError(reason="nothing")).holds is None


def test_asked_purposes_must_all_hold() -> None:
    verdicts = {holds: replace(judge_purpose(PURPOSES["mesh"], MeasuredError()), holds=holds) for holds in (1, 0, None)}
    verdicts = {None if holds is None else bool(holds): replace(found, holds=None if holds is None else bool(holds))
                for holds, found in verdicts.items()}  # fmt: skip
    good, bad, unknown = verdicts[True], verdicts[False], verdicts[None]
    assert grade_purposes([good, bad], are_asked=True) == Verdict.UNUSABLE
    assert grade_purposes([good, bad], are_asked=False) == Verdict.DOUBTFUL
    assert grade_purposes([unknown, unknown], are_asked=False) == Verdict.NOT_JUDGED
    assert grade_purposes([good, unknown], are_asked=True) == Verdict.DOUBTFUL
    assert grade_purposes([good, unknown], are_asked=False) == Verdict.USABLE


@pytest.mark.parametrize("text", ["measuring=5", "cooking", "localization=5%", "splats=1%", "measuring=-1%"])
def test_unknown_purposes_are_refused(text: str) -> None:
    with refuses(ConfigError, where="--for"):
        parse_purpose(text)


def test_centers_are_the_positions() -> None:
    np.testing.assert_allclose(find_centers(T_TRUE), RIGHT[:, :3, 3], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda r: replace(r, K=-r.K), "a focal length"),
        (lambda r: replace(r, T_camera_world=r.T_camera_world * 1e160), "rotations with numbers up to"),
        (lambda r: replace(r, T_camera_world=np.tile(r.T_camera_world[:1], (COUNT, 1, 1))), "one position"),
    ],
)
def test_numbers_that_no_camera_has_are_refused(change: Callable[[Reconstruction], Reconstruction], found: str) -> None:
    with pytest.raises(DataError) as refused:
        judge_reconstruction(change(make_result(RIGHT)), make_matches())
    assert refused.value.found.startswith(found)


@pytest.mark.parametrize(("share", "good_for"), [(0.005, 3), (0.015, 2), (0.2, 1), (0.3, 0)])
def test_depth_counts_for_a_purpose_where_it_is_measured(share: float, good_for: int) -> None:
    """Without depth the other limits decide alone; with it the same limits hold as for metres."""
    small = Measured(0.0, 0.0)
    names = ("rotation_deg", "neighbor_rotation_deg", "position_share", "length_share", "inconsistent_px")
    error = MeasuredError(**dict.fromkeys(names, small))
    purposes = [PURPOSES[name] for name in ("mesh", "measuring", "navigation")]
    assert all(judge_purpose(purpose, error).holds for purpose in purposes)
    deep = replace(error, depth_share=Measured(share, 0.0))
    assert sum(judge_purpose(purpose, deep).holds is True for purpose in purposes) == good_for
    assert judge_purpose(parse_purpose("measuring=40%"), deep).holds


def test_no_purpose_is_good_with_depth_beyond_all_limits() -> None:
    assert list_good_for(Measured(0.0, 0.26)) == "not good enough for navigation"


@pytest.mark.slow
def test_positions_without_a_unit_are_good_for_no_distance_in_metres() -> None:
    asked = [parse_purpose("localization=1m")]
    for format, holds in (("transforms", True), ("colmap", None)):
        result = replace(make_result(RIGHT), format=format)
        assert [one.holds for one in judge_reconstruction(result, make_matches(), asked).purposes] == [holds]
