"""Plot camera paths from above."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stadia.core.files import replacing
from stadia.core.types import Claim

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito


def render_figure(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to (H, W, 3) RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_paths(path: Path, paths: Mapping[str, NDArray[np.float64]], claim: Claim) -> None:
    """Plot camera paths from above, x to the right and z upwards, with equal scales. A dot marks each start.

    Args:
        path: of the image (.png or .svg).
        paths: name to T_world_camera (N, 4, 4), in one world and one unit.
        claim: names the unit on the axes.
    """
    unit = "m" if claim is Claim.METRES else "up to scale: no metres"
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    for (name, T), color in zip(paths.items(), _COLORS, strict=False):
        x, z = T[:, 0, 3], T[:, 2, 3]
        axes.plot(x, z, color=color, linewidth=1.6, label=name)
        axes.plot(x[:1], z[:1], "o", color=color, markersize=5)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel(f"x, right ({unit})")
    axes.set_ylabel(f"z, forward ({unit})")
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.legend(loc="best", frameon=False)
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=120, format=path.suffix.removeprefix("."))
