"""Plot the predicted over the true motion of a camera between frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stadia.core.plot_style import render_figure, use_default_style
from stadia.core.types import DepthScale
from stadia.data.frame_selection import spread_indices
from stadia.metrics.trajectory_metrics import AXES, fit_motion_axes

MAX_MOTIONS_DRAWN = 2000

AXIS_WORDS = {"tx": "right", "ty": "down", "tz": "forward", "rx": "pitch", "ry": "yaw", "rz": "roll"}


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
    shown = spread_indices(len(true), MAX_MOTIONS_DRAWN)
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
