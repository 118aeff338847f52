"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the suite runs one worker a core


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples; their licences keep them out of the project, so a test skips where they are absent."""
    folder = Path(os.environ.get("STADIA_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "kitti_odometry").is_dir():
        pytest.skip(f"no real samples in {folder}; set STADIA_REAL_DATA")
    return folder
