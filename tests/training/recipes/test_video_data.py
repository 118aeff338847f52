"""What opening video for a training settles of its ground truth."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from stadia.data.config import DataConfig
from stadia.judge.finding import Severity
from stadia.training.loop.config import TrainingConfig
from stadia.training.recipes.base.video_data import VideoData, open_video


def thinned_worlds(worlds: Path, out: Path, share: float) -> Path:
    shutil.copytree(worlds, out)
    rng = np.random.default_rng(0)
    for path in sorted(out.glob("*/depth/*/*.npy")):
        depth_m = np.load(path, allow_pickle=False)
        np.save(path, np.where(rng.random(depth_m.shape) < share, depth_m, 0).astype(np.float32))
    return out


def settled(path: Path, folder: Path) -> DataConfig:
    config = DataConfig(path=str(path), height=32, width=96, ground_truth_depth=True, cache={"folder": str(folder)})
    return open_video(config, TrainingConfig(workers=0), seed=0, console=Console(quiet=True)).config


def test_dense_and_sparse_depth_are_distinguished(worlds: Path, tmp_path: Path) -> None:
    assert settled(worlds, tmp_path / "cache").sparse_depth is False
    assert settled(thinned_worlds(worlds, tmp_path / "thin", 0.1), tmp_path / "cache").sparse_depth is True


@pytest.mark.slow
def test_a_standing_camera_stops_only_what_learns_from_motion(worlds: Path, tmp_path: Path) -> None:
    standing = tmp_path / "standing"
    shutil.copytree(worlds, standing)
    rng = np.random.default_rng(0)
    for folder in standing.glob("*/left"):
        first, *others = sorted(folder.iterdir())
        image = cv2.imread(str(first)).astype(int)
        for path in others:  # sensor noise makes the images different
            cv2.imwrite(str(path), np.clip(image + rng.integers(-2, 3, image.shape), 0, 255))

    def opened(offsets: tuple[int, ...]) -> VideoData:
        config = DataConfig(
            path=str(standing),
            height=32,
            width=96,
            offsets=offsets,
            stereo=False,
            cache={"folder": str(tmp_path / "cache")},
        )
        return open_video(config, TrainingConfig(workers=0), seed=0, console=Console(quiet=True))

    of_motion, of_single = ({f.severity for f in opened(o).findings() if f.code == "D03"} for o in ((-1, 1), ()))
    assert of_motion
    assert Severity.NOTE not in of_motion
    assert of_single == {Severity.NOTE}
