"""Opening any dataset: the format is detected, and errors name the expected layouts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import ConfigError, DataError
from stadia.datasets import DATASETS
from stadia.datasets.open_dataset import open_recordings

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


@pytest.mark.slow
def test_recordings_open_without_torch(tmp_path: Path, world: Any) -> None:
    """An exported network is run where no torch is: images, cameras and frames chosen of every format's recordings come
    without it.
    """
    world.dataset(tmp_path / "own", {"train": ["a"]}, frames=3)
    (recording,) = open_recordings(tmp_path / "own", frames=(1, 3))
    program = f"""
import sys
sys.modules["torch"] = None  # importing it raises ImportError
from stadia.datasets import DATASETS
from stadia.datasets.open_dataset import open_recordings
for name in DATASETS:
    DATASETS.load(name)
(recording,) = open_recordings({str(tmp_path / "own")!r}, frames=(1, 3))
print(recording.K(1).tolist(), recording.image(1).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == f"{recording.camera(1).K.tolist()} {recording.image(1).shape}", done.stderr
