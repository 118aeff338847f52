"""Objects drawn on their picture: boxes, axes, masks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stadia.evaluation.colours import colour_categories
from stadia.geometry.boxes import EDGES, corners
from stadia.metrics.object_pose import Objects

Picture = NDArray[np.uint8]
AXES = ((230, 60, 50), (60, 190, 60), (70, 110, 250))
"""RGB of the object's x, y and z."""

_SHIFT, _NEAR_M = 4, 0.01


def draw_objects(picture: Picture, K: NDArray[np.float64], objects: Objects, names: Sequence[str] = ()) -> Picture:
    """(H, W, 3) RGB with each object's box, in the colour of its class, and its axes from the centre to the box's sides; a copy.

    names: of the classes by their number, written beside the boxes. What lies behind the camera is left out.
    """
    drawn = picture.copy()
    thickness = max(1, round(picture.shape[1] / 480))
    box_corners = corners(objects.T_camera_object.double(), objects.size_m.double()).cpu().numpy()
    for row in torch.argsort(objects.T_camera_object[:, 2, 3], descending=True).tolist():  # what is near comes last
        class_id = int(objects.class_id[row])
        colour = tuple(int(c) for c in colour_categories(np.array([[class_id - 1]]), 7)[0, 0])
        points = box_corners[row]
        if points[:, 2].min() < _NEAR_M:
            continue
        pixels = _project(points, K)
        for a, b in EDGES:
            _line(drawn, pixels[a], pixels[b], colour, thickness)
        T, half = objects.T_camera_object[row].double().cpu().numpy(), objects.size_m[row].double().cpu().numpy() / 2
        tips = _project(np.vstack([T[:3, 3], T[:3, 3] + (T[:3, :3] * half).T]), K)
        for axis, axis_colour in enumerate(AXES):
            _line(drawn, tips[0], tips[1 + axis], axis_colour, thickness + 1)
        if names:
            x, y = np.clip(pixels.min(0), 0, (picture.shape[1] - 1, picture.shape[0] - 1)).astype(int).tolist()
            scale = max(0.3, picture.shape[1] / 1400)
            cv2.putText(drawn, names[class_id], (x, max(y - 2, 8)), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return drawn


def draw_masks(picture: Picture, instances: NDArray[np.integer], class_map: NDArray[np.integer], opacity: float = 0.55) -> Picture:
    """(H, W, 3) RGB under the colours of the classes (H, W), 0 = none, with the outlines of the instances (H, W)."""
    colours = colour_categories(np.where(instances > 0, class_map, 0) - 1, 7)
    mixed = np.where((instances > 0)[..., None], (1 - opacity) * picture + opacity * colours, picture).astype(np.uint8)
    outline = np.zeros(instances.shape, bool)
    outline[:, 1:] |= instances[:, 1:] != instances[:, :-1]
    outline[1:] |= instances[1:] != instances[:-1]
    mixed[outline] = 255
    return mixed


def _project(points: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) to pixels (N, 2)."""
    seen = points @ K.T
    return np.asarray(seen[:, :2] / np.maximum(seen[:, 2:], _NEAR_M))


def _line(picture: Picture, start: NDArray[np.float64], end: NDArray[np.float64], colour: tuple[int, ...], thickness: int) -> None:
    """Between pixels, to a 16th of one."""
    far = 4 * max(picture.shape)  # OpenCV's numbers end at 2^31, and what is drawn is cut anyway
    a, b = (np.clip(p, -far, far) * 2**_SHIFT for p in (start, end))
    cv2.line(picture, a.round().astype(int).tolist(), b.round().astype(int).tolist(), colour, thickness, cv2.LINE_AA, _SHIFT)
