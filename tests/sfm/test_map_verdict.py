"""The verdict on a map follows from its matches: a wrong join, a standing camera and steps back are refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tests.combinations import mark_others
from tests.sfm.test_sparse_map import observe
from tests.sfm.textured_room import HEIGHT, WIDTH, TexturedRoom

from stadia.core.verdict import Verdict
from stadia.data.frame_selection import KeyFrames
from stadia.data.video.video_map import MapVerdictRecord, find_map_folder, read_map
from stadia.geometry.align import umeyama
from stadia.geometry.image_features import find_features
from stadia.judge.error import Measured, MeasuredError
from stadia.judge.map_verdict import CAMERA, PATH, MapEvidence, MapVerdict, judge_map
from stadia.sfm.camera_intervals import PARAMETERS, LensIntervals
from stadia.sfm.describe_map import describe_keys, describe_verdict
from stadia.sfm.map_error import measure_evidence
from stadia.sfm.map_evidence import (
    MAX_CONTRADICTING,
    measure_agreement,
    measure_aside,
    measure_epipolar,
    measure_standing,
    measure_zoom,
    select_frames,
)
from stadia.sfm.map_files import VideoMap
from stadia.sfm.map_parts import CameraEstimate, MappedParts, _split_wrong_joins
from stadia.sfm.map_video import _rank_map
from stadia.sfm.pair_matching import (
    OVERLAP,
    FramePair,
    find_cuts,
    hold_out,
    is_ordered,
    list_neighbors,
    match_pairs,
    read_matches,
    write_database,
    write_features,
)
from stadia.sfm.reconstruction import Workers
from stadia.sfm.sparse_map import (
    FrameStatus,
    LensCamera,
    PlacedFrame,
    SparseMap,
    from_reconstruction,
    import_pycolmap,
    stack_measured_poses,
)

LENS = LensCamera(300.0, (159.5, 99.5), (0, 0, 0, 0), 200, 320)
COUNT = 16


def make_world(count: int = COUNT, step: float = 0.4, noise_px: float = 0.0) -> tuple[SparseMap, list[FramePair]]:
    """A camera that drives forward between two rows of points, and the matches of neighbors; a tenth is held out."""
    random = np.random.default_rng(0)
    points = np.column_stack((random.uniform(-6, 6, 900), random.uniform(-3, 3, 900), random.uniform(2, 24, 900)))
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, 2, 3] = -step * np.arange(count)
    sparse = observe(LENS, T, points, noise_px=noise_px, random=random)
    return sparse, match_frames(sparse, list_neighbors(range(count), 3))


def match_frames(sparse: SparseMap, wanted: list[tuple[int, int]]) -> list[FramePair]:
    pairs = []
    for first, second in wanted:
        rows = [np.flatnonzero(sparse.observed[:, 0] == row) for row in (first, second)]
        both, *places = np.intersect1d(*(sparse.observed[row, 1] for row in rows), return_indices=True)
        xy = [sparse.xy[row[place]] for row, place in zip(rows, places, strict=True)]
        pairs.append(FramePair(first, second, xy[0], xy[1], both % 10 == 0))
    return pairs


def break_scale(sparse: SparseMap, rows: slice, scale: float) -> SparseMap:
    """Return the map with some frames scaled about the first of them, and points of their own."""
    center = -sparse.T_camera_world[rows.start, :3, :3].T @ sparse.T_camera_world[rows.start, :3, 3]
    T, observed = sparse.T_camera_world.copy(), sparse.observed.copy()
    chosen = np.arange(len(T))[rows]
    T[chosen, :3, 3] = -(center + scale * (-T[chosen, :3, 3] - center))
    observed[np.isin(observed[:, 0], chosen), 1] += len(sparse.points)
    points = np.concatenate((sparse.points, center + scale * (sparse.points - center)))
    colors = np.concatenate((sparse.colors, sparse.colors))
    return replace(sparse, T_camera_world=T, observed=observed, points=points, colors=colors)


def judge(sparse: SparseMap, pairs: list[FramePair], **changes) -> MapVerdict:
    T = np.linalg.inv(sparse.T_camera_world)
    return judge_map(measure_evidence(sparse, pairs, T, **({"has_camera": True, "threads": 1} | changes)))


@pytest.mark.slow
def test_a_right_map_is_usable_and_a_straight_drive_leaves_its_focal_length_open():
    verdict = judge(*make_world(noise_px=0.3))
    assert (verdict.grade, verdict.reasons) == (Verdict.USABLE, ())
    assert "navigation" in verdict.list_purposes(True)
    error = verdict.evidence.error
    assert error.rotation_deg.value < 0.05
    assert error.position_share.value < 0.002
    assert error.focal_share.deviation > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_wrong_join_is_refused_and_split(scale):
    sparse, pairs = make_world(noise_px=0.3)
    broken = break_scale(sparse, slice(9, None), scale)
    verdict = judge(broken, pairs)
    assert verdict.grade == Verdict.UNUSABLE
    assert verdict.evidence.error.position_share.is_above(0.02)
    parts = _split_wrong_joins([broken], pairs)
    assert sum(len(part.frames) for part in parts) >= COUNT - 2
    for part in parts:
        agreement = measure_agreement(part, pairs)
        assert np.nanmax(agreement.shares()) < 0.1
        assert np.median(agreement.held) < 1


@pytest.mark.slow
def test_a_group_that_loops_pass_is_refused_and_split():
    """Matches of the frames before and after rows 6 to 10 agree, as in a loop, and outnumber those that contradict."""
    sparse, pairs = make_world(noise_px=0.3)
    pairs = pairs + match_frames(sparse, [(4, 11), (5, 11), (4, 12), (5, 12)]) * 20
    broken = break_scale(sparse, slice(6, 11), 0.4)
    assert np.nanmax(measure_agreement(broken, pairs).shares()) < MAX_CONTRADICTING
    assert judge(broken, pairs).grade == Verdict.UNUSABLE
    groups = [part.frames.tolist() for part in _split_wrong_joins([broken], pairs)]
    assert groups == [[*range(6), *range(11, COUNT)], [*range(6, 11)]]


def test_a_match_without_a_point_contradicts_a_wrong_rotation():
    sparse, (pair, *_) = make_world()
    assert measure_epipolar(sparse, pair).max() < 0.01
    turned = sparse.T_camera_world.copy()
    turned[1, :3] = Rotation.from_euler("x", 6, degrees=True).as_matrix() @ turned[1, :3]
    assert np.median(measure_epipolar(replace(sparse, T_camera_world=turned), pair)) > 5


def test_a_place_where_the_camera_only_turns_shows_no_scale():
    sparse, pairs = make_world()
    T = sparse.T_camera_world.copy()
    T[5:] = T[5]
    still = measure_agreement(replace(sparse, T_camera_world=T), pairs).shares()
    assert np.flatnonzero(np.isnan(still)).tolist() == [5, 6, 7]
    assert not np.isnan(measure_agreement(sparse, pairs).shares()).any()


@pytest.mark.slow
def test_a_path_that_turns_otherwise_than_its_matches_is_off_by_this_angle():
    sparse, pairs = make_world(noise_px=0.3)
    T = sparse.T_camera_world.copy()
    for row in range(COUNT):
        T[row, :3] = Rotation.from_euler("y", 8 * row, degrees=True).as_matrix() @ T[row, :3]
    verdict = judge(replace(sparse, T_camera_world=T), pairs)
    assert verdict.grade == Verdict.UNUSABLE
    assert verdict.evidence.error.neighbor_rotation_deg.value == pytest.approx(8, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("aside_deg", mark_others([20.0, 40.0], [20.0]))
def test_a_path_beside_the_motion_of_its_matches_is_off_by_the_motion(aside_deg):
    """Neither rotations nor distances change. The rotations hold the world, so positions are off along a chord."""
    sparse, pairs = make_world(noise_px=0.3)
    R = Rotation.from_euler("y", aside_deg, degrees=True).as_matrix()
    T = sparse.T_camera_world.copy()
    T[:, :3, 3] = T[:, :3, 3] @ R.T
    verdict = judge(replace(sparse, T_camera_world=T), pairs)
    along = np.arange(COUNT) / (COUNT - 1) - 0.5
    chord = 2 * np.sin(np.radians(aside_deg) / 2) * np.sqrt((along**2).mean())
    assert verdict.grade == Verdict.UNUSABLE
    assert verdict.evidence.error.position_share.value == pytest.approx(chord, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("aside_deg", "is_aside"), mark_others([(0.0, False), (20.0, False), (60.0, True)], [(20.0, False), (60.0, True)])
)
def test_expanding_images_show_a_path_beside_the_motion(aside_deg, is_aside):
    sparse, pairs = make_world(24)
    R = Rotation.from_euler("y", aside_deg, degrees=True).as_matrix()
    T = sparse.T_camera_world.copy()
    T[:, :3, 3] = T[:, :3, 3] @ R.T
    bent, camera = replace(sparse, T_camera_world=T), CameraEstimate(LENS, "given", None)
    assert measure_aside(bent, pairs) == pytest.approx(float(is_aside), abs=0.05)
    sound = select_frames(sparse, np.arange(12))
    parts = MappedParts.sort(camera, [bent, sound], pairs, None).parts
    assert [len(part.frames) for part in parts] == ([12] if is_aside else [24, 12])
    assert MappedParts.sort(camera, [bent], pairs, None).along == (not is_aside)


def test_images_that_do_not_expand_leave_the_direction_of_motion_open():
    random = np.random.default_rng(0)
    points = np.column_stack((random.uniform(-4, 12, 900), random.uniform(-3, 3, 900), random.uniform(4, 12, 900)))
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    T[:, 0, 3] = -0.4 * np.arange(COUNT)
    sparse = observe(LENS, T, points, random=random)
    pairs = match_frames(sparse, list_neighbors(range(COUNT), 3))
    T = T.copy()
    T[:, :3, 3] = T[:, [2, 1, 0], 3]
    assert measure_aside(replace(sparse, T_camera_world=T), pairs) == 0


@pytest.mark.slow
def test_an_unknown_camera_leaves_more_open_than_a_given_one():
    sparse, pairs = make_world(8, noise_px=0.3)
    given, unknown = (judge(sparse, pairs, has_camera=has_camera).evidence.error for has_camera in (True, False))
    assert unknown.position_share.deviation > 1.1 * given.position_share.deviation
    assert unknown.focal_share == given.focal_share


@pytest.mark.slow
def test_one_keyframe_that_is_moved_is_the_wrong_one_and_the_others_stay_right():
    sparse, pairs = make_world(noise_px=0.3)
    T = sparse.T_camera_world.copy()
    T[7, 0, 3] += 1.5
    error = judge(replace(sparse, T_camera_world=T), pairs).evidence.error
    assert [image.index for image in error.wrong_images] == [7]
    assert error.position_share.value - 2 * error.position_share.deviation < 0.005


@pytest.mark.slow
def test_a_camera_that_drives_forward_and_back_in_turns_is_refused():
    sparse, pairs = make_world(30, noise_px=0.3)
    T = sparse.T_camera_world.copy()
    T[2::5, 2, 3] += 0.5
    assert judge(replace(sparse, T_camera_world=T), pairs).grade == Verdict.UNUSABLE


def test_matches_that_do_not_move_are_of_a_standing_camera():
    _, pairs = make_world()
    assert measure_standing(pairs, 320) < 0.1
    assert measure_zoom(pairs) < 0.7
    still = [replace(pair, xy_second=pair.xy_first) for pair in pairs]
    assert measure_standing(still, 320) == 1
    assert measure_zoom([replace(pair, xy_second=1.1 * pair.xy_first + 3) for pair in pairs]) == 1


SMALL = Measured(0.001, 0.0005)

ERROR = MeasuredError(
    rotation_deg=SMALL, neighbor_rotation_deg=SMALL, position_share=SMALL, length_share=SMALL, inconsistent_px=SMALL
)

EVIDENCE = MapEvidence(
    error=ERROR,
    unexplained=0.01,
    held_out_px=0.4,
    placed=1.0,
    covered=1.0,
    standing=0.0,
    planar=0.3,
    zoomed=0.0,
    open_focal=0.0,
    view_turn_deg=60.0,
    has_camera=False,
)


@pytest.mark.parametrize(("keys", "lines"), [(10, 1), (19, 0)])
def test_images_of_a_folder_that_are_no_keyframes_are_counted(keys: int, lines: int, tmp_path: Path) -> None:
    stream = SimpleNamespace(source=tmp_path, first=0)
    (*described,) = describe_keys(KeyFrames(list(range(keys)), frames=20), stream)  # type: ignore[arg-type]
    assert len(described) == lines
    assert all("10 of 20 images" in line and "0.8% of the width" in line for line in described)
    stream.source = tmp_path / "drive.mp4"
    assert list(describe_keys(KeyFrames([0, 9], frames=20), stream)) == []  # type: ignore[arg-type]


def test_a_map_that_no_match_confirms_ranks_below_one_that_some_confirm() -> None:
    def rank(unexplained: float) -> tuple[int, float]:
        found = object.__new__(VideoMap)
        object.__setattr__(found, "verdict", judge_map(replace(EVIDENCE, unexplained=unexplained)))
        return _rank_map(found)

    assert rank(math.nan)[1] == 0
    assert rank(0.9)[1] > rank(math.nan)[1]


@pytest.mark.parametrize(
    ("field", "value", "grade"),
    [
        ("standing", 0.9, "unusable"),
        ("placed", 0.3, "doubtful"),
        ("placed", 0.05, "unusable"),
        ("covered", 0.19, "unusable"),
        ("zoomed", 0.95, "unusable"),
        ("road_drift", 0.7, "doubtful"),
        ("open_focal", 0.6, "unusable"),
        ("error", MeasuredError(reason="60% of the held-out matches fit no poses"), "unusable"),
    ],
)
def test_images_that_show_no_path_decide_alone(field, value, grade):
    verdict = judge_map(replace(EVIDENCE, **{field: value}))
    assert (verdict.grade, [reason.field for reason in verdict.list_reasons("path")]) == (grade, [field])
    assert verdict.camera == (
        "doubtful" if grade == Verdict.UNUSABLE else "usable"
    )  # A wrong path bends the focal length.
    first, *rest = describe_verdict(verdict)
    assert first.startswith(f"verdict: {grade}: ")
    assert any("do not use this map" in line for line in rest) == (grade == Verdict.UNUSABLE)


def change_error(*names: str, value: float, deviation: float = 0.001) -> MapEvidence:
    return replace(EVIDENCE, error=replace(ERROR, **dict.fromkeys(names, Measured(value, deviation))))


@pytest.mark.parametrize(
    ("value", "deviation", "is_confirmed"),
    [(0.0, 0.001, True), (0.02, 0.002, True), (-0.02, 0.012, False), (0.035, 0.001, False), (0.0, 0.03, False)],
)
def test_held_out_matches_confirm_a_focal_length_within_its_limit(value, deviation, is_confirmed):
    assert change_error("focal_share", value=value, deviation=deviation).is_focal_confirmed == is_confirmed
    assert not EVIDENCE.is_focal_confirmed  # not measured


@pytest.mark.parametrize(
    ("evidence", "grade", "good_for"),
    [
        (EVIDENCE, "usable", ["splats", "mesh", "measuring=1%", "navigation"]),
        (change_error("length_share", value=0.05), "usable", ["splats", "navigation"]),
        (change_error("position_share", "inconsistent_px", value=5.0), "usable", ["measuring=1%"]),
        (change_error("neighbor_rotation_deg", "length_share", "inconsistent_px", value=9.0), "unusable", []),
        (change_error("position_share", "length_share", "inconsistent_px", value=0.0, deviation=9.0), "doubtful", []),
    ],
)
def test_a_path_is_usable_if_it_is_good_for_a_purpose(evidence, grade, good_for):
    verdict = judge_map(evidence)
    assert (verdict.path, verdict.list_purposes(True)) == (grade, good_for)
    assert verdict.to_json()["good_for"] == {one.purpose.key: one.holds for one in verdict.purposes}
    assert [reason.field for reason in verdict.list_reasons("path")] == ["purposes"] * (grade != "usable")


@pytest.mark.slow
@pytest.mark.parametrize(("is_plane", "axis", "open_focal"), [(True, 0, 0.6), (False, 0, 0), (True, 2, 0)])
def test_an_open_focal_length_counts_beside_a_plane_alone(is_plane, axis, open_focal):
    random = np.random.default_rng(0)
    z = np.full(600, 6.0) if is_plane else random.uniform(3, 9, 600)
    points = np.column_stack((random.uniform(-4, 4, 600), random.uniform(-3, 3, 600), z))
    T = np.tile(np.eye(4), (COUNT, 1, 1))
    T[:, axis, 3] = -0.1 * np.arange(COUNT)
    sparse = observe(LENS, T, points, random=random)
    pairs = match_frames(sparse, list_neighbors(range(COUNT), 3))
    assert judge(sparse, pairs, has_camera=False, focal_deviation=0.6).evidence.open_focal == open_focal


def test_an_assumed_focal_length_is_open():
    deviations = dict.fromkeys(PARAMETERS, 0.1 * LENS.focal_px)
    estimated = CameraEstimate(LENS, "uncertain", LensIntervals(deviations, 0.0))
    assumed = CameraEstimate(LENS, "assumed", LensIntervals(dict.fromkeys(PARAMETERS, np.inf), 0.0))
    given = CameraEstimate(LENS, "given", None)
    assert [camera.find_focal_deviation() for camera in (estimated, assumed, given)] == [pytest.approx(0.1), 1, 0]


def test_frames_of_other_parts_cover_the_video_too():
    count = 6
    sparse, pairs = make_world(count, noise_px=0.3)
    T = np.full((10 * count, 4, 4), np.nan)
    T[:count] = np.linalg.inv(sparse.T_camera_world)
    alone, more = (
        measure_evidence(sparse, pairs, T, has_camera=True, in_other_parts=others, threads=1)
        for others in (0, 8 * count)
    )
    assert (alone.covered, more.covered) == (pytest.approx(0.1), pytest.approx(0.9))


@pytest.mark.parametrize(
    ("changes", "camera"),
    [
        ({"planar": 0.99, "view_turn_deg": 9.0}, "doubtful"),
        ({"planar": 0.99, "view_turn_deg": 60.0}, "usable"),
        ({"planar": 0.99, "view_turn_deg": 9.0, "has_camera": True}, "usable"),
        ({"is_camera_determined": False}, "doubtful"),
        ({"is_camera_determined": False, "has_camera": True}, "usable"),
        ({"error": replace(ERROR, focal_share=Measured(-0.06, 0.005)), "has_camera": True}, "doubtful"),
        ({"error": replace(ERROR, focal_share=Measured(-0.06, 0.02))}, "usable"),
    ],
)
def test_an_open_camera_leaves_the_path_right(changes, camera):
    verdict = judge_map(replace(EVIDENCE, **changes))
    assert (verdict.path, verdict.grade, verdict.camera) == ("usable", "usable", camera)
    assert verdict.list_reasons(PATH) == []
    assert bool(verdict.list_reasons(CAMERA)) == (camera == "doubtful")


def test_a_stored_verdict_names_its_reasons_or_what_the_map_is_good_for():
    record = MapVerdictRecord.model_validate({"grade": "unusable", "reasons": [{"field": "standing"}]})
    assert str(record) == "unusable (standing)"
    record = MapVerdictRecord.model_validate(judge_map(change_error("length_share", value=0.05)).to_json())
    assert str(record) == "usable (good for splats, navigation)"


@pytest.mark.parametrize(
    ("fields", "stored", "grade"),
    [
        (["planar"], "doubtful", "usable"),
        (["planar", "placed"], "doubtful", "doubtful"),
        (["placed"], "doubtful", "doubtful"),
    ],
)
def test_a_plane_in_a_map_of_an_earlier_version_speaks_against_the_camera(fields, stored, grade):
    record = MapVerdictRecord.model_validate({"grade": stored, "reasons": [{"field": field} for field in fields]})
    assert (record.grade, record.camera) == (grade, "doubtful" if "planar" in fields else None)


def test_a_cut_is_where_no_pair_connects_both_sides():
    _, pairs = make_world()
    keys = list(range(COUNT))
    assert find_cuts(pairs, keys) == []
    assert find_cuts([pair for pair in pairs if not pair.first < 5 <= pair.second], keys) == [5]
    assert is_ordered(pairs, keys)
    assert not is_ordered([pair for pair in pairs if pair.second - pair.first > 1], keys)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decay", [3, 300])  # in a slow video, far keyframes match nearly as well as the next ones
def test_order_shows_in_the_number_of_matches(seed, decay):
    random = np.random.default_rng(seed)
    _, (pair, *_) = make_world()
    keys, place = list(range(40)), np.random.default_rng(seed).permutation(40)

    def match(places):
        def count(first, second):
            return max(random.poisson(200 * np.exp(-abs(int(places[first]) - int(places[second])) / decay)), 0)

        return [
            replace(pair, first=first, second=second, is_held=np.zeros(count(first, second), bool))
            for first, second in list_neighbors(keys, OVERLAP)
        ]

    assert is_ordered(match(np.arange(40)), keys)
    if decay == 3:
        assert not is_ordered(match(place), keys)


def test_a_split_map_keeps_points_that_a_part_sees_twice():
    sparse, _ = make_world()
    first, second = (select_frames(sparse, rows) for rows in np.split(np.arange(COUNT), [5]))
    assert (len(first.frames), len(second.frames)) == (5, COUNT - 5)
    assert first.track_lengths().min() >= 2
    assert np.abs(second.residuals_px()).max() < 0.01


def test_interpolated_frames_have_no_seen_pose():
    placed = [
        PlacedFrame(row, "", None, status, np.eye(4)) for row, status in enumerate(FrameStatus) if status != "lost"
    ]
    placed.append(PlacedFrame(len(placed), "", None, FrameStatus.LOST, None))
    seen = np.isfinite(stack_measured_poses(placed)).all((1, 2))
    assert [frame.status for frame, is_seen in zip(placed, seen, strict=True) if not is_seen] == [
        "interpolated",
        "lost",
    ]


def test_a_given_camera_that_rises_over_flat_ground_is_doubtful_and_unchecked_maps_too() -> None:
    zooming = replace(EVIDENCE, zoomed=0.99)
    assert judge_map(zooming).grade == Verdict.UNUSABLE
    assert judge_map(replace(zooming, has_camera=True)).grade == Verdict.DOUBTFUL
    assert judge_map(replace(EVIDENCE, held_out_px=float("nan"))).grade == Verdict.DOUBTFUL


class TwinPlaces(TexturedRoom):
    """A long hall in which the same three boards and the same wall hang at two places, 12 m apart."""

    APART = 12.0

    def __init__(self) -> None:
        random = np.random.default_rng(7)

        def draw_texture() -> np.ndarray:
            noise = random.integers(0, 255, (60, 120), np.uint8)
            return cv2.resize(noise, (960, 480), interpolation=cv2.INTER_CUBIC)

        def place(corner, across, down, texture):
            return np.array([corner, across, down], float), texture

        boards = [
            ((-1.6, -1.2, 6.0), (1.3, 0, 0.3), (0, 1.6, 0)),
            ((0.4, -0.3, 7.0), (1.6, 0, -0.4), (0, 1.8, 0)),
            ((-0.7, 0.4, 5.2), (1.2, 0, 0.2), (0, 1.0, 0)),
        ]
        self.walls = [place((4 * row - 6, -3, 9), (4, 0, 0), (0, 6, 0), draw_texture()) for row in range(8)]
        twins, twin_wall = [draw_texture() for _ in boards], draw_texture()
        for shift in (0.0, self.APART):
            self.walls.append(place((shift - 2.5, -3, 8.6), (5, 0, 0), (0, 6, 0), twin_wall))
        for shift in (0.0, self.APART):
            for (corner, across, down), texture in zip(boards, twins, strict=True):
                self.walls.append(place((corner[0] + shift, *corner[1:]), across, down, texture))
        for x in np.arange(2.8, self.APART - 2.5, 1.7):
            corner = (x, random.uniform(-1.5, 0.2), random.uniform(5, 7))
            self.walls.append(place(corner, (1.2, 0, 0.2), (0, 1.3, 0), draw_texture()))


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(("count", "is_right"), [(22, False), (16, True)])
def test_the_wrong_join_of_plain_colmap_is_refused(tmp_path, count, is_right):
    """COLMAP alone takes two similar places for one; with other steps of the camera it keeps them apart."""
    hall, steps = TwinPlaces(), np.arange(count)
    truth = np.column_stack((14 * steps / (count - 1) - 1, 0.15 * np.sin(steps), 0.1 * np.cos(1.3 * steps)))
    files = {index: tmp_path / f"{index}.npz" for index in range(count)}
    for index, file in files.items():
        image = hall.draw(np.eye(3), truth[index])
        write_features(file, find_features(np.dstack([image] * 3), image))
    pycolmap, database, reduced = import_pycolmap(), tmp_path / "matches.db", tmp_path / "mapping.db"
    lens = LensCamera(300.0, (159.5, 99.5), (0, 0, 0, 0), HEIGHT, WIDTH)
    write_database(database, files, [lens.to_pycolmap()] * len(files), None)
    match_pairs(database, list_neighbors(list(files), count), Workers(1))
    hold_out(database, reduced)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = 1, 0
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    (model,) = pycolmap.incremental_mapping(str(reduced), str(tmp_path), str(tmp_path), options).values()
    sparse = from_reconstruction(model, {})
    T = np.linalg.inv(sparse.T_camera_world)
    centers = torch.from_numpy(T[:, :3, 3].copy())
    moved = umeyama(centers, torch.from_numpy(truth), "sim3").apply(centers).numpy()
    error_m = np.sqrt(np.square(moved - truth).sum(1).mean())
    verdict = judge_map(measure_evidence(sparse, read_matches(database), T, has_camera=True, threads=1))
    assert (error_m < 0.1, error_m < 1.0) == (is_right, is_right)
    assert (verdict.grade == Verdict.UNUSABLE) is not is_right, verdict


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.real
def test_a_dashcam_with_an_unknown_camera_drives_where_it_looks(stadia, real_data, tmp_path):
    """Traffic pulls the path 20 to 50 degrees aside if its matches are kept."""
    video = tmp_path / "drive.mp4"
    video.symlink_to((real_data / "clips" / "highway.mp4").resolve())
    code, printed, err = stadia("map", video)
    assert code == 0, err
    assert "221 of 221 frames placed" in printed
    T = read_map(find_map_folder(video)).poses
    steps = T[10:, :3, 3] - T[:-10, :3, 3]
    x, _, z = np.einsum("nij,ni->jn", T[:-10, :3, :3], steps)
    assert np.abs(np.degrees(np.arctan2(x, z))).max() < 3
    lengths = np.linalg.norm(steps, axis=1)
    assert lengths.max() / lengths.min() < 1.2, "at a constant speed"


def test_a_map_without_held_out_matches_is_written() -> None:
    verdict = judge_map(replace(EVIDENCE, unexplained=np.nan, held_out_px=np.nan))
    evidence = json.loads(json.dumps(verdict.to_json(), allow_nan=False))["evidence"]
    assert (evidence["unexplained"], evidence["held_out_px"]) == (None, None)
