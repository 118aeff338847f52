"""2D points of a COLMAP model that belong to other images than its cameras are named, and right ones are not."""

from pathlib import Path

import numpy as np
import pytest

from stadia.io.records.read import read_reconstruction
from stadia.judge.reconstructions.model_points import add_model_note

pytest.importorskip("pycolmap")
FOCAL_PX, WIDTH, HEIGHT, IMAGES, POINTS = 500.0, 540, 360, 4, 40


def write_model(folder: Path, scale: float, shift: tuple[float, float], noise_px: float = 0.0) -> Path:
    """Write cameras on a line that see random points, whose 2D points are scaled and shifted."""
    random = np.random.default_rng(0)
    points = random.uniform([-1, -0.7, 4], [1.5, 0.7, 6], (POINTS, 3))
    folder.mkdir()
    (folder / "cameras.txt").write_text(f"1 PINHOLE {WIDTH} {HEIGHT} {FOCAL_PX} {FOCAL_PX} 270 180\n")
    images, tracks = list[str](), [list[str]() for _ in points]
    for image in range(IMAGES):
        moved = points - [0.1 * image, 0, 0]
        pixels = FOCAL_PX * moved[:, :2] / moved[:, 2:] + [270, 180]
        pixels = scale * pixels + shift + noise_px * random.normal(size=pixels.shape)
        images.append(f"{image + 1} 1 0 0 0 {-0.1 * image} 0 0 1 {image}.jpg\n")
        images.append(" ".join(f"{x:.4f} {y:.4f} {row + 1}" for row, (x, y) in enumerate(pixels)) + "\n")
        for row, track in enumerate(tracks):
            track.append(f"{image + 1} {row}")
    (folder / "images.txt").write_text("".join(images))
    rows = zip(points, tracks, strict=True)
    texts = (f"{k} {x} {y} {z} 9 9 9 0 {' '.join(track)}\n" for k, ((x, y, z), track) in enumerate(rows, 1))
    (folder / "points3D.txt").write_text("".join(texts))
    return folder


def find_note(folder: Path) -> str:
    """Return the note on 2D points; empty without one."""
    read = add_model_note(read_reconstruction(folder))
    return next((note for note in read.notes if "2D points" in note), "")


def test_points_of_padded_images_are_named(tmp_path: Path) -> None:
    """Vggsfm 36: points of images that were padded to 1024x1024, and cameras of the original ones."""
    note = find_note(write_model(tmp_path / "padded", 1024 / 540, (0, 170.7)))
    assert "scaled by 1.896 and shifted by (" in note
    assert "171) px" in note
    assert find_note(write_model(tmp_path / "right", 1, (0, 0), 2.0)) == ""
    assert "scaled" not in find_note(write_model(tmp_path / "noise", 1, (0, 0), 90.0))
