"""The camera of your own images where a network predicts: known before assumed, and always stated."""

import io
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.data.mapped_images import make_record

from stadia.data.config import CameraConfig
from stadia.data.video.input_camera import choose_input_camera
from stadia.data.video.video_camera import CAMERA_ADVICE
from stadia.data.video.video_map import find_map_folder
from stadia.geometry.cameras import ASSUMED_LONGER_FOV_DEG
from stadia.io.image_files import read_rgb, read_upright_size
from stadia.io.video_decoding import hash_source
from stadia.predict.inputs import open_inputs
from stadia.training.recipes import configure
from stadia.training.training_data import choose_cameras

EXIF_IFD, FOCAL_35MM, ORIENTATION = 0x8769, 0xA405, 0x0112


def write_photo(path: Path, height: int, width: int, *, focal_mm: int | None = None, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if focal_mm is not None:
        exif.get_ifd(EXIF_IFD)[FOCAL_35MM] = focal_mm
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def make_map(source: Path, origin: str, focal_px: float) -> None:
    find_map_folder(source).mkdir(exist_ok=True)
    record = make_record(hash_source(source), [], focal_px, origin)
    (find_map_folder(source) / "map.json").write_text(json.dumps(record))


def test_a_photo_has_the_lens_of_its_exif(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.jpg", 480, 640, focal_mm=33)
    (given,) = open_inputs(photo)
    assert given.camera_lines() == ["camera: 33 mm lens of EXIF, 55.3 x 42.9 degrees"]
    assert not given.camera_is_assumed


@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 48), (40, 40)])
def test_without_exif_a_field_of_view_is_assumed_and_stated(tmp_path: Path, height: int, width: int) -> None:
    (given,) = open_inputs(write_photo(tmp_path / "photo.png", height, width))
    (frame,) = given.frames
    longest = 2 * math.degrees(math.atan(max(height, width) / 2 / frame.K[0, 0]))
    assert longest == pytest.approx(ASSUMED_LONGER_FOV_DEG)
    assert frame.K[0, 0] == frame.K[1, 1]
    (line,) = given.camera_lines()
    assert line.startswith("camera: assumed, 60 degrees across the longer side")
    assert "--fov" in line
    assert given.camera_is_assumed


def test_what_is_known_comes_before_what_is_assumed(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.jpg", 48, 64, focal_mm=33)
    trained = CameraConfig(K=((50, 0, 31.5), (0, 50, 23.5), (0, 0, 1)), size=(48, 64))
    origins = [choose_input_camera(CameraConfig(), photo, trained).origin]
    clip = tmp_path / "clip"
    clip.mkdir()
    write_photo(clip / "0.png", 48, 64)
    origins.append(choose_input_camera(CameraConfig(), clip, trained).origin)
    make_map(clip, "uncertain", 70)
    unsure = choose_input_camera(CameraConfig(), clip)
    (given,) = open_inputs(clip)
    origins.append(unsure.origin)
    make_map(clip, "estimated", 70)
    origins.append(choose_input_camera(CameraConfig(), clip).origin)
    (clip / "K.txt").write_text("60 0 31.5\n0 60 23.5\n0 0 1\n")
    origins.append(choose_input_camera(CameraConfig(), clip).origin)
    origins.append(choose_input_camera(CameraConfig(focal_px=60), clip).origin)
    assert origins == [
        "33 mm lens of EXIF",
        "the camera of the training",
        "from clip.map, whose motion does not determine it",
        "clip.map (estimated)",
        "K.txt",
        "given by data.camera",
    ]
    assert unsure.is_assumed
    assert unsure.describe_origin().partition(",")[0] == "uncertain", "the word in the record of the map"
    assert next(iter(given.frames)).K[0, 0] == 70


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_decoded_image(tmp_path: Path, orientation: int) -> None:
    photo = write_photo(tmp_path / "photo.jpg", 48, 64, orientation=orientation)
    assert read_upright_size(photo) == read_rgb(photo).shape[:2]


def test_a_training_assumes_a_camera_with_the_warning_of_predict(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        cv2.imwrite(str(images / f"{number}.png"), np.full((64, 96, 3), 40 * number, np.uint8))
    printed = io.StringIO()
    console = Console(file=printed, width=400)
    chosen = choose_cameras(configure("selfsup", [], data={"path": str(images)}), console)
    assert chosen.data.camera.focal_px == choose_input_camera(CameraConfig(), images).config.focal_px
    assert CAMERA_ADVICE in printed.getvalue()
    given = choose_cameras(configure("selfsup", ["data.camera.focal_px=90"], data={"path": str(images)}), console)
    assert given.data.camera.focal_px == 90
    assert printed.getvalue().count(CAMERA_ADVICE) == 1
