"""Draw depth maps side by side on one scale of metres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stadia.evaluation.drawings import render_figure

TICKS_M = (2, 5, 10, 20, 40, 80)
"""Ticks of the logarithmic scale, from its first to its last value; bright is near."""
WIDTH, TILE = 12.8, 3.0
"""Inches, of 100 pixels each."""


def depths_on_one_scale(rows: Sequence[Sequence[NDArray[np.generic]]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Draw rows of tiles with column names above and the scale of metres beside them, (H, W, 3) RGB.

    Args:
        rows: (h, w, 3) uint8 RGB images, and (h, w) depth maps in metres, 0 = none (black).
        names: of the columns.
    """
    shape = rows[0][0].shape
    figure = Figure(
        figsize=(WIDTH, 0.45 + len(rows) * (TILE * shape[0] / shape[1] + 0.06)), dpi=100, layout="constrained"
    )
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
                drawn = axis.imshow(
                    np.ma.masked_equal(tile, 0), cmap="magma_r", norm=scale, aspect="auto", interpolation="nearest"
                )
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=9)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes, ticks=TICKS_M, label="depth (m)", fraction=0.015, pad=0.01)
        bar.ax.set_yticklabels([str(metres) for metres in TICKS_M])
        bar.ax.minorticks_off()
        bar.ax.invert_yaxis()
    return render_figure(figure)
