"""Drawings of roads: lines where geometry says, colors by verdict, figures that show their numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from stadia.core.types import Camera, DepthScale
from stadia.evaluation.plots.image_sheets import HORIZON, PLANE, draw_horizon, draw_image_sheet, draw_plane
from stadia.evaluation.plots.videos import draw_side_by_side, open_video_file, write_video_verdict
from stadia.evaluation.point_clouds import PlyWriter, write_cloud_verdict
from stadia.geometry.ground.camera_height import horizon_from_angles
from stadia.io.video_decoding import stream_video
from stadia.predict.run import CLOUD, VIDEO
from stadia.web.video import read_cloud

K = np.array([[300.0, 0, 160], [0, 300, 60], [0, 0, 1]])
BLACK = np.zeros((120, 320, 3), np.uint8)
SCALE = 18 * 100 / 320
"""Pixels of a sheet of one image to a pixel of BLACK."""


def draw(draw_over: Callable[[Axes], object], image: np.ndarray = BLACK) -> np.ndarray:
    """Return a sheet of one image without its name and its legend."""
    sheet = draw_image_sheet({"": image}, [], columns=1, draw_over=lambda axes, name: draw_over(axes))
    return sheet[: round(SCALE * len(image))]


def at(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(image.astype(int) - color).max(-1) < 60  # edges are smoothed


@pytest.mark.slow
def test_the_horizon_is_where_it_is():
    rows = at(draw(lambda axes: draw_horizon(axes, (0, -1, 40.0))), HORIZON).nonzero()[0]
    assert np.median(rows) == pytest.approx(SCALE * 40.5, abs=2)
    assert np.ptp(rows) < 8
    for nowhere in ((np.nan, np.nan, np.nan), (1.0, 0.0, -5.0), (0.0, -1.0, 9e9)):
        assert not at(draw(lambda axes, line=nowhere: draw_horizon(axes, line)), HORIZON).any()


@pytest.mark.slow
@pytest.mark.parametrize("roll_deg", [0.0, 8.0])
def test_the_plane_lies_below_its_horizon_and_shrinks_towards_it(roll_deg):
    camera = Camera(np.array([[300.0, 0, 160], [0, 300, 60], [0, 0, 1]]), 120, 320)
    horizon = horizon_from_angles(camera, pitch_deg=1, roll_deg=roll_deg)
    normal = K.T @ horizon
    up = normal / np.linalg.norm(normal)
    drawn = at(draw(lambda axes: draw_plane(axes, K, (*up.tolist(), 1.5))), PLANE)
    rows, columns = (index / SCALE - 0.5 for index in drawn.nonzero())
    above = columns * float(horizon[0]) + rows * float(horizon[1]) + float(horizon[2])
    assert drawn.sum() > 200
    assert above.max() < -300 * 1.5 / 45  # 40 m ahead, and a pixel for its width
    assert not at(draw(lambda axes: draw_plane(axes, K, (0, -1, 0, np.nan))), PLANE).any()


def near(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - color).max(-1) < 4).sum())


HEIGHT, WIDTH = 96, 160


def draw_of_verdict_marks() -> np.ndarray:
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
            write(draw_of_verdict_marks())
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
    write_cloud_verdict(folder / CLOUD, "unusable")
    write_video_verdict(folder / VIDEO, "unusable")
    assert "comment verdict of the depth: unusable" in read_header(folder)
    np.testing.assert_array_equal(read_cloud(folder / CLOUD)[0], before)
    legend = read_legend(folder)
    assert legend.max() > 150
    assert legend[..., 0].max() > legend[..., 2].max() + 50, "red"
    frames = list(stream_video(folder / VIDEO))
    assert len(frames) == 3
    assert frames[1].time_s == pytest.approx(0.04)
