"""Images of three textured walls, for videos of any motion."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 200, 320
K = np.array([[300, 0, 159.5], [0, 300, 99.5], [0, 0, 1]])
ARC_DEG = 40.0


class TexturedRoom:
    """A back wall 12 m ahead, a wall on the left, and a floor; each seed has its own texture."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.walls = []
        for corner, across, down in (
            ((-6, -3, 12), (12, 0, 0), (0, 6, 0)),
            ((-6, -3, 0), (0, 0, 12), (0, 6, 0)),
            ((-6, 3, 0), (12, 0, 0), (0, 0, 12)),
        ):
            noise = random.integers(0, 255, (30, 60), np.uint8)
            texture = cv2.resize(noise, (960, 480), interpolation=cv2.INTER_CUBIC)
            self.walls.append((np.array([corner, across, down], float), texture))

    def draw(self, R: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the image (HEIGHT, WIDTH) of a camera with R = R_camera_world at center."""
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        for (corner, across, down), texture in self.walls:
            H = K @ R @ np.column_stack((across / 960, down / 480, corner - center))
            shown = cv2.warpPerspective(texture, H, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
            rays = np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3) @ np.linalg.inv(H).T
            inside = (rays[:, 2] > 0) & (rays[:, 0] > 0) & (rays[:, 1] > 0)
            inside &= (rays[:, 0] < 960 * rays[:, 2]) & (rays[:, 1] < 480 * rays[:, 2])
            image[inside.reshape(HEIGHT, WIDTH)] = shown[inside.reshape(HEIGHT, WIDTH)]
        return image


def find_arc_pose(index: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return R_camera_world and the center of frame `index` of 24: the camera moves on an arc, and turns."""
    angle = np.radians(-ARC_DEG / 2 + ARC_DEG * index / 23)
    center = np.array([2.5 * np.sin(angle), 0.3 * np.sin(3 * angle), 3.0 + 0.05 * index])
    return cv2.Rodrigues(np.array([0, angle / 2, 0]))[0], center


def write_images(folder: Path, images: list[NDArray[np.uint8]]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:06d}.png"), image)
    return folder


def write_room(folder: Path, frames: int = 12) -> Path:
    """Write images of a room from an arc, of which `stadia map` makes a usable map in two seconds."""
    room = TexturedRoom()
    return write_images(folder, [room.draw(*find_arc_pose(index)) for index in range(frames)])
