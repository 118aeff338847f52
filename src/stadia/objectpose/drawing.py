"""Draw the boxes and axes of objects on images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.evaluation.plots.colormaps import color_categories
from stadia.evaluation.plots.image_overlays import NEAR_PLANE_M, Array, Image, project_points
from stadia.objectpose.boxes import EDGES, compute_box_corners
from stadia.objectpose.metrics import PosedObjects

AXES = ((230, 60, 50), (60, 190, 60), (70, 110, 250))  # RGB of the object's x, y and z
_SUBPIXEL_BITS, _FARTHEST_PX = 4, 2**26  # OpenCV coordinates are below 2^31


def draw_objects(
    image: Image, K: NDArray[np.float64], objects: PosedObjects, names: Sequence[str] = (), *, scores: bool = False
) -> Image:
    """Draw each object's box in the color of its class, and its axes from the center to the sides, on a copy.

    image: (H, W, 3) RGB.
    names: of the classes by their number, drawn beside the boxes.
    scores: drawn beside the names, with two decimals.
    Parts behind the camera are left out.
    """
    drawn = image.copy()
    thickness = max(1, round(image.shape[1] / 480))
    box_corners = compute_box_corners(objects.T_camera_object.double(), objects.size_m.double()).cpu().numpy()
    for row in torch.argsort(objects.T_camera_object[:, 2, 3], descending=True).tolist():  # near objects last
        class_id = int(objects.class_id[row])
        color = tuple(int(c) for c in color_categories(np.array([[class_id - 1]]), 7)[0, 0])
        corners_m = box_corners[row]
        if corners_m[:, 2].max() < NEAR_PLANE_M:
            continue
        for a, b in EDGES:
            _draw_segment(drawn, corners_m[a], corners_m[b], K, color, thickness)
        T, half = objects.T_camera_object[row].double().cpu().numpy(), objects.size_m[row].double().cpu().numpy() / 2
        for axis, axis_color in enumerate(AXES):
            _draw_segment(drawn, T[:3, 3], T[:3, 3] + T[:3, axis] * half[axis], K, axis_color, thickness + 1)
        if names:
            corner = project_points(corners_m[corners_m[:, 2] >= NEAR_PLANE_M], K).min(0)
            x, y = np.clip(corner, 0, (image.shape[1] - 1, image.shape[0] - 1)).astype(int).tolist()
            scale = max(0.3, image.shape[1] / 1400)
            text = f"{names[class_id]} {float(objects.score[row]):.2f}" if scores else names[class_id]
            cv2.putText(drawn, text, (x, max(y - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return drawn


def _draw_segment(image: Image, start: Array, end: Array, K: Array, color: tuple[int, ...], thickness: int) -> None:
    """Draw between points (3,) in the camera's frame, without the part behind the camera."""
    near, far = sorted((start, end), key=lambda point: float(point[2]))
    if far[2] < NEAR_PLANE_M:
        return
    if near[2] < NEAR_PLANE_M:
        near = far + (near - far) * (far[2] - NEAR_PLANE_M) / (far[2] - near[2])
    a, b = np.clip(project_points(np.stack((near, far)), K), -_FARTHEST_PX, _FARTHEST_PX)
    _draw_clipped(image, a, b, color, thickness)


def _draw_clipped(image: Image, start: Array, end: Array, color: tuple[int, ...], thickness: int) -> None:
    """Draw a line to a 16th of a pixel, clipped near the image: OpenCV draws thick lines with 16 integer bits."""
    a, b = ((point * 2**_SUBPIXEL_BITS).round().astype(int).tolist() for point in (start, end))
    height, width = (side << _SUBPIXEL_BITS for side in image.shape[:2])
    is_visible, a, b = cv2.clipLine((-width, -height, 3 * width, 3 * height), a, b)
    if is_visible:
        cv2.line(image, a, b, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
