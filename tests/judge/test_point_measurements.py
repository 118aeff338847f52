"""Depth beside points that stand: right depth has no finding, and each kind of wrong depth has its own."""

from dataclasses import replace

import numpy as np
import pytest

from stadia.core.verdict import Verdict
from stadia.data.video.map_geometry import StandingPoints
from stadia.judge.depth import FrameMeasurements, TrainingRecord, judge_measurements
from stadia.judge.depth.frame_measurements import PointFrame, PointMeasurements, measure_points
from stadia.judge.finding import Severity

H, W, FOCAL, HEIGHT = 96, 160, 110.0, 1.5
K = np.array([[FOCAL, 0, (W - 1) / 2], [0, FOCAL, (H - 1) / 2], [0, 0, 1]])
Y, X = np.mgrid[:H, :W].astype(np.float64)
DOWN, ACROSS = (Y - K[1, 2]) / FOCAL, (X - K[0, 2]) / FOCAL
GOOD = FrameMeasurements(16, 6.0, 0.15, 0.6, None, 0, 0.0)
MATCHED = replace(GOOD, match_error=0.65, match_pairs=12, match_deviation=0.02, matches=4000)


def make_depth() -> np.ndarray:
    """A road between two rows of houses of other distances, up to 60."""
    road = np.where(DOWN > 1e-3, HEIGHT / np.maximum(DOWN, 1e-3), 60.0)
    house = np.full_like(road, 60.0)
    for number, left in enumerate(range(0, W, 16)):
        if abs(left + 8 - W / 2) > 30:
            house[20:60, left : left + 16] = 5 + 4 * (number % 5)
    return np.minimum(np.minimum(road, house), 60.0)


TRUE = make_depth()
PIXELS = np.random.default_rng(0).integers((0, 15), (W, 80), (150, 2))


def make_frame(depth: np.ndarray) -> PointFrame:
    """Frames whose map has the unit of half a metre."""
    z = TRUE[PIXELS[:, 1], PIXELS[:, 0]] / 0.5
    points = StandingPoints(PIXELS.astype(float), z, np.array([0.0, -1, 0, HEIGHT / 0.5]))
    return PointFrame(points, K, 1 / depth, (H, W))


def ramp() -> np.ndarray:
    return 60 * np.exp(-Y / 30)


def with_hole() -> np.ndarray:
    depth = TRUE.copy()
    depth[62:74, 70:90] = 60
    return depth


WRONG = {
    "flat": (np.full((H, W), 7.0) + 1e-9 * X, {"M35"}),
    "inverted": (1 / TRUE, {"M35"}),
    "ramp": (ramp(), {"M34"}),
    "tilted": (TRUE * np.exp(np.log(4) * X / W), {"M36"}),
    "cars at infinity": (with_hole(), {"M37"}),
}


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0])
def test_right_depth_of_any_unit_is_usable(factor):
    mapped = measure_points([make_frame(factor * TRUE)] * 8)
    assert mapped.error == pytest.approx(0, abs=0.02)
    assert mapped.correlation == pytest.approx(1, abs=0.01)
    assert (mapped.side_ratio, mapped.range_ratio) == (pytest.approx(1, abs=0.02), pytest.approx(1, abs=0.02))
    assert mapped.behind_road == pytest.approx(0, abs=0.002)
    assert mapped.road_error < 0.1 * mapped.road_error_constant
    judged = judge_measurements(replace(GOOD, mapped=mapped), TrainingRecord(steps=3000))
    assert (judged.verdict, judged.findings) == (Verdict.USABLE, ())


@pytest.mark.parametrize("factor", [1.0, 5.0])
def test_depth_has_a_relative_error_by_distance_and_region(factor):
    """On the right, depth is a third too far; more than half of the points are right, and give the scale."""
    mapped = measure_points([make_frame(factor * np.where(X > 0.55 * W, 1.3, 1.0) * TRUE)] * 8)
    assert mapped.left_error == pytest.approx(0, abs=0.02)
    assert mapped.right_error == pytest.approx(0.3, abs=0.02)
    right = measure_points([make_frame(factor * TRUE)] * 8)
    assert max(right.relative_error, right.near_error, right.far_error, right.right_error) < 0.02


@pytest.mark.parametrize(("share", "severities"), [(0.2, []), (0.3, [Severity.WARN])])
def test_depth_is_doubtful_beyond_the_error_that_navigation_allows(share, severities):
    mapped = replace(measure_points([make_frame(TRUE)] * 8), relative_error=share)
    judged = judge_measurements(replace(GOOD, mapped=mapped), TrainingRecord(steps=3000))
    assert [finding.severity for finding in judged.findings if finding.code == "M35"] == severities


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_depth_has_its_finding(kind):
    depth, codes = WRONG[kind]
    mapped = measure_points([make_frame(depth)] * 8)
    judged = judge_measurements(replace(GOOD, mapped=mapped), TrainingRecord(steps=3000))
    assert judged.verdict in (Verdict.UNUSABLE, Verdict.DOUBTFUL)
    assert codes <= {finding.code for finding in judged.findings}


def test_maps_of_like_frames_follow_their_images_where_they_add_what_the_points_add():
    """Houses between frames differ by little; the mean map of all is the same, and says nothing of them."""
    random = np.random.default_rng(1)
    scenes = [TRUE * np.exp(0.4 * random.normal() * np.sin(X / 9 + 6 * random.random())) for _ in range(8)]
    mean = np.median([1 / scene for scene in scenes], axis=0)

    def measure(maps: list[np.ndarray]) -> PointMeasurements:
        frames = [make_frame(depth) for depth in maps]
        true = [scene[PIXELS[:, 1], PIXELS[:, 0]] / 0.5 for scene in scenes]
        moved = [replace(f, points=replace(f.points, z=z)) for f, z in zip(frames, true, strict=True)]
        return measure_points(moved, mean)

    right, same = measure(scenes), measure([1 / mean] * 8)
    assert right.mean_map_error == pytest.approx(0, abs=0.1)
    assert same.mean_map_error == pytest.approx(1, abs=0.02)
    assert measure_points([make_frame(TRUE)] * 8, 1 / TRUE).mean_map_error is None, "all frames show the same"
    alike = replace(GOOD, change=0.02)
    codes = {
        name: [(finding.code, finding.severity) for finding in judged.findings]
        for name, mapped in (("right", right), ("same", same))
        for judged in [judge_measurements(replace(alike, mapped=mapped), TrainingRecord(steps=3000))]
    }
    assert codes["right"] == [("M31", Severity.NOTE)]
    assert ("M31", Severity.WARN) in codes["same"] or ("M31", Severity.STOP) in codes["same"]


def test_a_photo_of_a_network_whose_training_was_unusable_is_unusable():
    photo = FrameMeasurements(1, 6.0, None, None, None, 0, None, followed=0)
    fine, bad = (TrainingRecord(steps=3000, recorded_codes=codes) for codes in ((), ("S30", "M34")))
    assert judge_measurements(photo, fine).verdict is Verdict.NOT_JUDGED
    judged = judge_measurements(photo, bad)
    assert judged.verdict is Verdict.UNUSABLE
    assert [(finding.code, finding.severity) for finding in judged.findings] == [("T40", Severity.STOP)]
    assert "S30, M34" in judged.findings[0].measured
    judged_by_itself = judge_measurements(MATCHED, bad)
    assert judged_by_itself.verdict is Verdict.USABLE
