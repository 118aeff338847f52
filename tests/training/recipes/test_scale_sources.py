"""Sources of metres: each finds the factor of depth of a wrong unit, or states why it cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.refusals import refuses
from tests.training.recipes.published_folders import write_network
from torch import Tensor

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.types import Camera, DepthScale, Recording
from stadia.data.frame_preparation import PreparedFrame, read_frames
from stadia.data.open_dataset import open_recordings
from stadia.data.video.map_geometry import MapGeometry
from stadia.evaluation.predictions_folder import Predictions
from stadia.geometry.scale_fit import HEIGHT_DEVIATION, ScaleFit, fit_scale, fuse_scales
from stadia.predict import onnx_masks
from stadia.predict.inputs import PredictionInput
from stadia.predict.receipt import ScaledPredictor, measure_scale
from stadia.scale.grammar import KnownDistance, PositionsFile, find_given_height, parse_scale, read_boxes
from stadia.scale.scale_receipt import ScaleReceipt, describe_receipt, fuse_sure_scales
from stadia.scale.sources import REAR_WIDTHS_M, MeasuredFrame, parse_scale_source
from stadia.training.recipes.base.depth_predictor import accept_arrays

Stadia = Callable[..., tuple[int, str, str]]
FACTOR = 0.25
"""Metres for a unit of the depth that is scaled."""


@pytest.fixture(scope="module")
def recording(worlds: Path) -> Recording:
    return open_recordings(worlds, "auto", split="val")[0]


class TruePredictor:
    depth_scale = DepthScale.UP_TO_SCALE
    crop = "none"

    def __init__(self, recording: Recording, factor: float = FACTOR) -> None:
        frames = [PreparedFrame.prepare(self._sized(recording), frame) for frame in read_frames(recording)]
        self.images = torch.stack([torch.from_numpy(frame.image) for frame in frames])
        depths = [recording.depth_m(index) for index in range(len(recording))]
        self.maps_of = torch.stack([torch.from_numpy(np.asarray(depth)) for depth in depths])
        self.factor = factor

    def _sized(self, recording: Recording) -> "TruePredictor":
        camera = recording.camera(0)
        self.height, self.width = camera.height, camera.width
        return self

    @accept_arrays
    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        numbers = [(self.images - one).abs().flatten(1).sum(1).argmin() for one in image]
        depth = torch.stack([self.maps_of[number] for number in numbers])[:, None]
        return self.factor / depth.where(depth > 0, 100.0).float()

    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        return None


def open_one(recording: Recording) -> PredictionInput:
    indices = range(len(recording))
    return PredictionInput(recording.name, read_frames(recording), len(recording), 10.0, recording, indices=indices)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "tolerance"), [("lidar", 0.001), ("baseline", 0.03), ("gps", 0.05), ("height=1.5", 0.08)]
)
def test_a_source_finds_the_factor(source: str, tolerance: float, recording: Recording) -> None:
    receipt = measure_scale(TruePredictor(recording), lambda: open_one(recording), [source])
    assert receipt.factor == pytest.approx(FACTOR, rel=tolerance)
    assert receipt.verdict in ("usable", "doubtful")
    assert source in "\n".join(describe_receipt(receipt))


def test_a_speed_finds_the_factor_of_a_video_with_short_steps(recording: Recording) -> None:
    step_s, speed_m_s = 1 / 30, 3.0  # 0.1 m from frame to frame
    frames = [replace(frame, time_s=step_s * number) for number, frame in enumerate(read_frames(recording))]
    positions = np.stack([np.asarray(recording.T_world_camera(index))[:3, 3] for index in range(len(frames))])
    step_m = float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
    given = PredictionInput("drive", frames, len(frames), 30.0)
    receipt = measure_scale(TruePredictor(recording), lambda: given, [f"speed={speed_m_s:g}"])
    assert receipt.factor == pytest.approx(FACTOR * speed_m_s * step_s / step_m, rel=0.1)


def test_a_point_and_a_known_object_find_it(recording: Recording, tmp_path: Path) -> None:
    shown = PreparedFrame.prepare(TruePredictor(recording), next(read_frames(recording)))
    depth_m = recording.depth_m(0)
    assert depth_m is not None
    frame = MeasuredFrame(shown, (FACTOR / np.maximum(depth_m, 0.1)).astype(np.float32), recording, 0)
    row, column = 80, 150
    measured = parse_scale_source(f"point={column},{row}:{depth_m[row, column]}").measure(frame)
    assert measured is not None
    assert fit_scale([(1 / measured[0], measured[1])]).factor == pytest.approx(FACTOR, rel=0.05)

    flat = replace(frame, inverse_depth=np.full_like(depth_m, FACTOR / 10.0))
    tall = shown.frame.K[1, 1] * 1.5 / 10.0  # pixels of 1.5 m at 10 m
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"name,left,top,right,bottom\n{shown.frame.name},100,40,160,{40 + tall}\n")
    measured = parse_scale_source(f"object=car:1.5@{boxes}").measure(flat)
    assert measured is not None
    assert fit_scale([(1 / measured[0], measured[1])]).factor == pytest.approx(FACTOR, rel=0.01)


def test_detected_cars_find_the_factor_by_height_and_from_behind_also_by_width(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cars 10 m away, as 1.5 m high boxes; those from behind are as wide as a car, and errors of both cancel."""
    shown = PreparedFrame.prepare(TruePredictor(recording), next(read_frames(recording)))
    height, width = shown.frame.image.shape[:2]
    frame = MeasuredFrame(shown, np.full((height, width), FACTOR / 10.0, np.float32), recording, 0)
    tall, wide = (float(shown.frame.K[1, 1]) * metres / 10.0 for metres in (1.5, REAR_WIDTHS_M["car"]))

    def measure(*boxes: tuple[float, float, float, float], score: float = 0.9, name: str = "car") -> Any:
        names = ("person", "car")
        found = np.array(boxes), np.full(len(boxes), score), np.full(len(boxes), names.index(name))
        detector = SimpleNamespace(has_boxes=True, names=names, kind="boxes", find_boxes=lambda image: found)
        monkeypatch.setattr(onnx_masks, "load_onnx_segmenter", lambda path: detector)
        measured = parse_scale_source("object=car:1.5@yolox.onnx").measure(frame)
        return None if measured is None else fit_scale([(1 / measured[0], measured[1])]).factor / FACTOR

    assert measure((10, 10, 10 + 2.5 * tall, 10 + tall)) == pytest.approx(1.0), "a side view: by height alone"
    assert measure((10, 10, 10 + wide, 10 + tall)) == pytest.approx(1.0)
    assert measure((10, 10, 10 + 0.9 * wide, 10 + tall / 0.9)) == pytest.approx(1.0), "the errors cancel"
    for left, top in ((1, 10), (10, 1), (width - wide - 1, 10), (10, height - tall - 1)):
        assert measure((left, top, left + wide, top + tall)) is None, "cut off"
    assert measure((10, 10, 10 + wide, 10 + tall), score=0.2) is None
    assert measure((10, 10, 10 + wide, 10 + tall), name="person") is None
    monkeypatch.setattr(
        onnx_masks, "load_onnx_segmenter", lambda path: SimpleNamespace(has_boxes=False, kind="classes")
    )
    with refuses(ConfigError, where="object=car:1.5@yolox.onnx", found="classes", expected="car"):
        parse_scale_source("object=car:1.5@yolox.onnx")


def test_a_scaled_predictor_predicts_metres(recording: Recording) -> None:
    predictor = TruePredictor(recording)
    receipt = measure_scale(predictor, lambda: open_one(recording), ["lidar"])
    scaled: Any = ScaledPredictor(predictor, receipt)
    camera = Camera(torch.from_numpy(recording.K(0))[None], scaled.height, scaled.width)
    inverse_m = scaled.inverse_depth(predictor.images[:1], camera)[0, 0].numpy()
    depth_m = recording.depth_m(0)
    assert depth_m is not None
    known = (depth_m > 0) & (depth_m < 80)
    assert np.allclose(1 / inverse_m[known], depth_m[known], rtol=1e-3)
    assert scaled.depth_scale is DepthScale.METRES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heigth=1.5", "did you mean 'height'"),
        ("height", "found ''; expected metres"),
        ("speed", "expected metres per second"),
        ("height=1_5", "expected metres"),
        ("height=١", "expected metres"),
        ("point=10,20:1_5", "expected metres"),
        ("distance=1.2.3,4..5,6:2", "expected A..B:METRES"),
        ("distance=1,2..3,4,5:2", "expected A..B:METRES"),
        ("distance=1,2,3..4,5,6:2@7", "expected A..B:METRES"),
        ("distance=a..b:2@7", "leave out @7"),
        ("height=-1", "expected metres"),
        ("lidar=3", "leave the value out"),
        ("gps=3", "leave the value out"),
        ("map", "found ''; expected metres"),
        ("point=1:2", "expected X,Y:METRES"),
        ("object=zebra", "expected object=CLASS:METRES"),
        ("reference", "no folder"),
    ],
)
def test_a_source_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_scale_source(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_are_plain_decimals(tmp_path: Path) -> None:
    assert parse_scale("distance=-1.5,2..3e1,.4:2@a@b")[1] == KnownDistance(((-1.5, 2), (30, 0.4)), 2, "a@b")
    assert parse_scale("gps=track.gpx@-1.5")[1] == PositionsFile(Path("track.gpx"), -1.5)
    assert parse_scale("gps=a@1_5")[1] == PositionsFile(Path("a@1_5"))
    (tmp_path / "boxes.csv").write_text("a,1_0,2,30,40\n")
    with refuses(DataError, where="boxes.csv:1"):
        read_boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize(
    ("source", "hidden", "names"),
    [
        ("object=zebra:1.4", "", ("--scale-from",)),
        ("baseline", "T_right_left", ("--scale-from",)),
        ("lidar", "depth_m", ("--scale-from",)),
        ("gps", "T_world_camera", ("--scale-from",)),
    ],
)
def test_a_source_that_the_input_lacks(
    source: str, hidden: str, names: tuple[str, ...], recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = TruePredictor(recording)
    if hidden == "T_right_left":
        monkeypatch.setattr(recording, "T_right_left", None)
    elif hidden:
        monkeypatch.setattr(recording, hidden, lambda *args: None)
    with refuses(StadiaError, names=names) as error:
        measure_scale(predictor, lambda: open_one(recording), [source])
    assert "\n" not in str(error.value)


def test_a_shift_needs_points_at_several_depths(recording: Recording) -> None:
    predictor: Any = TruePredictor(recording)
    predictor.depth_scale = DepthScale.AFFINE_INVERSE
    with refuses(StadiaError, where="--scale-from"):
        measure_scale(predictor, lambda: open_one(recording), ["height=1.5"])
    receipt: ScaleReceipt = measure_scale(predictor, lambda: open_one(recording), ["lidar"])
    assert receipt.factor == pytest.approx(1 / FACTOR, rel=1e-3)
    assert receipt.shift == pytest.approx(0, abs=1e-4)


UNIT_M = 3.0
"""Metres for a unit of the map."""


def make_map(recording: Recording) -> MapGeometry:
    points, seen = [], []
    for index in range(len(recording)):
        depth_m, K, T = recording.depth_m(index), recording.K(index), recording.T_world_camera(index)
        assert depth_m is not None
        assert T is not None
        y, x = (part[::5] for part in np.nonzero((depth_m > 0) & (depth_m < 60)))
        rays = np.linalg.inv(K) @ np.stack((x, y, np.ones_like(x)))
        inside = (rays * depth_m[y, x]).T @ T[:3, :3].T + T[:3, 3]
        seen.append(np.arange(len(inside)) + sum(map(len, points)))
        points.append(inside / UNIT_M)
    poses = np.stack([np.asarray(recording.T_world_camera(index)) for index in range(len(recording))])
    poses[:, :3, 3] /= UNIT_M
    road = np.array([0, -1, 0, HEIGHT_M / UNIT_M])
    camera = recording.camera(0)
    names = [frame.name for frame in read_frames(recording)]
    focal = float(recording.K(0)[0, 0]) / camera.width
    rows = {name: row for row, name in enumerate(names)}
    return MapGeometry(poses, np.concatenate(points), tuple(seen), focal, road, rows)


HEIGHT_M = 1.5


def test_the_points_of_a_map_give_metres_of_depth_and_of_an_unknown_shift(recording: Recording) -> None:
    mapped, predictor = make_map(recording), cast(Any, TruePredictor(recording))
    source = [f"map={HEIGHT_M:g}"]
    receipt = measure_scale(predictor, lambda: open_one(recording), source, mapped=mapped)
    assert receipt.factor == pytest.approx(FACTOR, rel=1e-3)
    taller = measure_scale(predictor, lambda: open_one(recording), ["map=3"], mapped=mapped)
    assert taller.factor == pytest.approx(3 / HEIGHT_M * FACTOR, rel=1e-3), "metres grow with the height"

    inverse = predictor.inverse_depth
    predictor.inverse_depth = lambda image, camera: 2 * inverse(image, camera) + 0.3
    predictor.depth_scale = DepthScale.AFFINE_INVERSE
    shifted = measure_scale(predictor, lambda: open_one(recording), source, mapped=mapped)
    assert shifted.factor == pytest.approx(1 / (2 * FACTOR), rel=1e-3)
    assert shifted.shift == pytest.approx(-0.3 / (2 * FACTOR), rel=1e-3)
    assert shifted.deviation >= HEIGHT_DEVIATION, "no metres are surer than the height that was typed"
    loose = measure_scale(predictor, lambda: open_one(recording), source, mapped=replace(mapped, road_deviation=0.04))
    assert loose.deviation == pytest.approx(np.hypot(shifted.deviation, 0.04)), "nor than the road of the map"


def test_an_unusable_source_moves_no_result() -> None:
    sure, unsure = (ScaleFit(factor, dev, 0.1, 1.0, 9, 3) for factor, dev in ((2.0, 0.03), (3.0, 0.2)))
    assert fuse_sure_scales({"lidar": sure, "height=1.5": unsure}) == fuse_scales({"lidar": sure})
    assert fuse_sure_scales({"height=1.5": unsure}).factor == pytest.approx(3), "the only one stays"


def test_height_and_map_stand_on_one_height() -> None:
    sure = ScaleFit(2.0, 0.0201, 0.1, 1.0, 9, 3)
    assert fuse_sure_scales({"height=1.5": sure, "map=1.5": sure}).deviation == HEIGHT_DEVIATION
    assert fuse_sure_scales({"height=1.5": sure, "lidar": sure}).deviation < HEIGHT_DEVIATION
    loose = replace(sure, factor=2.1, deviation=0.04)
    three = fuse_sure_scales({"height=1.5": sure, "map=1.5": sure, "lidar": loose})
    one = fuse_sure_scales({"height=1.5": replace(sure, deviation=HEIGHT_DEVIATION), "lidar": loose})
    assert (three.factor, three.deviation) == pytest.approx((one.factor, one.deviation)), "the height counts once"
    with refuses(ConfigError, where="--scale-from"):
        find_given_height(["height=1.5", "map=1.4"])


@pytest.mark.slow
def test_predict_writes_the_receipt(worlds: Path, tmp_path: Path, stadia: Stadia) -> None:
    folder, out = write_network(tmp_path / "glpn", "glpn"), tmp_path / "out"
    arguments = ("--scale-from", "lidar", "--scale-from", "baseline", "--no-video", "data.split=val")
    code, text, err = stadia("predict", folder, worlds, "--out", out, *arguments)
    assert code == 0, err
    assert "scale from lidar: one unit is " in text
    record = json.loads(next(out.rglob("predictions.json")).read_text())
    assert set(record["scale_from"]["sources"]) == {"lidar", "baseline"}
    assert Predictions.open(out).depth_scale is DepthScale.METRES
