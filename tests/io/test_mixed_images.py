"""Images of several sizes are counted and named, and a video of two fisheye circles is recognized."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stadia.io.image_files import describe_other_sizes, fix_image_size
from stadia.io.video_decoding import shows_two_fisheyes


def test_other_sizes_are_counted_with_their_exif_turns(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    sizes = {"a.jpg": ((60, 40), None), "b.jpg": ((40, 60), None), "c.jpg": ((60, 40), turned)}
    for name, (size, exif) in sizes.items():
        Image.new("RGB", size).save(tmp_path / name, exif=exif or Image.Exif())
    text = describe_other_sizes([tmp_path / name for name in sizes], (60, 40))
    assert "2 of 3 images" in text
    assert "b.jpg, c.jpg" in text
    assert "1 of them turned by their Exif tag" in text


@pytest.mark.parametrize(
    ("found", "fix"), [((180, 270), "orientation"), ((300, 300), "each size"), ((540, 360), "rescale")]
)
def test_images_are_rescaled_only_within_one_shape(found: tuple[int, int], fix: str) -> None:
    assert fix in fix_image_size(found, (270, 180))


def test_two_fisheye_circles_are_recognized() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(40, 200, (64, 128, 3), dtype=np.uint8)
    assert not shows_two_fisheyes(image)
    y, x = np.mgrid[:64, :64] - 31.5
    outside = np.hypot(x, y) > 32
    for half in (image[:, :64], image[:, 64:]):
        half[outside] = 0
    assert shows_two_fisheyes(image)
    assert not shows_two_fisheyes(np.zeros_like(image)), "black frames"
