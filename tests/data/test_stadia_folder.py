"""The stadia layout, as RoadWorld writes it and as anybody may."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings

OneLine = Callable[..., None]


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_everything_is_read(tmp_path: Path, world: Any) -> None:
    (recording,) = open_recordings(world.dataset(tmp_path, {"train": ["a"]}, frames=3))
    assert len(recording) == 3
    assert recording.sides == ("left", "right")
    np.testing.assert_array_equal(recording.T_right_left, world.T_right_left)
    for side in recording.sides:
        rgb, depth_m = world.render(2, side)
        assert np.array_equal(recording.image(2, side), rgb)
        assert np.array_equal(recording.depth_m(2, side), depth_m)
        camera = recording.camera(2, side)
        assert (camera.height, camera.width) == rgb.shape[:2]
        np.testing.assert_array_equal(camera.K, world.K)
    np.testing.assert_allclose(recording.T_world_camera(2), world.pose(2), atol=1e-9)
    right = recording.T_world_camera(2, "right")
    np.testing.assert_allclose(right @ [0, 0, 0, 1], world.pose(2) @ [world.baseline_m, 0, 0, 1], atol=1e-9)
    assert recording.timestamp_s(2) == pytest.approx(0.2)


def test_depth_of_all_frames_in_one_file(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.recording(tmp_path / "a", 3)
    (whole,) = open_recordings(tmp_path / "a")
    maps = np.stack([whole.depth_m(index) for index in range(3)])
    shutil.rmtree(tmp_path / "a" / "depth" / "left")
    np.save(tmp_path / "a" / "depth" / "left.npy", maps)
    (recording,) = open_recordings(tmp_path / "a")
    kept = recording.select_frames([2, 0])
    np.testing.assert_array_equal(kept.depth_m(0), maps[2])
    np.testing.assert_array_equal(kept.depth_m(1), maps[0])
    assert recording.depth_m(0, "right") is not None, "the other side has a file a frame"
    np.save(tmp_path / "a" / "depth" / "left.npy", maps[:2])
    with pytest.raises(DataError) as refused:
        open_recordings(tmp_path / "a")
    one_line(refused.value, "left.npy", "expected floats of shape (3,")
    np.save(tmp_path / "a" / "depth" / "left.npy", maps)
    (tmp_path / "a" / "depth" / "left").mkdir()
    with pytest.raises(DataError) as refused:
        open_recordings(tmp_path / "a")
    one_line(refused.value, "left.npy", "keep one of the two")


def test_splits_of_dataset_json_are_read(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.dataset(tmp_path, {"train": ["a", "b"], "test": ["c"]}, frames=1)
    assert [r.name.split("/")[-1] for r in open_recordings(tmp_path)] == ["a", "b", "c"]
    assert [r.name.split("/")[-1] for r in open_recordings(tmp_path, split="test")] == ["c"]
    assert [r.name.split("/")[-1] for r in open_recordings(tmp_path, split="train", recordings=("b",))] == ["b"]
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path, split="val")
    one_line(caught.value, "train, test", "'val'")


def test_fingerprint_depends_on_content(tmp_path: Path, world: Any) -> None:
    world.recording(tmp_path / "a", 3)
    before = open_recordings(tmp_path / "a")[0].fingerprint()
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert open_recordings(tmp_path / "moved")[0].fingerprint() == before
    about = tmp_path / "a" / "recording.json"
    cameras = json.loads(about.read_text())["cameras"]
    cameras["left"]["K"][0][0] += 1
    edit(about, cameras=cameras)
    assert open_recordings(tmp_path / "a")[0].fingerprint() != before
    world.save(tmp_path / "moved" / "right" / "000002.png", world.render(0)[0])
    assert open_recordings(tmp_path / "moved")[0].fingerprint() != before


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"cameras": {}}, ("cameras",)),
        ({"cameras": {"left": {"height": 96, "width": 160}}}, ("cameras.left.K", "Field required")),
        (
            {
                "cameras": {"left": {"K": [[0, 0, 1], [0, 5, 1], [0, 0, 1]], "height": 9, "width": 9}},
                "T_right_left": None,
            },
            ("cameras.left", "fx 0"),
        ),
        ({"T_right_left": None}, ("2 camera(s)", "T_right_left")),
        ({"frame_rate_hz": float("nan")}, ("frame_rate_hz",)),
        ({"frame_rate_hz": 0}, ("frame_rate_hz",)),
    ],
)
def test_a_wrong_description_is_named(
    tmp_path: Path, world: Any, one_line: OneLine, change: dict[str, Any], parts: tuple[str, ...]
) -> None:
    world.recording(tmp_path / "a", 1)
    edit(tmp_path / "a" / "recording.json", **change)
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path / "a")
    one_line(caught.value, tmp_path / "a" / "recording.json", *parts)


@pytest.mark.parametrize("name", ["000001.jpg", "000001.jpeg", "000001.png"])
def test_depth_as_a_jpeg_is_refused(tmp_path: Path, world: Any, one_line: OneLine, name: str) -> None:
    """Also under the name of a PNG; passed over, the frame would train without."""
    folder = world.recording(tmp_path / "a", 3)
    (folder / "depth" / "left" / "000001.npy").unlink()
    picture = folder / "depth" / "left" / name
    picture.write_bytes(cv2.imencode(".jpg", np.full((world.height, world.width), 9, np.uint8))[1].tobytes())
    (recording,) = open_recordings(folder)
    assert recording.depth_m(0) is not None
    with pytest.raises(DataError) as caught:
        recording.depth_m(1)
    one_line(caught.value, picture, "JPEG", "lossy")


def test_wrong_content_is_named(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    folder = world.recording(tmp_path / "a", 3)
    depth = folder / "depth" / "left" / "000001.npy"
    np.save(depth, np.full((world.height, world.width), np.nan, np.float32))
    (recording,) = open_recordings(folder)
    with pytest.raises(DataError) as caught:
        recording.depth_m(1)
    one_line(caught.value, depth, "nan")
    picture = folder / "left" / "000001.png"
    cv2.imwrite(str(picture), np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        recording.image(1)
    one_line(caught.value, picture, "50x40", "160x96 of recording.json", "each size")
    (folder / "right" / "000002.png").unlink()
    with pytest.raises(DataError) as caught:
        open_recordings(folder)
    one_line(caught.value, folder / "left" / "000002.png", "the other side")
    (folder / "times.txt").write_text("0\n1\n")
    world.save(folder / "right" / "000002.png", world.render(0)[0])
    with refuses(DataError, where="times.txt", found="2"):
        open_recordings(folder)
    (folder / "recording.json").write_text("{")
    with refuses(DataError, where="recording.json", found="JSON"):
        open_recordings(folder)
