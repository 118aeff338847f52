"""Find what moves, or moves with the camera, from the optical flow of two frames with known motion."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.recording import LEFT, Recording

Array = NDArray[np.float64]

TOLERANCE_PX = 1.0  # error of static flow, plus TOLERANCE_SHARE of its parallax

TOLERANCE_SHARE = 0.25
MAX_BACK_PX = 1.0  # between flow forward and back, if flow is known
MIN_GRADIENT = 4.0  # gray levels per pixel, along the motion: without texture flow is a guess
ROAD_SHARE = 0.6
"""Points with a smaller share of the road's inverse depth appear behind the road, like a car that drives alongside."""

MAX_ROAD_RATIO, MAX_ROAD_RESIDUAL = 1.5, 3.0
"""A pixel is road up to this ratio (and gray levels) of its residuals as road and along the flow."""

MAX_MOVING = 0.6  # a larger share of the image means that the flow is wrong
_GROW = np.ones((5, 5), np.uint8)


def find_moving(
    target: NDArray[np.uint8],
    source: NDArray[np.uint8],
    K_target: Array,
    K_source: Array,
    T_source_target: Array,
    road: Array | None = None,
) -> NDArray[np.bool_]:
    """Return (h, w), true if a pixel leaves the epipolar line, moves the wrong way along it, or is behind the road.

    target, source: gray images (h, w).
    K_target, K_source: (3, 3).
    T_source_target: (4, 4), in any unit.
    road: (4,) plane of the road in the target's axes, normal and height in the same unit.
    """
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = finder.calc(target, source, None)
    back = finder.calc(source, target, None)
    height, width = target.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    at_x, at_y = x + flow[..., 0], y + flow[..., 1]
    returned = cv2.remap(back, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3, 1e3))
    known = np.linalg.norm(flow + returned, axis=-1) < MAX_BACK_PX
    rays = np.stack((x, y, np.ones_like(x)), -1).astype(np.float64) @ np.linalg.inv(K_target).T
    infinite = rays @ (K_source @ T_source_target[:3, :3]).T
    toward = K_source @ T_source_target[:3, 3]
    place = np.stack((at_x, at_y), -1).astype(np.float64)
    # (infinite + inverse_depth * toward) is at `place`: two equations along `line` for one inverse depth
    line = toward[:2] - place * toward[2]
    off = place * infinite[..., 2:] - infinite[..., :2]
    squared = np.maximum((line**2).sum(-1), 1e-12)
    inverse_depth = (off * line).sum(-1) / squared
    known &= _measure_gradient(target, line / np.sqrt(squared)[..., None]) > MIN_GRADIENT
    px_per_inverse = np.sqrt(squared) / np.maximum(np.abs(infinite[..., 2]), 1e-9)
    across_px = np.abs(off[..., 0] * line[..., 1] - off[..., 1] * line[..., 0]) / np.sqrt(squared)
    across_px = across_px / np.maximum(np.abs(infinite[..., 2]), 1e-9)
    along_px = inverse_depth * px_per_inverse
    allowed_px = TOLERANCE_PX + TOLERANCE_SHARE * np.abs(along_px)
    moving = (across_px > allowed_px) | (along_px < -allowed_px)
    if road is not None:
        of_road = np.maximum(-(rays @ road[:3]) / road[3], 0)
        missing_px = (of_road - inverse_depth) * px_per_inverse
        moving |= (inverse_depth < ROAD_SHARE * of_road) & (missing_px > 2 * TOLERANCE_PX)
        on_road = infinite + of_road[..., None] * toward
        at_road = (on_road[..., :2] / np.maximum(on_road[..., 2:], 1e-9)).astype(np.float32)
        by_road = _compare(target, source, at_road[..., 0], at_road[..., 1])
        by_flow = _compare(target, source, at_x, at_y)
        moving &= ~((by_road < MAX_ROAD_RATIO * by_flow + MAX_ROAD_RESIDUAL) & (of_road > 0))
    moving &= known
    moving = cv2.morphologyEx(moving.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    grown = cv2.dilate(cv2.morphologyEx(moving, cv2.MORPH_CLOSE, _GROW), _GROW) > 0
    return grown if grown.mean() < MAX_MOVING else np.zeros_like(grown)


def _compare(
    target: NDArray[np.uint8], source: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]
) -> Array:
    """Return (h, w), the mean difference from the source at (x, y) over 5x5 pixels; 0 outside."""
    warped = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    inside = (x >= 0) & (y >= 0) & (x <= source.shape[1] - 1) & (y <= source.shape[0] - 1)
    difference = np.abs(warped.astype(np.float32) - target) * inside
    return np.asarray(cv2.blur(difference, (5, 5)), np.float64)


def _measure_gradient(gray: NDArray[np.uint8], direction: Array) -> Array:
    """Return (h, w), the mean gradient along a unit direction (h, w, 2) over 5x5 pixels."""
    values = cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)
    x, y = (cv2.Sobel(values, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    along = np.abs(x * direction[..., 0] + y * direction[..., 1]).astype(np.float32)
    return np.asarray(cv2.blur(along, (5, 5)), np.float64)


def make_map_labels(
    recording: Recording, target: tuple[int, str], planar: Sequence[NDArray[np.uint8]], K: Array, T_source_target: Array
) -> tuple[Tensor | None, Tensor | None]:
    """Return the depth of the map's points and the static pixels, both (1, H, W); None without a map."""
    index, side = target
    points = recording.map_points(index) if side == LEFT else None
    if points is None:
        return None, None
    height, width = planar[0].shape[-2:]
    camera = recording.camera(index)
    depth = np.zeros((height, width), np.float32)
    at = np.floor((points[:, :2] + 0.5) * (width / camera.width, height / camera.height)).astype(int)
    inside = ((at >= 0) & (at < (width, height))).all(1)
    order = np.argsort(-points[inside, 2])  # the nearest point of a pixel is written last
    x, y = at[inside][order].T
    depth[y, x] = points[inside, 2][order]
    gray = [cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for image in planar]
    movable = recording.map_movable(index)
    moving = np.zeros(depth.shape, bool)
    if movable is not None:
        small = cv2.resize(255 * movable.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)
        moving = np.asarray(small > 0, bool)
    for number, T in enumerate(T_source_target, 1):
        if np.isfinite(T).all():
            moving |= find_moving(gray[0], gray[number], K[0], K[number], T, recording.map_road())
    depth[moving] = 0
    return torch.from_numpy(depth)[None], torch.from_numpy(~moving)[None]
