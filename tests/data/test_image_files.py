"""Images and depth files: read whole, or refused in one line that names the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.refusals import refuses

from stadia.core.errors import DataError
from stadia.io.image_files import (
    HASH_DIGITS,
    check_depth_map,
    check_one_kind,
    hash_file,
    list_images,
    read_depth_png,
    read_rgb,
)

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
OneLine = Callable[..., None]


def encoded(suffix: str, image: np.ndarray = IMAGE) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def test_png_is_read_to_the_bit_and_jpeg_nearly(tmp_path: Path) -> None:
    smooth = cv2.GaussianBlur(IMAGE, (0, 0), 4)
    for suffix, tolerance in ((".png", 0), (".jpg", 8)):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encoded(suffix, smooth))
        assert np.abs(read_rgb(path).astype(int) - smooth).max() <= tolerance


def test_gray_and_16_bit_become_rgb(tmp_path: Path) -> None:
    gray = IMAGE[..., 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "deep.png"), gray.astype(np.uint16) * 256)
    for name in ("gray.png", "deep.png"):
        assert np.array_equal(read_rgb(tmp_path / name), np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("cut.png", encoded(".png")[:-3000], "cut off after"),
        ("end.png", encoded(".png")[:-6], "cut off after"),
        ("cut.jpg", encoded(".jpg")[:2000], "cut off after"),
        ("refilled.jpg", encoded(".jpg")[:2000] + b"\xff\xd9", "compressed data"),
        ("empty.png", b"", "an empty file"),
        ("text.jpg", b"not an image", "neither PNG nor JPEG"),
        ("header.png", encoded(".png")[:8] + encoded(".png")[-12:], "a damaged PNG"),
    ],
)
def test_damaged_images_are_refused(
    tmp_path: Path, one_line: OneLine, capfd: pytest.CaptureFixture[str], name: str, data: bytes, fault: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_rgb(path)
    one_line(caught.value, path, fault)


def test_images_are_listed_in_natural_order(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.PNG", "f100.jpg", "f1.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == ["f1.jpeg", "f9.PNG", "f10.png", "f100.jpg"]


def test_folder_without_images_is_refused(tmp_path: Path, one_line: OneLine) -> None:
    for folder, found in (
        (tmp_path / "none", "no such folder"),
        (tmp_path / "empty", "an empty folder"),
        (tmp_path / "text", "no image"),
    ):
        if folder.name != "none":
            folder.mkdir()
        if folder.name == "text":
            (folder / "a.txt").touch()
        with pytest.raises(DataError) as caught:
            list_images(folder)
        one_line(caught.value, folder, found)


def test_depth_png(tmp_path: Path, one_line: OneLine) -> None:
    stored = np.array([[0, 1000, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), stored)
    assert read_depth_png(tmp_path / "d.png", units_per_metre=1000, invalid=(0, 65535)).tolist() == [[0, 1, 0]]
    assert read_depth_png(tmp_path / "d.png", units_per_metre=256)[0, 2] == pytest.approx(65535 / 256)
    cv2.imwrite(str(tmp_path / "eight.png"), stored.astype(np.uint8))
    with pytest.raises(DataError) as caught:
        read_depth_png(tmp_path / "eight.png", units_per_metre=256)
    one_line(caught.value, tmp_path / "eight.png", "uint8", "16-bit")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_depth_of_8_bits_or_three_channels_is_refused(value: float, one_line: OneLine) -> None:
    depth = np.ones((4, 5), np.float32)
    depth[2, 3] = value
    with pytest.raises(DataError) as caught:
        check_depth_map(Path("depth.npy"), depth, 4, 5)
    one_line(caught.value, "depth.npy", "row 2, column 3", "1 such")


def test_depth_beside_color_is_refused(tmp_path: Path) -> None:
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}_color.png"), np.zeros((4, 4, 3), np.uint8))
    check_one_kind(list_images(tmp_path))
    cv2.imwrite(str(tmp_path / "1_depth.png"), np.ones((4, 4), np.uint16))
    with refuses(DataError, found=("1_depth.png", "16")):
        check_one_kind(list_images(tmp_path))


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
