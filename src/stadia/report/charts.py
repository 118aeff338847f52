"""Draw the charts of a report with matplotlib, as SVG in the fonts and colors of the page."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.plot_style import use_default_style
from stadia.report.run_files import Better, Series, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


WIDTH, HEIGHT = 420, 240  # size of a chart in pixels

LEFT, RIGHT, TOP, BOTTOM = 50, 18, 16, 28  # margins of the axes in pixels

PALETTE = tuple(f"#5ad1a{number}" for number in range(8))
SOFT, GRID, INK = "#5ad1b0", "#5ad1b1", "#5ad1b2"
"""Placeholder colors. Each is replaced by a variable of report.css."""

PAGE_COLORS = {color: f"var(--c{number})" for number, color in enumerate(PALETTE)}
PAGE_COLORS |= {SOFT: "var(--soft)", GRID: "var(--grid)", INK: "var(--ink)"}

STYLE = {
    "svg.fonttype": "none",  # text stays text, which the page's font draws
    "text.usetex": False,
    "text.parse_math": False,
    "text.color": SOFT,
    "font.size": 11,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.bottom": False,
    "xtick.major.pad": 9,
    "ytick.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
}

MAX_POINTS, MAX_DOTS = 800, 20
LOG_RATIO = 20.0
MIN_AXIS_SPAN = 1e-3  # smallest span of an axis, as a share of the values


def render_svg(
    about: str, draw: Callable[[Axes], object], *, height: int = HEIGHT, left: int = LEFT, corner: str = "step"
) -> str:
    """Return what the function `draw` draws, as an SVG element.

    about: description for screen readers.
    height, left: height of the chart and width of its left margin.
    corner: text before the labels of the horizontal axis.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    text = io.StringIO()
    # The salt makes the ids of its clip paths unique.
    with use_default_style(**STYLE, **{"svg.hashsalt": ascii(about)}):
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, frameon=False)
        rectangle = left / WIDTH, BOTTOM / height, 1 - (left + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / height
        axes = figure.add_axes(rectangle, frameon=False)
        draw(axes)
        for artist in (*axes.lines, *axes.collections):
            artist.set_clip_box(axes.bbox.padded(4))  # round ends at the edge stay whole
        figure.text(2 / WIDTH, 8 / height, corner)
        FigureCanvasSVG(figure).print_svg(text, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, _, body = text.getvalue().partition("</defs>")  # those of a style sheet, which would be that of the whole page
    body = re.sub(r' id="[\w.]+_\d+"', "", body)
    body = re.sub(r'font(-\w+)?: [^;"]*(; )?', "", body)
    body = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+|\n", r"\1", path[0]), body)
    body = re.sub(r"#5ad1[ab]\d", lambda color: PAGE_COLORS[color[0]], body)
    body = re.sub(r' style="([^"]*)"', _spread_style, body)  # the app's policy forbids style attributes
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(about)}">{body}'


def _spread_style(style: re.Match[str]) -> str:
    pairs = (declaration.partition(":") for declaration in style[1].split(";") if ":" in declaration)
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in pairs)


def label_axis(axis: Axis, count: int = 5, *, whole: bool = False) -> None:
    """Label an axis at about `count` numbers that are 1, 2 or 5 times a power of ten."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(count, integer=whole, steps=[1, 2, 5, 10]))


def label_steps(axes: Axes, first: float, last: float) -> None:
    """Set the range of the horizontal axis, from the first to the last step, with labels at round numbers."""
    from matplotlib.ticker import EngFormatter

    pad = int(first == last)
    axes.set_xlim(first - pad, last + pad)
    label_axis(axes.xaxis, whole=True)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def label_values(axes: Axes, low: float, high: float, *, log: bool = False) -> None:
    """Set the range of the vertical axis, from low to high, with labels at round numbers or powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3) if high < 1e3 * low else (1,), numticks=7))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
    else:
        label_axis(axes.yaxis)
    axes.set_ylim(low, high)


@dataclass(frozen=True)
class LegendRow:
    """A row of a legend.

    color: number in the palette, or "truth".
    about: explanation next to the name.
    tone: "stop" or "soft".
    """

    color: int | Literal["truth"]
    name: str
    value: str = ""
    about: str = ""
    tone: str = "soft"


@dataclass(frozen=True)
class Chart:
    """A chart as SVG, with its legend, a note, and alerts."""

    title: str
    svg: str
    legend: list[LegendRow]
    note: str = ""
    alerts: tuple[str, ...] = ()
    is_log: bool = False


def make_plot(
    title: str, series: Sequence[Series], *, better: Better = "lower", noisy: bool = True,
    marks: Sequence[tuple[int, str]] = (), note: str = "",
) -> Chart | None:  # fmt: skip
    """Return a chart with the curves of one panel, or None without a finite value.

    The axis is logarithmic if the values span more than LOG_RATIO. It leaves out the outermost hundredth of the values.

    better: direction of better values.
    noisy: whether a running mean is drawn over the values.
    marks: (first step, label) of each stage of the training.
    """
    smoothed = [smooth_values(s.values, _smoothing_window(len(s.values)) if noisy else 1) for s in series]
    drawn = np.concatenate([*smoothed, *(_trim_outliers(s.values) for s in series)])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return None
    low, high = float(drawn.min()), float(drawn.max())
    log = low > 0 and high / low > LOG_RATIO
    if not log:
        size, span = max(abs(low), abs(high)), high - low
        margin = max(0.05 * span, (MIN_AXIS_SPAN * size - span) / 2) if low < high else 0.1 * size or 1.0
        low, high = (0.0 if 0 <= low < 0.3 * high or low == high == 0 else low - margin), high + margin

    def draw(axes: Axes) -> None:
        first, last = min(s.steps[0] for s in series), max(s.steps[-1] for s in series)
        label_steps(axes, first, last)
        label_values(axes, low, high, log=log)
        for step, label in marks:
            if first <= step <= last:
                axes.axvline(step, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
                axes.text(step, 1.02, label, transform=axes.get_xaxis_transform())
        for s, values, color in zip(series, smoothed, PALETTE * len(series), strict=False):
            kept = thin_indices(len(s.steps))
            steps, mean, raw = (np.asarray(column, float)[kept] for column in (s.steps, values, s.values))
            if not np.array_equal(mean, raw, equal_nan=True):
                axes.plot(steps, raw, color=color, linewidth=1, alpha=0.28)
            has_dots = len(kept) <= MAX_DOTS
            axes.plot(steps, mean, color=color, marker="o" if has_dots else "", clip_on=not has_dots)

    svg = render_svg(f"{title} over steps", draw)
    legend = [_describe_curve(s, number, smoothed[number], better) for number, s in enumerate(series)]
    return Chart(title, svg, legend, note, tuple(filter(None, map(_describe_broken, series))), log)


def _describe_curve(s: Series, number: int, smoothed: NDArray[np.float64], better: Better) -> LegendRow:
    finite = np.flatnonzero(np.isfinite(smoothed))
    last, about = math.nan, ""
    if len(finite):
        last = float(smoothed[finite[-1]])
        best = finite[np.argmax(smoothed[finite]) if better == "higher" else np.argmin(smoothed[finite])]
        about = (
            f"best {format_number(float(smoothed[best]))} at step {s.steps[best]}"
            if better in ("lower", "higher")
            else ""
        )
    return LegendRow(number % len(PALETTE), shorten_name(s.name), f"last {format_number(last)}", about)


def _describe_broken(s: Series) -> str:
    broken = [step for step, value in zip(s.steps, s.values, strict=True) if not math.isfinite(value)]
    return f"{shorten_name(s.name)} was not finite {len(broken)} times, first at step {broken[0]}." if broken else ""


def shorten_name(name: str) -> str:
    """Return the name of a scalar without the words that are in the title of its panel."""
    return re.sub("^(train/term|time|gradient)/", "", name)


def smooth_values(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Return the running mean (N,) of the finite values in a centered window; NaN if there are none.

    window: odd number of values. The window is smaller at both ends.
    """
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, array, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(array))
    half = np.minimum(window // 2, np.minimum(index, len(array) - 1 - index))
    low, high = index - half, index + half + 1
    number = count[high] - count[low]
    return np.divide(total[high] - total[low], number, out=np.full(len(array), np.nan), where=number > 0)


def thin_indices(count: int) -> NDArray[np.int64]:
    """Return at most MAX_POINTS indices (M,) that are spread evenly over `count` values."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).astype(int))


def _smoothing_window(count: int) -> int:
    return 1 if count < 60 else 2 * (count // 80) + 1


def _trim_outliers(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    if len(finite) < 100:
        return finite
    low, high = np.percentile(finite, [1, 99])
    return finite[(finite >= low) & (finite <= high)]


def draw_histogram(about: str, values: Sequence[float], bins: int = 24) -> str:
    """Return a histogram as SVG, with a line at the median.

    The last bar contains the largest hundredth of the values.
    """
    array = np.asarray(values, dtype=np.float64)
    low, high = float(array.min()), float(np.percentile(array, 99))
    high = high if high > low else low + max(abs(low), 1.0) * 0.01
    shown = np.clip(array, low, high)

    def draw(axes: Axes) -> None:
        axes.hist(shown, bins, range=(low, high), color=PALETTE[0], rwidth=0.93)
        axes.axvline(float(np.median(shown)), color=INK, linewidth=1.5)
        axes.set_xlim(low, high)
        label_axis(axes.xaxis)
        axes.yaxis.set_visible(False)

    return render_svg(about, draw, height=124, left=RIGHT, corner="")
