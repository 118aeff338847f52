"""Lenses: against OpenCV and COLMAP, and undone by their inverse."""

import cv2
import numpy as np
import pycolmap
import pytest

from stadia.geometry.lens import COLMAP_LENSES, distort, distort_fisheye, undistort

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
    "EUCM": (0.6, 1.1),
}  # fmt: skip


@pytest.mark.parametrize("count", [4, 5, 8])
def test_the_polynomial_is_opencvs_and_its_inverse_undoes_it(count: int) -> None:
    zero = np.zeros(3)
    expected = cv2.projectPoints(RAYS, zero, zero, np.eye(3), OPENCV[:count])[0][:, 0]
    np.testing.assert_allclose(distort(POINTS, OPENCV[:count]), expected, atol=1e-12)
    np.testing.assert_allclose(undistort(expected, OPENCV[:count]), POINTS, atol=1e-6)


def test_each_point_may_have_coefficients_of_its_own() -> None:
    each = np.outer(np.linspace(0, 1, 50), OPENCV[:4])
    alone = [distort(point, own) for point, own in zip(POINTS, each, strict=True)]
    np.testing.assert_allclose(distort(POINTS, each), alone)


def test_a_fisheye_is_opencvs() -> None:
    k = np.array([0.05, -0.01, 0.004, -0.001])
    expected = cv2.fisheye.projectPoints(RAYS[:, None], np.zeros(3), np.zeros(3), np.eye(3), k)[0][:, 0]
    np.testing.assert_allclose(distort_fisheye(POINTS, k), expected, atol=1e-9)


def test_no_model_of_colmap_with_a_pinhole_is_missing() -> None:
    models = {name for name in dir(pycolmap.CameraModelId) if name.isupper()}
    assert models - {"INVALID", "EQUIRECTANGULAR"} == set(COLMAP_LENSES)


@pytest.mark.parametrize("model", COLMAP_LENSES)
def test_every_model_is_colmaps(model: str) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, model, 1.0, 100, 100)
    pinhole = len(camera.params) - len(PARAMETERS[model])
    camera.params = np.array([1.0, 1.0, 0.0, 0.0][4 - pinhole :] + list(PARAMETERS[model]))
    np.testing.assert_allclose(COLMAP_LENSES[model](POINTS, PARAMETERS[model]), camera.img_from_cam(RAYS), atol=1e-9)
