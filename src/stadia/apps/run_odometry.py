"""`stadia odometry`: estimate the trajectory of a camera with a depth recipe, write it, and score it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import ConfigError, StadiaError
from stadia.core.files import atomic_folder, atomic_write, check_no_links, check_writable, safe_join, write_json
from stadia.core.types import DepthScale, Predictor, TrackProgress
from stadia.evaluation.frame_preparation import frame_name
from stadia.evaluation.io.point_clouds import PlyWriter
from stadia.evaluation.io.predictions_folder import SCALE_DESCRIPTIONS, TRAJECTORY, TRAJECTORY_TUM, Provenance
from stadia.evaluation.io.trajectory_files import Trajectory, write_kitti_trajectory, write_tum_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.recording_scores import MIN_POSES, PATH_ALIGNMENT, TrajectoryScore, score_trajectory
from stadia.metrics.trajectory_metrics import PathAlignment
from stadia.odometry import ODOMETRY_METHODS
from stadia.odometry.sliding_window_ba import MapPoints
from stadia.odometry.visual_odometry import CameraPath, track_camera
from stadia.recipes.base import build_recipe
from stadia.recipes.base.depth_commands import add_training_options
from stadia.recipes.base.requests import (
    OdometryRequest,
    PredictionInput,
    network_size_notes,
    open_inputs,
    requested_size,
)
from stadia.training.checkpoint import Checkpoint

DRAWING = "path.png"
POINTS = "points.ply"
RECORD = "odometry.json"


def run_odometry(request: OdometryRequest, track: TrackProgress) -> Iterator[str]:
    """Estimate the trajectory of every recording of an input; yield lines for people.

    Raises StadiaError if a folder is not empty: nothing is overwritten.
    """
    ODOMETRY_METHODS.check(request.method)
    opened = Checkpoint.open(request.checkpoint)
    size = requested_size(request.size, opened.header.config)
    provenance = Provenance.from_checkpoint(request.checkpoint, requested_size=size)
    about = {"recipe": provenance.recipe, "checkpoint": provenance.checkpoint}
    predictor = build_recipe.load_predictor(request.checkpoint, size)
    yield from (f"note: {note}" for note in network_size_notes(size, opened.header.config))
    inputs = open_inputs(request.source, **add_training_options(request.checkpoint, request.source, request.options))
    out = request.out or _default_folder(request)
    folders = [out] if len(inputs) == 1 else [safe_join(out, given.name) for given in inputs]
    for folder in folders:
        _check_empty(folder)
    for given, folder in zip(inputs, folders, strict=True):
        yield from _write(given, predictor, folder, request.method, about, track)
    yield f"depth scale: {SCALE_DESCRIPTIONS[predictor.depth_scale]}"


def _default_folder(request: OdometryRequest) -> Path:
    """Return a folder in the checkpoint's run. Raises ConfigError without a run."""
    for folder in (request.checkpoint, *request.checkpoint.parents[:2]):
        if (folder / "run.json").is_file():
            check_no_links(folder)
            return folder / "odometry" / f"{request.source.resolve().stem}-{request.method}"
    found, expected = "a checkpoint outside a run's folder", "a folder for the path"
    raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        expected, fix = "a new or an empty folder", "choose another --out: nothing is overwritten"
        raise StadiaError(folder, found="something there already", expected=expected, fix=fix)
    check_writable(folder)


def _write(
    given: PredictionInput, predictor: Predictor, folder: Path, method: str, about: dict[str, str], track: TrackProgress
) -> Iterator[str]:
    """Estimate one recording into its folder, which appears whole or not at all; yield lines for people."""
    with atomic_folder(folder) as new:
        path, points = _estimate_path(given, predictor, new, method, track)
        score, notes = _score(given, path, predictor.depth_scale, folder / TRAJECTORY)
        if points == 0:
            notes.append(f"{POINTS} is empty: the camera moved too little to estimate the depth of a point to 5 %")
        _write_path(new, path, method, predictor.depth_scale, score)
        record: dict[str, Any] = {
            **about,
            "depth_scale": str(predictor.depth_scale),
            "method": method,
            "source": given.name,
            "network_size": [predictor.height, predictor.width],
            "frames": list(path.names),
            "keyframes": path.keyframes,
            "frame_ms": {name: float(getattr(np, name)(path.frame_ms)) for name in ("mean", "median", "max")},
            "points": points or 0,
            "score": None if score is None else score.to_json(),
            "notes": notes,
        }
        write_json(new / RECORD, record)
    rate = 1e3 / path.frame_ms.mean()
    keyframes = f"{path.keyframes or 'no'} keyframe{'s' * (path.keyframes != 1)}"
    yield f"{folder}: {len(path.names)} poses, {keyframes}, {rate:.1f} frames/s"
    if score is not None:
        listed = ", ".join(f"{name} {value:.4g}" for name, value in score.metrics.items() if value is not None)
        yield f"  against the measured path of {score.path_m:.1f} m, {score.alignment}-aligned: {listed}"
    yield from (f"note: {note}" for note in notes)
    yield from (f"  {file.name}" for file in sorted(folder.iterdir()))


def _estimate_path(
    given: PredictionInput, predictor: Predictor, folder: Path, method: str, track: TrackProgress
) -> tuple[CameraPath, int | None]:
    """Return the trajectory, and the number of map points written; None if the method has no map."""
    frames = track(given.frames, given.count, f"following {given.name}")
    if method != "refined":
        return track_camera(predictor, frames, method, source=given.name), None
    unit = "metres" if predictor.depth_scale is DepthScale.METRES else "up to scale, no metres"
    with atomic_write(folder / POINTS) as temporary, temporary.open("wb") as stream:
        writer = PlyWriter(stream, unit)

        def take_points(points: MapPoints) -> None:
            writer.add(points.position.numpy(), (255 * points.color).round().byte().numpy())

        path = track_camera(predictor, frames, method, source=given.name, take_points=take_points)
        writer.finish()
    return path, writer.count


def _write_path(
    folder: Path, path: CameraPath, method: str, depth_scale: DepthScale, score: TrajectoryScore | None
) -> None:
    """Write the trajectory as rows and as a drawing, with the true one if there is one."""
    write_kitti_trajectory(folder / TRAJECTORY, Trajectory(path.T_world_camera))
    known = [time_s for time_s in path.times_s if time_s is not None]
    if len(known) == len(path.names):
        write_tum_trajectory(folder / TRAJECTORY_TUM, Trajectory(path.T_world_camera, np.array(known)))
    if score is None:
        draw_paths(folder / DRAWING, {method: path.T_world_camera}, depth_scale)
    else:
        paths = score.paths_from_start
        draw_paths(folder / DRAWING, {method: paths["estimated"], "measured": paths["true"]}, DepthScale.METRES)


def _score(
    given: PredictionInput, path: CameraPath, depth_scale: DepthScale, file: Path
) -> tuple[TrajectoryScore | None, list[str]]:
    """Score against the recording's poses as `stadia evaluate` does; None if there are too few. Also return notes."""
    truth, ends = dict[int, Any](), [path.ends] if path.ends else []
    if given.recording is not None:
        row = {name: k for k, name in enumerate(path.names)}
        wanted = ((index, frame_name(given.recording, index)) for index in range(len(given.recording)))
        poses = {row[name]: given.recording.T_world_camera(index) for index, name in wanted if name in row}
        truth = {k: pose for k, pose in poses.items() if pose is not None}
    if len(truth) < MIN_POSES:
        how = f"stadia evaluate --trajectory {file} --reference REF compares with one"
        return None, [f"no measured path here to score by: {how}", *ends]
    rows = sorted(truth)
    estimated = Trajectory(path.T_world_camera[rows])
    reference = Trajectory(np.stack([truth[k] for k in rows]), name=given.name)
    score = score_trajectory(estimated, reference, PATH_ALIGNMENT.get(depth_scale, PathAlignment.SIM3))
    measured = [f"{len(rows)} of {len(path.names)} poses are measured: the score and {DRAWING} are of these"]
    return score, [*(measured if len(rows) < len(path.names) else []), *score.notes, *ends]
