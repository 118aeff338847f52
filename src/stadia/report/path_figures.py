"""Draw the camera's paths of a run as SVG path data: from above, and height over distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.report.figures import (
    HEIGHT,
    PALETTE_SIZE,
    WIDTH,
    AxisTick,
    FigureAxes,
    Point,
    make_path_data,
    make_step_ticks,
    round_down,
    thin_indices,
)
from stadia.report.metric_labels import MOTION_NAMES, format_metric, is_finite
from stadia.report.score_tables import (
    MIRRORED,
    collect_metrics,
    describe_alignment,
    is_mirrored,
    motion_key,
    name_motion,
    order_scores,
)

MIN_HEIGHT_SHARE = 0.01  # of a path's length: a height that varies by less has no plot
MAX_OPEN_PATHS = 4  # recordings; of more, the worst and the median are open


@dataclass(frozen=True)
class DrawnPath:
    """A camera's path from a score file. A part of another shape is not drawn.

    points_m: (N, 2) of x, right, and z, forward.  heights_m: (N,) above the start, or None.  error: for the legend.
    gaps: rows that are not joined with the next one.
    """

    name: str
    color: int
    points_m: Any
    heights_m: Any = None
    error: str = ""
    gaps: Any = ()


@dataclass(frozen=True)
class PathLine:
    """One path of a figure as SVG path data from above, and its height over the distance; "" where none is drawn."""

    name: str
    color: int
    error: str
    path: str
    height: str


@dataclass(frozen=True)
class HeightProfile:
    """Axes of height over distance, metres, and the true height; the estimated ones are those of each `PathLine`."""

    true: str
    x_ticks: list[AxisTick]
    y_ticks: list[AxisTick]


@dataclass(frozen=True)
class PathFigure:
    """Paths of one recording from above: x to the right, z (forward) upwards, one scale for all.

    true: SVG path data, "" where unknown.  profile: None where no height varies.
    """

    width: float
    height: float
    lines: list[PathLine]
    true: str
    start: tuple[float, float]
    bar_px: float
    bar_m: float
    profile: HeightProfile | None


def draw_camera_paths(paths: Sequence[DrawnPath], true: DrawnPath) -> PathFigure | None:
    """Draw paths of one recording from above, and their heights where one varies; None without a path to draw."""
    drawn = [(path, points) for path in paths if (points := _as_floats(path.points_m, columns=2)) is not None]
    if not drawn:
        return None
    true_points = _as_floats(true.points_m, columns=2)
    every = np.concatenate([points for _, points in drawn] + ([] if true_points is None else [true_points]))
    low, high = every.min(axis=0), every.max(axis=0)
    extent = np.maximum(high - low, 0.05 * max(float((high - low).max()), 1e-6))
    pad = 16.0
    scale = float(min((WIDTH - 2 * pad) / extent[0], (HEIGHT - 2 * pad) / extent[1]))
    bar_m = round_down(0.25 * WIDTH / scale)

    def place(points: NDArray[np.float64]) -> list[Point]:
        return [(pad + float(x - low[0]) * scale, pad + float(high[1] - z) * scale) for x, z in points]

    axes = _fit_height_axes([*paths, true])
    return PathFigure(
        width=float(extent[0]) * scale + 2 * pad,
        height=float(extent[1]) * scale + 2 * pad + 24,
        lines=[
            PathLine(path.name, path.color, path.error, _draw_line(place(points), path.gaps), _draw_height(path, axes))
            for path, points in drawn
        ],
        true=_draw_line(place(true_points), true.gaps) if true_points is not None else "",
        start=place((drawn[0][1] if true_points is None else true_points)[:1])[0],
        bar_px=bar_m * scale,
        bar_m=bar_m,
        profile=None
        if axes is None
        else HeightProfile(_draw_height(true, axes), make_step_ticks(axes), axes.y_ticks()),
    )


def _measure_height(path: DrawnPath) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the distance along a path (N,) and its height (N,), metres; None where one of them is unknown."""
    points, heights = _as_floats(path.points_m, columns=2), _as_floats(path.heights_m)
    if points is None or heights is None or len(points) != len(heights):
        return None
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)]), heights


def _fit_height_axes(paths: Sequence[DrawnPath]) -> FigureAxes | None:
    """Return axes that hold the heights of all paths; None where none of them varies."""
    known = [measured for path in paths if (measured := _measure_height(path)) is not None]
    if not any(np.ptp(height) > MIN_HEIGHT_SHARE * along[-1] > 0 for along, height in known):
        return None
    heights = np.concatenate([height for _, height in known])
    margin = 0.05 * float(np.ptp(heights))
    last = max(float(along[-1]) for along, _ in known)
    return FigureAxes(0.0, last, float(heights.min()) - margin, float(heights.max()) + margin, log=False)


def _draw_height(path: DrawnPath, axes: FigureAxes | None) -> str:
    measured = _measure_height(path)
    if axes is None or measured is None:
        return ""
    along, height = measured
    return _draw_line([(axes.x(a), axes.y(h)) for a, h in zip(along, height, strict=True)], path.gaps)


def _draw_line(points: Sequence[Point], gaps: Any) -> str:
    """Return SVG path data of some of the points, and lift the pen between those that a gap separates.

    A point between two gaps is a line of no length: its round ends are a dot, and a move of the pen draws nothing.
    """
    rows = {row for row in gaps if isinstance(row, int)} if isinstance(gaps, list | tuple) else set()
    kept = thin_indices(len(points)).tolist()
    pieces: list[list[Point | None]] = [[]]
    for row, following in zip(kept, [*kept[1:], kept[-1]], strict=True):
        pieces[-1].append(points[row])
        if any(between in rows for between in range(row, following)):
            pieces.append([])
    return make_path_data([point for piece in pieces for point in (*piece, *piece * (len(piece) == 1), None)])


def _as_floats(values: Any, columns: int | None = None) -> NDArray[np.float64] | None:
    """Return at least two finite rows, (N, columns) or (N,); None for other input."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    row_shape = () if columns is None else (columns,)
    is_rows = array.ndim > 0 and array.shape[1:] == row_shape
    return array if is_rows and len(array) > 1 and np.isfinite(array).all() else None


@dataclass(frozen=True)
class RecordingPaths:
    """The paths of one recording, one for each method.

    methods: how the paths of the figure were estimated, a sentence each.
    aligned: what was fitted to the true path before they were drawn, a sentence each.
    place: "worst" or "median" of many recordings; else empty.
    is_open: whether the page shows the figure unfolded.
    """

    recording: str
    figure: PathFigure
    methods: list[str]
    aligned: list[str]
    place: str = ""
    is_open: bool = True


def make_path_figures(scores: dict[str, dict[str, Any]]) -> list[RecordingPaths]:
    """Draw the estimated paths of each recording, and the true one. Score files with one true path share a figure.

    A method has the same name and color in each figure. Of more than MAX_OPEN_PATHS recordings, those with the worst
    and the median error over path length are open, and come first.
    """
    recordings: dict[str, dict[str, dict[str, Any]]] = {}
    for name, score in order_scores(scores).items():
        if score.get("path_estimated_m") is not None:
            true = score.get("path_true_m")
            recordings.setdefault(name if true is None else repr(true), {})[name] = score
    labels = {name: label for files in recordings.values() for name, label in _name_methods(files).items()}
    colors = {label: k % PALETTE_SIZE for k, label in enumerate(dict.fromkeys(labels.values()))}
    found: list[tuple[float, RecordingPaths]] = []
    for files in recordings.values():
        paths = [
            DrawnPath(
                labels[name],
                colors[labels[name]],
                score["path_estimated_m"],
                score.get("height_estimated_m"),
                _format_path_error(score),
                score.get("path_gaps", ()),
            )
            for name, score in files.items()
        ]
        first_name, first = next(iter(files.items()))
        true = DrawnPath(
            "true", 0, first.get("path_true_m"), first.get("height_true_m"), gaps=first.get("path_gaps", ())
        )
        if figure := draw_camera_paths(paths, true):
            title = str(first.get("recording") or first_name)
            one = RecordingPaths(title, figure, _describe_methods(files), _describe_alignments(files, labels))
            found.append((_relative_error(files), one))
    return _fold_figures(found)


def _relative_error(files: dict[str, dict[str, Any]]) -> float:
    """Return the error over the path length of the path that was aligned with predicted depth, or else the first."""
    score = next((one for one in files.values() if motion_key(one) == "aligned"), next(iter(files.values())))
    error, length = collect_metrics(score).get("ate_rmse_m"), score.get("path_m")
    if not is_finite(error):
        return 0.0
    return error / length if is_finite(length) and length > 0 else error


def _fold_figures(found: list[tuple[float, RecordingPaths]]) -> list[RecordingPaths]:
    """Put the worst and the median of many figures first, and fold the others."""
    if len(found) <= MAX_OPEN_PATHS:
        return [one for _, one in found]
    ranked = sorted(range(len(found)), key=lambda k: -found[k][0])
    places = {ranked[0]: "worst", ranked[len(ranked) // 2]: "median"}
    shown = [replace(found[k][1], place=place) for k, place in places.items()]
    return shown + [replace(one, is_open=False) for k, (_, one) in enumerate(found) if k not in places]


def _name_methods(files: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the name of each file's method; the file's own where the method is unknown, or that of two files."""
    names = {name: _name_method(score) or name for name, score in files.items()}
    taken = list(names.values())
    return {name: name if taken.count(method) > 1 else method for name, method in names.items()}


def _name_method(score: dict[str, Any]) -> str:
    method = name_motion(score)
    return f"{method}, {MIRRORED}" if method and is_mirrored(score) else method


def _describe_methods(files: dict[str, dict[str, Any]]) -> list[str]:
    """Describe how the paths of a figure were estimated, each method once."""
    known = [MOTION_NAMES[key] for one in files.values() if (key := motion_key(one)) in MOTION_NAMES]
    return list(dict.fromkeys(f"{name[:1].upper()}{name[1:]}: {meaning}." for name, meaning in known))


def _describe_alignments(files: dict[str, dict[str, Any]], labels: dict[str, str]) -> list[str]:
    """Describe the fit of a figure's paths to the true one: once where all have the same, else of each path."""
    scored = {name: one for name, one in files.items() if one.get("align") is not None}
    fits = {name: describe_alignment(one) or "as estimated, not aligned" for name, one in scored.items()}
    if len(set(fits.values())) == 1:
        (fit,) = set(fits.values())
        return [f"{fit[:1].upper()}{fit[1:]}."]
    return [f"{labels[name]}: {fit}." for name, fit in fits.items()]


def _format_path_error(score: dict[str, Any]) -> str:
    error = collect_metrics(score).get("ate_rmse_m")
    return f"ATE {format_metric('ate_rmse_m', error)}" if is_finite(error) else ""
