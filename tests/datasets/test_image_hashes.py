"""A copy of an image is known again by what its file holds; recordings of one drive by their session."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from stadia.datasets.image_files import HASH_DIGITS, hash_file


def test_hash_identifies_copies_and_separates_images(tmp_path: Path) -> None:
    """Frames of one view that differ by the camera's noise alone."""
    digits = set()
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 2, (200, 300, 3))
        for suffix in (".png", ".jpg"):
            file = tmp_path / f"{number}{suffix}"
            cv2.imwrite(str(file), np.clip(120 + noise, 0, 255).astype(np.uint8))
            digits.add(hash_file(file))
    assert len(digits) == 8
    assert {len(each) for each in digits} == {HASH_DIGITS}
    assert hash_file(Path(shutil.copy(tmp_path / "0.png", tmp_path / "another name.png"))) == hash_file(
        tmp_path / "0.png"
    )
