"""Lenses: against OpenCV and COLMAP, and undone by their inverse."""

import cv2
import numpy as np
import pycolmap
import pytest

from stadia.geometry.lens import COLMAP_LENSES, MAX_OFF_AXIS_DEG, Lens, distort, distort_fisheye, undistort

POINTS = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
RAYS = np.column_stack((POINTS, np.ones(50)))
OPENCV = np.array([-0.12, 0.03, 0.002, -0.001, 0.01, 0.02, -0.03, 0.004])

PARAMETERS = {
    "SIMPLE_PINHOLE": (), "PINHOLE": (), "SIMPLE_RADIAL": (-0.1,), "RADIAL": (-0.1, 0.02),
    "OPENCV": (-0.1, 0.02, 0.002, -0.003), "FULL_OPENCV": tuple(OPENCV),
    "SIMPLE_FISHEYE": (), "FISHEYE": (), "SIMPLE_RADIAL_FISHEYE": (0.05,), "RADIAL_FISHEYE": (0.05, -0.01),
    "OPENCV_FISHEYE": (0.05, -0.01, 0.004, -0.001), "FOV": (0.8,), "SIMPLE_DIVISION": (-0.1,), "DIVISION": (-0.1,),
    "THIN_PRISM_FISHEYE": (0.05, -0.01, 0.002, -0.003, 0.004, -0.001, 0.003, -0.002),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        0.05, -0.01, 0.004, -0.001, 0.0005, 0.0002, 0.002, -0.003, 0.003, 0.001, -0.002, 0.0005,
    ),
    "EUCM": (0.6, 1.1), "EQUIRECTANGULAR": (),
}  # fmt: skip


@pytest.mark.parametrize("count", [4, 5, 8])
def test_the_polynomial_is_opencvs_and_its_inverse_undoes_it(count: int) -> None:
    zero = np.zeros(3)
    expected = cv2.projectPoints(RAYS, zero, zero, np.eye(3), OPENCV[:count])[0][:, 0]
    np.testing.assert_allclose(distort(POINTS, OPENCV[:count]), expected, atol=1e-12)
    np.testing.assert_allclose(undistort(expected, OPENCV[:count]), POINTS, atol=1e-6)
    each = np.tile(OPENCV[:count], (50, 1)) * np.linspace(0, 1, 50)[:, None]
    np.testing.assert_allclose(undistort(distort(POINTS, each), each), POINTS, atol=1e-6)


@pytest.mark.parametrize("k1", [-0.3, -0.1, 0.4])
def test_points_that_a_polynomial_never_reaches_have_no_inverse(k1: float) -> None:
    radii, coefficients = np.linspace(0, 3, 61), np.array([k1, 0, 0, 0])
    fold = np.sqrt(1 / (-3 * k1)) if k1 < 0 else np.inf
    highest = fold * (1 + k1 * fold**2) if k1 < 0 else np.inf
    found = undistort(np.column_stack((radii, 0 * radii)), coefficients)
    inside = radii < highest
    assert np.isnan(found[~inside]).all()
    np.testing.assert_allclose(distort(found[inside], coefficients)[:, 0], radii[inside], atol=1e-6)
    assert (found[inside, 0] <= fold).all()


@pytest.mark.parametrize("model", COLMAP_LENSES)
def test_every_lens_is_undone_up_to_its_largest_angle(model: str) -> None:
    lens, random = Lens(model, PARAMETERS[model]), np.random.default_rng(1)
    angle, around = np.radians(random.uniform(0, MAX_OFF_AXIS_DEG - 0.1, 400)), random.uniform(0, 2 * np.pi, 400)
    points = np.tan(angle)[:, None] * np.column_stack((np.cos(around), np.sin(around)))
    step = 1e-6
    bent = lens.distort(points)
    columns = [(lens.distort(points + axis) - bent) / step for axis in step * np.eye(2)]
    is_single = columns[0][:, 0] * columns[1][:, 1] - columns[0][:, 1] * columns[1][:, 0] > 0.01
    found = lens.undistort(bent)
    seen = np.isfinite(found).all(1)
    np.testing.assert_allclose(lens.distort(found[seen]), bent[seen], atol=2e-7)
    if model not in ("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"):  # these fold the image at wide angles
        np.testing.assert_allclose(found[is_single], points[is_single], atol=1e-4)
        assert is_single.mean() > 0.95
    near = np.linalg.norm(points, axis=1) < 0.8
    np.testing.assert_allclose(found[near], points[near], atol=1e-5)


def test_points_far_off_the_axis_are_left_out() -> None:
    angles = np.radians([0, MAX_OFF_AXIS_DEG - 1, MAX_OFF_AXIS_DEG + 1, 90, 120, 180])
    found = Lens("OPENCV_FISHEYE", (0.0,) * 4).undistort(np.column_stack((0 * angles, angles)))
    np.testing.assert_array_equal(np.isfinite(found[:, 0]), [True, True, False, False, False, False])


def test_each_point_may_have_coefficients_of_its_own() -> None:
    each = np.outer(np.linspace(0, 1, 50), OPENCV[:4])
    alone = [distort(point, own) for point, own in zip(POINTS, each, strict=True)]
    np.testing.assert_allclose(distort(POINTS, each), alone)


def test_a_fisheye_is_opencvs() -> None:
    k = np.array([0.05, -0.01, 0.004, -0.001])
    expected = cv2.fisheye.projectPoints(RAYS[:, None], np.zeros(3), np.zeros(3), np.eye(3), k)[0][:, 0]
    np.testing.assert_allclose(distort_fisheye(POINTS, k), expected, atol=1e-9)


def test_no_model_of_colmap_is_missing() -> None:
    models = {name for name in dir(pycolmap.CameraModelId) if name.isupper()}
    assert models - {"INVALID"} == set(COLMAP_LENSES)


@pytest.mark.parametrize("model", COLMAP_LENSES)
def test_every_model_is_colmaps(model: str) -> None:
    if model == "EQUIRECTANGULAR":  # without focal length, and with its middle at half the size
        camera = pycolmap.Camera(model=model, width=200, height=100, params=[2 * np.pi, np.pi])
        middle = np.array([np.pi, np.pi / 2])
        np.testing.assert_allclose(COLMAP_LENSES[model](POINTS, ()), camera.img_from_cam(RAYS) - middle, atol=1e-9)
        return
    camera = pycolmap.Camera.create_from_model_name(1, model, 1.0, 100, 100)
    pinhole = len(camera.params) - len(PARAMETERS[model])
    camera.params = np.array([1.0, 1.0, 0.0, 0.0][4 - pinhole :] + list(PARAMETERS[model]))
    np.testing.assert_allclose(COLMAP_LENSES[model](POINTS, PARAMETERS[model]), camera.img_from_cam(RAYS), atol=1e-9)
