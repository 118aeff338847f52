"""Videos and pictures as other programs write them: one drawn input of each kind, with its numbers."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from stadia.core.errors import DataError
from stadia.data.camera_file import CameraRequest, write_camera_file
from stadia.data.formats.photo_lens import describe_crop, read_lens
from stadia.data.lens_distortion import FITS, fit_camera
from stadia.data.video.video_camera import find_layout, fit_to_size
from stadia.geometry.cameras import Intrinsics
from stadia.io.image_files import read_image_header, read_rgb
from stadia.io.video_decoding import describe_display, stream_video


def test_images_of_another_shape_are_turned_or_cropped() -> None:
    known = Intrinsics(np.array([[500.0, 0, 318], [0, 510, 242], [0, 0, 1]]), 480, 640)
    centers = {how: fit_camera(known, how, 640, 480).K[:2, 2].tolist() for how in FITS[:2]}
    assert centers == {"turned-right": [237, 318], "turned-left": [242, 321]}
    cropped = fit_camera(known, "cropped", 180, 320).K
    assert (cropped[0, 0], cropped[1, 2]) == pytest.approx((250, 90.75))
    with pytest.raises(DataError) as caught:
        fit_to_size(known, Path("images"), 640, 480, Path("cam.yaml"))
    assert "turned by 90 degrees" in str(caught.value.found)
    assert "--calibration cam.yaml --fit turned-right" in str(caught.value.fix)


# -- pictures


def make_picture() -> np.ndarray:
    """Return (60, 80, 3) of smooth colors."""
    y, x = np.mgrid[:60, :80]
    return np.stack([2 * x, 3 * y, 255 - x - y], -1).astype(np.uint8)


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "TIFF", "BMP", "GIF"])
def test_the_bytes_of_a_picture_decide(format: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(make_picture()).save(path, format=format)
    difference = np.abs(read_rgb(path).astype(int) - make_picture())
    assert difference.mean() < 6
    header = read_image_header(path)
    assert header is not None
    assert (header.width, header.height, header.bits) == (80, 60, 8)


def test_a_tiff_of_depth_is_no_picture(tmp_path: Path) -> None:
    Image.fromarray(np.full((60, 80), 1000, np.uint16)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="depth"):
        read_rgb(tmp_path / "a.tif")


def test_exif_of_a_cropped_photo(tmp_path: Path) -> None:
    photo, exif = Image.fromarray(make_picture()), Image.Exif()
    exif.get_ifd(0x8769).update({0xA405: 26, 0xA002: 4000, 0xA003: 3000})
    photo.save(tmp_path / "whole.jpg", exif=exif)
    photo.crop((0, 0, 80, 30)).save(tmp_path / "crop.jpg", exif=exif)
    assert describe_crop(tmp_path / "whole.jpg") is None
    assert "cropped" in (describe_crop(tmp_path / "crop.jpg") or "")


def test_a_panorama_is_refused(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r GPano:ProjectionType="equirectangular"/></x:xmpmeta>'
    Image.fromarray(make_picture()).save(tmp_path / "pano.jpg", xmp=xmp)
    with pytest.raises(DataError, match="panorama"):
        read_lens(tmp_path / "pano.jpg")
    for given in ({"fov_deg": 60.0}, {"focal_px": 700.0}, {"focal_mm": 26.0}):
        with pytest.raises(DataError, match="panorama"):
            write_camera_file(CameraRequest(source=tmp_path / "pano.jpg", **given))


# -- videos


def write_video(path: Path, frames: list[np.ndarray], change: Callable[[object], None] = lambda _: None) -> Path:
    """Write frames (H, W, 3) as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        change(stream)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_scene(shift: int = 0) -> np.ndarray:
    """Return (120, 160, 3) of a gray texture that moves."""
    texture = np.random.default_rng(3).uniform(0, 255, (30, 80, 1)).astype(np.uint8).repeat(3, axis=2)
    return np.asarray(cv2.resize(texture, (320, 120), interpolation=cv2.INTER_CUBIC)[:, shift : shift + 160])


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    def set_aspect(stream: object) -> None:
        stream.codec_context.sample_aspect_ratio = 2  # type: ignore[attr-defined]

    path = write_video(tmp_path / "a.mp4", [make_scene()] * 3, set_aspect)
    assert next(stream_video(path)).image.shape == (120, 320, 3)
    assert describe_display(path) == ("aspect 2",)


def test_the_largest_stream_is_used(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, (height, width) in zip(streams, ((60, 80), (120, 160)), strict=True):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for stream in streams:
            image = cv2.resize(make_scene(), (stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    assert next(stream_video(tmp_path / "a.mp4")).image.shape == (120, 160, 3)


def test_two_fields_of_two_times(tmp_path: Path) -> None:
    woven = []
    for k in range(4):
        image = make_scene(20 * k)
        image[1::2] = make_scene(20 * k + 10)[1::2]
        woven.append(image)

    def interlace(stream: object) -> None:
        stream.codec_context.options = {"x264-params": "tff=1"}  # type: ignore[attr-defined]

    path = write_video(tmp_path / "a.mp4", woven, interlace)
    shown = next(stream_video(path)).image.astype(int)
    assert np.abs(shown - make_scene()).mean() < 12
    assert "interlaced" in describe_display(path)


@pytest.mark.parametrize(
    ("layout", "first", "second"), [("left-right", slice(None), 1), ("top-bottom", slice(None), 0), (None, None, None)]
)
def test_several_pictures_in_one_frame(layout: str | None, first: object, second: int | None) -> None:
    frames = [make_scene(12 * k) for k in range(4)]
    if second is not None:
        frames = [np.concatenate([frame, 255 - frame[::-1]], second) for frame in frames]
    assert find_layout(frames) == layout


@pytest.mark.parametrize("block", [20, 40, 64])
def test_edges_of_a_texture_are_no_seam(block: int) -> None:
    """A rendered wall of blocks has an edge at the middle column, and at others."""
    pattern = np.kron(np.random.default_rng(0).integers(0, 255, (12, 40), np.uint8), np.ones((block, block), np.uint8))
    frames = [np.repeat(pattern[:480, block * k : block * k + 640, None], 3, 2) for k in range(4)]
    assert find_layout(frames) is None
