"""Find the sky in images, with or without predicted depth."""

import cv2
import numpy as np
from numpy.typing import NDArray

MIN_LIGHT, MAX_CONTRAST = 0.45, 0.02
"""Smallest brightness and largest gradient (per pixel) of pixels that can be sky, in gray images with values in [0, 1].
"""

MIN_EVENNESS = 0.75
"""Smallest ratio of the 10 % quantile to the median of the brightness of the sky. Ceilings with lamps are below it."""

LOWEST_ROW = 0.55
"""A bright, even region that reaches below this share of the image's height, from the top, is not sky.

The horizon of a level camera is at 0.5.
"""

MIN_DEPTH_QUANTILE = 0.75
"""A region is sky only if its median depth is at least this quantile of the depth of the remaining pixels."""


def find_sky(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Find the sky in an image by brightness alone; return its mask (h, w) bool, which may be empty.

    Sky touches the upper edge of the image, is bright and even, and does not reach into the lower part of the image. An
    even ceiling has the same appearance; if you have depth, use `find_far_sky`.

    image: (H, W, 3) uint8 RGB.
    size: (h, w) of the mask.
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
    """Find the sky in an image with depth: return the mask (h, w) of pixels that resemble sky and are far.

    Far means farther than most of the rest of the image.

    The mask is empty if nothing resembles sky, if no depth is known there, or if it is not far.

    image: (H, W, 3) uint8 RGB.
    depth: (h, w) depth of the same image, in any unit; 0 means unknown.
    margin_px: radius of the dilation of the mask, pixels, because depth at the edge of the sky mixes near and far.
    """
    sky = find_sky(image, depth.shape)
    there, rest = depth[sky & (depth > 0)], depth[~sky & (depth > 0)]
    if not len(there) or not len(rest) or np.median(there) < np.quantile(rest, MIN_DEPTH_QUANTILE):
        return np.zeros(depth.shape, np.bool_)
    wide = cv2.dilate(sky.astype(np.uint8), np.ones((2 * margin_px + 1,) * 2, np.uint8))
    return np.asarray(wide, np.bool_)
