"""`stadia odometry`: estimate the trajectory of a camera with a depth recipe, write it, and score it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.types import DepthScale, Predictor, TrackProgress
from stadia.datasets.video.video_decoding import VIDEO_SUFFIXES, count_indexed_frames
from stadia.datasets.video.video_map import find_map_geometry
from stadia.evaluation.frame_preparation import frame_name
from stadia.evaluation.io.point_clouds import PlyWriter
from stadia.evaluation.io.predictions_record import TRAJECTORY, TRAJECTORY_TUM, Provenance
from stadia.evaluation.io.trajectory_files import Trajectory, write_kitti_trajectory, write_tum_trajectory
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.recording_scores import PATH_ALIGNMENT, TrajectoryScore, score_measured_path
from stadia.files.atomic_files import atomic_folder, atomic_write, write_json
from stadia.files.paths import check_no_links, check_writable, expand_home, safe_join
from stadia.metrics.trajectory_metrics import path_length_m
from stadia.odometry import ODOMETRY_METHODS
from stadia.odometry.mapped_path import MappedPath
from stadia.odometry.sliding_window_ba import MapPoints
from stadia.odometry.visual_odometry import CameraPath, track_camera
from stadia.predict.backend_predictor import describe_backend_choice, describe_cost, open_backend
from stadia.predict.checked_frames import observe_frames
from stadia.predict.prediction_inputs import PredictionInput, add_training_options, is_own_video, open_inputs
from stadia.predict.requests import OdometryRequest, network_size_notes, requested_size
from stadia.predict.scale_grammar import find_given_height
from stadia.predict.scale_receipt import ScaledPredictor, ScaleReceipt, measure_scale
from stadia.predict.verdict import describe_trust, open_gate, refuse_unusable, verdict_lines
from stadia.recipes.base.build_recipe import load_predictor
from stadia.recipes.base.training_overlap import TrainedInput, note_trained
from stadia.training.checkpoint import Checkpoint

DRAWING = "path.png"
POINTS = "points.ply"
RECORD = "odometry.json"

MAX_LENGTH_DIFFERENCE = 0.03
"""Difference of the lengths of the refined path and the pose network's own, as a share of the longer one.

On 24 of the demo's 26 roads the refined path was within 1.5 % of the true length (two unseen roads: 2 and 6 % too
short). Below twice that, both paths may be right. Above it one of them is wrong, and images of one camera do not show
which: on these roads the network's path was 27 % too short to 47 % too long; on the 51 pairs of KITTI 06, trained for
75 steps, the refined path was 5 % too short, and the network's 1 % too long.
"""


@dataclass(frozen=True)
class MeasuredPath:
    """Poses of an input to score by, and which of its frames trained the network.

    poses: (4, 4) T_world_camera by the frame's name; empty without any.
    trained_on, of_trained_drives: frames of the estimate that trained, and others of drives that did; None if unknown.
    notes: about these frames.
    is_metric: whether the poses are in metres.
    """

    poses: Mapping[str, Any]
    trained_on: int | None = None
    of_trained_drives: int | None = None
    notes: tuple[str, ...] = ()
    is_metric: bool = True


@dataclass(frozen=True)
class _Odometry:
    """What estimates the path of each recording of an input.

    poses: of a video, by the frame's name, to score by; None without any.
    about: facts of odometry.json that are the same for every recording.
    open_again: opens the inputs anew.
    """

    checkpoint: Checkpoint
    request: OdometryRequest
    predictor: Predictor
    poses: Mapping[str, Any] | None
    about: Mapping[str, Any]
    open_again: Callable[[], list[PredictionInput]]

    def open_one(self, name: str) -> PredictionInput:
        """Open one of the inputs anew, by its name."""
        return next(given for given in self.open_again() if given.name == name)


def run_odometry(checkpoint: Checkpoint, request: OdometryRequest, track: TrackProgress) -> Iterator[str]:
    """Estimate the trajectory of every recording of an input; yield lines for people.

    Raises StadiaError if a folder is not empty: nothing is overwritten. Raises VerdictError where the request is strict
    and the depth unusable.
    """
    ODOMETRY_METHODS.check(request.method)
    config = checkpoint.header.config
    size = requested_size(request.size, config)
    provenance = Provenance.from_checkpoint(checkpoint, requested_size=size)
    about: dict[str, Any] = {"recipe": provenance.recipe, "checkpoint": provenance.checkpoint}
    predictor = load_predictor(checkpoint, size, flip=request.flip)
    choice = request.backend_choice
    yield from (f"note: {note}" for note in network_size_notes(size, config))
    options = dict(request.options)
    is_file = request.source.is_file() and request.source.suffix.lower() in VIDEO_SUFFIXES
    poses = _read_video_poses(request.source, options.pop("poses", None)) if is_file else None
    options = add_training_options(checkpoint, request.source, options)
    open_frames = partial(open_inputs, request.source, **options)
    inputs = open_frames()
    out = request.out or _default_folder(checkpoint, request)
    folders = [out] if len(inputs) == 1 else [safe_join(out, given.name) for given in inputs]
    for folder in folders:
        _check_empty(folder)
    if not choice.is_default:
        yield describe_backend_choice(choice)
        predictor = open_backend(checkpoint, predictor, choice, open_frames)
        yield from describe_cost(choice.precision, predictor.precision_cost)
        about |= {"backend": choice.backend, "precision": choice.precision}
    if request.flip:
        about["flip"] = True
    odometry = _Odometry(checkpoint, request, predictor, poses, about, open_frames)
    checks: dict[str, Mapping[str, Any]] = {}
    for given, folder in zip(inputs, folders, strict=True):
        checks[given.name] = yield from _write(odometry, given, folder, track)
    if request.strict:
        refuse_unusable(checks)


def _default_folder(checkpoint: Checkpoint, request: OdometryRequest) -> Path:
    """Return a folder in the checkpoint's run. Raises ConfigError without a run."""
    run = checkpoint.run_folder
    if not (run / "run.json").is_file():
        found, expected = "a checkpoint outside a run's folder", "a folder for the path"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    check_no_links(run)
    return run / "odometry" / f"{request.source.resolve().stem}-{request.method}{'-flip' * request.flip}"


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        expected, fix = "a new or an empty folder", "choose another --out: nothing is overwritten"
        raise StadiaError(folder, found="something there already", expected=expected, fix=fix)
    check_writable(folder)


def _read_video_poses(video: Path, file: str | None) -> dict[str, Any] | None:
    """Return the poses of `data.poses` by frame name; None without. Raises DataError where rows are no frames."""
    if file is None:
        return None
    path = expand_home(file)
    read, frames = read_kitti_trajectory(path), count_indexed_frames(video)
    if frames is not None and read.frames is None and len(read) != frames:
        expected = f"{frames}, one for each frame of {video.name}, or rows with a frame number in front"
        raise DataError(path, found=f"{len(read)} poses", expected=expected, fix="pass the poses of this video")
    return {f"{number:06d}": T for number, T in zip(read.frame_numbers, read.T_world_camera, strict=True)}


def _find_measured_path(
    odometry: _Odometry, given: PredictionInput, path: CameraPath, trained: TrainedInput
) -> MeasuredPath:
    """Return the measured poses of the estimated frames, and how many of these frames trained the network."""
    recording, overlap = given.recording, trained.overlap
    if recording is None or overlap is None:
        poses = odometry.poses or {}
        path_of_data = odometry.checkpoint.header.config.get("data", {}).get("path")
        count = None if trained.names is None else len(trained.names.intersection(path.names))
        notes = []
        if count:
            notes.append(note_trained(count, len(path.names)))
        elif count is None and poses and path_of_data and _is_same_file(path_of_data, odometry.request.source):
            notes.append("this video trained the network: not a score on unseen images")
        return MeasuredPath(poses, count, None, tuple(notes))
    estimated = set(path.names)
    names = (frame_name(recording, index) for index in range(len(recording)))
    indices = [index for index, name in enumerate(names) if name in estimated]
    measured = {frame_name(recording, index): recording.T_world_camera(index) for index in indices}
    known = {name: pose for name, pose in measured.items() if pose is not None}
    chosen = {recording.name: indices}
    trained_on, beside = overlap.count(chosen), overlap.count_same_session(chosen)
    notes = overlap.notes(chosen, can_exclude=False) if known else [note_trained(trained_on, len(indices))]
    return MeasuredPath(known, trained_on, beside, tuple(filter(None, notes)), is_metric=recording.has_metric_poses)


def _is_same_file(data: str, source: Path) -> bool:
    return expand_home(data).resolve() == expand_home(source).resolve()


def _write(
    odometry: _Odometry, given: PredictionInput, folder: Path, track: TrackProgress
) -> Generator[str, None, Mapping[str, Any]]:
    """Estimate one recording into its folder, which appears whole or not at all; yield lines for people.

    Returns the verdict on the predicted depth, as odometry.json holds it.
    """
    request, method = odometry.request, odometry.request.method
    predictor: Predictor = odometry.predictor
    receipt: ScaleReceipt | None = None
    yield from given.camera_lines()
    source = expand_home(request.source)
    if request.scale_from:
        opened = partial(odometry.open_one, given.name)
        receipt = measure_scale(predictor, opened, request.scale_from, mapped=find_map_geometry(source))
        predictor = ScaledPredictor(predictor, receipt)
        yield from receipt.lines()
    with atomic_folder(folder) as new:
        gate, trained = open_gate(odometry.checkpoint, given, predictor.depth_scale, source=source)
        belief = None if receipt is None else receipt.find_focal()
        gate.beliefs += [] if belief is None else [belief]
        observed = replace(given, frames=observe_frames(gate, predictor, given.frames))
        mapped = None
        if method == "refined" and is_own_video(request.source, request.options.get("format", "auto")):
            mapped = MappedPath.find(source, predictor.depth_scale, find_given_height(request.scale_from))
        if mapped is not None:
            observed = replace(observed, frames=mapped.observe(predictor, observed.frames))
        path, points = _estimate_path(observed, predictor, new, method, track)
        path = path if mapped is None else mapped.replace_path(path)
        checks = gate.to_json()
        measured = _find_measured_path(odometry, given, path, trained)
        score, notes = _score(given.name, path, measured, predictor.depth_scale, folder / TRAJECTORY)
        length = path_length_m(torch.from_numpy(path.T_world_camera))
        notes += path.notes
        notes += _compare_lengths(length, path.network_length, predictor.depth_scale)
        if points == 0:
            notes.append(f"{POINTS} is empty: the camera moved too little to estimate the depth of a point to 5 %")
        _write_path(new, path, method, predictor.depth_scale, score)
        record: dict[str, Any] = {
            **odometry.about,
            "depth_scale": str(predictor.depth_scale),
            "method": method,
            "scale_from": None if receipt is None else receipt.to_json(),
            "source": given.name,
            "network_size": [predictor.height, predictor.width],
            "entries": list(given.names),
            "has_frame_numbers": given.has_frame_numbers,
            "frames": list(path.names),
            "keyframes": path.keyframes,
            "length": length,
            "network_length": path.network_length,
            "frame_ms": {name: float(getattr(np, name)(path.frame_ms)) for name in ("mean", "median", "max")},
            "points": points or 0,
            "score": None if score is None else score.to_json(),
            "trained_on": measured.trained_on,
            "of_trained_drives": measured.of_trained_drives,
            "notes": notes,
            "checks": checks,
        }
        write_json(new / RECORD, record)
    rate = 1e3 / path.frame_ms.mean()
    keyframes = f"{path.keyframes or 'no'} keyframe{'s' * (path.keyframes != 1)}"
    unit = "m" if predictor.depth_scale is DepthScale.METRES else "units of the depth"
    yield f"{folder}: {len(path.names)} poses, {length:.4g} {unit} in all, {keyframes}, {rate:.1f} frames/s"
    if (left_out := len(given.names) - len(path.names)) and not path.ends:
        yield f"note: {left_out} frames hardly move and are left out, as in a training (data.stride=1 keeps all)"
    if score is not None:
        others = {name: value for name, value in score.metrics.items() if name != "ate_rmse_m" and value is not None}
        yield f"  {score.headline}: {', '.join(f'{name} {value:.4g}' for name, value in others.items())}"
    yield from verdict_lines(checks)
    yield from (f"note: {note}" for note in notes)
    yield f"depth scale: {describe_trust(predictor.depth_scale, checks)}"
    yield from (f"  {file.name}" for file in sorted(folder.iterdir()))
    return checks


def _compare_lengths(length: float, network_length: float | None, depth_scale: DepthScale) -> list[str]:
    """Return a note where a path in metres and that of the pose network alone differ in length.

    length, network_length: metres; None if there is no pose network. A length up to scale is arbitrary: no note.
    """
    if network_length is None or depth_scale is not DepthScale.METRES:
        return []
    if abs(length - network_length) <= MAX_LENGTH_DIFFERENCE * max(length, network_length):
        return []
    lengths = f"the refined path is {length:.4g} m long, the pose network's own path {network_length:.4g} m"
    why = "the first has the scale of the predicted depth, the second the speeds of the training"
    return [f"{lengths}: {why}. Compare both with a known distance; --method network writes the second"]


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
        title = "as estimated: no measured path to align and score by"
        draw_paths(folder / DRAWING, {method: path.T_world_camera}, depth_scale, title=title)
    else:
        paths = score.paths_from_start
        named = {method: paths["estimated"], "measured": paths["true"]}
        draw_paths(folder / DRAWING, named, DepthScale.METRES, title=score.headline, gaps=score.gaps)


def _score(
    source: str, path: CameraPath, measured: MeasuredPath, depth_scale: DepthScale, file: Path
) -> tuple[TrajectoryScore | None, list[str]]:
    """Score against measured poses as `stadia evaluate` does; None if there are too few. Also return notes."""
    ends = [path.ends] if path.ends else []
    poses = [measured.poses.get(name) for name in path.names]
    depth_scale = depth_scale if measured.is_metric else DepthScale.UP_TO_SCALE
    score = score_measured_path(path.T_world_camera, path.times_s, poses, depth_scale, source=source)
    if score is None:
        how = f"stadia evaluate --trajectory {file} --reference REF --align {PATH_ALIGNMENT[depth_scale]}"
        return None, [*measured.notes, f"no measured path here to score by: {how} compares with one", *ends]
    count = sum(pose is not None for pose in poses)
    partly = [f"{count} of {len(poses)} poses are measured: the score and {DRAWING} are of these"]
    return score, [*measured.notes, *(partly if count < len(poses) else []), *score.notes, *ends]
