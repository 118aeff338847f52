"""EuRoC's files as they can be wrong: one line each, naming the file, and nothing guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from euroc_layout import CAM0, FRAME_NS, START_NS, write_flat_sequence, write_ground_truth, write_images

from stadia.core.errors import DataError
from stadia.datasets.open_dataset import open_recordings

OneLine = Callable[..., None]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """mav0 of a sequence whose images are flat."""
    return write_flat_sequence(tmp_path / "set" / "MH_01_easy")


def _line(path: Path, number: int, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:number] + change(lines[number:])) + "\n")


SECOND, THIRD = (START_NS + FRAME_NS * index for index in (1, 2))
BAD: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "no right camera": (lambda m: (m / "cam1").rename(m / "x"), ("cam1", "no such folder", "cameras cam0 (left)")),
    "another distortion": (
        lambda m: CAM0.smaller().write(m / "cam0", distortion_model="omni"),
        ("cam0/sensor.yaml", "distortion_model 'omni'", "equidistant"),
    ),
    "cameras exchanged": (
        lambda m: ((m / "cam0").rename(m / "x"), (m / "cam1").rename(m / "cam0"), (m / "x").rename(m / "cam1")),
        ("right camera at (-0.11", "cam0 is the left camera"),
    ),
    "YAML that makes objects": (
        lambda m: (m / "cam0" / "sensor.yaml").write_text(f"!!python/object/apply:os.mkdir ['{m / 'made'}']"),
        ("cam0/sensor.yaml", "invalid YAML"),
    ),
    "list cut off between lines": (
        lambda m: _line(m / "cam0" / "data.csv", 3, lambda _: []),
        ("cam0/data.csv", "2 of 3 images listed", str(THIRD)),
    ),
    "other moments": (
        lambda m: (
            [p.unlink() for p in (m / "cam1" / "data").iterdir()]
            and write_images(m / "cam1", [7], lambda _: np.zeros((120, 188), np.uint8))
        ),
        ("cam1/data.csv", "images 250 ms and more from the left ones", "250 ms"),
    ),
    "ground truth of another time": (
        lambda m: write_ground_truth(m, np.arange(9) * 0.005, START_NS + 10**12),
        (
            "state_groundtruth_estimate0/data.csv",
            "ground truth from 1403716273.262 to",
            "1403715273.262 to 1403715273.362 s",
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(flat: Path, one_line: OneLine, name: str) -> None:
    spoil, parts = BAD[name]
    spoil(flat)
    with pytest.raises(DataError) as caught:
        open_recordings(flat.parent)
    one_line(caught.value, *parts)
    assert not (flat / "made").exists(), "YAML was run"


def test_a_later_image_of_another_size_is_refused_when_read(flat: Path, one_line: OneLine) -> None:
    assert cv2.imwrite(str(flat / "cam0" / "data" / f"{SECOND}.png"), np.zeros((60, 94), np.uint8))
    (recording,) = open_recordings(flat)
    with pytest.raises(DataError) as caught:
        recording.image(1)
    one_line(caught.value, SECOND, "94x60", "188x120")
