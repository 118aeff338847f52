"""Draw masks on images, and the horizon, the plane and the objects of roads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stadia.evaluation.plots.colormaps import color_categories
from stadia.process.matplotlib_settings import format_plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Color = tuple[int, int, int]

GOOD, BAD, HORIZON, PLANE = (0, 158, 115), (213, 94, 0), (240, 228, 66), (86, 180, 233)
"""RGB, Okabe and Ito, for inliers, outliers, the horizon and the plane."""

SHEET_INCH, LEGEND_INCH, LEGEND_COLUMNS = 18.0, 0.6, 5

NEAR_PLANE_M, _MIN_AHEAD_M = 0.01, 0.5


def draw_masks(
    image: Image, instances: NDArray[np.integer], class_map: NDArray[np.integer], opacity: float = 0.55
) -> Image:
    """Blend the colors of the classes (H, W), 0 = no class, into (H, W, 3) RGB, with outlines of the instances."""
    colors = color_categories(np.where(instances > 0, class_map, 0) - 1, 7)
    mixed = np.where((instances > 0)[..., None], (1 - opacity) * image + opacity * colors, image).astype(np.uint8)
    outline = np.zeros(instances.shape, bool)
    outline[:, 1:] |= instances[:, 1:] != instances[:, :-1]
    outline[1:] |= instances[1:] != instances[:-1]
    mixed[outline] = 255
    return mixed


def project_points(points: NDArray[np.float64], K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project (N, 3) to pixels (N, 2)."""
    projected = points @ K.T
    return np.asarray(projected[:, :2] / np.maximum(projected[:, 2:], NEAR_PLANE_M))


# -- Frames of a road.


def draw_image_sheet(
    images: Mapping[str, Image],
    legend: Sequence[tuple[str, Color]],
    *,
    columns: int,
    draw_over: Callable[[Axes, str], object] = lambda axes, name: None,
) -> Image:
    """Lay out images by name in rows over a legend of colors, (H, W, 3) RGB. draw_over: draws into their axes."""
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
    """Draw the line a x + b y + c = 0 of a horizon (3,), unless it is NaN or upright."""
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
    """Draw a grid of lines `ahead` and `aside` of the camera on a plane (4,): normal and camera height."""
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
    """Draw boxes (N, 4) left, top, right, bottom with a text over each: green and large for inliers, otherwise red."""
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


def render_figure(figure: Figure) -> Image:
    """Render a figure to (H, W, 3) RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
