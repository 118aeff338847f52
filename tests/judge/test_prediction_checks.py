"""Verdicts on predictions: exact depth of a rendered street is usable; constants, gradients and wrong cameras are not.

Each rule is proven on maps that break it alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.combinations import mark_others

import stadia.judge.depth.pair_measurements as pair_measurements
from stadia.core.verdict import Verdict
from stadia.geometry.image_features import FeatureMatches
from stadia.io.run_facts import UNKNOWN_FACTS, write_run_facts
from stadia.judge.catalog import CATALOG, make_finding
from stadia.judge.depth import (
    FrameMeasurements,
    PointMeasurements,
    PredictionVerdict,
    SampledFrame,
    TrainingRecord,
    judge_measurements,
    measure_frames,
)
from stadia.judge.depth.prediction_verdict import FALSE_ALARMS
from stadia.judge.finding import Severity, write_findings
from stadia.judge.questions import Question

HEIGHT, WIDTH, FOCAL = 96, 320, 260.0
K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
OVER_MEAN_MAP = {"mean_map_pairs": 5, "mean_map_deviation": 0.02}
LEARNED = TrainingRecord(steps=3000, warped_over_unwarped=0.3, auto_masked=0.2, focal=(FOCAL / WIDTH,))
GOOD = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 12, 0.0, match_deviation=0.02, matches=4000)


def street(number: int, z: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the image (96, 320, 3) and depth of a road, a wall and boxes, seen from z metres along it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    across, down = (x - K[0, 2]) / FOCAL, (y - K[1, 2]) / FOCAL
    depth, light = np.where(down > 0.025, 1.5 / np.maximum(down, 0.025), 60.0), 60 + 60 * (down > 0)
    for box in range(12):
        left, far = 9 * np.sin(2.4 * box + number), 6 + 4.0 * box - z
        inside = (np.abs(across * far - left) < 1.2) & (down * far > -2) & (down * far < 1.5) & (far < depth)
        depth[inside], light[inside] = far, 20 * box
    return np.repeat(light.astype(np.uint8)[..., None], 3, -1), depth.astype(np.float32)


@pytest.fixture(scope="module")
def drive() -> Iterator[list[SampledFrame]]:
    """Four streets, two frames each, .6 m apart, with the exact inverse depth and the exact matches of every 6th pixel.

    Matches of an image with itself do not move.
    """
    y, x = (axis.ravel().astype(np.float64) for axis in np.mgrid[:HEIGHT:6, :WIDTH:6])
    pixels, frames, moved = np.column_stack([x, y]), [], {}
    for number in range(4):
        image, depth = street(number, 0.0)
        following, _ = street(number, 0.6)
        rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(K).T
        points = (rays * depth[::6, ::6].reshape(-1, 1) - (0, 0, 0.6)) @ K.T
        moved[image.tobytes()] = points[:, :2] / points[:, 2:]
        frames.append(SampledFrame(image, K, 1 / depth, following, K))

    def match(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> FeatureMatches:
        there = pixels if first is second else moved[first.tobytes()]
        return FeatureMatches(np.arange(len(pixels)), pixels, there)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_measurements, "detect_features", lambda image: image)
        patch.setattr(pair_measurements, "match_features", match)
        yield frames


def judge_predictions(
    frames: list[SampledFrame], training: TrainingRecord, *, has_ratios: bool = True, focal: float | None = None
) -> PredictionVerdict:
    measured = measure_frames(frames, has_ratios=has_ratios) if frames else None
    return judge_measurements(measured, training, focal=focal)


def codes(frames: list[SampledFrame], training: TrainingRecord = LEARNED, focal: float | None = None) -> list[str]:
    return [finding.code for finding in judge_predictions(frames, training, focal=focal).findings]


def with_maps(frames: list[SampledFrame], maps: list[NDArray[np.float32]]) -> list[SampledFrame]:
    return [replace(frame, inverse_depth=values) for frame, values in zip(frames, maps, strict=True)]


@pytest.mark.slow
def test_exact_depth_is_usable(drive: list[SampledFrame]) -> None:
    verdict = judge_predictions(drive, LEARNED, focal=FOCAL / WIDTH)
    assert (verdict.verdict, verdict.findings) == (Verdict.USABLE, ())
    measured = verdict.measured
    assert measured is not None
    assert measured.match_pairs == 4
    assert measured.match_error is not None
    assert measured.match_error < 0.3
    assert measured.row_error is not None
    assert measured.row_error < 0.3
    verdicts = verdict.verdicts
    assert verdicts[Question.DEPTH].verdict is Verdict.USABLE
    assert "4 frames" in verdicts[Question.DEPTH].basis
    assert {verdicts[question].verdict for question in Question if question is not Question.DEPTH} == {
        Verdict.NOT_JUDGED
    }
    assert all(verdict.reason for verdict in verdicts.values())


def test_a_car_that_pulls_away_condemns_no_depth(drive: list[SampledFrame], monkeypatch: pytest.MonkeyPatch) -> None:
    """KITTI raw: in a jam the cars moved against the camera, along the same epipolar lines as the street.

    They have 40 % of the matches, and are nearer than 50 times the motion, unlike most of the street.
    """
    pixels = np.argwhere(np.ones((HEIGHT // 6, WIDTH // 6)))[:, ::-1] * 6.0
    on_car = (np.abs(pixels - (160, 48)) < (80, 40)).all(1)
    depth = 1 / drive[0].inverse_depth[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    depth[on_car] = 6.0
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(K).T
    shift = np.where(on_car, 1.0, -0.6)[:, None] * (0, 0, 1)
    points = (rays * depth[:, None] + shift) @ K.T
    matches = FeatureMatches(np.arange(len(pixels)), pixels, points[:, :2] / points[:, 2:])
    monkeypatch.setattr(pair_measurements, "match_features", lambda first, second: matches)
    inverse_depth = drive[0].inverse_depth.copy()
    inverse_depth[9:87, 81:239] = 1 / 6
    measured = measure_frames([replace(drive[0], inverse_depth=inverse_depth)])
    assert measured.match_error is not None
    assert measured.match_error < 0.05


@pytest.mark.slow
def test_depth_is_compared_with_the_mean_map(drive: list[SampledFrame]) -> None:
    """Exact depth beats the mean map of four streets. Maps that are the mean of all, in any scale, have its error."""
    exact = measure_frames(drive).mean_map_error
    assert exact is not None
    assert exact < 0.5
    units = with_maps(drive, [np.float32(u) * f.inverse_depth for u, f in zip((1, 9, 0.1, 5), drive, strict=True)])
    assert measure_frames(units).mean_map_error == pytest.approx(exact, rel=1e-3), "each map has a unit of its own"
    mean = np.median([frame.inverse_depth for frame in drive], axis=0).astype(np.float32)
    same = measure_frames(with_maps(drive, [np.float32(scale) * mean for scale in (1, 2, 0.1, 5)]))
    assert same.mean_map_error == pytest.approx(1, abs=0.05)
    assert same.match_error is not None
    assert same.match_error < 0.9, "which constant depth alone does not show"
    assert measure_frames(drive[:3]).mean_map_error is None, "too few maps for a mean"
    assert measure_frames(drive, has_ratios=False).mean_map_error is None


@pytest.mark.slow
def test_constant_depth_is_unusable(drive: list[SampledFrame]) -> None:
    maps = [np.full((HEIGHT, WIDTH), 0.1, np.float32) for _ in drive]
    verdict = judge_predictions(with_maps(drive, maps), LEARNED)
    assert verdict.verdict is Verdict.UNUSABLE
    assert [finding.code for finding in verdict.findings] == ["M30", "S30"]


@pytest.mark.slow
def test_one_map_for_all_images_is_unusable(drive: list[SampledFrame]) -> None:
    gradient = np.repeat(np.linspace(0.02, 0.4, HEIGHT, dtype=np.float32)[:, None], WIDTH, 1)
    assert "M31" in codes(with_maps(drive, [gradient] * len(drive)))


@pytest.mark.slow
def test_a_gradient_that_shifts_from_frame_to_frame_is_doubtful(drive: list[SampledFrame]) -> None:
    """Every frame has the road that all frames share, a little nearer or farther, and none of its boxes."""
    drive = [*drive, *drive]
    shared = np.mean([np.log(frame.inverse_depth) for frame in drive], axis=0).mean(1, keepdims=True)
    ramp = np.linspace(-1, 1, HEIGHT)[:, None]
    rows = [shared + shift * ramp for shift in (0.4, -0.4, 0.5, -0.5) * 2]
    maps = [np.exp(np.repeat(row, WIDTH, 1)).astype(np.float32) for row in rows]
    verdict = judge_predictions(with_maps(drive, maps), LEARNED)
    assert (verdict.verdict, [finding.code for finding in verdict.findings]) == (Verdict.DOUBTFUL, ["M34"])
    assert "100%" in verdict.findings[0].measured


@pytest.mark.slow
def test_a_camera_that_stands_still_shows_no_motion(drive: list[SampledFrame]) -> None:
    still = [replace(drive[0], following=drive[0].image) for _ in drive]
    measured = measure_frames(still)
    assert (measured.match_error, measured.match_pairs) == (None, 0)
    assert codes(still) == []


def test_near_sky_is_a_warning_with_a_road(drive: list[SampledFrame]) -> None:
    frames = []
    for frame in drive:
        image, inverse_depth = frame.image.copy(), frame.inverse_depth.copy()
        image[:30], inverse_depth[:30] = 220, 1.0
        frames.append(replace(frame, image=image, inverse_depth=inverse_depth, following=None))
    measured = measure_frames(frames)
    verdict = judge_measurements(measured, LEARNED)
    assert (verdict.verdict, verdict.findings) == (Verdict.NOT_JUDGED, ()), "it may be a ceiling or a wall"
    on_road = replace(measured, mapped=PointMeasurements(frames=8, road_frames=8))
    assert [finding.code for finding in judge_measurements(on_road, LEARNED).findings] == ["M32"]
    far = [frame.inverse_depth.copy() for frame in frames]
    for inverse_depth in far:
        inverse_depth[:30] = 0.01
    assert measure_frames(with_maps(frames, far)).sky_nearer == 0


@pytest.mark.parametrize(
    ("training", "words", "expected"),
    [
        (replace(LEARNED, steps=40), "40 steps", "at least 100 steps (thousands are usual)"),
        (replace(LEARNED, warped_over_unwarped=0.97), "0.97 times", "at most 0.9 times in the training"),
        (replace(LEARNED, validation_warped=2.76), "images was 2.76 times", "at most 1.2 times in the validation"),
        (replace(LEARNED, auto_masked=0.9), "90% of the pixels", "at most 75% of the pixels"),
        (replace(LEARNED, codes=("T06", "S20")), "reported S20", "a training without S20"),
        (replace(LEARNED, unusable_codes=("S30", "M34")), "(S30, M34)", "validation frames that are not unusable"),
    ],
)
def test_a_training_that_hardly_learned_is_doubtful(training: TrainingRecord, words: str, expected: str) -> None:
    verdict = judge_measurements(GOOD, training)
    assert (verdict.verdict, [finding.code for finding in verdict.findings]) == (Verdict.DOUBTFUL, ["T40"])
    assert words in verdict.findings[0].measured
    assert judge_measurements(GOOD, replace(LEARNED, codes=("T06",))).verdict is Verdict.USABLE
    (named,) = judge_measurements(GOOD, replace(training, folder=Path("runs/my run"), recipe="selfsup")).findings
    assert "--config 'runs/my run/config.json' start_from='runs/my run'" in named.fix
    assert not {"folder", "recipe", "recipe_class"} & named.evidence.keys()
    assert named.expected == expected, "what was measured alone"


@pytest.mark.parametrize("gain", [None, 0.04, 0.05, 0.6])
def test_a_training_that_improved_measured_depth_is_not_doubtful_for_its_residual(gain: float | None) -> None:
    """Points of a map, or matches, were compared before and after: trees at the horizon do not decide."""
    residual = replace(LEARNED, warped_over_unwarped=0.97, validation_warped=1.3, codes=("S20",), depth_gain=gain)
    improved = gain is not None and gain >= 0.05
    judged = judge_measurements(GOOD, residual)
    assert judged.verdict is (Verdict.USABLE if improved else Verdict.DOUBTFUL)
    (finding,) = judged.findings
    assert (finding.severity is Severity.NOTE) == improved, "it is told all the same"
    assert "S20" in finding.measured
    turned = replace(residual, turn_deg=17.8)
    assert judge_measurements(GOOD, turned).verdict is Verdict.DOUBTFUL, "motion is not measured by it"
    error = replace(GOOD, match_error=1.05)
    assert judge_measurements(error, residual).verdict is Verdict.UNUSABLE, "a better start of a useless depth"


@pytest.mark.parametrize(
    ("training", "words", "expected"),
    [
        (replace(LEARNED, turn_deg=17.8), "rotation to the next image ended at 18 degrees", "at most 10 degrees"),
        (replace(LEARNED, motion_over_depth=0.99), "ended at 0.99 times the depth", "at most 0.5 times the depth"),
    ],
)
def test_a_motion_that_left_the_scene_is_not_trained_longer(
    training: TrainingRecord, words: str, expected: str
) -> None:
    (named,) = judge_measurements(GOOD, replace(training, folder=Path("runs/a"), recipe="selfsup")).findings
    assert (named.code, named.severity, named.expected) == ("T40", Severity.WARN, expected)
    assert words in named.measured
    assert named.fix == CATALOG["T40"].cases["lost_motion"].fix
    assert "start_from" not in named.fix


@pytest.mark.parametrize(
    ("changes", "verdict", "codes"),
    [
        # depth that is a gradient: the mean of each row explains as much
        ({"row_error": 0.94, "row_pairs": 4, "row_deviation": 0.0}, Verdict.USABLE, []),
        ({"row_error": 1.0, "row_pairs": 4, "row_deviation": 0.02}, Verdict.DOUBTFUL, ["M34"]),
        ({"row_error": 1.0, "row_pairs": 4, "row_deviation": 0.03}, Verdict.USABLE, []),
        ({"row_error": 1.0, "row_pairs": 3, "row_deviation": 0.0}, Verdict.USABLE, []),
        ({"match_error": 0.76}, Verdict.USABLE, []),
        ({"match_error": 0.79}, Verdict.DOUBTFUL, ["S30"]),
        ({"match_error": 0.9, "match_deviation": 0.16}, Verdict.NOT_JUDGED, []),
        ({"match_error": 0.9, "match_deviation": 0.05}, Verdict.DOUBTFUL, ["S30"]),
        ({"match_error": 0.3, "match_pairs": 3, "matches": 300}, Verdict.USABLE, []),
        ({"match_error": 0.3, "match_pairs": 3, "matches": 299}, Verdict.NOT_JUDGED, []),
        ({"match_error": 0.3, "match_pairs": 2, "matches": 300}, Verdict.NOT_JUDGED, []),
        ({"match_error": 1.1}, Verdict.UNUSABLE, ["S30"]),
        ({"match_error": 1.1, "match_deviation": 0.11}, Verdict.DOUBTFUL, ["S30"]),
        # five pairs measure their deviation badly, as in traffic
        ({"match_error": 1.18, "match_deviation": 0.19}, Verdict.DOUBTFUL, ["S30"]),
        ({"match_error": 1.18, "match_deviation": 0.21, "match_pairs": 5}, Verdict.NOT_JUDGED, []),
        # evidence that is too weak judges nothing
        ({"match_error": 1.5, "match_deviation": 0.41}, Verdict.NOT_JUDGED, []),
        ({"match_error": 1.5, "matches": 499}, Verdict.NOT_JUDGED, []),
        # KITTI 06 has the same trees and walls at the sides of each frame: the mean map is nearly the right one
        ({"change": 0.047}, Verdict.USABLE, ["M31"]),
        ({"change": 0.047, "match_pairs": 3}, Verdict.DOUBTFUL, ["M31"]),
        ({"change": 0.009}, Verdict.UNUSABLE, ["M31"]),
        ({"change": 0.047, "match_pairs": 3, **OVER_MEAN_MAP, "mean_map_error": 0.5}, Verdict.NOT_JUDGED, ["M31"]),
        # maps that add nothing to their mean map
        ({**OVER_MEAN_MAP, "mean_map_error": 0.94}, Verdict.USABLE, []),
        ({**OVER_MEAN_MAP, "mean_map_error": 1.0}, Verdict.USABLE, ["M31"]),
        ({**OVER_MEAN_MAP, "mean_map_error": 1.0, "match_pairs": 3}, Verdict.DOUBTFUL, ["M31"]),
        ({**OVER_MEAN_MAP, "mean_map_error": 1.0, "change": 0.047}, Verdict.DOUBTFUL, ["M31"]),
        # matches confirm a depth that is nearly flat
        ({"spread": 1.2, "match_error": 0.5}, Verdict.USABLE, ["M30"]),
        # a drone over relief of 10 %: unusable only where the map or the motion convicts too
        ({"spread": 1.2}, Verdict.DOUBTFUL, ["M30"]),
        ({"spread": 1.2, "frames": 1, "match_pairs": 0}, Verdict.NOT_JUDGED, ["M30"]),
        ({"spread": 1.2, "match_error": 0.9}, Verdict.UNUSABLE, ["M30", "S30"]),
        ({"spread": 1.2, "match_error": 0.9, "match_pairs": 3}, Verdict.DOUBTFUL, ["M30"]),
        ({"spread": 1.2, "change": 0.02}, Verdict.UNUSABLE, ["M30"]),
        ({"spread": 1.2, "change": 0.02, "image_change": 0.1}, Verdict.DOUBTFUL, ["M30"]),
    ],
)
def test_verdicts_change_at_their_thresholds(changes: dict[str, float], verdict: Verdict, codes: list[str]) -> None:
    judged = judge_measurements(replace(GOOD, **changes), LEARNED)
    assert (judged.verdict, [finding.code for finding in judged.findings]) == (verdict, codes)


def test_one_map_for_a_straight_road_is_right_for_a_published_network() -> None:
    """A dirt road between meadows condemned depth that explains the motion; a network of your own may know no other."""
    alike = replace(GOOD, change=0.004)
    published = TrainingRecord(is_published=True)
    (note,) = judge_measurements(alike, published).findings
    assert (note.code, note.severity) == ("M31", Severity.NOTE)
    assert judge_measurements(replace(alike, match_pairs=3), published).verdict is Verdict.UNUSABLE
    assert judge_measurements(alike, LEARNED).verdict is Verdict.UNUSABLE


def test_row_means_that_suffice_are_a_note_for_a_published_network() -> None:
    rows = replace(GOOD, row_error=1.0, row_pairs=4, row_deviation=0.0)
    for training, severity in ((TrainingRecord(is_published=True), Severity.NOTE), (LEARNED, Severity.WARN)):
        (finding,) = judge_measurements(rows, training).findings
        assert (finding.code, finding.severity) == ("M34", severity)


def test_a_finding_states_how_often_it_was_wrong() -> None:
    judged = judge_measurements(replace(GOOD, match_error=1.1), LEARNED)
    (finding,) = judged.findings
    wrong, clips = FALSE_ALARMS["S30"]
    assert (finding.evidence["false_alarms"], finding.evidence["of_good_clips"]) == (wrong, clips)
    assert f"{wrong} of {clips}" in judged.verdicts[Question.DEPTH].reason


def test_matches_that_confirm_the_depth_outweigh_a_map() -> None:
    """A wrong map condemned good depth of a highway."""
    wrong = PointMeasurements(frames=16, error=2.7, correlation=0.2, points=900)
    for error, severity in ((0.5, Severity.WARN), (0.7, Severity.STOP)):
        judged = judge_measurements(replace(GOOD, match_error=error, mapped=wrong), LEARNED)
        assert [(finding.code, finding.severity) for finding in judged.findings] == [("M35", severity)]
    few = judge_measurements(replace(GOOD, mapped=replace(wrong, frames=7)), LEARNED)
    assert (few.verdict, few.findings) == (Verdict.USABLE, ()), "seven frames are too few"


def test_a_path_from_usable_depth_is_checked_by_nothing() -> None:
    verdicts = {
        error: judge_measurements(replace(GOOD, match_error=error), LEARNED, has_path_of_depth=True).verdicts
        for error in (0.5, 1.1)
    }
    assert verdicts[0.5][Question.PATH].verdict is Verdict.NOT_JUDGED
    assert verdicts[1.1][Question.PATH].verdict is Verdict.UNUSABLE


def test_few_pairs_with_motion_decide_nothing() -> None:
    """One pair in 25 of a good training contradicts its depth by chance."""
    wrong = replace(GOOD, match_error=1.1)
    for pairs in (0, 3):
        verdict = judge_measurements(replace(wrong, match_pairs=pairs), LEARNED)
        assert (verdict.verdict, verdict.findings) == (Verdict.NOT_JUDGED, ()), "M31 alone finds no wrong depth"
        ((code, unchecked),) = verdict.not_checked.items()
        assert (code, unchecked.startswith(f"{pairs} pair")) == ("S30", True)
    affine = replace(wrong, match_pairs=0, has_ratios=False)
    assert judge_measurements(affine, LEARNED).verdict is Verdict.USABLE, "it has no ratios that S30 could check"
    assert judge_measurements(replace(wrong, match_pairs=4), LEARNED).not_checked == {}


def test_another_lens_is_a_note() -> None:
    """Depth is corrected for it. 40 given for 82 degrees is the same note: metres are 2.4 times as large."""
    right, wrong = (0.5 / np.tan(np.radians(degrees) / 2) for degrees in (82, 40))
    training = replace(LEARNED, focal=(right,))
    verdict = judge_measurements(GOOD, training, focal=wrong)
    (finding,) = verdict.findings
    assert (verdict.verdict, finding.code, finding.severity) == (Verdict.USABLE, "K30", Severity.NOTE)
    assert "a field of view of 40 degrees, 82 in the training: depth was multiplied by 2.39" in finding.measured
    assert judge_measurements(GOOD, training, focal=1.1 * right).verdict is Verdict.USABLE
    assert judge_measurements(GOOD, replace(training, focal=(0.1, wrong)), focal=wrong).verdict is Verdict.USABLE


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_no_check_compared_with_images_is_not_judged(count: int, drive: list[SampledFrame]) -> None:
    """The exact maps of three images, and one gradient for all of them."""
    few = [replace(frame, following=None) for frame in drive[:count]]
    gradient = np.repeat(np.linspace(0.02, 0.4, HEIGHT, dtype=np.float32)[:, None], WIDTH, 1)
    for frames in (few, with_maps(few, [gradient] * count)):
        verdict = judge_predictions(frames, LEARNED)
        assert (verdict.verdict, verdict.findings) == (Verdict.NOT_JUDGED, ())
        assert {"M31", "S30"} <= verdict.not_checked.keys()
    verdict = judge_predictions([], TrainingRecord())
    assert (verdict.verdict, list(verdict.not_checked)) == (Verdict.NOT_JUDGED, ["M30", "M31", "S30", "T40"])


@pytest.mark.parametrize("value", mark_others([np.nan, np.inf, 0.0, -1.0], [np.inf, -1.0]))
def test_maps_that_are_not_finite_or_not_positive_are_unusable(value: float, drive: list[SampledFrame]) -> None:
    broken = drive[0].inverse_depth.copy()
    broken[3, 4] = value
    maps = [broken, *(frame.inverse_depth for frame in drive[1:])]
    verdict = judge_predictions(with_maps(drive, maps), LEARNED)
    assert (verdict.verdict, [finding.code for finding in verdict.findings]) == (Verdict.UNUSABLE, ["M33"])
    assert "1 of 4 maps" in verdict.findings[0].measured
    every = judge_predictions(with_maps(drive, [broken] * 4), LEARNED)
    assert [finding.code for finding in every.findings] == ["M33"]
    has_ratios = np.isfinite(value)
    shifted = judge_predictions(with_maps(drive, maps), LEARNED, has_ratios=False)
    assert (shifted.verdict is Verdict.USABLE) == has_ratios, "inverse depth up to a shift may be negative"


def test_one_map_up_to_scale_and_shift_is_unusable(drive: list[SampledFrame]) -> None:
    """Whatever the scale and shift of each image."""
    rng, gradient = np.random.default_rng(0), np.repeat(np.linspace(0, 1, HEIGHT)[:, None], WIDTH, 1)
    blobs = [(rng.uniform(0.5, 2) * gradient + rng.normal()).astype(np.float32) for _ in drive]
    verdict = judge_predictions(with_maps(drive, blobs), LEARNED, has_ratios=False)
    assert (verdict.verdict, [finding.code for finding in verdict.findings]) == (Verdict.UNUSABLE, ["M31"])


def test_constant_maps_up_to_scale_and_shift_are_never_usable(drive: list[SampledFrame]) -> None:
    maps = [np.full((HEIGHT, WIDTH), value, np.float32) for value in (1.0, 1.0, 0.0, -2.0)]
    frames = with_maps(drive, maps)
    for given, expected in (
        (frames, Verdict.UNUSABLE),
        (frames[:3], Verdict.DOUBTFUL),
        ([frames[0]] * 8, Verdict.DOUBTFUL),
    ):
        verdict = judge_predictions(given, LEARNED, has_ratios=False)
        assert (verdict.verdict, [finding.code for finding in verdict.findings]) == (expected, ["M30"])


def test_findings_after_the_checkpoint_or_mended_before_it_do_not_count(tmp_path: Path) -> None:
    rows = [f"{step},0,1.0,0.4,{0.02 if step < 50 else 0.002}" for step in range(10, 210, 10)]
    head = "step,epoch,train/loss,train/warped_over_unwarped,train/update_ratio"
    (tmp_path / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    found = [("T02", 20), ("S20", 30), ("T15", 40), ("M23", 150)]
    write_findings(
        tmp_path / "findings.jsonl",
        [make_finding(code, Severity.WARN, "-", "-", evidence={"step": step}) for code, step in found],
    )
    assert TrainingRecord.read(tmp_path, steps=200).codes == ("T15", "M23"), "rows refute T02 and S20"
    assert TrainingRecord.read(tmp_path, steps=100).codes == ("T15",)
    assert TrainingRecord.read(tmp_path, steps=40).codes == ("T02", "T15")


@pytest.mark.slow
def test_what_the_data_lack_comes_before_its_symptoms(tmp_path: Path, drive: list[SampledFrame]) -> None:
    turning = make_finding("D18", Severity.NOTE, "-", "-", cause="the camera mostly turns", fix="move the camera")
    found = [turning, make_finding("D03", Severity.WARN, "-", "-"), make_finding("K03", Severity.WARN, "-", "-")]
    write_findings(tmp_path / "findings.jsonl", found)
    training = replace(LEARNED, data_causes=TrainingRecord.read(tmp_path).data_causes)
    flat = [replace(frame, inverse_depth=np.full_like(frame.inverse_depth, 0.1)) for frame in drive]
    first, *others = judge_predictions(flat, training).findings
    assert (first.code, first.severity, first.fix) == ("D18", Severity.WARN, "move the camera")
    assert first.measured == "in the training's data -", "the input may be another"
    assert others[0].code == "M30"
    assert judge_predictions(drive, training).verdict is Verdict.USABLE, "what trained well needs no cause"


def test_the_record_of_a_run_ends_at_its_checkpoint(tmp_path: Path) -> None:
    rows = ["step,epoch,train/loss,train/warped_over_unwarped,train/auto_masked"]
    rows += [f"{step},0,1.0,{0.4 if step <= 100 else 0.99},0.25" for step in range(10, 210, 10)]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert TrainingRecord.read(tmp_path, steps=100) == TrainingRecord(100, 0.4, 0.25, trained_steps=200)
    assert TrainingRecord.read(tmp_path).warped_over_unwarped == 0.99
    assert TrainingRecord.read(tmp_path).folder == tmp_path
    assert TrainingRecord.read(tmp_path / "none", focal=(0.8,)) == TrainingRecord(focal=(0.8,))


@pytest.mark.parametrize(
    ("recipe", "own", "others"),
    [
        ("selfsup", ("slope",), ("photometric", "motion")),
        ("selfsup", ("huber/slope", "huber/smoothness"), ("selfsup/photometric", "selfsup/smoothness")),
        ("metric", ("my/slope",), ("base/selfsup/photometric", "base/metric/object_height")),
        ("supervised", ("slope", "mine/slope"), ("silog_pooled", "mine/log_l1")),
        ("of_the_user", ("photometric",), ()),
    ],
)
def test_own_terms_are_those_that_the_recipe_does_not_have(
    tmp_path: Path, recipe: str, own: tuple[str, ...], others: tuple[str, ...]
) -> None:
    parts = {name.removesuffix("photometric") for name in others if name.endswith("photometric")}
    names = [f"train/term/{name}" for name in (*own, *others)] + [f"train/{part}warped_over_unwarped" for part in parts]
    (tmp_path / "metrics.csv").write_text(f"step,epoch,{','.join(names)}\n200,0,{','.join(['0.5'] * len(names))}\n")
    for recipe_class, found in (("Mine", own), (None, ())):
        write_run_facts(tmp_path, replace(UNKNOWN_FACTS, recipe=recipe, recipe_class=recipe_class))
        assert TrainingRecord.read(tmp_path).own_terms == found


LEARNED_OF_TRAINING_STARTS = TrainingRecord(steps=3000, warped_over_unwarped=0.3, auto_masked=0.2)
GOOD_OF_TRAINING_STARTS = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 12, 0.0, matches=4000)


def test_a_start_that_is_better_is_a_finding() -> None:
    """A note: depth may be good, and that of the start better. `stadia diagnose` prints it."""
    judged = judge_measurements(GOOD_OF_TRAINING_STARTS, replace(LEARNED_OF_TRAINING_STARTS, is_worse_than_start=True))
    ((found,), verdict) = judged.findings, judged.verdict
    assert (found.code, found.severity, verdict) == ("T40", Severity.NOTE, Verdict.USABLE)
    poor = judge_measurements(
        GOOD_OF_TRAINING_STARTS, replace(LEARNED_OF_TRAINING_STARTS, is_worse_than_start=True, auto_masked=0.9)
    )
    assert [(finding.code, finding.severity) for finding in poor.findings] == [("T40", Severity.WARN)]


@pytest.mark.parametrize(("start_steps", "has_start"), [(5000, True), (60, True), (59, False), (0, False)])
def test_few_steps_are_enough_from_weights_that_were_trained(start_steps: int, has_start: bool, tmp_path: Path) -> None:
    """Steps count with those of the start."""
    write_run_facts(tmp_path, replace(UNKNOWN_FACTS, recipe="selfsup", start_steps=start_steps))
    (tmp_path / "metrics.csv").write_text("step,epoch,train/warped_over_unwarped\n40,0,0.3\n")
    training = TrainingRecord.read(tmp_path, steps=40)
    findings = judge_measurements(GOOD_OF_TRAINING_STARTS, training).findings
    assert [finding.code for finding in findings] == ([] if has_start else ["T40"])
    poor = judge_measurements(GOOD_OF_TRAINING_STARTS, replace(training, warped_over_unwarped=0.95)).findings
    assert poor[0].measured.startswith("the residual of the training" if has_start else "40 steps; the residual")
