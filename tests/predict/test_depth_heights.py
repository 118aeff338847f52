"""`stadia camera-height --depth`: height and scale from the depth of any program, and labels in metres."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.types import DepthScale
from stadia.data.open_dataset import open_recordings
from stadia.scale.camera_height.config import CameraHeightRequest, parse_camera_height_config
from stadia.scale.camera_height.horizon_video import HorizonView, draw_view
from stadia.scale.camera_height.run_camera_height import run_camera_height

HEIGHT, WIDTH, FOCAL, TRUE_M, UNIT = 180, 480, 300.0, 1.65, 0.04
FRAMES = 5


def one_line(error: StadiaError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert all(part in text for part in ("found", "expected", *parts)), text


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A recording with masks of cars of 1.5 m, 7 to 16 m ahead, one of them in fact 0.6 m, and depth times UNIT."""
    folder, rng = tmp_path / "drive", np.random.default_rng(0)
    for kind in ("left", "masks/semantic/left", "masks/instance/left"):
        (folder / kind).mkdir(parents=True)
    (tmp_path / "maps").mkdir()
    camera = {"K": [[FOCAL, 0, 239.5], [0, FOCAL, 89.5], [0, 0, 1]], "height": HEIGHT, "width": WIDTH}
    (folder / "recording.json").write_text(json.dumps({"cameras": {"left": camera}}))
    (folder / "masks" / "classes.json").write_text(json.dumps({"1": "road", "9": "car"}))
    for frame in range(FRAMES):
        rows = np.arange(HEIGHT)[:, None].repeat(WIDTH, 1)
        depth = np.where(rows > 92, FOCAL * TRUE_M / np.maximum(rows - 89.5, 1), 0)
        semantic, instance = (depth > 0).astype(np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
        for number, left in enumerate((60, 150, 240, 330), start=1):
            z = rng.uniform(7, 16)
            bottom, high = 89.5 + FOCAL * TRUE_M / z, FOCAL * (0.6 if number == 4 else 1.5) / z
            place = (slice(round(bottom - high + 0.5), round(bottom + 0.5)), slice(left, left + 40))
            semantic[place], instance[place], depth[place] = 9, number, z
        for kind, image in (
            ("left", semantic[..., None].repeat(3, 2) * 20),
            ("masks/semantic/left", semantic),
            ("masks/instance/left", instance),
        ):
            cv2.imwrite(str(folder / kind / f"{frame:06d}.png"), image)
        np.save(tmp_path / "maps" / f"{frame:06d}.npy", (UNIT * depth).astype(np.float32))
    return folder


def run(drive: Path, *overrides: str, depth: str = "maps", **options: object) -> list[str]:
    priors = 'priors={"car": {"mean_m": 1.5, "spread_m": 0.1, "source": "made so"}}'
    config = parse_camera_height_config([priors, *overrides])
    values: dict[str, object] = {"depth": drive.parent / depth if depth else None, **options}
    return run_camera_height(CameraHeightRequest(source=drive, config=config, **values))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["silhouette", "nearest", "median"])
def test_depth_of_an_unknown_unit_gives_the_height(drive: Path, tmp_path: Path, kind: str) -> None:
    lines = run(drive, f"object_depth={kind}", out=tmp_path / "out")
    result = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert result["camera_height_m"] == pytest.approx(TRUE_M, rel=0.05)
    assert set(result["pools_m"]) == {"median", "mean", "weighted", "mode"}
    for frame in result["frames"]:
        assert frame["metres_over_unit"] == pytest.approx(1 / UNIT, rel=0.05)
        small = [thing for thing in frame["objects"] if thing["box_px"][0] > 320]
        assert not any(thing["accepted"] for thing in small), "the car of 0.6 m is left out"
    assert (tmp_path / "out" / "histogram.png").is_file()
    assert cv2.VideoCapture(str(tmp_path / "out" / "horizon.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    assert lines[0].startswith(f"camera height: {result['camera_height_m']:.2f} m")


def test_the_video_has_both_horizons_and_the_rejected_boxes(drive: Path) -> None:
    """The road is level, so that its horizon is the row of the principal point; depth that leans has another one."""
    (recording,) = open_recordings(drive)
    depth_m = np.load(drive.parent / "maps" / "000000.npy") / UNIT
    (drive / "depth" / "left").mkdir(parents=True)
    np.save(drive / "depth" / "left" / "000000.npy", depth_m.astype(np.float32))
    (recording,) = open_recordings(drive)
    boxes = np.array([[60.0, 95, 100, 140], [330, 95, 370, 140]])
    normal = np.array([0.0, -np.cos(0.05), -np.sin(0.05)])
    image = draw_view(HorizonView(recording, 0, normal, boxes, np.array([True, False])))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert (image[88:92, 240] > 200).all(1).any(), "the true horizon, white"
    row = int(np.abs(image[:, 300].astype(int) - (255, 160, 0)).sum(1).argmin())
    assert abs(row - (89.5 - FOCAL * np.tan(0.05))) < 2, "that of the depth, orange"
    assert (image[110, 60] == (60, 220, 60)).all()
    assert (image[110, 330] == (240, 60, 60)).all()


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["mean", "weighted", "mode"])
def test_every_pool_and_neighbors_in_time_agree_here(drive: Path, tmp_path: Path, pool: str) -> None:
    run(drive, f"pool={pool}", "time_window=2", "min_objects=2", out=tmp_path / "out")
    result = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert result["camera_height_m"] == pytest.approx(TRUE_M, rel=0.05)


@pytest.mark.slow
def test_labels_are_the_depth_in_metres(drive: Path, tmp_path: Path) -> None:
    run(drive, labels=tmp_path / "labels")
    (labeled,) = open_recordings(tmp_path / "labels")
    assert len(labeled) == FRAMES
    depth_m = labeled.depth_m(1)
    assert depth_m is not None
    given = np.load(tmp_path / "maps" / "000001.npy")
    np.testing.assert_allclose(depth_m[given > 0] * UNIT, given[given > 0], rtol=0.05)
    assert np.array_equal(labeled.image(1), open_recordings(drive)[0].image(1))
    with refuses(StadiaError, where="labels"):
        run(drive, labels=tmp_path / "labels")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["road", "unit"])
def test_a_frame_that_the_estimate_rejects_has_no_label(drive: Path, tmp_path: Path, part: str) -> None:
    """Its road, or its unit, is wrong by three: its factor would be too."""
    file = tmp_path / "maps" / "000002.npy"
    depth = np.load(file)
    instance = cv2.imread(str(drive / "masks" / "instance" / "left" / "000002.png"), cv2.IMREAD_UNCHANGED)
    np.save(file, np.where((instance > 0) & (part == "road"), depth, 3 * depth))
    lines = run(drive, labels=tmp_path / "labels", out=tmp_path / "out")
    (labeled,) = open_recordings(tmp_path / "labels")
    assert [labeled.depth_m(frame) is not None for frame in range(FRAMES)] == [True, True, False, True, True]
    assert any(line.startswith("note: 1 frame") for line in lines)
    frames = json.loads((tmp_path / "out" / "camera_height.json").read_text())["frames"]
    assert frames[2]["metres_over_unit"] is None
    assert frames[1]["metres_over_unit"] == pytest.approx(1 / UNIT, rel=0.05)


@pytest.mark.slow
def test_poses_in_metres_are_kept_and_those_of_a_scene_are_not(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "1 0 0 0 0 1 0 0 0 0 1 {}\n"
    (drive / "poses.txt").write_text("".join(row.format(frame) for frame in range(FRAMES)))
    run(drive, labels=tmp_path / "metres")
    (labeled,) = open_recordings(tmp_path / "metres")
    assert labeled.T_world_camera(3)[2, 3] == 3  # type: ignore[index]
    opened = open_recordings(drive)
    for recording in opened:
        recording.is_scene = True  # type: ignore[attr-defined]
    monkeypatch.setattr("stadia.scale.camera_height.road_objects.open_recordings", lambda *rest, **options: opened)
    lines = run(drive, labels=tmp_path / "scene")
    (labeled,) = open_recordings(tmp_path / "scene")
    assert labeled.T_world_camera(3) is None
    assert any("has no poses of" in line for line in lines)


@pytest.mark.slow
def test_the_road_may_be_a_rectangle_where_masks_have_none(drive: Path, tmp_path: Path) -> None:
    for file in (drive / "masks" / "semantic" / "left").glob("*.png"):
        semantic = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        semantic[semantic == 1] = 0
        cv2.imwrite(str(file), semantic)
    with refuses(StadiaError, where="camera height"):
        run(drive)
    run(drive, "road=[0,0.55,1,1]", out=tmp_path / "out")
    result = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert result["camera_height_m"] == pytest.approx(TRUE_M, rel=0.05)


def test_options_that_exclude_each_other_are_one_line(drive: Path) -> None:
    for values, words in (
        ({"checkpoint": "depth-anything-v2-small"}, ("--checkpoint and --depth", "one source")),
        ({"overrides": "horizon=edges"}, ("horizon=edges with a depth",)),
        ({"depth": None, "overrides": "pool=mean"}, ("pool", "no depth")),
    ):
        overrides = [str(values.pop("overrides"))] if "overrides" in values else []
        given = {"depth": drive.parent / "maps", **values}
        config = parse_camera_height_config(overrides)
        with pytest.raises(ConfigError) as error:
            run_camera_height(CameraHeightRequest(source=drive, config=config, **given))  # type: ignore[arg-type]
        one_line(error.value, *words)


@pytest.mark.slow
def test_a_missing_map_and_a_folder_without_maps_are_one_line(drive: Path) -> None:
    (drive.parent / "maps" / "000003.npy").unlink()
    with pytest.raises(DataError) as error:
        run(drive)
    one_line(error.value, "no map of 000003")


@pytest.mark.slow
def test_a_network_is_measured_as_its_maps_are(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that predicts the map of the first frame, at half the size of the image."""
    given = np.load(tmp_path / "maps" / "000000.npy")

    class Reader:
        depth_scale, height, width, crop = DepthScale.UP_TO_SCALE, HEIGHT, WIDTH, "none"

        def inverse_depth(self, image: np.ndarray, camera: object) -> np.ndarray:
            assert image.shape == (1, 3, HEIGHT, WIDTH)
            return 1 / np.where(given > 0, given, 1e3)[None, None]

    monkeypatch.setattr("stadia.training.recipes.base.build_recipe.open_network_checkpoint", lambda name, size: name)
    monkeypatch.setattr("stadia.training.recipes.base.build_recipe.load_predictor", lambda checkpoint: Reader())
    lines = run(drive, checkpoint="some/run", depth="", out=tmp_path / "out", every=FRAMES)
    result = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert result["camera_height_m"] == pytest.approx(TRUE_M, rel=0.05)
    assert lines[0].endswith("some/run")
    Reader.depth_scale = DepthScale.AFFINE_INVERSE
    with refuses(ConfigError, where="some/run"):
        run(drive, checkpoint="some/run", depth="")
