"""Verdicts on predictions: exact depth of a rendered street is usable; constants, gradients and wrong cameras are not.

Each rule is proven on maps that break it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import stadia.diagnostics.prediction_checks.frame_measurements as frame_measurements
from stadia.diagnostics.prediction_checks import (
    FrameMeasurements,
    SampledFrame,
    TrainingRecord,
    Verdict,
    find_sky,
    judge_measurements,
    judge_predictions,
    measure_frames,
    reduce_image,
)
from stadia.diagnostics.preflight.two_view_geometry import FeatureMatches

HEIGHT, WIDTH, FOCAL = 96, 320, 260.0
K = np.array([[FOCAL, 0, (WIDTH - 1) / 2], [0, FOCAL, (HEIGHT - 1) / 2], [0, 0, 1]])
LEARNED = TrainingRecord(steps=3000, warped_over_unwarped=0.3, auto_masked=0.2, focal=(FOCAL / WIDTH,))
GOOD = FrameMeasurements(16, 6.0, 0.15, 0.6, 0.6, 0.9, 12, 0.0)


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
        patch.setattr(frame_measurements, "detect_features", lambda image: image)
        patch.setattr(frame_measurements, "match_features", match)
        yield frames


def codes(frames: list[SampledFrame], training: TrainingRecord = LEARNED, focal: float | None = None) -> list[str]:
    return [finding.code for finding in judge_predictions(frames, training, focal=focal).findings]


def with_maps(frames: list[SampledFrame], maps: list[NDArray[np.float32]]) -> list[SampledFrame]:
    return [replace(frame, inverse_depth=one) for frame, one in zip(frames, maps, strict=True)]


def test_exact_depth_is_usable(drive: list[SampledFrame]) -> None:
    verdict = judge_predictions(drive, LEARNED, focal=FOCAL / WIDTH)
    assert (verdict.verdict, verdict.findings) == (Verdict.USABLE, ())
    measured = verdict.measured
    assert measured is not None
    assert measured.match_pairs == 4
    assert measured.match_error is not None
    assert measured.match_error < 0.5


def test_the_unit_of_depth_does_not_matter(drive: list[SampledFrame]) -> None:
    scaled = with_maps(drive, [np.float32(0.01) * frame.inverse_depth for frame in drive])
    first, second = measure_frames(drive), measure_frames(scaled)
    assert first.spread == pytest.approx(second.spread, rel=1e-4)
    assert first.match_error == pytest.approx(second.match_error, rel=1e-3)


def test_constant_depth_is_unusable(drive: list[SampledFrame]) -> None:
    maps = [np.full((HEIGHT, WIDTH), 0.1, np.float32) for _ in drive]
    verdict = judge_predictions(with_maps(drive, maps), LEARNED)
    assert verdict.verdict is Verdict.UNUSABLE
    assert [finding.code for finding in verdict.findings] == ["M30", "S30"]


def test_one_map_for_all_images_is_unusable(drive: list[SampledFrame]) -> None:
    gradient = np.repeat(np.linspace(0.02, 0.4, HEIGHT, dtype=np.float32)[:, None], WIDTH, 1)
    assert "M31" in codes(with_maps(drive, [gradient] * len(drive)))


def test_far_for_near_does_not_explain_the_motion(drive: list[SampledFrame]) -> None:
    assert "S30" in codes(with_maps(drive, [np.float32(0.002) / frame.inverse_depth for frame in drive]))


def test_a_camera_that_stands_still_shows_no_motion(drive: list[SampledFrame]) -> None:
    still = [replace(drive[0], following=drive[0].image) for _ in drive]
    measured = measure_frames(still)
    assert (measured.match_error, measured.match_pairs) == (None, 0)
    assert codes(still) == []


def test_sky_is_bright_smooth_and_at_the_upper_edge() -> None:
    """Sky above a textured wall, with a bright road that is no sky."""
    image = np.full((48, 96, 3), 200, np.uint8)
    image[12:30] = np.random.default_rng(0).integers(0, 255, (18, 96, 1), dtype=np.uint8)
    sky = find_sky(image, (24, 48))
    assert sky[:5].all()
    assert not sky[7:].any()


def test_near_sky_is_doubtful(drive: list[SampledFrame]) -> None:
    frames = []
    for frame in drive:
        image, inverse_depth = frame.image.copy(), frame.inverse_depth.copy()
        image[:30], inverse_depth[:30] = 220, 1.0
        frames.append(replace(frame, image=image, inverse_depth=inverse_depth, following=None))
    verdict = judge_predictions(frames, LEARNED)
    assert (verdict.verdict, [one.code for one in verdict.findings]) == (Verdict.DOUBTFUL, ["M32"])
    far = [frame.inverse_depth.copy() for frame in frames]
    for one in far:
        one[:30] = 0.01
    assert "M32" not in codes(with_maps(frames, far))


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (replace(LEARNED, steps=40), "40 steps"),
        (replace(LEARNED, warped_over_unwarped=0.97), "0.97 times"),
        (replace(LEARNED, auto_masked=0.9), "90% of the pixels"),
        (replace(LEARNED, codes=("T06", "S20")), "reported S20"),
    ],
)
def test_a_training_that_hardly_learned_is_doubtful(training: TrainingRecord, words: str) -> None:
    verdict = judge_measurements(GOOD, training)
    assert (verdict.verdict, [one.code for one in verdict.findings]) == (Verdict.DOUBTFUL, ["T40"])
    assert words in verdict.findings[0].measured
    assert judge_measurements(GOOD, replace(LEARNED, codes=("T06",))).verdict is Verdict.USABLE


def test_another_field_of_view_is_doubtful() -> None:
    """40 instead of 82 degrees: metres are 2.4 times as large."""
    right, wrong = (0.5 / np.tan(np.radians(degrees) / 2) for degrees in (82, 40))
    training = replace(LEARNED, focal=(right,))
    (finding,) = judge_measurements(GOOD, training, focal=wrong).findings
    assert finding.code == "K30"
    assert "a field of view of 40 degrees, 82 in the training: depth is multiplied by 2.39" in finding.measured
    assert judge_measurements(GOOD, training, focal=1.1 * right).verdict is Verdict.USABLE
    assert judge_measurements(GOOD, replace(training, focal=(0.1, wrong)), focal=wrong).verdict is Verdict.USABLE


def test_one_image_of_a_good_training_is_usable(drive: list[SampledFrame]) -> None:
    assert codes([replace(drive[0], following=None)]) == []


def test_inverse_depth_up_to_a_shift_has_no_spread(drive: list[SampledFrame]) -> None:
    shifted = with_maps(drive, [frame.inverse_depth - np.float32(0.2) for frame in drive])
    measured = measure_frames(shifted, has_ratios=False)
    assert (measured.spread, measured.match_error) == (None, None)
    assert judge_measurements(measured, LEARNED).verdict is Verdict.USABLE


def test_the_record_of_a_run_ends_at_its_checkpoint(tmp_path: Path) -> None:
    rows = ["step,epoch,train/loss,train/warped_over_unwarped,train/auto_masked"]
    rows += [f"{step},0,1.0,{0.4 if step <= 100 else 0.99},0.25" for step in range(10, 210, 10)]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    assert TrainingRecord.read(tmp_path, steps=100) == TrainingRecord(100, 0.4, 0.25)
    assert TrainingRecord.read(tmp_path).warped_over_unwarped == 0.99
    assert TrainingRecord.read(tmp_path / "none", focal=(0.8,)) == TrainingRecord(focal=(0.8,))


def test_images_are_reduced_with_their_camera() -> None:
    image, camera = reduce_image(
        np.zeros((750, 1280, 3), np.uint8), np.array([[900.0, 0, 640], [0, 900, 375], [0, 0, 1]])
    )
    assert image.shape == (375, 640, 3)
    assert camera[0, 0] == pytest.approx(450)
