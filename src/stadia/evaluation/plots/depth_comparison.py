"""Draw images and depth maps beside each other, in one color scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import render_figure, use_default_style

TICKS_M = (2, 5, 10, 20, 40, 80)  # ticks of the logarithmic scale; bright is near
WIDTH, TILE = 12.8, 3.0  # inches, of 100 pixels each


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
