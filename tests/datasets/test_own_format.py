"""A dataset format of the user's own, which this file defines: named from the command line and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_documented_commands import NETWORK

from stadia.core.errors import ConfigError
from stadia.core.recording import LEFT, Recording
from stadia.datasets.config import SourceOptions
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.image_files import list_images
from stadia.datasets.open_dataset import DatasetFormat, open_recordings
from stadia.datasets.recordings import ImageRecording, Intrinsics

OneLine = Callable[..., None]
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


NO_FORMAT = Path("a dataset format is a class")


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
        (f"{__name__}:NO_FORMAT", ("DatasetFormat", "stadia.datasets.open_dataset.DatasetFormat")),
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
