"""`stadia camera-height --depth`: height and scale from the depth of any program, and labels in metres."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import StadiaError
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
    assert (result["used_frames"], result["verdict"]) == (FRAMES, "usable")


def test_a_height_of_less_than_five_frames_is_doubtful(drive: Path, tmp_path: Path) -> None:
    lines = run(drive, every=2, out=tmp_path / "out")
    result = json.loads((tmp_path / "out" / "camera_height.json").read_text())
    assert (result["used_frames"], result["verdict"]) == (3, "doubtful")
    assert "doubtful" in lines[0]
    assert any("only 3 of 3 frames" in line for line in lines)


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
