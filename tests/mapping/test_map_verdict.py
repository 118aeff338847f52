"""The verdict on a map follows from its matches: a wrong join, a standing camera and steps back are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stadia.datasets.video.video_map import UNUSABLE, MapVerdictRecord
from stadia.mapping.map_evidence import measure_contradictions, measure_standing, measure_turns, split_map
from stadia.mapping.map_parts import _split_wrong_joins
from stadia.mapping.map_verdict import MapEvidence, MapGrade, describe_verdict, judge_map, measure_evidence
from stadia.mapping.pair_matching import FramePair, find_cuts, is_ordered, list_neighbors
from stadia.mapping.sparse_map import LensCamera, SparseMap

LENS = LensCamera(300.0, (159.5, 99.5), (0, 0, 0, 0), 200, 320)
COUNT = 16


def make_world(count: int = COUNT, step: float = 0.4) -> tuple[SparseMap, list[FramePair]]:
    """A camera that drives forward between two rows of points, and the matches of neighbors; a tenth is held out."""
    random = np.random.default_rng(0)
    points = np.column_stack((random.uniform(-6, 6, 900), random.uniform(-3, 3, 900), random.uniform(2, 24, 900)))
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, 2, 3] = -step * np.arange(count)
    seen, xy = [], []
    for row in range(count):
        inside = points + T[row, :3, 3]
        pixels = LENS.project(inside)
        shown = (inside[:, 2] > 1) & (pixels > 0).all(1) & (pixels < (320, 200)).all(1)
        seen.append(np.flatnonzero(shown))
        xy.append(np.round(pixels, 3))
    observed = np.concatenate([np.column_stack((np.full(len(ids), row), ids)) for row, ids in enumerate(seen)])
    places = np.concatenate([xy[row][ids] for row, ids in enumerate(seen)])
    sparse = SparseMap(LENS, np.arange(count), T, points, np.zeros((900, 3), np.uint8), observed, places)
    pairs = []
    for first, second in list_neighbors(range(count), 3):
        both = np.intersect1d(seen[first], seen[second])
        pairs.append(FramePair(first, second, xy[first][both], xy[second][both], both % 10 == 0))
    return sparse, pairs


def break_scale(sparse: SparseMap, row: int, scale: float) -> SparseMap:
    """Return the map with everything from a frame on scaled about that frame's camera, and points of its own."""
    center = -sparse.T_camera_world[row, :3, :3].T @ sparse.T_camera_world[row, :3, 3]
    T, observed = sparse.T_camera_world.copy(), sparse.observed.copy()
    after = np.arange(len(T)) >= row
    centers = -T[after, :3, 3]
    T[after, :3, 3] = -(center + scale * (centers - center))
    observed[after[observed[:, 0]], 1] += len(sparse.points)
    points = np.concatenate((sparse.points, center + scale * (sparse.points - center)))
    colors = np.concatenate((sparse.colors, sparse.colors))
    return replace(sparse, T_camera_world=T, observed=observed, points=points, colors=colors)


def judge(sparse: SparseMap, pairs: list[FramePair]) -> tuple[MapGrade, set[str]]:
    T = np.linalg.inv(sparse.T_camera_world)
    verdict = judge_map(measure_evidence(sparse, pairs, T, has_camera=True))
    return verdict.grade, {reason.field for reason in verdict.reasons}


def test_a_right_map_is_usable():
    assert judge(*make_world()) == (MapGrade.USABLE, set())


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_wrong_join_is_refused_and_split(scale):
    sparse, pairs = make_world()
    broken = break_scale(sparse, 9, scale)
    grade, fields = judge(broken, pairs)
    assert (grade, "contradicted" in fields) == (MapGrade.UNUSABLE, True)
    parts = _split_wrong_joins([broken], pairs)
    assert sum(len(part.frames) for part in parts) >= COUNT - 2
    for part in parts:
        shares, held = measure_contradictions(part, pairs)
        assert np.nanmax(shares) < 0.1
        assert np.median(held) < 0.1


def test_a_place_where_the_camera_only_turns_shows_no_scale():
    sparse, pairs = make_world()
    T = sparse.T_camera_world.copy()
    T[5:] = T[5]
    still = measure_contradictions(replace(sparse, T_camera_world=T), pairs)[0]
    assert np.flatnonzero(np.isnan(still)).tolist() == [5, 6, 7]
    assert not np.isnan(measure_contradictions(sparse, pairs)[0]).any()


def test_a_path_that_turns_otherwise_than_its_matches_is_refused():
    sparse, pairs = make_world()
    T = sparse.T_camera_world.copy()
    for row in range(COUNT):
        angle = np.radians(8 * row)
        R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        T[row, :3] = R @ T[row, :3]
    assert np.median(measure_turns(sparse, pairs)) < 0.5
    assert np.median(measure_turns(replace(sparse, T_camera_world=T), pairs)) == pytest.approx(8, abs=0.5)
    assert "turn_deg" in judge(replace(sparse, T_camera_world=T), pairs)[1]


def test_a_camera_that_drives_forward_and_back_in_turns_is_refused():
    sparse, pairs = make_world(30)
    T = sparse.T_camera_world.copy()
    T[2::5, 2, 3] += 0.5
    assert "reversing" in judge(replace(sparse, T_camera_world=T), pairs)[1]


def test_matches_that_do_not_move_are_of_a_standing_camera():
    _, pairs = make_world()
    assert measure_standing(pairs, 320) < 0.1
    still = [replace(pair, xy_second=pair.xy_first) for pair in pairs]
    assert measure_standing(still, 320) == 1


EVIDENCE = MapEvidence(
    placed=1.0,
    held_out_px=0.4,
    held_out_within=0.99,
    contradicted=0.05,
    contradicted_frame=3,
    turn_deg=0.5,
    reversing=0.0,
    speed_jump=2.0,
    standing=0.0,
    planar=0.3,
    has_camera=False,
)


@pytest.mark.parametrize(
    ("field", "value", "grade"),
    [
        ("standing", 0.9, "unusable"),
        ("held_out_within", 0.3, "unusable"),
        ("held_out_within", 0.7, "doubtful"),
        ("placed", 0.3, "doubtful"),
        ("placed", 0.05, "unusable"),
        ("speed_jump", 30.0, "doubtful"),
        ("planar", 0.99, "doubtful"),
    ],
)
def test_each_sign_decides_alone(field, value, grade):
    verdict = judge_map(replace(EVIDENCE, **{field: value}))
    assert (verdict.grade, [reason.field for reason in verdict.reasons]) == (grade, [field])
    first, *rest = describe_verdict(verdict)
    assert first.startswith(f"verdict: {grade}: ")
    assert bool(rest) == (grade == UNUSABLE)


def test_a_plane_does_not_hide_a_given_camera():
    assert judge_map(replace(EVIDENCE, planar=0.99, has_camera=True)).grade == MapGrade.USABLE


def test_a_stored_verdict_names_its_reasons():
    record = MapVerdictRecord.model_validate({"grade": "unusable", "reasons": [{"field": "standing"}]})
    assert str(record) == "unusable (standing)"


def test_a_cut_is_where_no_pair_connects_both_sides():
    _, pairs = make_world()
    keys = list(range(COUNT))
    assert find_cuts(pairs, keys) == []
    assert find_cuts([pair for pair in pairs if not pair.first < 5 <= pair.second], keys) == [5]
    assert is_ordered(pairs, keys)
    assert not is_ordered([pair for pair in pairs if pair.second - pair.first > 1], keys)


def test_a_split_map_keeps_points_that_a_part_sees_twice():
    sparse, _ = make_world()
    first, second = split_map(sparse, 5)
    assert (len(first.frames), len(second.frames)) == (5, COUNT - 5)
    assert first.track_lengths().min() >= 2
    assert np.abs(second.residuals_px()).max() < 0.01
