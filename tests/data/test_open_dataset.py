"""Opening any dataset: the format is detected, and errors name the expected layouts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.refusals import refuses
from tests.test_documented_commands import NETWORK

from stadia.core.errors import ConfigError, DataError
from stadia.core.types import LEFT, Recording
from stadia.data import DATASETS
from stadia.data.config import SourceOptions
from stadia.data.frame_store import ReportProgress
from stadia.data.open_dataset import DatasetFormat, open_recordings
from stadia.data.recordings import ImageRecording
from stadia.geometry.cameras import Intrinsics
from stadia.io.image_files import list_images

OneLine = Callable[..., None]


def test_every_format_has_layout_and_interface(tmp_path: Path) -> None:
    for name in DATASETS:
        reader = DATASETS.load(name)()
        assert reader.layout
        assert reader.recognizes(tmp_path) is False
        assert reader.splits(tmp_path) == {}


def test_formats_are_detected(tmp_path: Path, world: Any) -> None:
    world.dataset(tmp_path / "own", {"train": ["a"]}, frames=1)
    world.kitti_odometry(tmp_path / "kitti", frames=1)
    assert open_recordings(tmp_path / "own")[0].name == "own/a"
    assert open_recordings(tmp_path / "own" / "a")[0].name == "a"
    for path in (tmp_path / "kitti", tmp_path / "kitti" / "sequences", tmp_path / "kitti" / "sequences" / "06"):
        assert open_recordings(path)[0].name == "kitti_odometry/06"
    assert (
        open_recordings(tmp_path / "kitti" / "sequences" / "06" / "image_0", camera={"focal_px": 100})[0].name
        == "video/image_0"
    )


def test_a_folder_of_several_datasets_is_refused(tmp_path: Path, world: Any) -> None:
    """One of them was taken and the others left out without a word."""
    world.dataset(tmp_path / "data" / "a_set", {"train": ["a"]}, frames=1)
    world.kitti_odometry(tmp_path / "data", frames=1)
    with refuses(DataError, where="data", found=("kitti_odometry", "a_set")):
        open_recordings(tmp_path / "data")
    (tmp_path / "data" / "a_set" / "a").rename(tmp_path / "data" / "a")
    with refuses(DataError, where="data", found="kitti_odometry"):
        open_recordings(tmp_path / "data")
    world.dataset(tmp_path / "listed", {"train": ["a"]}, frames=1)
    (tmp_path / "listed" / "source").symlink_to(tmp_path / "data" / "sequences")
    assert open_recordings(tmp_path / "listed")[0].name == "listed/a", "dataset.json says which are meant"
    (tmp_path / "listed" / "dataset.json").write_text('{"foreign": 1}')
    with refuses(DataError, where="listed", found="kitti_odometry"):
        open_recordings(tmp_path / "listed")
    assert open_recordings(tmp_path / "data", "kitti_odometry")[0].name == "kitti_odometry/06"


def test_path_without_readable_data_is_refused(tmp_path: Path, one_line: OneLine) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in "abcdef":
        (tmp_path / "texts" / name).touch()
    (tmp_path / "table.csv").touch()
    (tmp_path / "environ").touch()
    for path, found in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "an empty folder"),
        (tmp_path / "texts", "a, b, c, d and 2 more"),
        (tmp_path / "table.csv", "a file ending in '.csv'"),
        (tmp_path / "environ", "a file without a suffix"),
    ):
        with pytest.raises(DataError) as caught:
            open_recordings(path)
        one_line(caught.value, path, found)
        if path.name == "texts":
            one_line(caught.value, *DATASETS, "stadia list datasets")
        elif path.exists():
            one_line(caught.value, "stadia list datasets")
        assert ("--images FOLDER" in str(caught.value.fix)) == (path.suffix == ".csv"), "poses need their images"


def test_unknown_names_are_refused_with_the_nearest(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.kitti_odometry(tmp_path, frames=1)
    with pytest.raises(ConfigError) as caught:
        open_recordings(tmp_path, "kiti_odometry")
    one_line(caught.value, "did you mean 'kitti_odometry'?")
    with pytest.raises(ConfigError) as caught:
        open_recordings(tmp_path, colr="gray", stride=0)
    one_line(caught.value, "colr", "'color'", "stride")
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path, recordings=("6",))
    one_line(caught.value, "no recording '6'", "did you mean '06'?")
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path, split="train")
    one_line(caught.value, "'train'", "data.split")


def test_option_without_effect_is_refused(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.kitti_odometry(tmp_path, frames=1)
    with pytest.raises(ConfigError) as caught:
        open_recordings(tmp_path, camera={"focal_px": 100}, stride=2)
    one_line(caught.value, "data.camera", "data.stride", "'kitti_odometry' does not use this option")
    assert not any(one.has_stride for one in open_recordings(tmp_path, color="gray", size=(48, 80)))


def test_frame_range_is_selected(tmp_path: Path, world: Any) -> None:
    world.kitti_odometry(tmp_path, frames=5)
    (whole,) = open_recordings(tmp_path)
    (part,) = open_recordings(tmp_path, frames=(1, 4))
    assert len(part) == 3
    assert part.name == whole.name
    for index in range(3):
        for side in part.sides:
            assert np.array_equal(part.image(index, side), whole.image(index + 1, side))
            assert part.file(index, side) == whole.file(index + 1, side)
            assert np.array_equal(part.T_world_camera(index, side), whole.T_world_camera(index + 1, side))
        assert part.timestamp_s(index) == whole.timestamp_s(index + 1)
    assert part.fingerprint() != whole.fingerprint()
    with pytest.raises(IndexError):
        part.image(3)
    with refuses(DataError, where="kitti_odometry/06", found="5"):
        open_recordings(tmp_path, frames=(1, 6))


def test_poses_are_replaced_from_a_file(tmp_path: Path, world: Any, one_line: OneLine) -> None:
    world.dataset(tmp_path / "own", {"train": ["a"]}, frames=3)
    shifted = [world.pose(i + 1) for i in range(3)]
    file = tmp_path / "poses.txt"
    file.write_text(world.rows(shifted))
    (recording,) = open_recordings(tmp_path / "own", poses=str(file))
    np.testing.assert_allclose(recording.T_world_camera(2), shifted[2], atol=1e-9)
    file.write_text(world.rows(shifted[:2]))
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path / "own", poses=str(file))
    one_line(caught.value, file, "2 poses", "3, one per image")
    world.recording(tmp_path / "own" / "b", 1)
    (tmp_path / "own" / "dataset.json").write_text(
        '{"format": "stadia", "version": 1, "splits": {"train": ["a", "b"]}}'
    )
    with refuses(DataError, where="poses.txt"):
        open_recordings(tmp_path / "own", poses=str(file))


@pytest.mark.parametrize(
    "text", ["1 2 3\n", "1 0 0 0 0 1 0 0 0 0 one 0\n", "nan 0 0 0 0 1 0 0 0 0 1 0\n", "2 0 0 0 0 1 0 0 0 0 1 0\n"]
)
def test_invalid_poses_are_refused(tmp_path: Path, world: Any, one_line: OneLine, text: str) -> None:
    world.recording(tmp_path / "a", 1)
    (tmp_path / "a" / "poses.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        open_recordings(tmp_path / "a")
    one_line(caught.value, tmp_path / "a" / "poses.txt", "1")


NAME = f"{__name__}:Drives"
K = np.array([[120.0, 0, 79.5], [0, 120, 47.5], [0, 0, 1]])


class Drives(DatasetFormat):
    """FOLDER/NAME.drive/0.png and on, all by one camera."""

    layout = "NAME.drive with images"

    def find_recordings(self, path: Path) -> dict[str, Path]:
        return {folder.stem: folder for folder in sorted(path.glob("*.drive"))}

    def open_recording(
        self, name: str, folder: Path, options: SourceOptions, progress: ReportProgress | None
    ) -> Recording:
        images = {LEFT: list_images(folder)}
        return ImageRecording(name=f"drives/{name}", images=images, intrinsics={LEFT: Intrinsics(K, 96, 160)})

    def splits(self, path: Path) -> dict[str, list[str]]:
        return {"train": ["drives/a"], "val": ["drives/b"]}


NO_FORMAT = Path  # another class


@pytest.fixture
def drives(tmp_path: Path, world: Any) -> Path:
    for name in ("a", "b"):
        for index in range(3):
            world.save(tmp_path / "drives" / f"{name}.drive" / f"{index}.png", world.render(index)[0])
    return tmp_path / "drives"


def test_an_own_format_is_opened_from_python(drives: Path, world: Any) -> None:
    first, second = open_recordings(drives, NAME)
    assert (first.name, second.name, len(first)) == ("drives/a", "drives/b", 3)
    assert np.array_equal(first.image(1), world.render(1)[0])
    assert [recording.name for recording in open_recordings(drives, NAME, split="val")] == ["drives/b"]


@pytest.mark.slow
def test_an_own_format_is_checked_and_trained_on_from_the_command_line(
    drives: Path, tmp_path: Path, stadia: Callable[..., tuple[int, str, str]]
) -> None:
    _, out, err = stadia("check", drives, "--format", NAME, "--json")
    assert "format" not in err
    places = {place for finding in json.loads(out) for place in finding["where"]}
    assert places, "the checks read the recordings"
    assert places <= {"drives/a", "drives/b"}
    words = (*NETWORK, "data.height=32", "data.width=96", "training.max_epochs=null", "training.max_steps=2")
    words += ("training.batch_size=1", "training.workers=0", f"data.format={NAME}")
    code, out, err = stadia(
        "train", "selfsup", "--data", drives, *words, "--out", tmp_path / "runs", "--on-stop", "warn"
    )
    assert code == 0, err
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "config.json").read_text())["data"]["format"] == NAME


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nowhere.module:Drives", ("the module 'nowhere' does not exist", "PYTHONPATH=FOLDER")),
        (f"{__name__}:Drive", (f"did you mean '{__name__}:Drives'",)),
        (f"{__name__}:NO_FORMAT", ("DatasetFormat", "stadia.data.open_dataset.DatasetFormat")),
        (
            "kitty_raw",
            ("one of shards, stadia, kitti_odometry", "module:attribute of your own", "did you mean 'kitti_raw'"),
        ),
    ],
)
def test_a_name_that_is_no_format_is_refused_in_one_line(
    drives: Path, one_line: OneLine, name: str, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        open_recordings(drives, name)
    one_line(caught.value, *parts)


def test_a_photo_next_to_its_depth_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "depth").mkdir()
    (tmp_path / "predictions.json").write_text("{}")
    cv2.imwrite(str(tmp_path / "side_by_side.png"), np.zeros((36, 108, 3), np.uint8))
    with refuses(DataError, found="a folder of predictions", fix="stadia evaluate --depth"):
        open_recordings(tmp_path)
