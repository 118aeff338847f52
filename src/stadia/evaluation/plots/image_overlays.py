"""Draw text, legends, objects, horizon and ground plane on images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from stadia.evaluation.plots.colormaps import color_categories
from stadia.geometry.boxes import EDGES, compute_box_corners
from stadia.metrics.object_metrics import PosedObjects

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

AXES = ((230, 60, 50), (60, 190, 60), (70, 110, 250))  # RGB of the object's x, y and z
GOOD, BAD, HORIZON, PLANE = (0, 158, 115), (213, 94, 0), (240, 228, 66), (86, 180, 233)
"""RGB, Okabe and Ito: green for inliers, red for outliers, yellow for the horizon, blue for the plane."""

_FONT, _HALO = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255)
_LEGEND_ROW_PX, _LEGEND_SCALE = 26, 0.5
_SUBPIXEL_BITS, _FARTHEST_PX = 4, 2**26  # OpenCV coordinates are below 2^31
_NEAR_PLANE_M, _MIN_AHEAD_M = 0.01, 0.5


def measure_text(words: str, scale: float) -> tuple[int, int]:
    """Return width and height in pixels of text drawn by `draw_text`."""
    (width, height), _ = cv2.getTextSize(words, _FONT, scale, 1)
    return width, height


def draw_text(image: Image, words: str, at: tuple[int, int], color: Color, scale: float) -> None:
    """Draw text with a light halo into (H, W, 3) RGB; at: left and lowest pixel."""
    ink = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(ink, words, at, _FONT, scale, 255, 1, cv2.LINE_AA)
    halo = cv2.dilate(ink, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    for mask, paint in ((halo, _HALO), (ink, color)):
        share = (mask / 255.0)[..., None]
        image[:] = (share * paint + (1 - share) * image).round().astype(np.uint8)


def add_legend(image: Image, entries: Sequence[tuple[str, Color]]) -> Image:
    """Append a legend below an (H, W, 3) RGB image: a swatch with text for each color, as many in a row as fit."""
    width = image.shape[1]
    places, x, row = list[tuple[int, int]](), 8, 0
    for words, _ in entries:
        wide = 28 + measure_text(words, _LEGEND_SCALE)[0] + 20
        if x > 8 and x + wide > width:
            x, row = 8, row + 1
        places.append((x, row * _LEGEND_ROW_PX))
        x += wide
    strip = np.full(((row + 1) * _LEGEND_ROW_PX, width, 3), 255, np.uint8)
    for (words, color), (left, top) in zip(entries, places, strict=True):
        bottom = top + _LEGEND_ROW_PX
        cv2.rectangle(strip, (left, top + 5), (left + 20, bottom - 6), color, -1)
        cv2.putText(strip, words, (left + 28, bottom - 8), _FONT, _LEGEND_SCALE, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate((image, strip)) if entries else image


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
        if corners_m[:, 2].max() < _NEAR_PLANE_M:
            continue
        for a, b in EDGES:
            _draw_segment(drawn, corners_m[a], corners_m[b], K, color, thickness)
        T, half = objects.T_camera_object[row].double().cpu().numpy(), objects.size_m[row].double().cpu().numpy() / 2
        for axis, axis_color in enumerate(AXES):
            _draw_segment(drawn, T[:3, 3], T[:3, 3] + T[:3, axis] * half[axis], K, axis_color, thickness + 1)
        if names:
            corner = _project(corners_m[corners_m[:, 2] >= _NEAR_PLANE_M], K).min(0)
            x, y = np.clip(corner, 0, (image.shape[1] - 1, image.shape[0] - 1)).astype(int).tolist()
            scale = max(0.3, image.shape[1] / 1400)
            text = f"{names[class_id]} {float(objects.score[row]):.2f}" if scores else names[class_id]
            cv2.putText(drawn, text, (x, max(y - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return drawn


def draw_masks(
    image: Image, instances: NDArray[np.integer], class_map: NDArray[np.integer], opacity: float = 0.55
) -> Image:
    """Blend the colors of the classes (H, W), 0 = none, into (H, W, 3) RGB, with outlines of the instances (H, W)."""
    colors = color_categories(np.where(instances > 0, class_map, 0) - 1, 7)
    mixed = np.where((instances > 0)[..., None], (1 - opacity) * image + opacity * colors, image).astype(np.uint8)
    outline = np.zeros(instances.shape, bool)
    outline[:, 1:] |= instances[:, 1:] != instances[:, :-1]
    outline[1:] |= instances[1:] != instances[:-1]
    mixed[outline] = 255
    return mixed


def _project(points: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project (N, 3) to pixels (N, 2)."""
    projected = points @ K.T
    return np.asarray(projected[:, :2] / np.maximum(projected[:, 2:], _NEAR_PLANE_M))


def _draw_segment(image: Image, start: Array, end: Array, K: Array, color: tuple[int, ...], thickness: int) -> None:
    """Draw between points (3,) in the camera's frame, without the part behind the camera."""
    near, far = sorted((start, end), key=lambda point: float(point[2]))
    if far[2] < _NEAR_PLANE_M:
        return
    if near[2] < _NEAR_PLANE_M:
        near = far + (near - far) * (far[2] - _NEAR_PLANE_M) / (far[2] - near[2])
    a, b = np.clip(_project(np.stack((near, far)), K), -_FARTHEST_PX, _FARTHEST_PX)
    _draw_clipped(image, a, b, color, thickness)


def _draw_clipped(image: Image, start: Array, end: Array, color: tuple[int, ...], thickness: int) -> None:
    """Draw a line to a 16th of a pixel, clipped near the image: OpenCV draws thick lines with 16 integer bits."""
    a, b = ((point * 2**_SUBPIXEL_BITS).round().astype(int).tolist() for point in (start, end))
    height, width = (side << _SUBPIXEL_BITS for side in image.shape[:2])
    is_visible, a, b = cv2.clipLine((-width, -height, 3 * width, 3 * height), a, b)
    if is_visible:
        cv2.line(image, a, b, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_horizon(image: Image, horizon: ArrayLike) -> Image:
    """Draw the line a x + b y + c = 0 of a horizon (3,) on a copy of (H, W, 3) RGB. None for NaN or an upright one."""
    drawn, (a, b, c) = image.copy(), np.asarray(horizon, np.float64)
    width = image.shape[1]
    if abs(b) > 1e-6:
        left, right = (np.array([x, -(a * x + c) / b]) for x in (0.0, width - 1.0))
        _draw_line(drawn, left, right, HORIZON, _thickness(width))
    return drawn


def draw_plane(
    image: Image,
    K: Array,
    plane: ArrayLike,
    *,
    ahead: Iterable[float] = (5, 10, 15, 20, 30, 40),
    aside: Iterable[float] = (-6, -4, -2, 0, 2, 4, 6),
) -> Image:
    """Draw a grid on a plane (4,) over a copy of (H, W, 3) RGB; nothing for a plane with NaN.

    plane: normal towards the camera, and the camera's height above it. The lines run `ahead` and `aside` of the camera,
    in the plane's unit.
    """
    drawn, (nx, ny, nz, height) = image.copy(), np.asarray(plane, np.float64)
    if not np.isfinite([nx, ny, nz, height]).all():
        return drawn
    up = np.array([nx, ny, nz])
    forward = np.array([0.0, 0, 1]) - nz * up
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    right = np.cross(forward, up)
    far, near, sides = max(ahead), min(ahead), sorted(aside)

    def ground_point(x: float, z: float) -> Array:
        return np.asarray(-height * up + x * right + z * forward)

    lines = [(ground_point(x, near), ground_point(x, far)) for x in sides]
    lines += [(ground_point(sides[0], z), ground_point(sides[-1], z)) for z in ahead]
    for start, end in lines:
        if min(start[2], end[2]) > _MIN_AHEAD_M:
            a, b = ((K @ point)[:2] / point[2] for point in (start, end))
            _draw_line(drawn, a, b, PLANE, _thickness(image.shape[1]))
    return drawn


def draw_box_verdicts(image: Image, boxes_px: ArrayLike, inliers: Sequence[bool], words: Sequence[str]) -> Image:
    """Draw boxes (N, 4) left, top, right, bottom with a text over each on a copy of (H, W, 3) RGB.

    Inliers are green, and their texts are larger and drawn last. Outliers are red.
    """
    drawn, boxes = image.copy(), np.asarray(boxes_px, np.float64).reshape(-1, 4).tolist()
    rows = sorted(zip(boxes, inliers, words, strict=True), key=lambda row: row[1])
    for box, good, _ in rows:
        left, top, right, bottom = (round(v) for v in box)
        color, thickness = GOOD if good else BAD, _thickness(image.shape[1])
        cv2.rectangle(drawn, (left, top), (right, bottom), color, thickness, cv2.LINE_AA)
    taken = list[tuple[int, int, int]]()
    for box, good, word in rows:
        scale = max(0.35, image.shape[1] / (1000 if good else 1800))
        width, height = measure_text(word, scale)
        left, low = max(0, min(round(box[0]), image.shape[1] - width)), max(round(box[1]) - 4, height + 3)
        while good and any(
            abs(low - row) < height + 4 and start < left + width and left < end for start, end, row in taken
        ):
            low += height + 4  # below the text that is already there
        taken += [(left, left + width, low)] if good else []
        draw_text(drawn, word, (left, low), GOOD if good else BAD, scale)
    return drawn


def compose_image_rows(images: Sequence[Image], columns: int, width: int = 640) -> Image:
    """Arrange images of any size in rows, each `width` wide, on white. No image gives one white row."""
    heights = [max(1, round(image.shape[0] * width / image.shape[1])) for image in images]
    pairs = zip(images, heights, strict=True)
    small = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image, height in pairs]
    rows = []
    for start in range(0, len(small), columns):
        row = small[start : start + columns]
        height = max(p.shape[0] for p in row)
        out = np.full((height + 4, columns * (width + 4), 3), 255, np.uint8)
        for i, p in enumerate(row):
            out[: p.shape[0], i * (width + 4) : i * (width + 4) + width] = p
        rows.append(out)
    return np.concatenate(rows) if rows else np.full((4, columns * (width + 4), 3), 255, np.uint8)


def _thickness(width: int) -> int:
    return max(1, round(width / 700))


def _draw_line(image: Image, start: Array, end: Array, color: Color, thickness: int) -> None:
    """Draw between pixels (2,), unless one is not finite or far outside."""
    if np.abs((start, end)).max() <= 2**20:  # false for NaN
        _draw_clipped(image, start, end, color, thickness)
