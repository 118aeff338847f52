"""The camera's height from boxes: exact where they are, with an interval that holds the truth, and each object's
reason.
"""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from stadia.geometry.cameras import intrinsics
from stadia.geometry.ground.camera_height import (
    BoxedObjects,
    ObjectStatus,
    horizon_from_angles,
    pitch_roll_deg,
    survey_camera_height,
)
from stadia.geometry.ground.horizon import find_vanishing_point, normal_from_horizon

CAMERA = intrinsics(700, 700, 620, 180, height=375, width=1242)
TRUE_M, FRAMES = 1.65, 20


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def boxes(
    horizon: np.ndarray, *, per_frame: int = 6, spread: float = 0.0, nod_px: float = 0.0, seed: int = 0
) -> BoxedObjects:
    """Boxes that stand on a road under that horizon, TRUE_M below the camera; heights off by `spread`, each frame's
    horizon by `nod_px`.
    """
    generator, count = chance(seed), FRAMES * per_frame
    frame = np.arange(FRAMES).repeat(per_frame)
    x = 60 + 1100 * generator.random(count)
    below = 700 * TRUE_M / (8 + 37 * generator.random(count))
    nod = nod_px * generator.normal(size=FRAMES)[frame]
    bottom = (below + nod + horizon[2] + horizon[0] * x) / -horizon[1]
    height_m = np.full(count, 1.5)
    true_m = height_m * (1 + spread * generator.normal(size=count))
    top = bottom - below * true_m / TRUE_M
    box = np.stack((x - 30, top, x + 30, bottom), -1)
    no = np.zeros(count, bool)
    return BoxedObjects(frame, box, height_m, np.full_like(height_m, 0.1), no, no.copy())


@pytest.mark.parametrize("given", [True, False], ids=["horizon given", "horizon of the objects"])
def test_exact_boxes_give_the_exact_height(given):
    horizon = horizon_from_angles(CAMERA, pitch_deg=-1.5, roll_deg=1.0)
    found = survey_camera_height(boxes(horizon), 700.0, FRAMES, horizons=horizon if given else None, draws=10)
    assert_allclose(found.camera_height_m, TRUE_M, rtol=2e-4)  # the prior of roll pulls a little
    assert found.low_m < TRUE_M < found.high_m
    pitch, roll = pitch_roll_deg(normal_from_horizon(found.horizons[0], CAMERA))
    assert_allclose((pitch, roll), (-1.5, 1.0), atol=5e-3)  # a camera's roll is small, and that counts


def test_pitch_up_lowers_the_horizon_and_roll_rotates_it():
    assert_allclose(horizon_from_angles(CAMERA), [0, -1, 180.0], atol=1e-9)
    up = horizon_from_angles(CAMERA, pitch_deg=2.0)
    assert_allclose(up[2], 180 + 700 * math.tan(math.radians(2)))
    rolled = horizon_from_angles(CAMERA, roll_deg=3.0)
    left, right = (-(rolled[0] * x + rolled[2]) / rolled[1] for x in (0.0, 1241.0))
    assert right < left  # the world turns the other way


@pytest.mark.slow
def test_the_interval_holds_the_truth_and_narrows_with_frames():
    horizon, held, widths = horizon_from_angles(CAMERA, pitch_deg=-1), 0, []
    for seed in range(10):
        objects = boxes(horizon, spread=0.07, nod_px=3.0, seed=seed)
        found = survey_camera_height(objects, 700.0, FRAMES, draws=30, seed=seed)
        held += found.low_m < TRUE_M < found.high_m
        widths.append(found.high_m - found.low_m)
    assert held >= 8
    one = survey_camera_height(objects.select(np.array([0])), 700.0, FRAMES, horizons=horizon, draws=20)
    assert sorted(widths)[5] < 0.5 * (one.high_m - one.low_m)  # a single object has a wider interval


def test_three_in_ten_wrong_are_named_and_change_little():
    horizon = horizon_from_angles(CAMERA)
    objects = boxes(horizon, spread=0.03)
    wrong = np.arange(len(objects)) % 10 < 3
    objects.height_m[wrong] *= np.tile([1.6, 0.5, 2.0], len(objects) // 10)
    found = survey_camera_height(objects, 700.0, FRAMES, draws=20)
    assert_allclose(found.camera_height_m, TRUE_M, rtol=0.03)
    assert [verdict is not ObjectStatus.INLIER for verdict in found.verdict] == wrong.tolist()


def test_each_object_that_is_left_out_has_its_reason():
    horizon = horizon_from_angles(CAMERA)
    objects = boxes(horizon)
    objects.height_m[0] = math.nan
    objects.cut[1] = True
    objects.box_px[2, 1] = objects.box_px[2, 3] - 12
    objects.hidden[3] = True
    objects.box_px[4, [1, 3]] = (100.0, 150.0)
    found = survey_camera_height(objects, 700.0, FRAMES, horizons=horizon, draws=5)
    reasons = [
        ObjectStatus.NO_HEIGHT,
        ObjectStatus.BORDER,
        ObjectStatus.SMALL,
        ObjectStatus.HIDDEN,
        ObjectStatus.ABOVE,
        ObjectStatus.INLIER,
    ]
    assert list(found.verdict[:6]) == reasons
    assert found.implied_height_m[4] == 0
    assert np.isnan(found.implied_height_m[:4]).all()


def test_edges_along_a_road_meet_at_its_vanishing_point():
    true = np.array([600.0, 195.0])
    generator = chance()
    starts = generator.random((60, 2)) * (1242.0, 375.0)
    ends = starts + 0.3 * (true - starts) + 0.3 * generator.normal(size=(60, 2))
    strays = generator.random((25, 4)) * (1242.0, 375.0, 1242.0, 375.0)
    segments = np.concatenate((np.concatenate((starts, ends), -1), strays))
    found = find_vanishing_point(segments, np.array([620.0, 180.0]), 300.0, generator=chance())
    assert found is not None
    assert np.linalg.norm(found[0] - true) < 3
    assert 0.3 < found[1] < 1
