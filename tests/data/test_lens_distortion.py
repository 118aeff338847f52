"""Frames of a lens with distortion are undistorted when they are read, by every model and file that is known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.mapped_images import write_map
from tests.data.rendered_world import write_video

from stadia.core.errors import DataError
from stadia.data.lens_distortion import DistortedCamera, make_undistortion
from stadia.data.open_dataset import open_recordings, sample_recordings
from stadia.data.video.video_map import find_map_folder
from stadia.predict.inputs import open_inputs

HEIGHT, WIDTH, FRAMES = 120, 188, 3
K = np.array([[114.7, 0, 91.4], [0, 114.3, 61.7], [0, 0, 1]])
LENSES = {
    "radial-tangential": (-0.28, 0.07, 0.002, -0.001),
    "equidistant": (-0.0135, 0.0207, -0.0128, 0.0025),
    "fov": (0.9,),
}


def distort(model: str, coefficients: tuple[float, ...], xy: np.ndarray) -> np.ndarray:
    """From x / z and y / z to those that are seen, by the formulas of the models, without OpenCV."""
    x, y = xy[..., 0], xy[..., 1]
    r = np.maximum(np.hypot(x, y), 1e-12)
    if model == "fov":
        (w,) = coefficients
        return xy * (np.arctan(2 * r * np.tan(w / 2)) / w / r)[..., None]
    k1, k2, k3, k4 = coefficients
    if model == "equidistant":
        a = np.arctan(r)
        return xy * (a * (1 + k1 * a**2 + k2 * a**4 + k3 * a**6 + k4 * a**8) / r)[..., None]
    radial = 1 + k1 * r**2 + k2 * r**4
    return np.stack(
        (x * radial + 2 * k3 * x * y + k4 * (r**2 + 2 * x**2), y * radial + k3 * (r**2 + 2 * y**2) + 2 * k4 * x * y), -1
    )


def pixel_rays(model: str, coefficients: tuple[float, ...]) -> np.ndarray:
    """(H, W, 3) with z = 1 of every pixel of the lens's image: the formula inverted, step by step."""
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), -1)
    seen = (pixels - K[:2, 2]) / (K[0, 0], K[1, 1])
    xy = seen.copy()
    for _ in range(100):
        xy = xy + 0.6 * (seen - distort(model, coefficients, xy))
    assert np.abs(distort(model, coefficients, xy) - seen).max() < 1e-6
    return np.concatenate((xy, np.ones((HEIGHT, WIDTH, 1))), -1)


def film(world: Any, model: str) -> list[np.ndarray]:
    """Return FRAMES images of the rendered world through a lens."""
    rays = pixel_rays(model, LENSES[model])
    return [world.paint(world.pose(index), rays)[0] for index in range(FRAMES)]


def write_folder(world: Any, folder: Path, model: str) -> Path:
    for index, image in enumerate(film(world, model)):
        world.save(folder / f"{index:06d}.png", image)
    return folder


def check_pinhole(world: Any, image: Callable[[int], np.ndarray], K: np.ndarray, *, most: float = 1.0) -> None:
    """The images are those of the pinhole camera, without an empty border."""
    rays = world.pinhole_rays(K, HEIGHT, WIDTH)
    for index in range(FRAMES):
        true = world.paint(world.pose(index), rays)[0]
        assert np.abs(image(index).astype(int) - true).mean() < most
        assert image(index).min() > 30


@pytest.mark.parametrize("model", LENSES)
def test_a_pixel_lies_where_the_formula_of_its_lens_puts_it(model: str) -> None:
    """The law of 0.2 px, at a grid over the whole undistorted image."""
    made = make_undistortion(DistortedCamera(K, model, np.array(LENSES[model]), HEIGHT, WIDTH), "lens")
    pixels = np.stack(np.meshgrid(np.linspace(0, WIDTH - 1, 15), np.linspace(0, HEIGHT - 1, 11)), -1).reshape(-1, 2)
    xy = (pixels - made.new_K[:2, 2]) / (made.new_K[0, 0], made.new_K[1, 1])
    expected = distort(model, LENSES[model], xy) * (K[0, 0], K[1, 1]) + K[:2, 2]
    assert np.abs(made.find_raw(pixels) - expected).max() < 0.02
    assert np.abs(pixels - expected).max() > 5, "the lens is no pinhole"


KALIBR = """
cam0:
  camera_model: pinhole
  intrinsics: [{fx}, {fy}, {cx}, {cy}]
  distortion_model: {kalibr}
  distortion_coeffs: {coefficients}
  resolution: [{width}, {height}]
"""
ROS = """
image_width: {width}
image_height: {height}
camera_matrix: {{rows: 3, cols: 3, data: [{fx}, 0, {cx}, 0, {fy}, {cy}, 0, 0, 1]}}
distortion_model: {ros}
distortion_coefficients: {{rows: 1, cols: 4, data: {coefficients}}}
"""
COLMAP = "1 {colmap} {width} {height} {fx} {fy} {cx_half} {cy_half} {words}\n"
OPENCV = """%YAML:1.0
image_width: {width}
image_height: {height}
fisheye_model: {is_fisheye}
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [{fx}, 0, {cx}, 0, {fy}, {cy}, 0, 0, 1]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 4
   dt: d
   data: {coefficients}
"""
NAMES = {
    "radial-tangential": {"kalibr": "radtan", "ros": "plumb_bob", "colmap": "OPENCV", "is_fisheye": 0},
    "equidistant": {"kalibr": "equidistant", "ros": "equidistant", "colmap": "OPENCV_FISHEYE", "is_fisheye": 1},
    "fov": {"kalibr": "fov", "colmap": "FOV"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "text"),
    [
        ("radial-tangential", "cam.yaml", KALIBR),
        ("fov", "cam.yaml", KALIBR),
        ("equidistant", "ros.yaml", ROS),
        ("equidistant", "cameras.txt", COLMAP),
        ("radial-tangential", "opencv.yml", OPENCV),
    ],
)
def test_a_folder_is_undistorted_by_the_calibration_beside_it(
    stadia: Any, world: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, model: str, name: str, text: str
) -> None:
    images = write_folder(world, tmp_path / "images", model)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    values = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "cx_half": cx + 0.5, "cy_half": cy + 0.5}
    words = " ".join(map(str, LENSES[model]))
    values |= {"width": WIDTH, "height": HEIGHT, "coefficients": list(LENSES[model]), "words": words, **NAMES[model]}
    (tmp_path / name).write_text(text.format(**values))
    code, _, err = stadia("camera", images, "--calibration", tmp_path / name)
    assert (code, err.count("\n")) == (0, 1), err
    assert f"({model}, " in err
    (recording,) = open_recordings(images, stride=1)
    check_pinhole(world, recording.image, recording.K(0))
    assert f"frames are undistorted ({model}, " in caplog.text


def write_camera(source: Path, **distortion: Any) -> Path:
    path = source / "K.json" if source.is_dir() else source.with_suffix(".K.json")
    path.write_text(json.dumps({"K": K.tolist(), "height": HEIGHT, "width": WIDTH, "distortion": distortion}))
    return path


@pytest.mark.slow
def test_a_video_is_undistorted_in_training_checks_and_prediction(world: Any, tmp_path: Path) -> None:
    model = "radial-tangential"
    video = write_video(tmp_path / "drive.mkv", film(world, model))
    camera = write_camera(video, model=model, coefficients=LENSES[model])
    (recording,) = open_recordings(video, stride=1)
    check_pinhole(world, recording.image, recording.K(0))
    (segment,) = sample_recordings(video, stride=1)
    check_pinhole(world, segment.image, segment.K(0))
    (given,) = open_inputs(video)
    frames = list(given.frames)
    check_pinhole(world, lambda index: frames[index].image, frames[0].K)
    (small,) = open_recordings(video, stride=1, size=(60, 94))
    assert small.K(0)[0, 0] == pytest.approx(recording.K(0)[0, 0] / 2)
    camera.write_text(json.dumps({"K": K.tolist(), "height": HEIGHT, "width": WIDTH}))
    (raw,) = open_recordings(video, stride=1)
    assert (raw.image(0) == film(world, model)[0]).all(), "another camera, other stored frames"


def test_a_photo_is_undistorted(world: Any, tmp_path: Path) -> None:
    world.save(tmp_path / "photo.png", film(world, "fov")[0])
    write_camera(tmp_path / "photo.png", model="fov", coefficients=LENSES["fov"])
    (given,) = open_inputs(tmp_path / "photo.png")
    (frame,) = given.frames
    true = world.paint(world.pose(0), world.pinhole_rays(frame.K, HEIGHT, WIDTH))[0]
    assert np.abs(frame.image.astype(int) - true).mean() < 1


@pytest.mark.slow
def test_the_lens_that_a_map_found_is_removed(world: Any, tmp_path: Path) -> None:
    images = write_folder(world, tmp_path / "images", "radial-tangential")
    write_map(find_map_folder(images))
    record = find_map_folder(images) / "map.json"
    values = json.loads(record.read_text())
    lens = {"origin": "estimated", "focal_px": 114.5, "center_px": [91.4, 61.7], "height": HEIGHT, "width": WIDTH}
    values["camera"] |= {**lens, "distortion": LENSES["radial-tangential"]}
    record.write_text(json.dumps(values))
    (recording,) = open_recordings(images, stride=1)
    check_pinhole(world, recording.image, recording.K(0), most=2)  # a map has one focal length for x and y
    values["camera"]["origin"] = "uncertain"
    record.write_text(json.dumps(values))
    (raw,) = open_recordings(images, stride=1, camera={"focal_px": 114.5})
    assert (raw.image(0) == film(world, "radial-tangential")[0]).all()


@pytest.mark.parametrize(
    ("distortion", "words"),
    [
        ({"model": "radial-tangential", "coefficients": [-40, 9000, 0, 0]}, "-40, 9e+03"),
        ({"model": "radial-tangential", "coefficients": [0.1]}, "1 coefficients of 'radial-tangential'"),
        ({"model": "omni", "coefficients": [0.1, 0, 0, 0]}, "4 coefficients of 'omni'"),
        ({"model": "fov", "coefficients": [float("inf")]}, "an invalid distortion"),
        ({"model": "fov", "coefficients": ["x"]}, "an invalid distortion"),
    ],
)
def test_a_distortion_that_no_lens_has_is_one_line(
    world: Any, tmp_path: Path, one_line: Callable[..., None], distortion: dict[str, Any], words: str
) -> None:
    images = tmp_path / "images"
    world.save(images / "000000.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    write_camera(images, **distortion)
    with pytest.raises(DataError) as caught:
        open_recordings(images, stride=1)
    one_line(caught.value, words)


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "undistort.md"


def test_a_corner_without_a_ray_is_no_lens_without_distortion() -> None:
    """The polynomial of this calibration of Kalibr falls before it reaches the corners."""
    K = np.array([[731.078, 0, 540.163], [0, 735.195, 356.181], [0, 0, 1]])
    lens = DistortedCamera(K, "radial-tangential", np.array([0.15, -0.341, -0.00043, 0.0004]), 720, 1080)
    assert 30 < lens.corner_shift_px < 100
