"""The Python of docs/how-to/undistort.md makes pinhole images of the rendered world out of distorted ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from euroc_layout import CAM0, EQUIDISTANT

from stadia.datasets.open_dataset import open_recordings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "undistort.md"
FRAMES = 3


def set_value(code: str, name: str, value: str) -> str:
    """Return the code of the page with another value of one of its first lines."""
    changed, count = re.subn(rf"^{name} = .*$", lambda _: f"{name} = {value}", code, flags=re.MULTILINE)
    assert count == 1, name
    return changed


@pytest.mark.parametrize("is_fisheye", [False, True])
def test_the_python_of_the_page_undistorts(
    is_fisheye: bool, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lens = CAM0.smaller()
    lens = replace(lens, model="equidistant", coefficients=EQUIDISTANT[0]) if is_fisheye else lens
    Path("raw").mkdir()
    for index in range(FRAMES):
        assert cv2.imwrite(f"raw/{index:06d}.png", world.paint(world.pose(index), lens.rays())[0][..., ::-1])
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    fx, fy, cx, cy = lens.intrinsics
    code = set_value(code, "VIDEO", repr("raw/%06d.png"))
    code = set_value(code, "IS_FISHEYE", repr(is_fisheye))
    code = set_value(code, "K", f"np.array([[{fx}, 0, {cx}], [0, {fy}, {cy}], [0, 0, 1]])")
    code = set_value(code, "COEFFICIENTS", f"np.array({list(lens.coefficients)})")
    exec(compile(code, str(PAGE), "exec"), {})

    (recording,) = open_recordings("undistorted", frame_rate_hz=30, stride=1)  # its K.txt is the camera
    assert len(recording) == FRAMES
    width, height = lens.size
    rays = world.pinhole_rays(recording.K(0), height, width)
    for index in range(FRAMES):
        image, true = recording.image(index), world.paint(world.pose(index), rays)[0]
        assert np.abs(image.astype(int) - true).mean() < 1, "the image of the pinhole camera in K.txt"
        assert image.min() > 30, "as in the world: no black border"
    raw = world.paint(world.pose(0), lens.rays())[0]
    assert np.abs(raw.astype(int) - world.paint(world.pose(0), rays)[0]).mean() > 5, "the lens was not a pinhole"
