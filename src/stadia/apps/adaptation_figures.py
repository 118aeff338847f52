"""Measure the depth of a network on a video without labels, and compare two networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.types import Camera, DepthScale, Predictor, TrackProgress, no_progress
from stadia.datasets.video.map_geometry import MapGeometry
from stadia.datasets.video.video_map import find_map_geometry
from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.files.paths import expand_home
from stadia.geometry.align import fit_scale_and_shift
from stadia.predict.checked_frames import observe_frames
from stadia.predict.prediction_inputs import PredictionInput, open_inputs
from stadia.predict.scale_sources import match_pair_depth
from stadia.predict.verdict import PredictionGate

MAX_FRAMES = 300
"""Frames of a longer video are left out, evenly, so that the figures take no longer than for this many."""

MAX_MATCHED_FRAMES = 20
"""Frames whose depth is compared with points of a map, stereo matches or ground truth."""

TOLERANCE = 0.01
"""Share of a figure by which the adapted network may be worse: what two measurements of one network differ by."""

MIN_DEPTH, MAX_DEPTH = 0.5, 50.0
"""Of stereo matches and ground truth that are compared, metres."""

MIN_PIXELS, MIN_POINTS = 100, 20
"""Of a frame that is compared."""


@dataclass(frozen=True)
class AdaptationFigures:
    """Quality of a network's depth on a video; None where it cannot be measured.

    Depth that is not in metres is aligned in each frame: by the ratio of medians, or by scale and shift.

    abs_rel: mean relative error to the recording's depth.
    stereo_difference: median relative difference from semi-global matching.
    point_error: median relative error at the points of the map beside the video, always aligned.
    match_error: distance of matches from where depth and motion put them (S30), over the same for constant depth.
    """

    match_error: float | None = None
    stereo_difference: float | None = None
    abs_rel: float | None = None
    point_error: float | None = None


FIGURES = {
    "abs_rel": "AbsRel to ground truth",
    "stereo_difference": "median relative difference from stereo matches",
    "point_error": "median relative error at the points of the map",
    "match_error": "distance of matches, over that of constant depth",
}
"""What decides, the first that both networks have."""


def measure_network(
    predictor: Predictor, video: Path, options: Mapping[str, Any], track: TrackProgress = no_progress
) -> AdaptationFigures:
    """Return the figures of a predictor on the first recording of a video, on MAX_FRAMES frames of it at most.

    options: as of `open_inputs`.
    """
    count = open_inputs(video, **options)[0].count
    given = open_inputs(video, every=-(-count // MAX_FRAMES) if count else 1, **options)[0]
    mapped = find_map_geometry(expand_home(video), skip_damaged=True)
    gate = PredictionGate(predictor.depth_scale, TrainingRecord())
    frames = track(observe_frames(gate, predictor, given.frames), given.count, "frames measured")
    points = None if mapped is None else measure_points(predictor, frames, mapped, given.names)
    deque(frames, maxlen=0)  # without a map nothing was read
    measured = gate.judge().measured
    stereo, truth = _compare_depth(predictor, given)
    return AdaptationFigures(None if measured is None else measured.match_error, stereo, truth, points)


def measure_points(
    predictor: Predictor, frames: Iterable[Frame], mapped: MapGeometry, read: Sequence[str] = ()
) -> float | None:
    """Return the median relative error at the points of evenly spaced frames of a map; None without enough points.

    read: names of the frames; those of the map where they are not known.
    """
    names = [name for name in read if name in mapped.row_of_name] or list(mapped.row_of_name)
    places = np.unique(np.linspace(0, len(names) - 1, MAX_MATCHED_FRAMES).round().astype(int))
    chosen = {names[place] for place in places}
    errors = []
    for frame in frames:
        if frame.name not in chosen:
            continue
        shown = PreparedFrame.prepare(predictor, frame)
        points = mapped.find_points(frame.name, frame.K[0, 0] / frame.image.shape[1], shown.K)
        if points is None:
            continue
        output = _predict(predictor, shown)
        x, y = (points.xy + 0.5).T.astype(int)
        inside = (x >= 0) & (y >= 0) & (x < predictor.width) & (y < predictor.height)
        if inside.sum() < MIN_POINTS:
            continue
        z = points.z[inside]
        errors.append(np.abs(align_output(output[y[inside], x[inside]], z, predictor.depth_scale) / z - 1))
    return float(np.median(np.concatenate(errors))) if errors else None


def _predict(predictor: Predictor, shown: PreparedFrame) -> NDArray[np.float32]:
    """Return the output (h, w) of a network for a prepared frame."""
    image, K = torch.from_numpy(shown.image)[None], torch.from_numpy(shown.K)
    output = predictor.inverse_depth(image, Camera(K, predictor.height, predictor.width))
    return output[0, 0].float().cpu().numpy()


def align_output(
    output: NDArray[np.floating], z: NDArray[np.floating], depth_scale: DepthScale
) -> NDArray[np.floating]:
    """Return depth (N,) of outputs (N,), aligned with known depths z (N,) of any unit.

    Outputs up to scale and shift are fitted twice: the second time to the nearer three quarters of the first fit.

    Examples:
        >>> z = np.array([1.0, 2.0, 4.0, 8.0])
        >>> align_output(3 / z + 5, z, DepthScale.AFFINE_INVERSE).round(3).tolist()
        [1.0, 2.0, 4.0, 8.0]
        >>> align_output(0.1 / z, z, DepthScale.METRES).round(3).tolist()
        [1.0, 2.0, 4.0, 8.0]
    """
    if not depth_scale.is_affine:
        return np.median(z * output) / output
    is_depth = depth_scale is DepthScale.AFFINE_DEPTH
    target, kept = torch.from_numpy(np.asarray(-z if is_depth else 1 / z, np.float64)), torch.ones(len(z)).bool()
    values = torch.from_numpy(np.asarray(output, np.float64))
    for _ in range(2):
        scale, shift = fit_scale_and_shift(values, target, kept)
        fitted = scale * values + shift
        residual = (fitted - target).abs()
        kept = residual <= residual.quantile(0.75)
    depth = -fitted if is_depth else 1 / fitted.clamp(min=1 / (100 * float(z.max())))
    return depth.clamp(min=0).numpy()


def _compare_depth(predictor: Predictor, given: PredictionInput) -> tuple[float | None, float | None]:
    """Return the median relative difference from stereo matches, and the mean one from the recording's depth."""
    recording = given.recording
    if recording is None:
        return None, None
    by_stereo, by_truth = list[float](), list[float]()
    chosen = np.unique(np.linspace(0, len(given.indices) - 1, MAX_MATCHED_FRAMES).round().astype(int))
    for index in (given.indices[number] for number in chosen):
        shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [index])))
        predicted = shown.predicted(DepthScale.AFFINE_INVERSE, _predict(predictor, shown), None)
        depth, true_m = predicted.depth_at_image(), recording.depth_m(index)
        if true_m is not None and (errors := _relative_errors(depth, true_m, predictor.depth_scale)) is not None:
            by_truth.append(float(errors.mean()))
        if recording.T_right_left is not None:
            matched = match_pair_depth(
                recording.image(index), recording.image(index, "right"), recording.K(index), recording.T_right_left
            )
            if (errors := _relative_errors(depth, matched, predictor.depth_scale)) is not None:
                by_stereo.append(float(np.median(errors)))
    return (float(np.mean(by_stereo)) if by_stereo else None, float(np.mean(by_truth)) if by_truth else None)


def _relative_errors(
    depth: NDArray[np.floating], true_m: NDArray[np.floating], depth_scale: DepthScale
) -> NDArray[np.floating] | None:
    """Return |z - truth| / truth (N,), aligned unless depth is in metres; None for too few pixels.

    depth: (H, W), 1 over the network's output; 0 = none.
    """
    known = (true_m > MIN_DEPTH) & (true_m < MAX_DEPTH) & np.isfinite(depth) & (depth != 0)
    known &= depth_scale.is_affine | (depth > 0)
    if known.sum() < MIN_PIXELS:
        return None
    found, true = depth[known], true_m[known]
    found = found if depth_scale is DepthScale.METRES else align_output(1 / found, true, depth_scale)
    return np.abs(found - true) / true


def compare_figures(before: AdaptationFigures, after: AdaptationFigures) -> tuple[str, list[str]]:
    """Return "before" or "after", whichever is better by the first figure that both have, and a line for each figure.

    Examples:
        >>> compare_figures(AdaptationFigures(0.5), AdaptationFigures(0.4))[0]
        'after'
        >>> compare_figures(AdaptationFigures(0.5), AdaptationFigures(0.6))[0]
        'before'
    """
    lines, kept = [], None
    for name, title in FIGURES.items():
        values = getattr(before, name), getattr(after, name)
        if values[0] is None or values[1] is None:
            continue
        change = values[1] / max(values[0], 1e-9) - 1
        lines.append(f"{title}: {values[0]:.4g} before, {values[1]:.4g} after ({change:+.0%})")
        if kept is None:
            kept = "after" if change < TOLERANCE else "before"
    return kept or "before", lines or ["nothing to compare: no map, no matches, no stereo pair, no ground truth"]
