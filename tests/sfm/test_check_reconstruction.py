"""Results of other programs are judged by their images: right ones pass, and each cure undoes its mistake."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from tests.combinations import mark_others
from tests.refusals import refuses
from tests.sfm.textured_room import HEIGHT, WIDTH, K, TexturedRoom, find_arc_pose, write_images
from typer.testing import CliRunner

import stadia
from stadia.cli.check_result import list_lines
from stadia.cli.main import app
from stadia.core.errors import ConfigError, DataError
from stadia.core.verdict import Verdict
from stadia.geometry.conventions import Direction
from stadia.geometry.lens import Lens
from stadia.io.records.calibration import read_given_camera
from stadia.io.records.formats import COLMAP
from stadia.io.records.read import read_reconstruction, write_reconstruction
from stadia.io.records.reconstruction import Reconstruction, make_lenses
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction, replace_camera
from stadia.judge.reconstructions.convention_search import search_conventions
from stadia.judge.reconstructions.depth_meaning import measure_depth
from stadia.judge.reconstructions.result_convention import (
    CAMERA_CHANGES,
    GIVEN,
    HALF_CHANGES,
    POSE_CHANGES,
    POSE_TEXTS,
    Convention,
    apply_convention,
    list_flat_axes,
)
from stadia.judge.reconstructions.worst_pairs import match_partners, show_repaired_pair, show_worst_pairs
from stadia.sfm.image_matches import ImageMatches, list_following, match_images
from stadia.sfm.match_triangulation import (
    find_image_times,
    pose_images,
    scale_intrinsics,
    triangulate_view,
    view_matches,
)
from stadia.sfm.pair_matching import FramePair

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
COUNT, POINTS = 12, 160
SIZE = (640, 400)
LENS = np.array([[500.0, 0, 325.5], [0, 500, 195.5], [0, 0, 1]])
DISTORTION = np.array([-0.05, 0.01, 0.001, -0.001])


def make_poses() -> Array:
    """World-to-camera poses of a person who walks in a curve and looks around."""
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    for row in range(COUNT):
        t = row / (COUNT - 1)
        R = Rotation.from_euler("yxz", [40 * np.sin(5 * t), 10 * np.sin(4 * t + 1), 5 * np.sin(6 * t)], degrees=True)
        center = np.array([0.25 * row, 0.2 * np.sin(3 * t), 1.2 * np.sin(2.5 * t)])
        T[row, :3, :3], T[row, :3, 3] = R.as_matrix().T, -R.as_matrix().T @ center
    return T


def project(inside: Array) -> Array:
    seen, _ = cv2.projectPoints(inside, np.zeros(3), np.zeros(3), LENS, DISTORTION)
    return np.asarray(seen[:, 0], float)


def make_matches(T: Array, *, noise_px: float = 0.3, seed: int = 0) -> ImageMatches:
    random = np.random.default_rng(seed)
    points = random.uniform((-5, -3, 2), (9, 3, 12), (POINTS, 3))
    xy, seen = np.zeros((COUNT, POINTS, 2)), np.zeros((COUNT, POINTS), bool)
    for row in range(COUNT):
        inside = points @ T[row, :3, :3].T + T[row, :3, 3]
        seen[row] = inside[:, 2] > 0.5
        xy[row, seen[row]] = project(inside[seen[row]]) + noise_px * random.standard_normal((seen[row].sum(), 2))
        seen[row] &= ((xy[row] > 0) & (xy[row] < SIZE)).all(1)
    held = random.random((COUNT, POINTS)) < 0.1
    pairs = []
    for first, second in list_following(range(COUNT), (1, 2, 3, 5)):
        both = np.flatnonzero(seen[first] & seen[second])
        if len(both) >= 20:
            is_held = held[first, both] | held[second, both]
            pairs.append(FramePair(first, second, xy[first, both], xy[second, both], is_held))
    return ImageMatches(tuple(f"{row:04d}.png" for row in range(COUNT)), np.tile(SIZE, (COUNT, 1)), pairs)


T_TRUE = make_poses()
MATCHES = make_matches(T_TRUE)
RIGHT = Reconstruction(
    names=MATCHES.names,
    T_camera_world=T_TRUE,
    K=np.tile(LENS, (COUNT, 1, 1)),
    distortion=np.tile(DISTORTION, (COUNT, 1)),
    sizes=MATCHES.sizes,
    format="colmap",
    pose_format=COLMAP,
)


def measure_difference_deg(found: Reconstruction, true: Array) -> float:
    """The largest angle between rotations or directions of motion between successive images."""
    pair = [T[1:] @ np.linalg.inv(T[:-1]) for T in (found.T_camera_world, true)]
    turn = [Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude() for a, b in zip(*pair, strict=True)]
    t, s = (motion[:, :3, 3] / np.linalg.norm(motion[:, :3, 3], axis=1, keepdims=True) for motion in pair)
    return float(np.degrees(max(np.max(turn), np.arccos(np.clip((t * s).sum(1), -1, 1)).max())))


def move_world(T: Array, seed: int, scale: float) -> Array:
    moved = np.eye(4)
    moved[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    moved[:3, 3] = np.random.default_rng(seed).normal(size=3)
    changed = T @ moved
    changed[:, :3, 3] *= scale
    return np.asarray(changed)


# -- right results


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_a_right_result_is_usable_in_any_world(seed: int, scale: float) -> None:
    verdict = judge_reconstruction(replace(RIGHT, T_camera_world=move_world(T_TRUE, seed, scale)), MATCHES)
    assert verdict.search.found is None
    assert verdict.grade == Verdict.USABLE
    assert not verdict.causes


@pytest.mark.parametrize("check", [stadia.check_reconstruction, stadia.refine_reconstruction])
def test_images_of_another_scene_are_refused_before_they_are_matched(
    check: Callable[..., object], tmp_path: Path
) -> None:
    """Nothing is written into the folder of the matches."""
    images, work = tmp_path / "images", tmp_path / "work"
    images.mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(images / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
    path = write_reconstruction(replace(RIGHT, format="transforms"), tmp_path / "transforms.json")
    options: dict[str, Path] = {} if check is stadia.check_reconstruction else {"out": tmp_path / "out"}
    with refuses(DataError, found="not the images of this result"):
        check(path, images, work=work, **options)
    assert not work.exists()


def test_the_order_of_rows_with_names_does_not_matter() -> None:
    shuffled = RIGHT.rows(np.random.default_rng(0).permutation(COUNT))
    here, there = (judge_reconstruction(result, MATCHES) for result in (RIGHT, shuffled))
    assert [image.share for image in here.images] == [image.share for image in there.images]
    assert here.error == there.error


def test_the_judgement_shows_its_steps_from_which_the_remaining_time_follows() -> None:
    steps = list[tuple[str, int]]()

    def track(items, count, what):  # type: ignore[no-untyped-def]
        steps.append((what, count))
        return items

    judge_reconstruction(RIGHT, MATCHES, (), track)
    assert steps == [("adjusting", 4)]


def test_an_image_of_half_size_is_no_mistake_if_the_file_names_its_size() -> None:
    half = replace(RIGHT, K=scale_intrinsics(RIGHT.K, np.full((COUNT, 2), 0.5)), sizes=RIGHT.sizes // 2)
    assert judge_reconstruction(half, MATCHES).grade == Verdict.USABLE


def test_squares_that_were_padded_are_not_stretched() -> None:
    """VGGT pads images of 640x400 to 518x518: one scale for both axes, and bars above and below."""
    scale = 518 / SIZE[0]
    K = scale_intrinsics(RIGHT.K, np.full((COUNT, 2), scale))
    K[:, 1, 2] += (518 - scale * SIZE[1]) / 2
    squares = np.full_like(RIGHT.sizes, 518)
    posed = pose_images(replace(RIGHT, K=K, sizes=squares), MATCHES)
    np.testing.assert_allclose(posed.K, RIGHT.K, atol=1e-9)
    assert any("padded to 518x518" in note for note in posed.notes)
    stretched = scale_intrinsics(RIGHT.K, 518 / RIGHT.sizes)
    np.testing.assert_allclose(pose_images(replace(RIGHT, K=stretched, sizes=squares), MATCHES).K, RIGHT.K, atol=1e-9)


def turn_pixels(xy: Array) -> Array:
    return np.column_stack([SIZE[1] - 1 - xy[:, 1], xy[:, 0]])


def turn_upright() -> tuple[Reconstruction, ImageMatches]:
    """Return the right result and the matches of images that are turned by 90 degrees: x right becomes y down."""
    turn = np.eye(4)
    turn[:2, :2] = [[0, -1], [1, 0]]
    K, (cx, cy) = RIGHT.K.copy(), LENS[:2, 2]
    K[:, :2, 2] = SIZE[1] - 1 - cy, cx
    sizes = RIGHT.sizes[:, ::-1]
    pairs = [
        replace(pair, xy_first=turn_pixels(pair.xy_first), xy_second=turn_pixels(pair.xy_second))
        for pair in MATCHES.pairs
    ]
    upright = replace(
        RIGHT, T_camera_world=turn @ RIGHT.T_camera_world, K=K, sizes=sizes, distortion=np.zeros((COUNT, 4))
    )
    return upright, replace(MATCHES, sizes=sizes, pairs=pairs)


@pytest.mark.parametrize("fitted", ["padded", "cropped"])
@pytest.mark.parametrize("is_upright", [False, True])
def test_squares_are_padded_or_cropped_as_the_matches_show(is_upright: bool, fitted: str) -> None:
    """VGGT pads or crops portrait images by an option, other networks crop landscape ones; depth maps are as large."""
    right, matches = turn_upright() if is_upright else (RIGHT, MATCHES)
    scale = 518 / (max(SIZE) if fitted == "padded" else min(SIZE))
    K = scale_intrinsics(right.K, np.full((COUNT, 2), scale))
    K[:, :2, 2] += (518 - scale * right.sizes) / 2
    posed = pose_images(replace(right, K=K, sizes=np.full_like(right.sizes, 518)), matches)
    np.testing.assert_allclose(posed.K, right.K, atol=1e-9)
    assert any(f"{fitted} to 518x518" in note for note in posed.notes)


# -- mistakes and cures


@settings(max_examples=4, deadline=None)
@given(
    poses=st.sampled_from(["given", "inverted", "transposed", "position"]),
    axes=st.sampled_from([axes for axes in list_flat_axes() if np.linalg.det(np.reshape(axes, (3, 3))) > 0]),
)
def test_the_cure_undoes_poses_and_axes(poses: str, axes: tuple[float, ...]) -> None:
    wrong = Convention(poses=poses, axes=axes)
    turn = np.eye(4)
    turn[:3, :3] = wrong.R.T
    T = turn @ T_TRUE
    if poses == "inverted":
        T = np.linalg.inv(T)
    elif poses == "transposed":
        T = POSE_CHANGES[poses](T)
    elif poses == "position":
        T = T.copy()
        T[:, :3, 3] = np.linalg.inv(T)[:, :3, 3]
    search = search_conventions(replace(RIGHT, T_camera_world=T), MATCHES)
    if poses == "given" and np.array_equal(wrong.R, np.eye(3)):
        assert search.found is None
        return
    assert search.found is not None
    assert search.found.fits > 0.8
    cured = apply_convention(replace(RIGHT, T_camera_world=T), MATCHES, search.found.convention)
    assert measure_difference_deg(cured, T_TRUE) < 0.01


@pytest.mark.parametrize(
    ("poses", "axes"),
    [("transposed half x and y", (-1.0, -1, 1)), ("half y and z", (1.0, 1, 1)), ("half all axes", (1.0, 1, 1))],
)
def test_the_cure_undoes_half_a_conversion(poses: str, axes: tuple[float, ...]) -> None:
    """CUT3R 67: R was PyTorch3D's, and t OpenCV's. nerf-from-image 18: t took the other sign with the axes."""
    T = HALF_CHANGES[poses](np.diag([*axes, 1.0]) @ T_TRUE)
    search = search_conventions(replace(RIGHT, T_camera_world=T), MATCHES)
    assert search.found is not None
    assert "different axes" in search.found.what
    assert ("PyTorch3D" in search.found.what) == poses.startswith("transposed")
    cured = apply_convention(replace(RIGHT, T_camera_world=T), MATCHES, search.found.convention)
    assert measure_difference_deg(cured, T_TRUE) < 0.01


@pytest.mark.parametrize(
    ("w_first", "of_inverse"),
    mark_others([(True, True), (True, False), (False, True), (False, False)], [(True, False), (False, True)]),
)
def test_the_cure_undoes_the_order_of_quaternions(*, w_first: bool, of_inverse: bool) -> None:
    def swap(T: Array) -> Array:
        q = Rotation.from_matrix(T[:, :3, :3]).as_quat()
        changed = T.copy()
        changed[:, :3, :3] = Rotation.from_quat(q[:, [3, 0, 1, 2] if w_first else [1, 2, 3, 0]]).as_matrix()
        return changed

    T = np.linalg.inv(swap(np.linalg.inv(T_TRUE))) if of_inverse else swap(T_TRUE)
    search = search_conventions(replace(RIGHT, T_camera_world=T), MATCHES)
    assert search.found is not None
    cured = apply_convention(replace(RIGHT, T_camera_world=T), MATCHES, search.found.convention)
    assert measure_difference_deg(cured, T_TRUE) < 0.01


@pytest.mark.parametrize("shift", mark_others([-4, -1, 2, 5], [-1, 5]))
def test_a_shifted_list_is_named(shift: int) -> None:
    search = search_conventions(replace(RIGHT, T_camera_world=np.roll(T_TRUE, shift, 0)), MATCHES)
    assert search.found is not None
    assert search.found.convention == Convention(order="shifted", shift=shift)


def test_a_reversed_list_is_named() -> None:
    wrong = replace(RIGHT, T_camera_world=T_TRUE[::-1].copy())
    search = search_conventions(wrong, MATCHES)
    assert search.found is not None
    assert search.found.convention == Convention(order="reversed")
    assert np.array_equal(apply_convention(wrong, MATCHES, search.found.convention).T_camera_world, T_TRUE)


@pytest.mark.parametrize(("is_text_order", "order"), [(False, "by name"), (True, "by number")])
def test_the_other_order_of_names_is_named(*, is_text_order: bool, order: str) -> None:
    """A list without names is in natural order, or for LLFF in that of names as text; the other one is a mistake."""
    names = tuple(f"{row + 1}.png" for row in range(COUNT))
    numbered, by_text = replace(MATCHES, names=names), np.argsort(names)
    T = T_TRUE if is_text_order else T_TRUE[by_text]
    wrong = replace(RIGHT, names=("",) * COUNT, T_camera_world=T, is_text_order=is_text_order)
    right = replace(wrong, T_camera_world=T_TRUE[by_text] if is_text_order else T_TRUE)
    assert search_conventions(right, numbered).found is None
    found = search_conventions(wrong, numbered).found
    assert found is not None
    assert found.convention == Convention(order=order)
    cured = apply_convention(wrong, numbered, found.convention)
    np.testing.assert_allclose(cured.T_camera_world[np.argsort([int(n[:-4]) for n in cured.names])], T_TRUE)


@pytest.mark.parametrize("head", ["", "40753679_", "left_"])
def test_times_behind_a_common_name_are_times(head: str) -> None:
    """ARKitScenes names a frame VIDEO_TIME; numbers with _ in them are no numbers of a file."""
    names = tuple(f"{head}{6000 + 0.1 * row:.3f}.png" for row in range(COUNT))
    times_s = find_image_times(replace(MATCHES, names=names))
    assert times_s is not None
    np.testing.assert_allclose(times_s, 6000 + 0.1 * np.arange(COUNT))
    assert find_image_times(replace(MATCHES, names=tuple(f"{row}_{row}.5.png" for row in range(COUNT)))) is None


def test_an_offset_of_clocks_is_named() -> None:
    times_s = 0.1 * np.arange(COUNT)
    late = replace(RIGHT, names=("",) * COUNT, times_s=times_s + 0.25)
    timed = replace(MATCHES, times_s=times_s)
    search = search_conventions(late, timed)
    assert search.found is not None
    assert search.found.convention.offset_s == pytest.approx(0.25, abs=0.03)
    cured = apply_convention(late, timed, search.found.convention)
    assert cured.times_s is not None
    np.testing.assert_allclose(cured.times_s, times_s, atol=0.03)


@pytest.mark.parametrize(
    ("factor", "changed"),
    [(0.5, "size"), pytest.param(1.5, "size", marks=pytest.mark.exhaustive), (1.0, "corner"), (1.0, "focal")],
)
def test_a_wrong_camera_is_named(factor: float, changed: str) -> None:
    K = scale_intrinsics(RIGHT.K, np.full((COUNT, 2), factor))
    if changed == "corner":
        K[:, :2, 2] = 0
    elif changed == "focal":
        K[:, (0, 1), (0, 1)] *= 1.4
    search = search_conventions(replace(RIGHT, K=K), MATCHES)
    assert search.found is not None
    cured = apply_convention(replace(RIGHT, K=K), MATCHES, search.found.convention)
    np.testing.assert_allclose(np.log(cured.K[:, 0, 0] / LENS[0, 0]), 0, atol=0.05)
    np.testing.assert_allclose(cured.K[:, :2, 2], np.tile(LENS[:2, 2], (COUNT, 1)), atol=8)


def test_mirrored_images_are_named() -> None:
    def flip(xy: Array) -> Array:
        return np.column_stack((SIZE[0] - 1 - xy[:, 0], xy[:, 1]))

    pairs = [replace(pair, xy_first=flip(pair.xy_first), xy_second=flip(pair.xy_second)) for pair in MATCHES.pairs]
    mirrored = replace(MATCHES, pairs=pairs)
    search = search_conventions(RIGHT, mirrored)
    assert search.found is not None
    assert search.found.convention.is_mirrored
    cured = apply_convention(RIGHT, mirrored, search.found.convention)
    np.testing.assert_allclose(np.linalg.det(cured.T_camera_world), 1)
    assert search_conventions(cured, mirrored).found is None


def test_a_result_without_any_truth_gets_no_convention() -> None:
    shuffled = T_TRUE[np.random.default_rng(3).permutation(COUNT)]
    verdict = judge_reconstruction(replace(RIGHT, T_camera_world=shuffled), MATCHES)
    assert verdict.search.found is None
    assert verdict.grade != Verdict.USABLE


def test_a_wrong_image_is_listed() -> None:
    T = T_TRUE.copy()
    T[5, :3, 3] += (1.5, 0.5, 0)
    verdict = judge_reconstruction(replace(RIGHT, T_camera_world=T), MATCHES)
    assert [image.name for image in verdict.error.wrong_images] == ["0005.png"]
    assert verdict.causes[0].images == ("0005.png",)
    assert 5 in {end for pair in show_worst_pairs(RIGHT, MATCHES, 1) + show_worst_pairs(
        replace(RIGHT, T_camera_world=T), MATCHES, 1) for end in (pair.first, pair.second)}  # fmt: skip


def test_the_pair_in_which_a_correction_repairs_most_is_shown_before_and_after_it() -> None:
    T = T_TRUE.copy()
    T[5, :3, 3] += (1.5, 0.5, 0)
    wrong = replace(RIGHT, T_camera_world=T)
    shown = show_repaired_pair(wrong, RIGHT, MATCHES)
    assert shown is not None
    before, after = shown
    assert (before.first, before.second) == (after.first, after.second)
    assert 5 in (before.first, before.second)
    rows = list(before.shown)
    assert rows == list(after.shown)
    assert not before.agrees[rows].any()
    assert after.agrees[rows].all()
    assert show_repaired_pair(RIGHT, RIGHT, MATCHES) is None


def test_each_image_has_the_matches_of_its_best_partner() -> None:
    """Those of the images that are asked for, in the pixels of both, whichever is the first of the pair."""
    T = T_TRUE.copy()
    T[5, :3, 3] += (1.5, 0.5, 0)
    asked = [3, 4, 5, 6]
    partners = match_partners(replace(RIGHT, T_camera_world=T), MATCHES, asked)
    counts = {(one.first, one.second): one for one in MATCHES.pairs}
    for image, found in partners.items():
        assert {image, found.other} <= set(asked)
        pair = counts[min(image, found.other), max(image, found.other)]
        ends = (pair.xy_first, pair.xy_second) if image < found.other else (pair.xy_second, pair.xy_first)
        assert found.count == len(ends[0])
        for xy, end in zip((found.xy, found.xy_other), ends, strict=True):
            assert {tuple(one) for one in xy.tolist()} <= {tuple(one) for one in end.tolist()}
    assert partners[5].agrees.mean() < 0.6 < partners[3].agrees.mean()
    assert match_partners(RIGHT, MATCHES, [3]) == {}


@pytest.mark.parametrize("is_right", [True, False])
def test_images_that_are_turned_against_poses_and_K_are_named_and_fixed(is_right: bool) -> None:
    """The matches are those of upright pictures, at half the size; poses and K are of the lying sensor."""
    width, height = SIZE

    def turn(xy: Array) -> Array:
        x, y = (xy[:, 0] + 0.5) / 2 - 0.5, (xy[:, 1] + 0.5) / 2 - 0.5
        return np.column_stack((height / 2 - 1 - y, x) if is_right else (y, width / 2 - 1 - x))

    pairs = [replace(pair, xy_first=turn(pair.xy_first), xy_second=turn(pair.xy_second)) for pair in MATCHES.pairs]
    matches = replace(MATCHES, pairs=pairs, sizes=np.tile((height // 2, width // 2), (COUNT, 1)))
    result = replace(RIGHT, distortion=RIGHT.distortion * (1, 1, 0, 0))
    search = search_conventions(result, matches)
    assert search.found is not None
    assert ("counter-clockwise" in search.found.what) != is_right
    assert "90 degrees" in search.found.what
    fixed = apply_convention(result, matches, search.found.convention)
    center = (height - 1 - LENS[1, 2], LENS[0, 2]) if is_right else (LENS[1, 2], width - 1 - LENS[0, 2])
    np.testing.assert_allclose(fixed.K[0, :2, 2], (np.array(center) + 0.5) / 2 - 0.5, atol=1e-9)
    assert judge_reconstruction(fixed, matches).search.found is None


def test_changes_of_poses_and_cameras_have_words() -> None:
    for name, (what, fix, _) in CAMERA_CHANGES.items():
        assert bool(what and fix) == (name != "given")
    named = {name.partition(",")[0] for name in POSE_CHANGES} - {"given"}
    assert set(POSE_TEXTS) == {(name, direction) for name in named for direction in Direction}
    assert GIVEN.count_changes() == 0


# -- depth


@pytest.mark.parametrize(
    ("meaning", "values"),
    [
        ("depth", lambda z, length: 3 * z),
        ("disparity", lambda z, length: 2 / z),
        ("distance", lambda z, length: z * length),
    ],
)
def test_the_meaning_of_depth_maps_is_found(meaning: str, values) -> None:  # type: ignore[no-untyped-def]
    maps = draw_depth_maps(values)
    result = replace(RIGHT, depth=lambda row: maps[row])
    view = view_matches(pose_images(result, MATCHES), MATCHES)
    found = measure_depth(result, view, triangulate_view(view))
    assert found is not None
    assert found.name == meaning
    assert found.error < 0.05
    fixed = judge_reconstruction(result, MATCHES).fixed
    assert meaning == "depth" or fixed is not None
    again = measure_depth(fixed or result, view, triangulate_view(view))
    assert again is not None
    assert again.name == "depth"


WIDE = np.array([[190.0, 0, 319.5], [0, 192, 199.5], [0, 0, 1]])


def film(lens: Lens, matches: ImageMatches = MATCHES) -> tuple[Reconstruction, ImageMatches]:
    """The right result and its matches, as another lens with the intrinsics WIDE shows them."""
    right = pose_images(RIGHT, MATCHES)

    def bend(image: int, xy: Array) -> Array:
        return lens.distort(right.normalize(np.full(len(xy), image), xy)) * WIDE[(0, 1), (0, 1)] + WIDE[:2, 2]

    pairs = [
        replace(pair, xy_first=bend(pair.first, pair.xy_first), xy_second=bend(pair.second, pair.xy_second))
        for pair in matches.pairs
    ]
    result = RIGHT.with_camera(WIDE, (0, 0, 0, 0), SIZE, lens)
    return result, replace(matches, pairs=pairs)


@pytest.mark.parametrize(
    "lens",
    [Lens("OPENCV_FISHEYE", (0.05, -0.01, 0.004, -0.001)), Lens("EUCM", (0.6, 1.1)), Lens("EQUIRECTANGULAR"),
     Lens("FULL_OPENCV", (-0.12, 0.03, 0.002, -0.001, 0.01, 0.02, -0.03, 0.004)), Lens("FOV", (0.8,))],
    ids=lambda lens: lens.model,
)  # fmt: skip
def test_a_right_result_of_any_lens_is_usable_and_becomes_wrong_without_it(lens: Lens) -> None:
    result, matches = film(lens)
    assert judge_reconstruction(result, matches).grade == Verdict.USABLE
    view = view_matches(pose_images(result, matches), matches)
    straight = view_matches(pose_images(RIGHT, MATCHES), MATCHES)
    for pair, other in zip(view.list_pairs(), straight.list_pairs(), strict=True):
        focals = view.camera.focal_px, straight.camera.focal_px
        rays = [(one.xy_first - at.camera.center_px) / focal for one, at, focal in
                zip((pair, other), (view, straight), focals, strict=True)]  # fmt: skip
        np.testing.assert_allclose(rays[0], rays[1], atol=1e-5)
    without = result.with_camera(WIDE, (0, 0, 0, 0), SIZE)
    assert judge_reconstruction(without, matches).grade != Verdict.USABLE


def test_a_point_returns_to_its_pixel_through_every_lens_of_a_result() -> None:
    lenses = make_lenses([(Lens("EUCM", (0.6, 1.1)), None, Lens("OPENCV_FISHEYE", (0.05, 0.0, 0.0, 0.0)))[row % 3]
                          for row in range(COUNT)])  # fmt: skip
    result = replace(RIGHT, K=np.tile(WIDE, (COUNT, 1, 1)), lenses=lenses, distortion=np.zeros((COUNT, 4)))
    posed = pose_images(result, MATCHES)
    xy = np.random.default_rng(0).uniform((230, 110), (410, 290), (40, 2))
    for row in range(COUNT):
        np.testing.assert_allclose(posed.project(row, posed.normalize(np.full(40, row), xy)), xy, atol=1e-4)
    reordered = result.rows(range(COUNT)[::-1])
    assert reordered.lenses is not None
    assert reordered.lenses.tolist() == result.lenses.tolist()[::-1]


def test_matches_far_off_the_axis_are_left_out_and_counted() -> None:
    lens = Lens("OPENCV_FISHEYE", (0.0,) * 4)
    result, matches = film(lens)
    far = [replace(pair, xy_first=np.where(np.arange(len(pair.is_held))[:, None] % 4 == 0, 600.0, pair.xy_first))
           for pair in matches.pairs]  # fmt: skip
    view = view_matches(pose_images(result, matches), replace(matches, pairs=far))
    count = sum(len(pair.is_held) for pair in far)
    assert sum(len(pair.is_held) for pair in view.list_pairs()) == count - sum(
        -(-len(pair.is_held) // 4) for pair in far
    )
    assert any("are left out" in note for note in view.posed.notes)
    assert all(np.isfinite(pair.xy_first).all() for pair in view.list_pairs())


@pytest.mark.parametrize("fitted", ["padded", "cropped"])
def test_depth_maps_are_squares_as_the_camera_is(fitted: str) -> None:
    scale = 518 / (max(SIZE) if fitted == "padded" else min(SIZE))
    K = scale_intrinsics(RIGHT.K, np.full((COUNT, 2), scale))
    K[:, :2, 2] += (518 - scale * RIGHT.sizes) / 2
    x, y = (np.rint((np.arange(518) + 0.5 - 259) / scale + side / 2 - 0.5).astype(int) for side in SIZE)
    inside = (y[:, None] >= 0) & (y[:, None] < SIZE[1]) & (x >= 0) & (x < SIZE[0])
    maps = [
        np.where(inside, depth[y.clip(0, SIZE[1] - 1)[:, None], x.clip(0, SIZE[0] - 1)], np.nan)
        for depth in draw_depth_maps(lambda z, length: z)
    ]
    result = replace(RIGHT, K=K, sizes=np.full_like(RIGHT.sizes, 518), depth=lambda row: maps[row])
    view = view_matches(pose_images(result, MATCHES), MATCHES)
    found = measure_depth(result, view, triangulate_view(view))
    assert found is not None
    assert found.error < 0.01


def draw_depth_maps(values) -> list[NDArray[np.float32]]:  # type: ignore[no-untyped-def]
    """Maps of the values at the nearest triangulated point of each pixel; NaN far from points."""
    sparse = triangulate_view(view_matches(pose_images(RIGHT, MATCHES), MATCHES))
    maps = []
    for row in range(COUNT):
        inside = sparse.points @ T_TRUE[row, :3, :3].T + T_TRUE[row, :3, 3]
        inside = inside[inside[:, 2] > 0.5]
        inside = inside[np.argsort(-inside[:, 2])]
        image = np.full((SIZE[1], SIZE[0]), np.nan, np.float32)
        z, length = inside[:, 2], np.linalg.norm(inside, axis=1) / inside[:, 2]
        for (x, y), value in zip(project(inside), values(z, length), strict=True):
            if 2 <= x < SIZE[0] - 2 and 2 <= y < SIZE[1] - 2:
                image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = value
        maps.append(image)
    return maps


# -- triangulation


def test_triangulated_points_agree_with_matches() -> None:
    sparse = triangulate_view(view_matches(pose_images(RIGHT, MATCHES), MATCHES))
    assert len(sparse.points) > POINTS / 2
    assert np.median(np.linalg.norm(sparse.residuals_px(), axis=1)) < 0.6


def test_points_without_distortion_agree_with_opencv() -> None:
    xy = np.random.default_rng(0).uniform((0, 0), SIZE, (50, 2))
    found = pose_images(RIGHT, MATCHES).normalize(np.arange(50) % COUNT, xy)
    np.testing.assert_allclose(found, cv2.undistortPoints(xy[:, None], LENS, DISTORTION)[:, 0], atol=1e-5)


# -- images and the command


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    view = TexturedRoom()
    images = [view.draw(*find_arc_pose(index)) for index in range(0, 24, 2)]
    return write_images(tmp_path_factory.mktemp("check") / "room", images)


def write_result(path: Path, *, is_opengl: bool) -> Path:
    """A transforms.json of the room; with the camera axes of OpenCV it is wrong."""
    poses = []
    for index in range(0, 24, 2):
        R, center = find_arc_pose(index)
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R.T, center
        poses.append(T @ np.diag([1, -1, -1, 1]) if is_opengl else T)
    head = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5, "w": WIDTH, "h": HEIGHT}
    frames = [{"file_path": f"{row:06d}.png", "transform_matrix": T.tolist()} for row, T in enumerate(poses)]
    path.write_text(json.dumps({**head, "frames": frames}))
    return path


def test_the_command_names_and_undoes_a_mistake(room: Path, tmp_path: Path) -> None:
    wrong, fixed, page = (
        write_result(tmp_path / "wrong.json", is_opengl=False),
        tmp_path / "fixed.json",
        tmp_path / "page",
    )
    words = ["check", str(wrong), "--images", str(room), "--fix", str(fixed), "--report", str(page), "--json"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 1
    record = json.loads(run.stdout)
    assert record["grade"] == "unusable"
    assert record["search"]["found"]["fits"] > 0.8 > 0.3 > record["search"]["fits_given"]
    assert record["fixed"]["grade"] == "usable"
    text = (page / "result.html").read_text(encoding="utf-8")
    assert text.count("<circle") == 12
    packed = re.search(r'download="stadia-corrected.zip" href="data:application/zip;base64,([^"]+)"', text)
    assert packed is not None
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed[1]))) as archive:
        frames = json.loads(archive.read("wrong.json"))["frames"]
    given = json.loads(wrong.read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [frame["file_path"] for frame in given]
    assert re.search("As given</b>: .* [1-9]\\d* of", text), "the pair that shows it"
    assert re.search("Corrected</b>: .* 0 of", text)
    assert "data:image/jpeg" in text
    assert stadia.check_reconstruction(fixed, room).grade == Verdict.USABLE


def test_images_next_to_a_json_file_need_no_option(room: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(room)
    run = CliRunner().invoke(app, ["check", str(write_result(tmp_path / "transforms.json", is_opengl=True))])
    assert run.exit_code == 0
    assert "transforms.json is usable: 12 of 12 images have a pose" in run.stdout


def test_the_fixed_camera_of_poses_without_one_is_named(room: Path, tmp_path: Path) -> None:
    """K belongs to images of half the size; the file of poses has no place for the right one."""
    poses = tmp_path / "poses.txt"
    T = [np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1]) for frame in json.loads(
        write_result(tmp_path / "right.json", is_opengl=True).read_text())["frames"]]  # fmt: skip
    poses.write_text("\n".join(" ".join(map(str, pose[:3].ravel())) for pose in T))
    given = f"fx={K[0, 0] / 2},fy={K[1, 1] / 2},cx={K[0, 2] / 2},cy={K[1, 2] / 2}"
    words = ["check", str(poses), "--images", str(room), "--camera", given, "--fix", str(tmp_path / "fixed.txt")]
    record = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (record["grade"], record["fixed"]["grade"]) == ("unusable", "usable")
    numbers = dict(part.split("=") for part in record["fixed"]["given_camera"].split(","))
    assert float(numbers["fx"]) == pytest.approx(K[0, 0], rel=0.02)


def test_the_fixed_camera_of_a_file_is_written_next_to_the_fixed_poses(room: Path, tmp_path: Path) -> None:
    """The poses have rows of 16 numbers, and stay so."""
    frames = json.loads(write_result(tmp_path / "right.json", is_opengl=True).read_text())["frames"]
    T = np.array([np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1]) for frame in frames])
    np.savetxt(tmp_path / "poses.txt", T.reshape(-1, 16))
    np.savetxt(tmp_path / "half.txt", np.diag([0.5, 0.5, 1]) @ K)
    words = ["check", str(tmp_path / "poses.txt"), "--images", str(room)]
    fix = ["--camera", str(tmp_path / "half.txt"), "--fix", str(tmp_path / "fixed.txt")]
    taken = tmp_path / "fixed.K.json"
    taken.write_text("{}")
    refused = CliRunner().invoke(app, [*words, *fix])
    assert "fixed.K.json: found a file, a folder or a link" in str(refused.exception)
    assert taken.read_text() == "{}"
    assert not (tmp_path / "fixed.txt").exists()
    taken.unlink()
    run = CliRunner().invoke(app, [*words, *fix])
    assert f"its camera: --camera {taken}" in run.stdout
    assert np.loadtxt(tmp_path / "fixed.txt").shape == (len(T), 16)
    right = CliRunner().invoke(
        app, ["check", str(tmp_path / "fixed.txt"), "--images", str(room), "--camera", str(taken)]
    )
    assert right.exit_code == 0
    assert "fixed.txt is usable" in right.stdout
    assert read_given_camera(str(taken))[0][0, 0] == pytest.approx(K[0, 0], rel=0.02)


def test_matches_of_the_same_images_are_cached(room: Path, tmp_path: Path) -> None:
    steps = list[str]()

    def track(items, count, what):  # type: ignore[no-untyped-def]
        steps.append(what)
        return items

    first = match_images(room, tmp_path / "work", track)
    assert "features" in steps
    steps.clear()
    second = match_images(room, tmp_path / "work", track)
    assert not steps
    assert first.names == second.names
    for here, there in zip(first.pairs, second.pairs, strict=True):
        np.testing.assert_array_equal(here.xy_first, there.xy_first)
        np.testing.assert_array_equal(here.is_held, there.is_held)


# -- errors


def test_the_command_asks_for_a_camera_before_it_matches(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("matched")

    monkeypatch.setattr("stadia.sfm.image_matches.match_images", refuse)
    path = tmp_path / "path.txt"
    path.write_text("".join(" ".join(map(str, T[:3].ravel())) + "\n" for T in np.linalg.inv(T_TRUE)))
    run = CliRunner().invoke(app, ["check", str(path), "--images", str(room)])
    assert isinstance(run.exception, DataError)
    assert run.exception.found == "no intrinsics"


def test_a_path_without_camera_asks_for_one(tmp_path: Path) -> None:
    path = tmp_path / "path.txt"
    path.write_text("".join(" ".join(map(str, T[:3].ravel())) + "\n" for T in np.linalg.inv(T_TRUE)))
    with refuses(DataError, where=str(path)):
        judge_reconstruction(read_reconstruction(path), MATCHES)
    verdict = judge_reconstruction(
        replace_camera(
            read_reconstruction(path), MATCHES, "fx=500,fy=500,cx=325.5,cy=195.5,k1=-0.05,k2=0.01,p1=0.001,p2=-0.001"
        ),
        MATCHES,
    )
    assert verdict.grade == Verdict.USABLE
    first = next(iter(list_lines(path, verdict, verbose=False)))
    assert f"{COUNT} of {COUNT} images have a pose" in first
    assert "groups" not in first


@pytest.mark.parametrize("camera", ["fy=500", "fx=abc", "fx=nan", "fx=500,zoom=2"])
def test_wrong_numbers_of_a_camera_are_refused(camera: str, tmp_path: Path) -> None:
    path = tmp_path / "path.txt"
    path.write_text("".join(" ".join(map(str, T[:3].ravel())) + "\n" for T in np.linalg.inv(T_TRUE)))
    with refuses(ConfigError, where=camera):
        replace_camera(read_reconstruction(path), MATCHES, camera)


def test_images_that_do_not_match_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = write_images(tmp_path / "noise", [random.integers(0, 255, (64, 96), np.uint8) for _ in range(3)])
    with refuses(DataError, where=str(folder)):
        match_images(folder, tmp_path / "work")


@pytest.mark.parametrize("option", ["--camera", "--fix", "--report"])
def test_options_of_results_need_images(option: str, room: Path) -> None:
    run = CliRunner().invoke(app, ["check", str(room), option, "x"])
    assert isinstance(run.exception, ConfigError) or run.exit_code != 0


def test_poses_in_another_order_are_named_and_undone() -> None:
    """Lists of images that were made as sets have a random order."""
    order = np.random.default_rng(3).permutation(COUNT)
    verdict = judge_reconstruction(replace(RIGHT, T_camera_world=T_TRUE[order]), MATCHES)
    assert verdict.causes[0].name == "permuted-list"
    assert len(verdict.causes) == 1
    assert verdict.fixed is not None
    np.testing.assert_array_equal(verdict.fixed.T_camera_world, T_TRUE)
