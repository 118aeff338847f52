"""Heights and horizons from boxes that a pinhole camera sees of objects with a length."""

import math

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import GeometryError
from stadia.geometry.ground.drive_heights import TOP_BEHIND_FOOT_M, estimate_drive_heights, track_boxes

F = 300.0


def make_boxes(
    camera_m: float, *, drives: int = 12, objects: int = 15, spread: float = 0.0, pitch_deg: float = 0.0, seed: int = 0
) -> list[np.ndarray]:
    """Drive, track, foot, height in pixels and in metres, as the class has it, of objects 7 to 40 m away; each drive
    with its own pitch.
    """
    random = np.random.default_rng(seed)
    drive = np.arange(drives).repeat(objects)
    z = 7 + 33 * random.random(len(drive))
    metres = 1.5 * (1 + spread * random.normal(size=len(drive)))
    horizon = F * math.radians(pitch_deg) * np.linspace(-1, 1, drives)[drive]
    foot, top = horizon + F * camera_m / z, horizon + F * (camera_m - metres) / (z + TOP_BEHIND_FOOT_M)
    return [drive, np.arange(len(drive)), foot, foot - top, np.full_like(z, 1.5)]


@pytest.mark.slow
@pytest.mark.parametrize("camera_m", [1.0, 1.5, 1.65, 2.1, 3.0])
def test_it_is_exact_on_exact_boxes_and_finds_the_pitch_of_each_drive(camera_m):
    found = estimate_drive_heights(*make_boxes(camera_m, pitch_deg=0.5), focal_px=F)
    assert found.height_m == pytest.approx(camera_m, rel=0.01)
    assert found.horizon_px.tolist() == pytest.approx(
        (F * math.radians(0.5) * np.linspace(-1, 1, 12)).tolist(), abs=0.35
    )
    assert found.inlier_count == 180


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.5, 2.0])
def test_three_in_ten_wrong_heights_hardly_count(wrong):
    drive, track, foot, px, metres = make_boxes(1.65, spread=0.05)
    bad = np.random.default_rng(1).random(len(metres)) < 0.3
    found = estimate_drive_heights(drive, track, foot, px, np.where(bad, wrong * metres, metres), focal_px=F)
    assert found.height_m == pytest.approx(1.65, rel=0.04)


@pytest.mark.slow
def test_the_interval_holds_the_truth_and_narrows_with_drives():
    few, many = (
        estimate_drive_heights(*make_boxes(1.65, drives=drives, spread=0.08, pitch_deg=0.3), focal_px=F)
        for drives in (4, 40)
    )
    assert few.low_m < 1.65 < few.high_m
    assert many.low_m < 1.65 < many.high_m
    assert many.high_m / many.low_m < few.high_m / few.low_m
    again = estimate_drive_heights(*make_boxes(1.65, drives=4, spread=0.08, pitch_deg=0.3), focal_px=F)
    assert (again.low_m, again.high_m) == (few.low_m, few.high_m)


def test_too_few_objects_are_refused():
    with refuses(GeometryError, expected="12"):
        estimate_drive_heights(*make_boxes(1.65, drives=2, objects=4), focal_px=F)
    with refuses(GeometryError, found="0"):
        estimate_drive_heights(*(column[:0] for column in make_boxes(1.65)), focal_px=F)


# -- tracks of boxes


def test_objects_keep_their_numbers_over_a_gap_and_new_ones_get_new_ones():
    frame = np.array([0, 0, 1, 3, 3, 9])
    box = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [51, 0, 61, 10], [1, 0, 11, 10], [52, 0, 62, 10], [1, 0, 11, 10]])
    assert track_boxes(frame, box).tolist() == [0, 1, 1, 0, 1, 2]
