"""Draw the paths of a camera that a score file holds: from above, and their heights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stadia.report.charts import INK, PALETTE, SOFT, Chart, LegendRow, label_axis, render_svg
from stadia.report.run_files import MOTION_NAMES, format_metric, is_finite
from stadia.report.score_tables import (
    MIRRORED,
    collect_metrics,
    describe_alignment,
    is_mirrored,
    motion_key,
    name_motion,
    order_scores,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def draw_camera_paths(recording: str, paths: Sequence[DrawnPath], true: DrawnPath, *, unit: str = "m") -> list[Chart]:
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

    svg = render_svg(f"camera paths of {recording} from above", draw_from_above, height=300, corner=unit)
    charts = [Chart("", svg, legend)]
    if any(np.ptp(profile[:, 1]) > MIN_HEIGHT_SHARE * profile[-1, 0] > 0 for _, profile in profiles):
        svg = render_svg(f"height over distance of {recording}", lambda axes: plot(axes, profiles), corner=unit)
        charts.append(Chart("Height over distance", svg, legend))
    return charts


def draw_positions(positions: NDArray[np.float64], unit: str, gaps: Sequence[int] = ()) -> list[Chart]:
    """Return charts of one camera path.

    positions: (N, 3), x right, y down, z forward.
    unit: unit of the positions.
    gaps: rows that are not joined with the next one.
    """
    x, y, z = positions.T
    path = DrawnPath("camera", 0, np.column_stack([x, z]), -y, gaps=list(gaps))
    charts = draw_camera_paths("the video", [path], DrawnPath("", 0, None), unit=unit)
    return [replace(chart, title=chart.title or "From above", legend=[]) for chart in charts]


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


MAX_OPEN_PATHS = 4  # With more recordings, the page unfolds only the plots of the worst and the median recording.


@dataclass(frozen=True)
class RecordingPaths:
    """The paths of one recording, one for each method.

    aligned: what was fitted to the truth, for each method.
    place: "worst", "median", or "".
    """

    recording: str
    charts: list[Chart]
    methods: list[str]
    aligned: list[str]
    place: str = ""
    is_open: bool = True


def make_path_figures(scores: dict[str, dict[str, Any]]) -> list[RecordingPaths]:
    """Draw the estimated and the true paths of each recording. A method keeps its name and color.

    If there are more than MAX_OPEN_PATHS recordings, only the worst and the median one are open. They come first.
    """
    recordings: dict[str, dict[str, dict[str, Any]]] = {}
    for name, score in order_scores(scores).items():
        if score.get("path_estimated_m") is not None:
            true = score.get("path_true_m")
            recordings.setdefault(name if true is None else repr(true), {})[name] = score
    labels = {name: label for files in recordings.values() for name, label in _name_methods(files).items()}
    colors = {label: k % len(PALETTE) for k, label in enumerate(dict.fromkeys(labels.values()))}
    drawn: list[tuple[float, RecordingPaths]] = []
    for files in recordings.values():
        first_name, first = next(iter(files.items()))
        recording = str(first.get("recording") or first_name)
        true_path = _read_path("true path", 0, first, "true")
        paths = [_read_path(labels[name], colors[labels[name]], score, "estimated") for name, score in files.items()]
        if charts := draw_camera_paths(recording, paths, true_path):
            methods, aligned = _describe_methods(files), _describe_path_alignments(files, labels)
            drawn.append((_relative_error(files), RecordingPaths(recording, charts, methods, aligned)))
    return _fold_figures(drawn)


def _read_path(name: str, color: int, score: dict[str, Any], which: str) -> DrawnPath:
    error = collect_metrics(score).get("ate_rmse_m")
    return DrawnPath(
        name=name,
        color=color,
        points_m=score.get(f"path_{which}_m"),
        heights_m=score.get(f"height_{which}_m"),
        error=f"ATE {format_metric('ate_rmse_m', error)}" if is_finite(error) else "",
        gaps=score.get("path_gaps"),
    )


def _relative_error(files: dict[str, dict[str, Any]]) -> float:
    aligned = [score for score in files.values() if motion_key(score) == "aligned"]
    score = [*aligned, *files.values()][0]
    error, length = collect_metrics(score).get("ate_rmse_m"), score.get("path_m")
    if not is_finite(error):
        return 0.0
    return error / length if is_finite(length) and length > 0 else error


def _fold_figures(drawn: list[tuple[float, RecordingPaths]]) -> list[RecordingPaths]:
    if len(drawn) <= MAX_OPEN_PATHS:
        return [figure for _, figure in drawn]
    ranked = sorted(range(len(drawn)), key=lambda k: -drawn[k][0])
    places = {ranked[0]: "worst", ranked[len(ranked) // 2]: "median"}
    shown = [replace(drawn[k][1], place=place) for k, place in places.items()]
    return shown + [replace(figure, is_open=False) for k, (_, figure) in enumerate(drawn) if k not in places]


def _name_methods(files: dict[str, dict[str, Any]]) -> dict[str, str]:
    methods = {}
    for name, score in files.items():
        method = name_motion(score) or name
        methods[name] = f"{method}, {MIRRORED}" if method != name and is_mirrored(score) else method
    taken = list(methods.values())
    return {name: name if taken.count(method) > 1 else method for name, method in methods.items()}


def _describe_methods(files: dict[str, dict[str, Any]]) -> list[str]:
    known = [MOTION_NAMES[key] for score in files.values() if (key := motion_key(score)) in MOTION_NAMES]
    return list(dict.fromkeys(f"{name[:1].upper()}{name[1:]}: {meaning}." for name, meaning in known))


def _describe_path_alignments(files: dict[str, dict[str, Any]], labels: dict[str, str]) -> list[str]:
    scored = {name: score for name, score in files.items() if score.get("align") is not None}
    fits = {name: describe_alignment(score) or "as estimated, not aligned" for name, score in scored.items()}
    if len(set(fits.values())) == 1:
        (fit,) = set(fits.values())
        return [f"{fit[:1].upper()}{fit[1:]}."]
    return [f"{labels[name]}: {fit}." for name, fit in fits.items()]
