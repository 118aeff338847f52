"""Cameras, videos and pictures as other programs write them: one drawn input of each kind, with its numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from stadia.core.errors import DataError
from stadia.data.formats.calibration_files import read_calibration
from stadia.data.formats.photo_lens import describe_crop, read_lens
from stadia.data.lens_distortion import EQUIDISTANT, FITS, FOV, RADTAN, fit_camera
from stadia.data.video.video_camera import find_layout, fit_to_size
from stadia.geometry.cameras import Intrinsics
from stadia.io.image_files import read_image_header, read_rgb
from stadia.io.video_decoding import describe_display, stream_video

IDENTITY_R = "[1, 0, 0, 0, 1, 0, 0, 0, 1]"


def make_info(K: str, P: str, *, width: int = 800, height: int = 600, extra: str = "") -> str:
    """Return a camera_info as ROS prints it."""
    return (
        f"height: {height}\nwidth: {width}\ndistortion_model: plumb_bob\nd: [0, 0, 0, 0, 0]\nk: {K}\nr: {IDENTITY_R}\n"
        f"p: {P}\n{extra}"
    )


K_ROS, P_ROS = "[620, 0, 410, 0, 622, 305, 0, 0, 1]", "[620, 0, 410, 0, 0, 622, 305, 0, 0, 0, 1, 0]"
REGION = "binning_x: 2\nbinning_y: 2\nroi:\n  x_offset: 100\n  y_offset: 60\n  height: 480\n  width: 600\n"
METASHAPE = """<document><sensor><calibration type="frame" class="{kind}"><resolution width="800" height="600"/>
<f>610.5</f><cx>4</cx><cy>-3</cy><k1>-0.1</k1><k2>0.02</k2><p1>0.001</p1><p2>0.002</p2></calibration></sensor></document>
"""

CASES: dict[str, tuple[str, str, tuple[float, float, float, float], tuple[int, int] | None, str]] = {
    # name: file, text, fx fy cx cy, (height, width), model
    "region and binning": ("info.yaml", make_info(K_ROS, P_ROS, extra=REGION), (310, 311, 154.75, 122.25), (240, 300),
                           RADTAN),
    "binned already": ("info.yaml", make_info(K_ROS, P_ROS, width=1600, height=1200,
                                              extra="binning_x: 2\nbinning_y: 2\n"), (620, 622, 410, 305), (600, 800),
                       RADTAN),
    "several messages": ("info.yaml", make_info(K_ROS, P_ROS) + "---\n" + make_info(P_ROS, P_ROS), (620, 622, 410, 305),
                         (600, 800), RADTAN),
    "k of zeros": ("info.yaml", make_info("[0, 0, 0, 0, 0, 0, 0, 0, 0]", P_ROS), (620, 622, 410, 305), (600, 800),
                   RADTAN),
    "Record3D": ("metadata.json", json.dumps({"w": 800, "h": 600, "K": [620, 0, 0, 0, 622, 0, 410, 305, 1],
                                              "poses": []}), (620, 622, 410, 305), (600, 800), RADTAN),
    "is_fisheye": ("transforms.json", json.dumps({"fl_x": 620, "fl_y": 622, "cx": 410.5, "cy": 305.5, "w": 800,
                                                  "h": 600, "is_fisheye": True, "k1": 0.1, "k4": 0.02, "frames": []}),
                   (620, 622, 410, 305), (600, 800), EQUIDISTANT),
    "Metashape": ("cameras.xml", METASHAPE.format(kind="adjusted"), (610.5, 610.5, 403.5, 296.5), (600, 800), RADTAN),
    "Metashape without cx": ("cameras.xml", re.sub("<cx>.*</cy>", "", METASHAPE.format(kind="adjusted")),
                             (610.5, 610.5, 399.5, 299.5), (600, 800), RADTAN),
    "FoundationStereo": ("K.txt", "620 0 410 0 622 305 0 0 1\n0.063\n", (620, 622, 410, 305), None, RADTAN),
    "OpenSfM": ("camera_models.json", json.dumps({"v2 a b": {"projection_type": "fisheye", "width": 800, "height": 600,
                                                             "focal": 0.75, "k1": 0.1, "k2": 0.0}}),
                (600, 600, 399.5, 299.5), (600, 800), EQUIDISTANT),
    "DSO, relative": ("camera.txt", "0.75 1.0 0.5 0.5 0.9\n800 600\ncrop\n640 480\n", (600, 600, 399.5, 299.5),
                      (600, 800), FOV),
    "DSO, pixels": ("camera.txt", "RadTan 620 622 410 305 0.1 0.01 0 0\n800 600\ncrop\n640 480\n", (620, 622, 410, 305),
                    (600, 800), RADTAN),
    "pincam": ("1.pincam", "256 192 211.9 212.1 127.9 95.5\n", (211.9, 212.1, 127.9, 95.5), (192, 256), RADTAN),
    "RealSense": ("list.txt", 'Intrinsic of "Color" / 800x600 / {RGB8}\n  Width: 800\n  Height: 600\n  PPX: 410\n'
                              "  PPY: 305\n  Fx: 620\n  Fy: 622\n  Distortion: Brown Conrady\n  Coeffs: 0 0 0 0 0\n",
                  (620, 622, 410, 305), (600, 800), RADTAN),
    "ZED": ("SN1.conf", "[LEFT_CAM_HD]\nfx=620\nfy=622\ncx=640\ncy=360\nk1=-0.1\nk2=0\n[STEREO]\nBaseline=120\n",
            (620, 622, 640, 360), (720, 1280), RADTAN),
    "OAK": ("calib.json", json.dumps({"cameraData": [[0, {"width": 800, "height": 600, "distortionCoeff": [0.1] * 14,
                                                          "intrinsicMatrix": [[620, 0, 410], [0, 622, 305],
                                                                              [0, 0, 1]]}]]}),
            (620, 622, 410, 305), (600, 800), RADTAN),
    "Basalt": ("calib.json", json.dumps({"value0": {"intrinsics": [
        {"camera_type": "kb4", "intrinsics": {"fx": 620, "fy": 622, "cx": 410, "cy": 305, "k1": 0.1, "k2": 0, "k3": 0,
                                              "k4": 0}}], "resolution": [[800, 600]]}}),
        (620, 622, 410, 305), (600, 800), EQUIDISTANT),
    "Gyroflow": ("lens.json", json.dumps({"calib_dimension": {"w": 800, "h": 600}, "fisheye_params": {
        "camera_matrix": [[620, 0, 410], [0, 622, 305], [0, 0, 1]], "distortion_coeffs": [0.1, 0, 0, 0]}}),
        (620, 622, 410, 305), (600, 800), EQUIDISTANT),
    "VINS": ("cam.yaml", "model_type: KANNALA_BRANDT\nimage_width: 800\nimage_height: 600\nprojection_parameters:\n"
                         "  k2: 0.1\n  k3: 0\n  k4: 0\n  k5: 0\n  mu: 620\n  mv: 622\n  u0: 410\n  v0: 305\n",
             (620, 622, 410, 305), (600, 800), EQUIDISTANT),
    "Meshroom": ("cameras.sfm.json", json.dumps({"intrinsics": [
        {"width": "800", "height": "600", "type": "radial3", "pxFocalLength": ["620", "622"],
         "principalPoint": ["410", "305"], "distortionParams": ["0.1", "0", "0"]}]}),
        (620, 622, 410, 305), (600, 800), RADTAN),
}  # fmt: skip


def test_arrays_of_calibrations(tmp_path: Path) -> None:
    """OpenCV's users save K, or K and the distortion of one camera or two, by numpy."""
    K, lens = np.array([[620.0, 0, 410], [0, 622, 305], [0, 0, 1]]), np.array([[0.1, 0, 0, 0, 0]])
    np.save(tmp_path / "K.npy", K)
    np.savez(tmp_path / "one.npz", mtx=K, dist=lens, rvecs=np.zeros((90, 3)))
    right = K + np.diag([5.0, 5, 0])
    np.savez(tmp_path / "two.npz", camera_matrix_left=K, dist_coeffs_left=lens, camera_matrix_right=right)
    for name, count, coefficients in (("K.npy", 1, 0), ("one.npz", 1, 5), ("two.npz", 2, 5)):
        cameras = read_calibration(tmp_path / name)
        assert (len(cameras), len(cameras[0].distortion)) == (count, coefficients)
        np.testing.assert_array_equal(cameras[0].K, K)


def test_the_color_camera_comes_first(tmp_path: Path) -> None:
    cameras = [{"Purpose": f"CALIBRATION_CameraPurpose{name}", "SensorWidth": 1024, "SensorHeight": 1024,
                "Intrinsics": {"ModelParameters": [0.5, 0.5, focal, focal, *[0] * 10]}}
               for name, focal in (("Depth", 0.5), ("PhotoVideo", 0.6))]  # fmt: skip
    (tmp_path / "k4a.json").write_text(json.dumps({"CalibrationInformation": {"Cameras": cameras}}))
    names = [camera.name for camera in read_calibration(tmp_path / "k4a.json")]
    assert [name.removeprefix("CALIBRATION_CameraPurpose") for name in names] == ["PhotoVideo", "Depth"]


@pytest.mark.parametrize("name", CASES)
def test_cameras_of_other_programs(name: str, tmp_path: Path) -> None:
    file, text, expected, size, model = CASES[name]
    (tmp_path / file).write_text(text)
    camera = read_calibration(tmp_path / file)[0]
    K = camera.K
    assert (K[0, 0], K[1, 1], K[0, 2], K[1, 2]) == pytest.approx(expected)
    assert camera.size == size
    found = camera.find_distortion(file)
    assert found is None or found[0] == model
    assert (found is None) == (name in ("region and binning", "binned already", "several messages", "k of zeros",
                                        "Record3D", "pincam", "RealSense", "FoundationStereo"))  # fmt: skip


def test_metashape_names_the_tangential_coefficients_in_the_other_order(tmp_path: Path) -> None:
    (tmp_path / "cameras.xml").write_text(METASHAPE.format(kind="adjusted"))
    assert read_calibration(tmp_path / "cameras.xml")[0].distortion == pytest.approx((-0.1, 0.02, 0.002, 0.001, 0))


@pytest.mark.parametrize("model", ["EQUIRECTANGULAR", "ORTHOPHOTO", "VR180_L"])
def test_a_camera_that_is_no_pinhole_is_refused(model: str, tmp_path: Path) -> None:
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"camera_model": model, "fl_x": 320, "w": 640, "h": 320, "frames": []}))
    with pytest.raises(DataError) as caught:
        read_calibration(path)
    assert model in str(caught.value.found)
    assert caught.value.fix


def test_frames_with_a_K_of_their_own(tmp_path: Path) -> None:
    frames = [{"file_path": f"images/{k}.png", "fl_x": 500 + 10 * k, "cx": 320, "cy": 240} for k in range(3)]
    (tmp_path / "transforms.json").write_text(json.dumps({"w": 640, "h": 480, "frames": frames}))
    camera = read_calibration(tmp_path / "transforms.json")[0]
    assert camera.K_of_frames is not None
    assert [K[0, 0] for K in camera.K_of_frames.values()] == [500, 510, 520]


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
