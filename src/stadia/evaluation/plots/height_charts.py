"""Plot heights of a camera above the road: over frames, over epochs, and their histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import LINE_COLORS, render_figure, use_default_style
from stadia.evaluation.plots.image_sheets import BAD, GOOD, Image

_MAX_SHOWN = 1.6  # heights above this multiple of the estimate are not shown


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
    for (name, metres), color, style in zip(pools_m.items(), LINE_COLORS, ("-", "--", "-.", ":"), strict=False):
        axes.axvline(metres, color=color, linestyle=style, linewidth=1.6, label=f"{name} {metres:.2f} m")
    axes.legend(fontsize=8)
    _label_axes(axes, "camera height (m)", "frames")
    return render_figure(figure)


def _label_axes(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.legend(loc="best", frameon=False, fontsize="small")
