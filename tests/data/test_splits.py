"""Who trains and who validates, and that the two do not meet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stadia.core.config import resolve_config
from stadia.core.errors import DataError
from stadia.data.config import DataConfig, SplitConfig
from stadia.data.open_dataset import open_recordings
from stadia.data.splits import TrainValSplit, open_split, read_split_file, split_blocks

OneLine = Callable[..., None]


class Long:
    """A recording with the methods that splitting uses."""

    sides = ("left", "right")

    def __init__(self, name: str, frames: int, still: int = 0) -> None:
        self.name, self._frames, self._still = name, frames, still

    def __len__(self) -> int:
        return self._frames

    def map_neighbor(self, index: int, offset: int) -> int | None:
        return index + offset if self._still <= index + offset < self._frames else None


def blocks(frames: int = 2000, **how: Any) -> TrainValSplit:
    return split_blocks([Long("a", frames)], SplitConfig(**how))  # type: ignore[list-item]


def test_validation_blocks_are_separated_by_gaps() -> None:
    split = blocks(val_share=0.1, gap=10)
    (train,), (val,) = split.train, split.val
    assert len(val.indices) == 200
    assert np.count_nonzero(np.diff(val.indices) > 1) == 3, "four blocks in 2000 frames"
    apart = np.abs(np.subtract.outer(np.array(train.indices), np.array(val.indices))).min()
    assert apart == 11


def test_validation_frames_have_neighbors_if_the_camera_stands_first() -> None:
    """Names draw the block: some of them draw the frames in which a slow camera has no neighbor of enough parallax."""
    for name in "abcdefgh":
        recording = Long(name, 90, 60)
        (val,) = split_blocks([recording], SplitConfig()).val  # type: ignore[list-item]
        moving = [index for index in val.indices if recording.map_neighbor(index, -1) is not None]
        assert 2 * len(moving) >= len(val.indices) == 9


def test_splits_of_the_dataset_are_used(tmp_path: Path, world: Any) -> None:
    world.dataset(tmp_path, {"train": ["a", "b"], "val": ["c"], "test": ["d"]}, frames=3, depth=False)

    def names(**options: Any) -> tuple[list[str], list[str]]:
        split = open_split(resolve_config(DataConfig, {"path": str(tmp_path), **options}))
        return tuple([f.recording.name.split("/")[1] for f in part] for part in (split.train, split.val))  # type: ignore

    assert names() == (["a", "b"], ["c"])
    assert names(split_by={"val_recordings": ["a"]}) == (["b", "c"], ["a"]), "the test split stays out"
    assert names(recordings=["a", "d"], split_by={"val_recordings": ["d"]}) == (["a"], ["d"]), "unless it is selected"
    assert names(split="test")[0] == ["d"]


def test_split_files_select_frames(tmp_path: Path, world: Any) -> None:
    world.kitti_odometry(tmp_path, frames=4, first=7)
    (tmp_path / "train.txt").write_text("06 8 l\n06 0000000009 l\n\n06 8 r\n")
    (tmp_path / "val.txt").write_text("kitti_odometry/06 10\n")
    files = {"train_file": str(tmp_path / "train.txt"), "val_file": str(tmp_path / "val.txt")}
    split = open_split(DataConfig(path=str(tmp_path), split_by=SplitConfig(**files)))
    assert [(f.indices, f.side) for f in split.train] == [((1, 2), "left"), ((1,), "right")]
    assert [(f.indices, f.side) for f in split.val] == [((3,), "left")]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("06", ("'06'", "line 2", "recording frame l|r")),
        ("06 1 l l", ("line 2",)),
        ("06 one l", ("line 2",)),
        ("06 1 x", ("line 2",)),
        ("06 -1 l", ("line 2",)),
        ("07 1 l", ("recording '07'", "line 2", "kitti_odometry/06")),
        ("../06 1 l", ("recording '../06'",)),
        ("06 99 l", ("frame 99 left", "line 2", "1 such lines", "download them")),
        ("06 99\n06 1\n07 0\n06 98 r", ("frame 99 left of '06' in line 2", "3 such lines")),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, world: Any, one_line: OneLine, line: str, parts: tuple[str, ...]
) -> None:
    world.kitti_odometry(tmp_path, frames=2)
    file = tmp_path / "split.txt"
    file.write_text(f"06 0 l\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_split_file(file, open_recordings(tmp_path))
    one_line(caught.value, file, *parts)
