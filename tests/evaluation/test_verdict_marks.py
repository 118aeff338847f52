"""The verdict stands in the header of the point cloud, and in the legend of the video and of the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.datasets.video.video_decoding import stream_video
from stadia.evaluation.io.point_clouds import PlyWriter
from stadia.evaluation.plots.videos import draw_side_by_side, open_video_file
from stadia.files.image_io import write_image
from stadia.predict.outputs import CLOUD, IMAGE, VIDEO, mark_verdict
from stadia.web.video import read_cloud

HEIGHT, WIDTH = 96, 160


class Checker:
    def __init__(self, verdict: str) -> None:
        self.verdict = verdict

    def __call__(self, predicted: Any) -> None: ...

    def to_json(self) -> Mapping[str, Any]:
        return {"verdict": self.verdict}

    def describe_trust(self) -> str:
        return ""


def draw() -> np.ndarray:
    image, inverse = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.full((HEIGHT, WIDTH), 0.5, np.float32)
    return draw_side_by_side(image, inverse, 1.0, HEIGHT, WIDTH, DepthScale.UP_TO_SCALE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / CLOUD).open("wb") as stream:
        writer = PlyWriter(stream, "metres")
        writer.add(np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.uint8))
        writer.finish()
    with open_video_file(tmp_path / VIDEO, 25) as write:
        for _ in range(3):
            write(draw())
    return tmp_path


def read_header(folder: Path) -> str:
    return (folder / CLOUD).read_bytes().partition(b"end_header")[0].decode()


def read_legend(folder: Path) -> np.ndarray:
    """The strip below the image, of the last frame."""
    *_, last = stream_video(folder / VIDEO)
    return last.image[HEIGHT:, :WIDTH]


def test_a_verdict_that_is_not_usable_stands_in_cloud_and_video(folder: Path) -> None:
    before = read_cloud(folder / CLOUD)[0]
    assert "comment verdict of the depth: none" in read_header(folder)
    assert read_legend(folder).max() < 40
    mark_verdict(folder, Checker("unusable"))
    assert "comment verdict of the depth: unusable" in read_header(folder)
    np.testing.assert_array_equal(read_cloud(folder / CLOUD)[0], before)
    legend = read_legend(folder)
    assert legend.max() > 150
    assert legend[..., 0].max() > legend[..., 2].max() + 50, "red"
    frames = list(stream_video(folder / VIDEO))
    assert len(frames) == 3
    assert frames[1].time_s == pytest.approx(0.04)


def test_a_usable_depth_leaves_the_video_as_it_was_encoded(folder: Path) -> None:
    before = (folder / VIDEO).read_bytes()
    mark_verdict(folder, Checker("usable"))
    assert "comment verdict of the depth: usable" in read_header(folder)
    assert (folder / VIDEO).read_bytes() == before
    mark_verdict(folder, None)
    assert "comment verdict of the depth: usable" in read_header(folder)


def test_the_verdict_stands_in_the_image_of_a_photo(tmp_path: Path) -> None:
    from stadia.datasets.image_files import read_rgb

    write_image(tmp_path / IMAGE, draw()[..., ::-1])
    mark_verdict(tmp_path, Checker("doubtful"))
    after = read_rgb(tmp_path / IMAGE)
    assert after[HEIGHT:, :WIDTH].max() > 150
    np.testing.assert_array_equal(after[:HEIGHT], draw()[:HEIGHT])
