"""Plot camera paths, motions, camera heights and depth maps with matplotlib, which is slow to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import use_default_style
from stadia.core.types import DepthScale
from stadia.evaluation.depth_score import DepthScore, GroundTruthReaders
from stadia.evaluation.image_score import align_to_truth, sample_prediction
from stadia.evaluation.plots.colormaps import color_categories, color_heat
from stadia.evaluation.predictions_folder import Predictions
from stadia.evaluation.protocols import Protocol
from stadia.geometry.cameras import crop_window
from stadia.io.atomic_files import atomic_write
from stadia.io.image_io import write_image
from stadia.metrics.trajectory_metrics import AXES, fit_motion_axes

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
    """Project points, (N, 3) in camera coordinates, into the image; return their pixels (N, 2).

    points: (N, 3) points with z > 0.
    K: (3, 3) intrinsics in pixels.
    """
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
    """Return |prediction - truth| / truth (H, W) at the scored pixels, after alignment; NaN at other steps.

    true_m: (H, W) true depth in metres.
    """
    true = np.asarray(true_m, np.float64)
    predicted = predictions.read(name, png_per_metre=protocol.png_per_metre)
    values = np.asarray(predicted, np.float64)
    window, errors = crop_window(predictions.crop, *true.shape), np.full(true.shape, np.nan)
    mask = window.cut(protocol.mask(true))
    scored = window.cut(true)[mask][None]
    found = sample_prediction(name, values, mask, predictions.depth_scale)
    alignment = protocol.alignment(predictions.depth_scale)
    depth, _ = align_to_truth(found, scored, predictions.depth_scale, alignment, protocol.clamp_m)
    window.cut(errors)[mask] = (np.abs(depth - scored) / scored)[0]
    return errors


TICKS_M = (2, 5, 10, 20, 40, 80)  # ticks of the logarithmic scale; bright is near
WIDTH, TILE = 12.8, 3.0  # inches, of 100 pixels each
MAX_MOTIONS_DRAWN = 2000

AXIS_WORDS = {"tx": "right", "ty": "down", "tz": "forward", "rx": "pitch", "ry": "yaw", "rz": "roll"}

_MAX_SHOWN = 1.6  # heights above this multiple of the estimate are not shown
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito


PATHS_MARK = "stadia-paths"  # The mark in a drawing shows that a later drawing may replace it.
SIDE_INCH = 10 * (0.985 - 0.08) / 2.2  # side of the two square plots of `draw_paths`
BELOW_INCH, ABOVE_INCH, TITLE_INCH = 0.85, 0.4, 0.35  # space for legend, plot titles and title


@use_default_style()
def draw_paths(
    path: Path,
    paths: Mapping[str, NDArray[np.float64]],
    depth_scale: DepthScale,
    *,
    title: str = "",
    gaps: Sequence[int] = (),
    points: NDArray[np.float64] | None = None,
) -> None:
    """Plot camera paths from above and from the side into a .png or .svg. A dot marks the start of each path.

    From above, x is right and z (forward) is up. From the side, z is right and -y is up.

    path: file to write.
    paths: poses T_world_camera (N, 4, 4) by name, in one world, in the unit of `depth_scale`.
    gaps: rows whose pose is not joined with the next one.
    points: points (P, 3) in the same world, drawn behind the paths.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit = "m" if depth_scale is DepthScale.METRES else "up to scale: no metres"
    xyz = {name: T[:, :3, 3] for name, T in paths.items()}
    shown = list(xyz.values())
    if points is not None and len(points):
        shown.append(np.quantile(points, (0.25, 0.75), axis=0))
    low, high = np.concatenate(shown).min(axis=0), np.concatenate(shown).max(axis=0)
    half, middle = 0.55 * max(float((high - low).max()), 1e-6), (low + high) / 2
    above = ABOVE_INCH + TITLE_INCH * bool(title)
    height = BELOW_INCH + SIDE_INCH + above
    figure = Figure(figsize=(10, height))  # a constrained layout costs as much time as the plot
    figure.subplots_adjust(left=0.08, right=0.985, bottom=BELOW_INCH / height, top=1 - above / height, wspace=0.2)
    if title:
        figure.suptitle(format_plot_text(title), fontsize="medium")
    right, up, forward = (0, 1, "x, right"), (1, -1, "height, -y"), (2, 1, "z, forward")  # y of a camera is down
    views = {"from above": (right, forward), "from the side": (forward, up)}
    for axes, (view, directions) in zip(figure.subplots(1, 2), views.items(), strict=True):
        if points is not None:
            axes.plot(
                *(sign * points[:, axis] for axis, sign, _ in directions),
                ".",
                color="0.6",
                markersize=1.2,
                zorder=1,
                label="points",
            )
        for (name, positions), color in zip(xyz.items(), _COLORS, strict=False):
            x, y = (sign * positions[:, axis] for axis, sign, _ in directions)
            line = (np.insert(values, np.asarray(gaps, int) + 1, np.nan) for values in (x, y))
            axes.plot(*line, ".-", color=color, linewidth=1.6, markersize=3, label=format_plot_text(name))
            axes.plot(x[:1], y[:1], "o", color=color, markersize=5)
        for letter, (axis, sign, label) in zip("xy", directions, strict=True):
            limits = sign * middle[axis] - half, sign * middle[axis] + half
            axes.set(**{f"{letter}label": f"{label} ({unit})", f"{letter}lim": limits})
        axes.set_aspect("equal")
        # Finding y takes a fifth longer.
        axes.set_title(f"{view}, in axes of the first camera", y=1, fontsize="medium")
        axes.ticklabel_format(scilimits=(-2, 4))  # longer numbers would overlap
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(paths) + 1, frameon=False)
    mark = {"Date": None, "Identifier": PATHS_MARK} if path.suffix == ".svg" else {"Software": PATHS_MARK}
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=120, format=path.suffix.removeprefix("."), metadata=mark)


@use_default_style()
def draw_depth_comparison(rows: Sequence[Sequence[NDArray[np.generic]]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Draw rows of images and depth maps with column names and one common color scale, as RGB (H, W, 3).

    rows: images (h, w, 3) RGB, and depth (h, w) in metres with 0 for unknown.
    names: column names.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    shape = rows[0][0].shape
    height = 0.45 + len(rows) * (TILE * shape[0] / shape[1] + 0.06)
    figure = Figure(figsize=(WIDTH, height), dpi=100, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    scale = LogNorm(TICKS_M[0], TICKS_M[-1])
    drawn = None
    for row, tiles in zip(axes, rows, strict=True):
        for axis, tile in zip(row, tiles, strict=True):
            axis.set_axis_off()
            if tile.ndim == 3:
                axis.imshow(tile, aspect="auto")
            else:
                axis.imshow(np.zeros((*tile.shape, 3)), aspect="auto")
                depth_m, style = np.ma.masked_equal(tile, 0), {"aspect": "auto", "interpolation": "nearest"}
                drawn = axis.imshow(depth_m, cmap="magma_r", norm=scale, **style)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(format_plot_text(name), fontsize=9)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, ticks=TICKS_M, label="depth (m)", fraction=0.015, pad=0.01)
        bar.ax.set_yticklabels([str(metres) for metres in TICKS_M])
        bar.ax.minorticks_off()
        bar.ax.invert_yaxis()
    return render_figure(figure)


MIN_SLOPE = 0.1
"""Smallest slope of predicted over true motion. If all axes are below it, predictions hardly depend on the images."""


@use_default_style()
def draw_motions(
    predicted: NDArray[np.float64], true: NDArray[np.float64], depth_scale: DepthScale
) -> NDArray[np.uint8]:
    """Plot predicted over true motion of each axis, with the line of equality, as RGB (H, W, 3).

    predicted, true: (N, 6) motions from `MotionPairs`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), dpi=100)  # a constrained layout costs more time than the plot
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.07, top=0.89, wspace=0.25, hspace=0.3)
    fits = fit_motion_axes(predicted, true)
    shown = np.unique(np.linspace(0, len(true) - 1, min(len(true), MAX_MOTIONS_DRAWN)).astype(int))
    for i, (axis, axes) in enumerate(zip(AXES, figure.subplots(2, 3).flat, strict=True)):
        x, y = true[shown, i], predicted[shown, i]
        axes.plot(x, y, ".", color="#0072b2", markersize=4, alpha=0.6)
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        margin = 0.05 * (high - low) or 1e-3
        limits = low - margin, high + margin
        axes.set(xlim=limits, ylim=limits, aspect="equal")  # equal scales show the true slope
        axes.axline((low, low), slope=1, color="#999999", linewidth=1, zorder=0)
        unit = "°" if axis.startswith("r") else "m"
        label = "slope {:.2f}, correlation {:.2f}".format(*fits[axis]) if axis in fits else "the truth does not move"
        axes.set_title(f"{axis}, {AXIS_WORDS[axis]}: {label}", fontsize=9)
        axes.set_xlabel(f"true, {unit}", fontsize=8)
        axes.set_ylabel(f"predicted, {unit}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    scaled = "" if depth_scale is DepthScale.METRES else "; translations scaled to the truth by one factor"
    if fits and all(abs(slope) < MIN_SLOPE for slope, _ in fits.values()):
        scaled += "\nthe network predicts nearly the same motion for every pair: its path is not usable yet"
    figure.suptitle(
        f"predicted over true motion of the camera to the next frame, {len(true)} pairs{scaled}", fontsize=10
    )
    return render_figure(figure)


@use_default_style()
def draw_heights_over_frames(
    frame: ArrayLike,
    height_m: ArrayLike,
    is_inlier: ArrayLike,
    estimate_m: float,
    low_m: float,
    high_m: float,
    *,
    starts: Mapping[str, float] = MappingProxyType({}),
) -> Image:
    """Plot the camera height that each object implies over its frame, and the estimate with its band, as RGB (H, W, 3).

    frame, height_m, is_inlier: (N,) frame, implied height in metres, and whether the object is an inlier.
    estimate_m, low_m, high_m: estimated camera height and its confidence interval in metres.
    starts: first frame of each part, by name.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    at, heights, inliers = np.asarray(frame), np.asarray(height_m, np.float64), np.asarray(is_inlier, bool)
    valid = np.isfinite(heights) & (heights > 0)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for chosen, color, name in ((inliers, GOOD, "inliers"), (~inliers, BAD, "outliers")):
        shown = chosen & valid
        axes.plot(at[shown], heights[shown], ".", color=np.array(color) / 255, markersize=4, label=name)
    axes.axhspan(low_m, high_m, color="#0072b2", alpha=0.2, linewidth=0)
    axes.axhline(estimate_m, color="#0072b2", linewidth=1.6, label=f"{estimate_m:.2f} m ({low_m:.2f} to {high_m:.2f})")
    for number, (name, start) in enumerate(starts.items()):
        if number:
            axes.axvline(start - 0.5, color="0.4", linewidth=1)
        if len(starts) > 1:
            position: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(format_plot_text(name), (start, 1), xytext=(2, -9), fontsize=7, **position)
    within = np.clip(np.append(heights[valid], estimate_m), 0, _MAX_SHOWN * estimate_m)
    bottom = min(0.9 * within.min(), max(low_m, 0.6 * estimate_m))
    axes.set_ylim(0.95 * bottom, max(1.1 * within.max(), 1.05 * min(high_m, 1.5 * estimate_m)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label_axes(
        axes, "frame of the video" if len(starts) < 2 else "frame, recording after recording", "camera height (m)"
    )
    return render_figure(figure)


@dataclass(frozen=True, slots=True)
class EpochHeight:
    """Hold the camera heights above the ground, in metres, that were estimated for a group of images after an epoch.

    epoch: number of the epoch.
    estimated_m: median of the heights that the images of the group imply.
    low_m: lower quartile of these heights.
    high_m: upper quartile of these heights.
    kept_m: height that training uses from then on.
    refused: why the estimate was not used, as text, or "" if it was.
    """

    epoch: int
    estimated_m: float
    low_m: float
    high_m: float
    kept_m: float
    refused: str = ""


@use_default_style()
def draw_heights_over_epochs(
    courses: Mapping[str, Sequence[EpochHeight]],
    *,
    before_m: Mapping[str, float],
    between_m: Mapping[str, tuple[float, float]],
) -> Image:
    """Plot the camera heights of each group over the epochs, with the height before training, as RGB (H, W, 3).

    courses: camera heights after each epoch, by group.
    before_m: height before training, by group.
    between_m: lowest and highest height that depth may give, by group.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.2 * len(courses)), layout="constrained")
    for row, (name, course) in enumerate(courses.items()):
        axes = figure.add_subplot(len(courses), 1, row + 1)
        epoch, median, low, high, kept = (
            np.array([(e.epoch, e.estimated_m, e.low_m, e.high_m, e.kept_m) for e in course]).reshape(-1, 5).T
        )
        refused = np.array([bool(e.refused) for e in course])
        if name in between_m:
            open_m = "allowed for depth: {:.2f} to {:.2f} m".format(*between_m[name])
            axes.axhspan(*between_m[name], color=np.array(GOOD) / 255, alpha=0.15, linewidth=0, label=open_m)
        if name in before_m:
            before = f"before training: {before_m[name]:.2f} m"
            axes.axhline(before_m[name], color=np.array(GOOD) / 255, linewidth=1.2, linestyle="--", label=before)
        axes.fill_between(epoch, low, high, color="#0072b2", alpha=0.2, linewidth=0, label="half of the epoch's frames")
        styles = (~refused, "o", 4, "their median"), (refused, "x", 7, "their median, refused")
        for chosen, marker, size, label in styles:
            if np.isfinite(median[chosen]).any():
                axes.plot(epoch[chosen], median[chosen], marker, color="#d55e00", markersize=size, label=label)
        kept_label = f"kept: {kept[-1]:.2f} m" if np.isfinite(kept[-1]) else "no height is kept"
        axes.plot(epoch, kept, color="#0072b2", linewidth=1.6, label=kept_label)
        if name:
            axes.set_title(format_plot_text(name), fontsize="medium")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _label_axes(axes, "epoch", "camera height (m)")
    return render_figure(figure)


@use_default_style()
def draw_height_histogram(height_m: ArrayLike, pools_m: Mapping[str, float]) -> Image:
    """Plot a histogram of the camera heights of images (F,) in metres, and pooled heights by name, as RGB (H, W, 3)."""
    from matplotlib.figure import Figure

    heights = np.asarray(height_m, np.float64)
    middle = float(np.median(heights))
    shown = heights[(heights > middle / _MAX_SHOWN) & (heights < middle * _MAX_SHOWN)]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(shown, bins=max(10, min(60, len(shown) // 4)), color="0.75")
    for (name, metres), color, style in zip(pools_m.items(), _COLORS, ("-", "--", "-.", ":"), strict=False):
        axes.axvline(metres, color=color, linestyle=style, linewidth=1.6, label=f"{name} {metres:.2f} m")
    axes.legend(fontsize=8)
    _label_axes(axes, "camera height (m)", "frames")
    return render_figure(figure)


def _label_axes(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.legend(loc="best", frameon=False, fontsize="small")
