"""Arrange images in a sheet with a legend, and draw objects, planes and verdicts into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import render_figure, use_default_style
from stadia.evaluation.plots.colormaps import color_categories

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

GOOD, BAD, HORIZON, PLANE = (0, 158, 115), (213, 94, 0), (240, 228, 66), (86, 180, 233)
"""Colors from Okabe and Ito (RGB) of inliers, outliers, the horizon and the plane."""

SHEET_INCH, LEGEND_INCH, LEGEND_COLUMNS = 18.0, 0.6, 5

NEAR_PLANE_M, _MIN_AHEAD_M = 0.01, 0.5


def draw_masks(
    image: Image, instances: NDArray[np.integer], class_map: NDArray[np.integer], opacity: float = 0.55
) -> Image:
    """Blend the colors of classes into an image (H, W, 3) RGB, and draw the outlines of instances.

    instances: (H, W) object numbers.
    class_map: (H, W) classes; 0 means no class.
    opacity: share of the class color.
    """
    colors = color_categories(np.where(instances > 0, class_map, 0) - 1, 7)
    mixed = np.where((instances > 0)[..., None], (1 - opacity) * image + opacity * colors, image).astype(np.uint8)
    outline = np.zeros(instances.shape, bool)
    outline[:, 1:] |= instances[:, 1:] != instances[:, :-1]
    outline[1:] |= instances[1:] != instances[:-1]
    mixed[outline] = 255
    return mixed


def project_points(points: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project points, (N, 3) in camera coordinates, into the image; return their pixels (N, 2).

    points: (N, 3) points with z > 0.
    K: (3, 3) intrinsics in pixels.
    """
    projected = points @ K.T
    return np.asarray(projected[:, :2] / np.maximum(projected[:, 2:], NEAR_PLANE_M))


@use_default_style()
def draw_image_sheet(
    images: Mapping[str, Image],
    legend: Sequence[tuple[str, Color]],
    *,
    columns: int,
    draw_over: Callable[[Axes, str], object] = lambda axes, name: None,
) -> Image:
    """Arrange named images in rows above a legend of colors, as RGB (H, W, 3).

    images: images (h, w, 3) RGB by name.
    legend: text and color of each entry.
    columns: number of images per row.
    draw_over: function that draws into the axes of the named image.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = -(-len(images) // columns)
    tallest = max(image.shape[0] / image.shape[1] for image in images.values())
    height = rows * SHEET_INCH / columns * tallest
    figure = Figure(figsize=(SHEET_INCH, height + LEGEND_INCH), dpi=100)
    figure.subplots_adjust(0, LEGEND_INCH / (height + LEGEND_INCH), 1, 1, wspace=0.01, hspace=0.02)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, image) in zip(grid, images.items(), strict=False):
        axes.imshow(image)
        axes.autoscale(enable=False)
        _label(axes, name, (2, image.shape[0] - 3), "black", size=10)
        draw_over(axes, name)
    for axes in figure.axes:
        axes.set_axis_off()
    patches = [Patch(color=_to_shares(color), label=text) for text, color in legend]
    figure.legend(handles=patches, loc="lower left", ncols=LEGEND_COLUMNS, frameon=False, handlelength=1)
    return render_figure(figure)


def draw_horizon(axes: Axes, horizon: ArrayLike) -> None:
    """Draw the horizon a x + b y + c = 0, given as (3,), unless it is NaN or vertical."""
    a, b, c = np.asarray(horizon, np.float64)
    if abs(b) > 1e-6:
        axes.axline((0, -c / b), slope=-a / b, color=_to_shares(HORIZON), linewidth=2)


def draw_plane(
    axes: Axes,
    K: Array,
    plane: ArrayLike,
    *,
    ahead: Iterable[float] = (5, 10, 15, 20, 30, 40),
    aside: Iterable[float] = (-6, -4, -2, 0, 2, 4, 6),
) -> None:
    """Draw a grid of lines on a plane in front of the camera.

    K: (3, 3) intrinsics.
    plane: (4,) normal and camera height.
    ahead, aside: positions of the lines in metres, ahead of the camera and to its sides.
    """
    *normal, height = np.asarray(plane, np.float64)
    up = np.array(normal)
    forward = np.array([0.0, 0, 1]) - up[2] * up
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    right = np.cross(forward, up)
    far, near, sides = max(ahead), min(ahead), sorted(aside)
    lines = [((x, near), (x, far)) for x in sides] + [((sides[0], z), (sides[-1], z)) for z in ahead]
    for ends in lines:
        points = np.array([-height * up + x * right + z * forward for x, z in ends])
        if points[:, 2].min() > _MIN_AHEAD_M:  # false for NaN
            axes.plot(*project_points(points, K).T, color=_to_shares(PLANE), linewidth=1.5)


def draw_box_verdicts(axes: Axes, boxes_px: ArrayLike, inliers: Sequence[bool], words: Sequence[str]) -> None:
    """Draw boxes with a text above each. Inliers are green and large; others are red.

    boxes_px: (N, 4) left, top, right, bottom.
    inliers: whether each box is an inlier.
    words: text of each box.
    """
    from matplotlib.patches import Rectangle

    boxes = np.asarray(boxes_px, np.float64).reshape(-1, 4).tolist()
    for (left, top, right, bottom), is_inlier, word in sorted(
        zip(boxes, inliers, words, strict=True), key=itemgetter(1)
    ):
        color = _to_shares(GOOD if is_inlier else BAD)
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=color))
        _label(axes, word, (left, top - 1), color, size=14 if is_inlier else 9)


def _label(axes: Axes, text: str, at: tuple[float, float], color: Any, size: float) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(*at, format_plot_text(text), color=color, fontsize=size, path_effects=halo, clip_on=True)


def _to_shares(color: Color) -> tuple[float, ...]:
    """Return a color with channels from 0 to 1, as matplotlib takes them."""
    return tuple(channel / 255 for channel in color)
