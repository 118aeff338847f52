"""The file of a lens on docs/how-to/undistort.md is read."""

from __future__ import annotations

import re
from pathlib import Path

from stadia.datasets.config import CameraConfig
from stadia.datasets.video.video_camera import find_lens

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "undistort.md"


def test_the_file_of_a_lens_on_the_page_is_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "K.json").write_text(text)
    lens = find_lens(CameraConfig(), tmp_path)
    assert lens is not None
    assert (lens.model, lens.height, lens.width, len(lens.coefficients)) == ("radial-tangential", 480, 752, 4)
    assert lens.corner_shift_px > 10
