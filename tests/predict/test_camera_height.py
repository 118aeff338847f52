"""`stadia camera-height`: from masks and labels to a height, its reasons and images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.geometry.cameras import intrinsics
from stadia.geometry.ground.camera_height import horizon_from_angles
from stadia.geometry.ground.horizon import distance_above_horizon
from stadia.scale.camera_height.config import CameraHeightRequest, parse_camera_height_config
from stadia.scale.camera_height.road_horizon import find_edge_horizon, measure_travel_pitches_deg
from stadia.scale.camera_height.road_objects import RoadFrame, RoadObject, read_road_frames
from stadia.scale.camera_height.run_camera_height import estimate_camera_height, run_camera_height

HEIGHT, WIDTH, FOCAL, TRUE_M = 180, 480, 300.0, 1.65
FRAMES = 6


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A recording in the folder layout, with masks of cars that are 1.5 m high, 7 to 16 m ahead, and of a post."""
    folder, rng = tmp_path / "drive", np.random.default_rng(0)
    for kind in ("left", "masks/semantic/left", "masks/instance/left"):
        (folder / kind).mkdir(parents=True)
    camera = {"K": [[FOCAL, 0, 239.5], [0, FOCAL, 89.5], [0, 0, 1]], "height": HEIGHT, "width": WIDTH}
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}}))
    (folder / "masks" / "classes.json").write_text(json.dumps({"1": "road", "9": "car", "6": "pole"}))
    for frame in range(FRAMES):
        semantic, instance = np.ones((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
        for number, left in enumerate((60, 150, 240, 330), start=1):
            z = rng.uniform(7, 16)
            bottom, high = 89.5 + FOCAL * TRUE_M / z, FOCAL * 1.5 / z
            rows = slice(round(bottom - high + 0.5), round(bottom + 0.5))
            semantic[rows, left : left + 40], instance[rows, left : left + 40] = 9, number
        semantic[20:150, 440:450], instance[20:150, 440:450] = 6, 9
        for kind, image in (
            ("left", semantic[..., None].repeat(3, 2) * 20),
            ("masks/semantic/left", semantic),
            ("masks/instance/left", instance),
        ):
            cv2.imwrite(str(folder / kind / f"{frame:06d}.png"), image)
    return folder


def make_request(source: Path, *overrides: str, out: Path | None = None) -> CameraHeightRequest:
    priors = 'priors={"car": {"mean_m": 1.5, "spread_m": 0.1, "source": "made so"}}'
    return CameraHeightRequest(source=source, config=parse_camera_height_config([priors, *overrides]), out=out)


@pytest.mark.slow
@pytest.mark.parametrize("horizon", ["objects", "given"])
def test_masks_give_the_height_and_its_priors(drive, tmp_path, horizon):
    lines = run_camera_height(make_request(drive, f"horizon={horizon}", out=tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert found["camera_height_m"] == pytest.approx(TRUE_M, rel=0.02)
    assert found["interval_95_m"][0] < TRUE_M < found["interval_95_m"][1]
    assert (found["frames"], found["objects"], found["inliers"]) == (FRAMES, 4 * FRAMES, 4 * FRAMES)
    assert abs(found["horizon"]["pitch_deg"]) < 0.5
    assert any("car 1.5 m, spread 0.1 m (made so)" in line for line in lines)
    for name in ("objects.png", "heights.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).std() > 5


def estimate(drive: Path, *overrides: str) -> float:
    ask = make_request(drive, *overrides)
    return estimate_camera_height(
        read_road_frames(ask, lambda items, count, what: items), ask.config
    ).found.camera_height_m


@pytest.mark.slow
def test_frames_of_several_cameras_are_combined(drive):
    """A zoom: the same objects, seen by a camera with twice the focal length and another middle."""
    ask = make_request(drive, "horizon=given")
    frames = read_road_frames(ask, lambda items, count, what: items)

    def zoomed(frame: RoadFrame) -> RoadFrame:
        K = np.array([[2 * FOCAL, 0, 500.0], [0, 2 * FOCAL, 200.0], [0, 0, 1]])

        def at(box: tuple[float, ...]) -> tuple[float, float, float, float]:
            left, top, right, bottom = (
                (v - c) * 2 + d for v, c, d in zip(box, (239.5, 89.5) * 2, (500.0, 200.0) * 2, strict=True)
            )
            return left, top, right, bottom

        objects = [RoadObject(one.class_name, at(one.box_px), one.hidden, one.cut) for one in frame.objects]
        return RoadFrame(frame.name, frame.image, K, 2 * HEIGHT, 2 * WIDTH, objects)

    mixed = [zoomed(frame) if number % 2 else frame for number, frame in enumerate(frames)]
    plain, both = (estimate_camera_height(some, ask.config).found for some in (frames, mixed))
    assert both.camera_height_m == pytest.approx(plain.camera_height_m, rel=1e-9)


def test_edges_along_the_road_give_the_horizon():
    camera = intrinsics(FOCAL, FOCAL, 239.5, 89.5, height=HEIGHT, width=WIDTH)
    true = horizon_from_angles(camera, pitch_deg=-2)
    picture, meeting = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), (250.0, float(true[2]))
    for x in range(-200, 700, 60):
        cv2.line(picture, (x, HEIGHT), tuple(round(v) for v in meeting), (220, 220, 220), 2, cv2.LINE_AA)
    picture[: int(meeting[1]) + 8] = 90
    found = find_edge_horizon(picture, camera)
    assert abs(distance_above_horizon(found, np.array([[250.0, meeting[1]]])).item()) < 1.5
    assert distance_above_horizon(found, np.array([[250.0, 170.0]])).item() < -50
    assert np.isnan(find_edge_horizon(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), camera)).all()


@pytest.mark.slow
def test_travel_gives_the_horizon_and_a_standing_camera_none():
    """Posts at many depths and a camera that points down by 2 degrees and moves horizontally."""
    rng = np.random.default_rng(0)
    K = np.array([[2 * FOCAL, 0, 479.5], [0, 2 * FOCAL, 179.5], [0, 0, 1]])
    down = np.radians(2)
    turned = np.array([[1, 0, 0], [0, np.cos(down), -np.sin(down)], [0, np.sin(down), np.cos(down)]])
    points = rng.uniform((-12, -5, 12), (12, 1.6, 50), (300, 3))
    points = points[points[:, 2].argsort()[::-1]]
    shade = rng.integers(60, 255, 300)

    def picture(z: float) -> np.ndarray:
        image = np.full((2 * HEIGHT, 2 * WIDTH), 20, np.uint8)
        seen = (points - (0, 0, z)) @ turned.T @ K.T
        for (x, y, depth), gray in zip(seen, shade, strict=True):
            corner = np.array([x, y]) / depth
            spot = tuple(int(v) for v in (corner * 16).round())
            cv2.rectangle(image, spot, (spot[0] + 48, spot[1] + 48), int(gray), -1, cv2.LINE_AA, 4)
        return image[..., None].repeat(3, 2)

    def drive(step_m: float) -> list[RoadFrame]:
        return [
            RoadFrame(f"{n}", lambda n=n: picture(step_m * n), K, 2 * HEIGHT, 2 * WIDTH, (), "drive") for n in range(6)
        ]

    found = measure_travel_pitches_deg(drive(0.3))
    assert np.nanmedian(found) == pytest.approx(-2, abs=0.5)
    assert np.isnan(measure_travel_pitches_deg(drive(0.0))).all()


@pytest.mark.slow
def test_missing_input_is_reported(drive):
    with refuses(DataError, found=("24", "drive/000000", "6")):
        run_camera_height(CameraHeightRequest(source=drive, config=parse_camera_height_config(["priors={}"])))
    with refuses(DataError, found="24"):
        estimate(drive, 'objects=["tram"]')
    with refuses(DataError, where="horizon=edges"):
        estimate(drive, "horizon=edges")
    with refuses(ConfigError, found="horizon=given"):
        parse_camera_height_config(["pitch_deg=1"])
    (drive / "masks").rename(drive / "gone")
    with refuses(DataError, where="drive"):
        run_camera_height(make_request(drive))


@pytest.mark.real
def test_kitti_boxes_give_a_height(real_data):
    config = parse_camera_height_config(["priors=kitti", "objects=[]", "horizon=given"])
    frames = read_road_frames(
        CameraHeightRequest(source=real_data / "kitti_object", config=config), lambda items, count, what: items
    )
    assert [len(frame.objects) for frame in frames] == [1, 3, 2]
    found = estimate_camera_height(
        frames, config, horizons=np.array([[0.0, -1, 163.2], [0, -1, 174.2], [0, -1, 187.8]])
    ).found
    assert found.camera_height_m == pytest.approx(1.65, rel=0.08)
