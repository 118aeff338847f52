"""Images of a camera that stands: the command says which frames were left out, and why."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.data.open_dataset import open_recordings
from stadia.training.loading.samples import VideoSamples


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "standing"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def test_check_names_the_frames_that_were_left_out(
    images: Path, stadia: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert "1 of 4 frames kept" in stadia("check", images, "data.camera.focal_px=60")[1]


def test_samples_name_the_frames_that_were_left_out(images: Path) -> None:
    recordings = open_recordings(images, camera={"focal_px": 60})
    with refuses(DataError, where="video/standing", found=("1", "4")):
        VideoSamples(recordings, height=32, width=64)
