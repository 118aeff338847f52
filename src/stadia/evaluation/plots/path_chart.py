"""Plot camera paths from above and from the side with matplotlib, which is slow to import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import format_plot_text
from stadia.core.plot_style import LINE_COLORS, use_default_style
from stadia.core.types import DepthScale
from stadia.io.atomic_files import atomic_write

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
        for (name, positions), color in zip(xyz.items(), LINE_COLORS, strict=False):
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
