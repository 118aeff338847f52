"""A moved camera is reported with the drives or frames of both heights."""

from pathlib import Path

import numpy as np
import pytest

from stadia.scale.camera_height import run_camera_height as estimate
from stadia.scale.camera_height.config import CameraHeightRequest, parse_camera_height_config
from stadia.scale.camera_height.road_horizon import RoadHorizons
from stadia.scale.camera_height.road_objects import RoadFrame, RoadObject
from stadia.scale.camera_height.run_camera_height import (
    detect_moved_camera,
    estimate_camera_height,
    moved_camera_note,
    run_camera_height,
)

FOCAL, CONFIG = (
    300.0,
    parse_camera_height_config(
        ['priors={"car": {"mean_m": 1.5, "spread_m": 0.1, "source": "made so"}}', "horizon=given"]
    ),
)


def drive(name: str, heights_m: list[float], seed: int = 0) -> list[RoadFrame]:
    """A frame of each camera height, level, with three cars in it."""
    random, K = np.random.default_rng(seed), np.array([[FOCAL, 0, 239.5], [0, FOCAL, 89.5], [0, 0, 1]])

    def car(camera_m: float, left: float) -> RoadObject:
        z, high_m = random.uniform(8, 14), 1.5 * random.lognormal(0, 0.05)
        foot = 89.5 + FOCAL * camera_m / z
        return RoadObject("car", (left, foot - FOCAL * high_m / z, left + 40, foot), hidden=False, cut=False)

    def frame(number: int, camera_m: float) -> RoadFrame:
        cars = [car(camera_m, random.uniform(x, x + 40)) for x in (20, 150, 300)]
        return RoadFrame(f"{name}/{number:06d}", lambda: np.zeros((180, 480, 3), np.uint8), K, 180, 480, cars, name)

    return [frame(number, camera_m) for number, camera_m in enumerate(heights_m)]


def moved(frames: list[RoadFrame]) -> object:
    return detect_moved_camera(estimate_camera_height(frames, CONFIG))


@pytest.mark.slow
def test_drives_of_two_mounts_are_named():
    drives = [drive(f"{n:02d}", [1.2 if n < 6 else 1.65] * 8, seed=n) for n in range(12)]
    apart = moved([frame for one in drives for frame in one])
    assert (apart.low_m, apart.high_m) == pytest.approx(
        (1.2, 1.65), rel=0.15
    )  # of one horizon for both, which neither agrees with
    assert sorted(apart.low) == [f"{n:02d}" for n in range(6)]
    assert sorted(apart.high) == [f"{n:02d}" for n in range(6, 12)]
    assert "m in '00', '01', '02', '03', '04', '05', 1." in moved_camera_note(apart)
    assert moved([frame for one in drives[:6] for frame in one]) is None


@pytest.mark.slow
def test_command_reports_moved_camera_and_frames_without_horizon(monkeypatch):
    frames = [frame for n in range(4) for frame in drive(f"{n}", [(1.2, 1.65)[n % 2]] * 8, seed=n)]
    lines = np.array([[0.0, -1, 89.5]] * 31 + [[np.nan] * 3])
    monkeypatch.setattr(estimate, "read_road_frames", lambda *_: frames)
    monkeypatch.setattr(estimate, "choose_horizons", lambda *_: RoadHorizons(lines, 0.3, "travel"))
    said = "\n".join(run_camera_height(CameraHeightRequest(source=Path("drives"), config=CONFIG)))
    assert "in '0', '2', " in said
    assert "1 frames without a horizon by travel" in said
