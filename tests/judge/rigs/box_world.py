"""A world of gray boxes in front of a wall: images, and the depth of the columns and rows of a LiDAR."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.geometry.poses import invert_pose
from stadia.judge.rigs.lidar_check import ScannedImage, find_jumps

Array = NDArray[np.float64]
K = np.array([[300.0, 0, 199.5], [0, 300, 99.5], [0, 0, 1]])
SIZE = (200, 400)
WALL_M = 45.0


class BoxWorld:
    """Upright rectangles at random places, which face the camera."""

    def __init__(self, seed: int, count: int = 60) -> None:
        random = np.random.default_rng(seed)
        z = random.uniform(6, 40, count)
        self.centers = np.column_stack([z * random.uniform(-0.7, 0.7, count), z * random.uniform(-0.3, 0.3, count), z])
        self.sizes = random.uniform(0.3, 2.0, (count, 2))
        self.grays = random.uniform(40, 220, count)
        self.noise = random.normal(size=SIZE) * 2

    def draw(self, T_world_camera: Array) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the image and the depth (H, W) of a camera; the far rectangles are drawn first."""
        scale = 4
        gray, depth = np.full((SIZE[0] * scale, SIZE[1] * scale), 128.0, np.float32), np.full(SIZE, WALL_M)
        T = invert_pose(T_world_camera)
        for row in np.argsort(-self.centers[:, 2]):
            corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * self.sizes[row] / 2
            points = np.column_stack([self.centers[row, :2] + corners, np.full(4, self.centers[row, 2])])
            points = points @ T[:3, :3].T + T[:3, 3]
            if points[:, 2].min() < 1:
                continue
            pixels = points[:, :2] / points[:, 2:] * 300 + K[:2, 2]
            fine = np.round(((pixels + 0.5) * scale - 0.5) * 16).astype(np.int32)
            cv2.fillConvexPoly(gray, fine, float(self.grays[row]), shift=4)
            mask = np.zeros(SIZE, np.uint8)
            cv2.fillConvexPoly(mask, np.round(pixels * 16).astype(np.int32), 1, shift=4)
            depth[mask > 0] = points[:, 2].mean()
        image = cv2.resize(gray, SIZE[::-1], interpolation=cv2.INTER_AREA) + self.noise
        return np.clip(image, 0, 255).astype(np.uint8), depth

    def scan(self, T_world_camera: Array, motion: Array | None = None, late: Array | None = None) -> ScannedImage:
        """Return an image, and the jumps of a scan in its axes, of the same instant or of a later pose."""
        gray, depth = self.draw(T_world_camera)
        if late is not None:
            depth = self.draw(late)[1]
        sparse = np.zeros(SIZE, np.float32)
        sparse[::4, ::2] = depth[::4, ::2]
        return ScannedImage(gray, find_jumps(sparse, K), motion)
