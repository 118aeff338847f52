"""Find the sky in images: by the image alone, and where predicted depth agrees. Imports no torch."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_LIGHT, MAX_CONTRAST = 0.45, 0.02
"""The lowest brightness of sky and its largest gradient, where an image is 0 to 1."""

MIN_EVENNESS = 0.75
"""10 % quantile of the brightness of sky over its median: at least 0.86 in KITTI, less of ceilings with lamps."""

LOWEST_ROW = 0.55
"""Share of the image's height: what reaches farther down is a wall. The horizon of a level camera is at 0.5."""

MIN_DEPTH_QUANTILE = 0.75
"""Quantile of the depth of the rest of the image beyond which the median depth of sky lies."""


def find_sky(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where an image shows sky, as a mask.

    Sky touches the upper edge, has small gradients, is bright, is evenly bright, and ends above the lower half. A
    bright, even ceiling or wall that ends there cannot be distinguished from it without depth (`find_far_sky`).

    Args:
        image: (H, W, 3) uint8 RGB.
        size: (h, w) of the mask.

    Returns (h, w) bool; all False without sky.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    light = cv2.resize(gray, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    contrast = np.abs(cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125)) + np.abs(
        cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125)
    )
    candidates = ((contrast < MAX_CONTRAST) & (light > MIN_LIGHT)).astype(np.uint8)
    lowest = round(LOWEST_ROW * size[0])
    _, labels = cv2.connectedComponents(candidates, connectivity=4)
    is_wall = np.isin(labels, np.unique(labels[lowest:]))
    sky: NDArray[np.bool_] = np.isin(labels, np.unique(labels[0])) & (labels > 0) & ~is_wall
    if sky.any() and np.quantile(light[sky], 0.1) < MIN_EVENNESS * np.median(light[sky]):
        sky[:] = False
    return sky


def find_far_sky(image: NDArray[np.uint8], depth: NDArray[np.floating], *, margin_px: int = 2) -> NDArray[np.bool_]:
    """Return where an image shows sky and depth is farther than most of the rest, as a mask.

    Args:
        image: (H, W, 3) uint8 RGB.
        depth: (h, w) of the same view, in any unit; 0 = none.
        margin_px: pixels of depth by which sky is widened: depth at its edge is between it and what stands before it.

    Returns (h, w) bool; all False where an evenly bright region is predicted nearer: a ceiling, or depth that is wrong.
    """
    sky = find_sky(image, depth.shape)
    there, rest = depth[sky & (depth > 0)], depth[~sky & (depth > 0)]
    if not len(there) or not len(rest) or np.median(there) < np.quantile(rest, MIN_DEPTH_QUANTILE):
        return np.zeros(depth.shape, np.bool_)
    wide = cv2.dilate(sky.astype(np.uint8), np.ones((2 * margin_px + 1,) * 2, np.uint8))
    return np.asarray(wide, np.bool_)
