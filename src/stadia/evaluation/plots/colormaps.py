"""Map depth, residuals and categories to colors."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

_CATEGORIES = np.array(
    [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66)],
    np.uint8,
)
"""Okabe and Ito's colors, which color-blind readers can tell apart (jfly.uni-koeln.de/color)."""

_ROWS = 64  # rows of a map that are colored at once, to stay in the processor's cache


def to_uint8(image: ArrayLike) -> NDArray[np.uint8]:
    """Convert an image (3, H, W) in [0, 1] to (H, W, 3) uint8.

    Examples:
        >>> to_uint8(np.ones((3, 1, 2))).tolist()
        [[[255, 255, 255], [255, 255, 255]]]
    """
    scaled = np.clip(np.asarray(image, np.float32), 0, 1) * 255 + 0.5
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(1, 2, 0))


def color_inverse_depth(
    inverse_depth: ArrayLike,
    *,
    percentile: float = 95.0,
    top: float | None = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of inverse depth (H, W): near is bright, and 0 is black.

    percentile: percentile of the values that gets the brightest color, if `top` is None.
    top: value of the brightest color.
    out: (H, W, 3) array that is filled and returned.

    Examples:
        >>> color_inverse_depth(np.array([[0.0, 0.5, 1.0]])).shape
        (1, 3, 3)
    """
    values = np.asarray(inverse_depth, np.float32)
    if not all(np.isfinite(values[start : start + _ROWS]).all() for start in range(0, len(values), _ROWS)):
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if top is None:
        known = values[values > 0]
        top = float(np.percentile(known, percentile)) if known.size else 1.0
    return _apply_colormap(values, max(top, 1e-12), cv2.COLORMAP_MAGMA, out)


def describe_depth_range(inverse_depth: ArrayLike, *, is_metric: bool) -> str:
    """Return the range of depth in a map as text: `3.2 to 41 m`, or `1 to 13, no metres` for depth up to scale.

    The range is from the 5 % to the 95 % quantile. The text is "" if no pixel has depth.

    inverse_depth: (H, W) inverse depth; 0 for pixels without depth.
    is_metric: whether the unit is 1/m.
    """
    values = np.asarray(inverse_depth, np.float32)
    known = values[np.isfinite(values) & (values > 0)]
    if known.size == 0:
        return ""
    far, near = (1 / max(float(value), 1e-12) for value in np.percentile(known, (5.0, 95.0)))
    near, far = (near, far) if is_metric else (1.0, far / near)
    ends = " to ".join(f"{depth:.2g}" if depth < 10 else f"{depth:.0f}" for depth in (near, far))
    return f"{ends} m" if is_metric else f"{ends}, no metres"


def color_heat(values: ArrayLike, *, top: float = 0.5) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of non-negative values (H, W): 0 is dark, `top` and above are bright.

    Examples:
        >>> color_heat(np.array([[0.0, 1.0]]), top=1.0).shape
        (1, 2, 3)
    """
    return _apply_colormap(np.asarray(values, np.float32), top, cv2.COLORMAP_INFERNO)


def color_categories(values: ArrayLike, count: int) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of integers (H, W) below `count`; negative integers are black.

    Examples:
        >>> color_categories(np.array([[-1, 0]]), 3)[0, 0].tolist()
        [0, 0, 0]
    """
    chosen = np.asarray(values).astype(np.int64)
    colors = _CATEGORIES[np.arange(max(count, 1)) % len(_CATEGORIES)]
    drawn = np.where((chosen >= 0)[..., None], colors[np.clip(chosen, 0, count - 1)], 0)
    return np.ascontiguousarray(drawn.astype(np.uint8))


def category_key(names: Sequence[str], height: int, width: int) -> NDArray[np.uint8]:
    """Draw the key (height, width, 3) of the colors of `color_categories`, with one line for each name."""
    key = np.full((height, width, 3), 24, np.uint8)
    row = min(20, height // (len(names) + 1))
    gap = row // 6
    for number, name in enumerate([*names, "in no image"]):
        color = _CATEGORIES[number % len(_CATEGORIES)] if number < len(names) else np.zeros(3, np.uint8)
        key[number * row + gap : (number + 1) * row - gap, 4:24] = color
        at, font = (32, (number + 1) * row - row // 4), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(key, name, at, font, row / 44, (235, 235, 235), 1, cv2.LINE_AA)
    return key


@cache
def _load_colormap(colormap: int) -> NDArray[np.uint8]:
    colors = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colormap)
    return np.asarray(cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), np.uint8)


def _apply_colormap(
    values: NDArray[np.float32], top: float, colormap: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    colors = np.empty((*values.shape, 3), np.uint8) if out is None else out
    for start in range(0, len(values), _ROWS):  # copies of a whole 8K map would take 500 MB
        shares = values[start : start + _ROWS] / np.float32(top)
        np.clip(shares, 0, 1, out=shares)
        shares *= 255
        shares += 0.5
        cv2.applyColorMap(shares.astype(np.uint8), _load_colormap(colormap), colors[start : start + _ROWS])
    return colors
