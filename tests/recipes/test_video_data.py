"""What opening video for a training settles of its ground truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from rich.console import Console

from stadia.data.config import DataConfig
from stadia.recipes.video import open_video
from stadia.training.config import TrainingConfig


def thinned_worlds(worlds: Path, out: Path, share: float) -> Path:
    """The same worlds with ground truth at so many of the pixels."""
    shutil.copytree(worlds, out)
    rng = np.random.default_rng(0)
    for path in sorted(out.glob("*/depth/*/*.npy")):
        depth_m = np.load(path, allow_pickle=False)
        np.save(path, np.where(rng.random(depth_m.shape) < share, depth_m, 0).astype(np.float32))
    return out


def settled(path: Path, folder: Path) -> DataConfig:
    config = DataConfig(path=str(path), height=32, width=96, ground_truth_depth=True, cache={"folder": str(folder)})
    return open_video(config, TrainingConfig(workers=0), seed=0, console=Console(quiet=True)).config


def test_a_surface_and_single_returns_are_told_apart(worlds: Path, tmp_path: Path) -> None:
    assert settled(worlds, tmp_path / "cache").sparse_depth is False
    assert settled(thinned_worlds(worlds, tmp_path / "thin", 0.1), tmp_path / "cache").sparse_depth is True
