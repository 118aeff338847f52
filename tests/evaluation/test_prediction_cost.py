"""What prediction spends on each frame: no growing tables, no slow copies, and the same pictures as before."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stadia.core.types import DepthScale
from stadia.evaluation.plots.colormaps import color_inverse_depth
from stadia.evaluation.plots.videos import MIN_BILINEAR, draw_side_by_side, open_video_file

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), (0, 0), 3)


def test_colors_are_drawn_into_a_part_of_an_image() -> None:
    """The colors are those of OpenCV's map, and nothing beside them changes."""
    values = np.linspace(0, 1.2, 130 * 40, dtype=np.float32).reshape(130, 40)
    whole = np.full((140, 60, 3), 7, np.uint8)
    drawn = color_inverse_depth(values, top=1.0, out=whole[5:135, 10:50])
    shares = (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    expected = cv2.applyColorMap(shares, cv2.COLORMAP_MAGMA)[..., ::-1]
    assert np.array_equal(drawn, expected)
    assert np.array_equal(whole[5:135, 10:50], expected)
    assert (whole.sum() - expected.sum(dtype=np.int64)) == 7 * 3 * (140 * 60 - 130 * 40)


@pytest.mark.parametrize(("height", "is_exact"), [(int(240 * MIN_BILINEAR) - 2, True), (200, False)])
def test_images_that_shrink_little_are_resized_bilinearly(height: int, is_exact: bool) -> None:
    width = height * 320 // 240
    shown = draw_side_by_side(SMOOTH, np.ones((6, 8), np.float32), 1.0, height, width, DepthScale.METRES)
    area = cv2.resize(SMOOTH, (width, height), interpolation=cv2.INTER_AREA)
    difference = np.abs(shown[:height, :width].astype(int) - area)
    assert (difference.max() == 0) == is_exact
    assert difference.mean() < 1


def test_a_video_keeps_its_images(tmp_path: Path) -> None:
    """Colors and brightness come back: a wrong conversion to planes of color would shift them."""
    with open_video_file(tmp_path / "a.mp4", 10) as write:
        for _ in range(3):
            write(SMOOTH)
    with av.open(str(tmp_path / "a.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)]
    assert len(images) == 3
    for image in images:
        assert 10 * np.log10(255**2 / np.mean((image - SMOOTH) ** 2)) > 36
        assert np.abs((image - SMOOTH).mean((0, 1))).max() < 2
