"""What moves by itself is found in the flow of two frames; what stands, the road and edges along it are not."""

import cv2
import numpy as np
import pytest

from stadia.training.loading.samples import find_moving

H, W = 120, 200
K = np.array([[150.0, 0, 99.5], [0, 150, 59.5], [0, 0, 1]])
HEIGHT, STEP = 1.5, 1.8
ROAD = np.array([0.0, -1, 0, HEIGHT])


def make_pair(*, car: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A road with texture and a far wall, from two places; a box at 7 ahead that drives along, or stands."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:H, :W].astype(float)
    noise = cv2.resize(random.integers(30, 220, (40, 40)).astype(np.uint8), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    images = []
    for z0 in (0.0, STEP):
        rays = np.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)), -1)
        z = np.where(rays[..., 1] > 1e-6, HEIGHT / np.maximum(rays[..., 1], 1e-6), 1e6)
        z = np.minimum(z, 40 - z0)
        at_x, at_z = rays[..., 0] * z, z + z0
        u = np.where(z < 40 - z0 - 1e-6, at_x * 25 + 500, at_x * 10 + 500)
        v = np.where(z < 40 - z0 - 1e-6, at_z * 25, rays[..., 1] * z * 10 + 500)
        image = cv2.remap(noise, u.astype(np.float32) % 999, v.astype(np.float32) % 999, cv2.INTER_LINEAR)
        away = 7.0 if car == "drives along" else 7.0 - z0
        if car != "none":
            left, right = (int(K[0, 2] + K[0, 0] * side / away) for side in (-1.2, 0.4))
            top, bottom = (int(K[1, 2] + K[1, 1] * side / away) for side in (0.0, 1.4))
            box = cv2.resize(random_box(), (right - left, bottom - top), interpolation=cv2.INTER_AREA)
            image[top:bottom, left:right] = box
        images.append(image)
    T = np.eye(4)
    T[2, 3] = -STEP
    return images[0], images[1], T


def random_box() -> np.ndarray:
    noise = np.random.default_rng(1).integers(0, 255, (7, 8)).astype(np.uint8)
    return cv2.resize(noise, (160, 140), interpolation=cv2.INTER_CUBIC)


BOX = np.s_[68:86, 80:102]


def test_a_car_that_drives_along_is_found_and_the_road_is_not():
    target, source, T = make_pair(car="drives along")
    moving = find_moving(target, source, K, K, T, ROAD)
    assert moving[BOX].mean() > 0.6
    elsewhere = moving.copy()
    elsewhere[50:100, 60:125] = False
    assert elsewhere.mean() < 0.01


@pytest.mark.parametrize("car", ["none", "stands"])
def test_what_stands_is_kept(car):
    target, source, T = make_pair(car=car)
    assert find_moving(target, source, K, K, T, ROAD).mean() < 0.02
