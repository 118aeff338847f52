"""Draw masks, errors, the horizon, the road plane and objects on images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import use_default_style
from stadia.evaluation.depth_score import DepthScore, GroundTruthReaders
from stadia.evaluation.image_score import align_to_truth, sample_prediction
from stadia.evaluation.plots.colormaps import color_categories, color_heat
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import Protocol
from stadia.geometry.numpy_camera import crop_window
from stadia.io.image_io import write_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    """Project points (N, 3) in the camera's frame to pixels (N, 2) with intrinsics K (3, 3)."""
    projected = points @ K.T
    return np.asarray(projected[:, :2] / np.maximum(projected[:, 2:], NEAR_PLANE_M))


# -- Frames of a road.


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


def render_figure(figure: Figure) -> Image:
    """Render a matplotlib figure to an image (H, W, 3) RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


DRAWN = 3  # best and worst images that are drawn
TOP = 0.5  # relative error from which a pixel is brightest
_HOLE_PX = 5  # side of the square that a scored pixel fills in sparse ground truth
_SPARSE = 0.3  # share of scored pixels of sparse ground truth


def draw_error_map(errors: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of relative errors (H, W).

    0 is dark, TOP and above are bright, and pixels that are not scored are gray.
    """
    known = np.isfinite(errors)
    values = np.where(known, errors, 0.0).astype(np.float32)
    if known.mean() < _SPARSE:
        square = np.ones((_HOLE_PX, _HOLE_PX), np.uint8)
        values, known = cv2.dilate(values, square), cv2.dilate(known.astype(np.uint8), square) > 0
    return np.where(known[..., None], color_heat(values, top=TOP), np.uint8(96)).astype(np.uint8)


def write_error_maps(
    folder: Path, predictions: Predictions, truth: GroundTruthReaders, protocol: Protocol, score: DepthScore
) -> list[Path]:
    """Write the error maps of the best and the worst images into a folder. Return the files, RANK-NAME.png."""
    best, worst = find_extreme_images(score, DRAWN)
    written = []
    for kind, names in (("best", best), ("worst", worst)):
        for number, name in enumerate(names, 1):
            true_m = truth[name]()
            assert true_m is not None, "only images with ground truth have a score"
            path = folder / f"{kind}-{number}-{name}.png"
            drawn = draw_error_map(measure_error_map(predictions, name, true_m, protocol))
            write_image(path, drawn[..., ::-1])
            written.append(path)
    return written


def find_extreme_images(score: DepthScore, count: int) -> tuple[list[str], list[str]]:
    """Return the names of the images with the smallest and with the largest first metric, at most `count` of each."""
    metric = next(iter(score.per_image[0].metrics))
    ordered = sorted(score.per_image, key=lambda image: image.metrics[metric])
    names = [image.name for image in ordered]
    best = names[: min(count, (len(names) + 1) // 2)]
    return best, [name for name in reversed(names[-count:]) if name not in best]


def measure_error_map(
    predictions: Predictions, name: str, true_m: NDArray[np.floating], protocol: Protocol
) -> NDArray[np.float64]:
    """Return |prediction - truth| / truth (H, W) at the scored pixels, after alignment; NaN at the others.

    true_m: (H, W) true depth in metres.
    """
    true = torch.from_numpy(np.asarray(true_m, np.float64))
    predicted = predictions.read(name, png_per_metre=protocol.png_per_metre)
    values = torch.from_numpy(np.asarray(predicted, np.float64))
    window, errors = crop_window(predictions.crop, *true.shape), torch.full_like(true, torch.nan)
    mask = window.cut(protocol.mask(true))
    scored = window.cut(true)[mask][None]
    found = sample_prediction(name, values, mask, predictions.depth_scale)
    alignment = protocol.alignment(predictions.depth_scale)
    depth, _ = align_to_truth(found, scored, predictions.depth_scale, alignment, protocol.clamp_m)
    window.cut(errors)[mask] = ((depth - scored).abs() / scored)[0]
    return errors.numpy()
