"""Measure errors of a network's depth on video without labels."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.types import DepthScale, Predictor, TrackProgress, no_progress
from stadia.datasets.video.video_map import find_map_geometry
from stadia.diagnostics.prediction_checks import SampledFrame, TrainingRecord, measure_frames
from stadia.evaluation.frame_preparation import PreparedFrame, read_frames
from stadia.evaluation.predict_frames import predict_inverse_depth
from stadia.files.paths import expand_home
from stadia.geometry.align import fit_scale_and_shift
from stadia.launch.keep import DepthErrors
from stadia.predict.inputs import PredictionInput, open_inputs
from stadia.predict.judged_frames import observe_frames
from stadia.predict.scale.sources import match_pair_depth
from stadia.predict.verdict import PredictionGate

MAX_FRAMES = 300
"""Frames of a longer video are left out, evenly, so that measuring takes no longer than for this many."""

MAX_MATCHED_FRAMES = 20
"""Frames whose depth is compared with stereo matches or ground truth."""

MIN_DEPTH, MAX_DEPTH = 0.5, 50.0
"""Of stereo matches and ground truth that are compared, metres."""

MIN_PIXELS, MIN_POINTS = 100, 20
"""Of a frame that is compared."""


def measure_video(
    predictor: Predictor, video: Path, options: Mapping[str, Any], track: TrackProgress = no_progress
) -> DepthErrors:
    """Return the errors of a predictor on the first recording of a video, on MAX_FRAMES frames of it at most.

    options: as of `open_inputs`.
    """
    count = open_inputs(video, **options)[0].count
    given = open_inputs(video, every=-(-count // MAX_FRAMES) if count else 1, **options)[0]
    mapped = find_map_geometry(expand_home(video), skip_damaged=True)
    gate = PredictionGate(predictor.depth_scale, TrainingRecord(), mapped=mapped)
    deque(track(observe_frames(gate, predictor, given.frames), given.count, "frames measured"), maxlen=0)
    points, matches = measure_samples(gate.samples, predictor.depth_scale)
    stereo, truth = _compare_depth(predictor, given)
    return DepthErrors(truth, stereo, points, matches)


def measure_samples(
    samples: Sequence[SampledFrame], depth_scale: DepthScale
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the error of each predicted frame at the points of a map, and of its matches; NaN for unknown."""
    points = tuple(_measure_points(sample, depth_scale) for sample in samples)
    measured = (measure_frames([sample], has_ratios=not depth_scale.is_affine).match_error for sample in samples)
    return points, tuple(math.nan if error is None else error for error in measured)


def _measure_points(sample: SampledFrame, depth_scale: DepthScale) -> float:
    """Return the median relative error at the points of a map, after alignment; NaN with too few points."""
    if sample.points is None:
        return math.nan
    (height, width), (rows, columns) = sample.image.shape[:2], sample.inverse_depth.shape
    column, row = np.floor((sample.points.xy + 0.5) * (columns / width, rows / height)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
    if inside.sum() < MIN_POINTS:
        return math.nan
    z = sample.points.z[inside]
    output = sample.inverse_depth[row[inside], column[inside]].astype(np.float64)
    return float(np.median(np.abs(align_output(output, z, depth_scale) / z - 1)))


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


def _compare_depth(predictor: Predictor, given: PredictionInput) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each frame's median relative difference from stereo matches, and mean one from the recording's depth."""
    recording = given.recording
    if recording is None:
        return (), ()
    by_stereo, by_truth = list[float](), list[float]()
    chosen = np.unique(np.linspace(0, len(given.indices) - 1, MAX_MATCHED_FRAMES).round().astype(int))
    for index in (given.indices[number] for number in chosen):
        shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [index])))
        output = predict_inverse_depth(predictor, shown)
        depth = shown.predicted(DepthScale.AFFINE_INVERSE, output, None).depth_at_image()
        true_m = recording.depth_m(index)
        errors = None if true_m is None else _relative_errors(depth, true_m, predictor.depth_scale)
        by_truth.append(math.nan if errors is None else float(errors.mean()))
        if recording.T_right_left is not None:
            matched = match_pair_depth(
                recording.image(index), recording.image(index, "right"), recording.K(index), recording.T_right_left
            )
            errors = _relative_errors(depth, matched, predictor.depth_scale)
            by_stereo.append(math.nan if errors is None else float(np.median(errors)))
    return tuple(by_stereo), tuple(by_truth)


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
