"""Draw horizon, ground plane and object boxes of a road on a frame, and plot camera heights over frames and epochs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from stadia.evaluation.drawings import render_figure
from stadia.evaluation.legend import text_size, write
from stadia.training.height_course import EpochHeight

Image = NDArray[np.uint8]
Array = NDArray[np.float64]
GOOD, BAD, HORIZON, PLANE = (0, 158, 115), (213, 94, 0), (240, 228, 66), (86, 180, 233)
"""RGB, Okabe and Ito: green for inliers, red for outliers, yellow for the horizon, blue for the plane."""

_SHIFT_BITS, _MIN_AHEAD_M = 4, 0.5
_MAX_SHOWN = 1.6  # heights above this multiple of the estimate are not shown


def draw_horizon(image: Image, horizon: ArrayLike) -> Image:
    """Draw the line a x + b y + c = 0 of a horizon (3,) on a copy of (H, W, 3) RGB. Nothing for NaN or
    an upright line.
    """
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

    def at(x: float, z: float) -> Array:
        return np.asarray(-height * up + x * right + z * forward)

    lines = [(at(x, near), at(x, far)) for x in sides] + [(at(sides[0], z), at(sides[-1], z)) for z in ahead]
    for start, end in lines:
        if min(start[2], end[2]) > _MIN_AHEAD_M:
            a, b = ((K @ point)[:2] / point[2] for point in (start, end))
            _draw_line(drawn, a, b, PLANE, _thickness(image.shape[1]))
    return drawn


def draw_verdicts(image: Image, boxes_px: ArrayLike, believed: Sequence[bool], words: Sequence[str]) -> Image:
    """Draw boxes (N, 4) left, top, right, bottom with a text over each on a copy of (H, W, 3) RGB.

    Inliers are green, and their texts are larger and drawn last. Outliers are red.
    """
    drawn = image.copy()
    rows = sorted(
        zip(np.asarray(boxes_px, np.float64).reshape(-1, 4).tolist(), believed, words, strict=True),
        key=lambda row: row[1],
    )
    for box, good, _ in rows:
        left, top, right, bottom = (round(v) for v in box)
        cv2.rectangle(
            drawn, (left, top), (right, bottom), GOOD if good else BAD, _thickness(image.shape[1]), cv2.LINE_AA
        )
    taken = list[tuple[int, int, int]]()
    for box, good, word in rows:
        scale = max(0.35, image.shape[1] / (1000 if good else 1800))
        width, height = text_size(word, scale)
        left, low = max(0, min(round(box[0]), image.shape[1] - width)), max(round(box[1]) - 4, height + 3)
        while good and any(
            abs(low - row) < height + 4 and start < left + width and left < end for start, end, row in taken
        ):
            low += height + 4  # below the text that is already there
        taken += [(left, left + width, low)] if good else []
        write(drawn, word, (left, low), GOOD if good else BAD, scale)
    return drawn


def sheet(images: Sequence[Image], columns: int, width: int = 640) -> Image:
    """Arrange images of any size in rows, each `width` wide, on white. No image gives one white row."""
    small = [
        cv2.resize(p, (width, max(1, round(p.shape[0] * width / p.shape[1]))), interpolation=cv2.INTER_AREA)
        for p in images
    ]
    rows = []
    for start in range(0, len(small), columns):
        row = small[start : start + columns]
        height = max(p.shape[0] for p in row)
        out = np.full((height + 4, columns * (width + 4), 3), 255, np.uint8)
        for i, p in enumerate(row):
            out[: p.shape[0], i * (width + 4) : i * (width + 4) + width] = p
        rows.append(out)
    return np.concatenate(rows) if rows else np.full((4, columns * (width + 4), 3), 255, np.uint8)


def heights_over_frames(
    frame: ArrayLike,
    height_m: ArrayLike,
    believed: ArrayLike,
    estimate_m: float,
    low_m: float,
    high_m: float,
    *,
    starts: Mapping[str, float] = MappingProxyType({}),
    true_m: float | None = None,
) -> Image:
    """Plot the camera height from each object (N,) at its frame, and the estimate with its band, as (H, W, 3) RGB.

    starts: first frame of each recording by name; each but the first is marked by a line.
    The axis covers the objects' heights. A band far beyond it is cut off.
    """
    at, heights, inliers = np.asarray(frame), np.asarray(height_m, np.float64), np.asarray(believed, bool)
    valid = np.isfinite(heights) & (heights > 0)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for chosen, color, name in ((inliers, GOOD, "inliers"), (~inliers, BAD, "outliers")):
        shown = chosen & valid
        axes.plot(at[shown], heights[shown], ".", color=np.array(color) / 255, markersize=4, label=name)
    axes.axhspan(low_m, high_m, color="#0072b2", alpha=0.2, linewidth=0)
    axes.axhline(estimate_m, color="#0072b2", linewidth=1.6, label=f"{estimate_m:.2f} m ({low_m:.2f} to {high_m:.2f})")
    if true_m is not None:
        axes.axhline(true_m, color="black", linewidth=1, linestyle="--", label=f"measured: {true_m:.2f} m")
    for number, (name, start) in enumerate(starts.items()):
        if number:
            axes.axvline(start - 0.5, color="0.4", linewidth=1)
        if len(starts) > 1:
            position: dict[str, Any] = {
                "xycoords": ("data", "axes fraction"),
                "xytext": (2, -9),
                "textcoords": "offset points",
            }
            axes.annotate(name, (start, 1), fontsize=7, **position)
    within = np.clip(np.append(heights[valid], true_m or estimate_m), 0, _MAX_SHOWN * estimate_m)
    bottom = min(0.9 * within.min(), max(low_m, 0.6 * estimate_m))
    axes.set_ylim(0.95 * bottom, max(1.1 * within.max(), 1.05 * min(high_m, 1.5 * estimate_m)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(axes, "frame of the video" if len(starts) < 2 else "frame, recording after recording", "camera height (m)")
    return render_figure(figure)


def heights_over_epochs(
    courses: Mapping[str, Sequence[EpochHeight]],
    *,
    before_m: Mapping[str, float],
    between_m: Mapping[str, tuple[float, float]],
) -> Image:
    """Plot camera heights over epochs, (H, W, 3) RGB, one row for each group of cameras.

    Each row has the median of an epoch's frames with their quartiles, crossed out where the epoch was refused, and the
    height that was kept.

    Args:
        courses: epochs by the name of the group, at least one each.
        before_m, between_m: by the same name, optional: the height before training from silhouettes, and its interval.
    """
    figure = Figure(figsize=(8, 3.2 * len(courses)), layout="constrained")
    for row, (name, course) in enumerate(courses.items()):
        axes = figure.add_subplot(len(courses), 1, row + 1)
        epoch, median, low, high, kept = (
            np.array([(e.epoch, e.said_m, e.low_m, e.high_m, e.kept_m) for e in course]).reshape(-1, 5).T
        )
        refused = np.array([bool(e.refused) for e in course])
        if name in between_m:
            open_m = "allowed for depth: {:.2f} to {:.2f} m".format(*between_m[name])
            axes.axhspan(*between_m[name], color=np.array(GOOD) / 255, alpha=0.15, linewidth=0, label=open_m)
        if name in before_m:
            before = f"before training: {before_m[name]:.2f} m"
            axes.axhline(before_m[name], color=np.array(GOOD) / 255, linewidth=1.2, linestyle="--", label=before)
        axes.fill_between(epoch, low, high, color="#0072b2", alpha=0.2, linewidth=0, label="half of the epoch's frames")
        for chosen, marker, size, label in (
            (~refused, "o", 4, "their median"),
            (refused, "x", 7, "their median, refused"),
        ):
            if np.isfinite(median[chosen]).any():
                axes.plot(epoch[chosen], median[chosen], marker, color="#d55e00", markersize=size, label=label)
        kept_label = f"kept: {kept[-1]:.2f} m" if np.isfinite(kept[-1]) else "none is kept"
        axes.plot(epoch, kept, color="#0072b2", linewidth=1.6, label=kept_label)
        if name:
            axes.set_title(name, fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _label(axes, "epoch", "camera height (m)")
    return render_figure(figure)


def _label(axes: object, x: str, y: str) -> None:
    axes.set_xlabel(x)  # type: ignore[attr-defined]
    axes.set_ylabel(y)  # type: ignore[attr-defined]
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)  # type: ignore[attr-defined]
    axes.legend(loc="best", frameon=False, fontsize="small")  # type: ignore[attr-defined]


def _thickness(width: int) -> int:
    return max(1, round(width / 700))


def _draw_line(image: Image, start: Array, end: Array, color: tuple[int, int, int], thickness: int) -> None:
    """Draw to a 16th of a pixel, without parts far outside."""
    if not (np.isfinite(start).all() and np.isfinite(end).all()) or max(np.abs(start).max(), np.abs(end).max()) > 2**20:
        return
    a, b = ((point * 2**_SHIFT_BITS).round().astype(int).tolist() for point in (start, end))
    height, width = (side << _SHIFT_BITS for side in image.shape[:2])
    meets, a, b = cv2.clipLine((-width, -height, 3 * width, 3 * height), a, b)
    if meets:
        cv2.line(image, a, b, color, thickness, cv2.LINE_AA, _SHIFT_BITS)
