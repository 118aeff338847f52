"""Draw the charts of a report with matplotlib, as SVG in the fonts and colors of the page."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stadia.core.plot_style import use_default_style
from stadia.report.run_files import Better, Series, format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


from typing import TYPE_CHECKING

from stadia.io.run_facts import TrainingTimes
from stadia.report.run_files import (
    LOSS,
    RATE,
    SECONDS,
    TERMS,
    PanelLabel,
    RunFiles,
    ValueSpread,
    format_duration,
    format_metric,
    is_finite,
    label_panel,
    metric_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

MIN_CURVE_STEPS = 3


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


# -- The distribution of a score over images.


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


# -- Paths of a camera.

MIN_HEIGHT_SHARE = 0.01  # A height that varies by less, as a share of the path's length, has no plot


@dataclass(frozen=True)
class DrawnPath:
    """A camera's path from a score file.

    points_m: (N, 2) x and z in metres.
    heights_m: (N,) heights in metres, or None.
    error: text with the error of the path.
    gaps: rows that are not joined with the next one.
    """

    name: str
    color: int
    points_m: Any
    heights_m: Any = None
    error: str = ""
    gaps: Any = ()


def draw_camera_paths(recording: str, paths: Sequence[DrawnPath], true: DrawnPath) -> list[Chart]:
    """Return charts of the paths of one recording: from above, and their heights if one varies.

    Empty without a path.
    """
    drawn = [(path, points) for path in (true, *paths) if (points := _as_floats(path.points_m, columns=2)) is not None]
    legend = [LegendRow(path.color, path.name, path.error) for path, _ in drawn if path is not true]
    if not legend:
        return []
    if drawn[0][0] is true:
        legend.append(LegendRow("truth", true.name))
    profiles = [(path, profile) for path, points in drawn if (profile := _make_profile(path, points)) is not None]

    def plot(axes: Axes, lines: Sequence[tuple[DrawnPath, NDArray[np.float64]]]) -> None:
        for path, rows in lines:
            _plot_line(axes, rows, path, is_truth=path is true)
        label_axis(axes.xaxis)
        label_axis(axes.yaxis)

    def draw_from_above(axes: Axes) -> None:
        plot(axes, drawn)
        axes.plot(*drawn[0][1][:1].T, "o", color=INK, markersize=9)
        axes.grid(visible=True, axis="both")
        axes.set_aspect("equal", adjustable="datalim")

    svg = render_svg(f"camera paths of {recording} from above", draw_from_above, height=300, corner="m")
    charts = [Chart("", svg, legend)]
    if any(np.ptp(profile[:, 1]) > MIN_HEIGHT_SHARE * profile[-1, 0] > 0 for _, profile in profiles):
        svg = render_svg(f"height over distance of {recording}", lambda axes: plot(axes, profiles), corner="m")
        charts.append(Chart("Height over distance", svg, legend))
    return charts


def _make_profile(path: DrawnPath, points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the distance along a path and its height, (N, 2), metres; None if the height is unknown."""
    heights = _as_floats(path.heights_m)
    if heights is None or len(heights) != len(points):
        return None
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.stack([np.concatenate([[0.0], np.cumsum(steps)]), heights], axis=1)


def _plot_line(axes: Axes, rows: NDArray[np.float64], path: DrawnPath, *, is_truth: bool) -> None:
    gaps = path.gaps if isinstance(path.gaps, list | tuple) else ()
    before = sorted({row + 1 for row in gaps if isinstance(row, int) and 0 <= row < len(rows) - 1})
    rows = np.insert(rows, before, np.nan, axis=0)
    is_drawn = np.isfinite(np.pad(rows[:, 0], 1, constant_values=np.nan))
    alone = np.flatnonzero(is_drawn[1:-1] & ~is_drawn[:-2] & ~is_drawn[2:]).tolist()
    color, width, alpha = (SOFT, 5, 0.4) if is_truth else (PALETTE[path.color], 2, 1)
    dots: dict[str, Any] = {"marker": "o", "markersize": width, "markevery": alone} if alone else {}
    axes.plot(*rows.T, color=color, linewidth=width, alpha=alpha, **dots)


def _as_floats(values: Any, columns: int | None = None) -> NDArray[np.float64] | None:
    """Return at least two finite rows, (N, columns) or (N,); None for other input."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    row_shape = () if columns is None else (columns,)
    is_rows = array.ndim > 0 and array.shape[1:] == row_shape
    return array if is_rows and len(array) > 1 and np.isfinite(array).all() else None


SPREAD_KINDS = ("weights", "gradients")
MEDIAN_SIZE = "Median size"
DEAD_SHARE = 0.99  # share of zero gradients of layers that learn nothing
DECADES_BELOW = 3  # decades of the axis below the smallest median
MIN_PHASE_SHARE = 0.005  # share of the whole time; smaller phases are joined
MAX_PHASES = len(PALETTE) - 1  # phases with their own color
REST_LABEL = "the rest"

MAX_CURVE_VALUES = 1001
COVERAGE_NAME = re.compile(r"val/inside_(\d\d)$")


# -- Curves of the logged scalars, from metrics.csv.


def list_stages(run: RunFiles) -> list[tuple[int, str]]:
    """Return (first step, size) of each stage of a training with growing images."""
    return [(stage.first_step, f"{stage.width}x{stage.height}") for stage in run.facts.stages]


def make_curves(series: list[Series], marks: Sequence[tuple[int, str]] = ()) -> list[Chart]:
    """Make panels: loss, its terms, validation, other values, learning rate, time."""
    groups = _group_by_panel([s for s in series if len(s.steps) >= MIN_CURVE_STEPS])
    plots = []

    def rank(panel: PanelLabel) -> int:
        is_validation = any(s.name.startswith("val/") for s in groups[panel])
        return {LOSS: 0, TERMS: 1, RATE: 4, SECONDS: 5}.get(panel.title, 2 if is_validation else 3)

    for panel in sorted(groups, key=rank):
        better, noisy = metric_label(groups[panel][0].name).better, panel.title != RATE
        plots.append(make_plot(panel.title, groups[panel], better=better, noisy=noisy, marks=marks, note=panel.note))
    return [plot for plot in plots if plot is not None]


def list_short_series(series: list[Series], spreads: Sequence[ValueSpread] = ()) -> list[tuple[str, str, str]]:
    """Return (panel, name, values with their steps) of series with too few steps for a curve."""
    panels = _group_by_panel([s for s in series if len(s.steps) < MIN_CURVE_STEPS and all(map(is_finite, s.values))])
    rows = [
        (panel.title, s.name, s.steps, [format_metric(s.name, value) for value in s.values])
        for panel, group in panels.items()
        for s in group
    ]
    rows += [
        (MEDIAN_SIZE, s.name, s.steps, [_format_size(*row) for row in zip(s.percentiles, s.zero, strict=True)])
        for s in spreads
        if len(s.steps) < MIN_CURVE_STEPS
    ]
    return [
        (title, name, ", ".join(f"{value} at step {step}" for value, step in zip(values, steps, strict=True)))
        for title, name, steps, values in rows
    ]


def _format_size(percentiles: tuple[float, ...], zero: float) -> str:
    return format_number(percentiles[2]) + (f" ({zero:.0%} exactly 0)" if zero else "")


def _group_by_panel(series: Sequence[Series]) -> dict[PanelLabel, list[Series]]:
    groups: dict[PanelLabel, list[Series]] = {}
    for s in series:
        groups.setdefault(label_panel(s.name), []).append(s)
    return groups


# -- Weights and gradients of each group of layers over the training, from histograms.csv.


def make_layer_plots(spreads: Sequence[ValueSpread]) -> list[Chart]:
    """Plot weights and gradients of each group with at least MIN_CURVE_STEPS steps, logarithmic."""
    groups: dict[str, list[ValueSpread]] = {}
    for spread in spreads:
        kind, _, group = spread.name.partition("/")
        if kind in SPREAD_KINDS and group and len(spread.steps) >= MIN_CURVE_STEPS:
            groups.setdefault(group, []).append(spread)
    return [plot for group, members in groups.items() if (plot := _plot_group(group, members)) is not None]


def _plot_group(group: str, spreads: Sequence[ValueSpread]) -> Chart | None:
    medians = [row[2] for spread in spreads for row in spread.percentiles if row[2] > 0]
    if not medians:
        return None
    colors = [PALETTE[SPREAD_KINDS.index(spread.name.partition("/")[0])] for spread in spreads]
    highest = max(row[4] for spread in spreads for row in spread.percentiles)
    smallest = min(size for spread in spreads for row in spread.percentiles for size in row if size > 0)
    low = 10 ** math.floor(math.log10(max(smallest, min(medians) / 10**DECADES_BELOW)))

    def draw(axes: Axes) -> None:
        label_steps(axes, min(spread.steps[0] for spread in spreads), max(spread.steps[-1] for spread in spreads))
        label_values(axes, low, max(2 * highest, 10 * low), log=True)
        for spread, color in zip(spreads, colors, strict=True):
            p05, p25, p50, p75, p95 = np.maximum(spread.percentiles, low).T
            for bottom, top in ((p05, p95), (p25, p75)):
                axes.fill_between(spread.steps, bottom, top, color=color, alpha=0.16, linewidth=0)
            axes.plot(spread.steps, p50, color=color)

    svg = render_svg(f"weights and gradients of {group} over steps", draw)
    return Chart(group, svg, list(map(_describe_spread, spreads)))


def _describe_spread(spread: ValueSpread) -> LegendRow:
    kind, zero = spread.name.partition("/")[0], spread.zero[-1]
    is_dead = kind == "gradients" and zero >= DEAD_SHARE
    return LegendRow(
        color=SPREAD_KINDS.index(kind),
        name=kind,
        value=f"last {format_number(spread.percentiles[-1][2])}",
        about=f"{zero:.0%} exactly 0" if zero >= 0.005 else "",
        tone="stop" if is_dead else "soft",
    )


# -- Time of a training: phases, and time of a step.


@dataclass(frozen=True)
class TimeSpent:
    """phases: (name, share, time, time a step, share of the peak) as text, the longest first."""

    phases: list[tuple[str, str, str, str]]
    about: str


def summarize_time(times: TrainingTimes | None) -> TimeSpent | None:
    """Summarize the times of a run; None if it has none."""
    seconds = times.phases_s if times else {}
    if times is None or not (total := sum(seconds.values())) > 0:
        return None
    steps = times.step_s
    longest = sorted(seconds.items(), key=lambda phase: -phase[1])[:MAX_PHASES]
    longest = [(name, value) for name, value in longest if value >= MIN_PHASE_SHARE * total]
    rest = total - sum(value for _, value in longest)
    phases = [
        (name, f"{value / total:.1%}", format_duration(value), f"{1e3 * steps[name]:.3g} ms" if steps.get(name) else "")
        for name, value in [*longest, *([(REST_LABEL, rest)] if rest > 0 else [])]
    ]
    return TimeSpent(phases, _describe_time(times, total))


def _describe_time(times: TrainingTimes, total: float) -> str:
    text = f"{times.steps} steps in {format_duration(times.wall_s)}, without setup and teardown"
    text += f"; the phases cover {total / times.wall_s:.1%} of it" if times.wall_s > 0 else ""
    return text + "."


# -- Quality of an uncertainty: order of pixels by error (sparsification), and size (calibration).


def make_sparsification_plots(scores: dict[str, dict[str, Any]]) -> list[Chart]:
    """Plot sparsification for each score file with an `uncertainty` and valid curves."""
    plots = []
    for stem, score in scores.items():
        errors = score.get("uncertainty")
        for name, values in errors.items() if isinstance(errors, dict) else ():
            if not isinstance(values, dict):
                continue
            curves = [_read_curve(values.get(key)) for key in ("curve", "curve_of_oracle", "curve_of_random")]
            if curves[0] and all(len(curve) == len(curves[0]) for curve in curves):
                plots.append(_make_sparsification_plot(stem, name, values, curves))
    return plots


def _make_sparsification_plot(stem: str, name: str, values: dict[str, Any], curves: Sequence[list[float]]) -> Chart:
    label = metric_label(name).label
    named = (("AUSE", values.get("ause")), ("AURG", values.get("aurg")))
    numbers = [f"{key} {format_number(value)}" for key, value in named if is_finite(value)]
    below, rank = values.get("below_random"), values.get("spearman")
    if is_finite(below):
        numbers.append(f"AUSE {abs(below):.0%} {'below' if below > 0 else 'above'} random order")
    if is_finite(rank):
        numbers.append(f"Spearman {format_number(rank)}")
    title = f"{stem}: {f'1 - ({label})' if name == 'd1' else label} of the pixels that are left"
    points = [[(k / (len(curve) - 1), v) for k, v in enumerate(curve[:-1])] for curve in curves]
    lines = dict(zip(("by uncertainty", "by the error itself", "in random order"), points, strict=True))
    return _make_share_plot(title, ", ".join(numbers), lines, "left out", top=max(map(max, curves)))


def make_calibration_plot(series: list[Series]) -> Chart | None:
    """Plot measured against nominal coverage at the last validation; None if not logged."""
    matches = ((COVERAGE_NAME.match(s.name), s.values[-1]) for s in series)
    points = sorted((int(match[1]) / 100, value) for match, value in matches if match and is_finite(value))
    if len(points) < 2:
        return None
    off = float(np.mean([abs(value - nominal) for nominal, value in points]))
    lines = {"residuals inside": points, "nominal": [(0.0, 0.0), (1.0, 1.0)]}
    title, about = "Coverage of the predicted intervals", f"{off:.0%} off in the mean"
    return _make_share_plot(title, about, lines, "nominal coverage", top=1.0)


def is_calibration(series: Series) -> bool:
    """Return whether a scalar belongs to `make_calibration_plot`."""
    return COVERAGE_NAME.match(series.name) is not None


def _make_share_plot(
    title: str, about: str, lines: dict[str, list[tuple[float, float]]], x_label: str, top: float
) -> Chart:
    def draw(axes: Axes) -> None:
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        label_values(axes, 0, 1.05 * top if top > 0 else 1)
        for points, color in zip(lines.values(), PALETTE, strict=False):
            axes.plot(*np.transpose(points), color=color)

    legend = [LegendRow(color, name) for color, name in enumerate(lines)]
    return Chart(title, render_svg(title, draw, corner=""), legend, f"Across: {x_label}. {about}")


def _read_curve(values: Any) -> list[float]:
    is_curve = isinstance(values, list) and 3 <= len(values) <= MAX_CURVE_VALUES
    return list(map(float, values)) if is_curve and all(is_finite(value) and value >= 0 for value in values) else []
