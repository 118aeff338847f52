"""Estimate, write and score the trajectory of a camera: `stadia odometry`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import ConfigError, DataError, StadiaError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import Frame, frame_name
from stadia.data.video.input_camera import is_own_video
from stadia.evaluation.plots.path_chart import draw_paths
from stadia.evaluation.point_clouds import PlyWriter
from stadia.evaluation.recording_scores import PATH_ALIGNMENT, TrajectoryScore, score_measured_path
from stadia.io.atomic_files import atomic_folder, atomic_write, write_json
from stadia.io.input_files import check_no_links, check_writable, expand_home, safe_join
from stadia.io.records.read import read_kitti_trajectory
from stadia.io.records.trajectory import (
    TRAJECTORY,
    TRAJECTORY_TUM,
    Trajectory,
    write_kitti_trajectory,
    write_tum_trajectory,
)
from stadia.io.video_decoding import VIDEO_SUFFIXES, count_indexed_frames
from stadia.judge.questions import Question
from stadia.metrics.trajectory_metrics import path_length_m
from stadia.predict.inputs import PredictionInput
from stadia.predict.network import Network
from stadia.predict.options import PredictOptions, network_size_notes, requested_size
from stadia.predict.predict_frames import predict_frame_depth
from stadia.predict.run import Session, open_sessions
from stadia.predict.track_camera import MapPoints, track_camera
from stadia.predict.training_overlap import TrainedInput, note_trained
from stadia.predict.verdict import judge_path_by_map, observe_frames
from stadia.scale.grammar import find_given_height
from stadia.scale.scale_receipt import ScaleReceipt
from stadia.sfm.odometry import ODOMETRY_METHODS
from stadia.sfm.odometry.camera_path import CameraPath
from stadia.sfm.odometry.mapped_path import MappedPath

DRAWING = "path.png"
POINTS = "points.ply"
RECORD = "odometry.json"

MAX_LENGTH_DIFFERENCE = 0.03
"""Largest relative difference between the lengths of the refined trajectory and the pose network's without a note;
usually it is half of this.
"""


@dataclass(frozen=True)
class MeasuredPath:
    """Measured poses of an input, against which the estimated trajectory is scored.

    poses: pose T_world_camera (4, 4) of each frame, by its name.
    trained_on: number of the input's frames that trained the network; None if unknown.
    of_trained_drives: number of further frames, from drives with training frames; None if unknown.
    notes: lines of text.
    is_metric: whether the poses are in metres.
    """

    poses: Mapping[str, Any]
    trained_on: int | None = None
    of_trained_drives: int | None = None
    notes: tuple[str, ...] = ()
    is_metric: bool = True


@dataclass(frozen=True)
class EstimatedPath:
    """The estimated trajectory of one input, as it was written into a folder.

    given: the input; its frames have been read.
    folder: has odometry.json, the trajectory, a drawing of it, and the points of the method `refined`.
    path: the trajectory.
    depth_scale: kind of scale of the trajectory, the same as the depth's.
    network_size: (height, width) of the network's images, pixels.
    method: name of the odometry method.
    receipt: how the scale was measured; None for the network's own scale.
    measured: measured poses.
    score: score of the trajectory against the measured poses; None with too few poses.
    points: number of points that the method mapped; None for a method without a map.
    checks: the verdict on the predicted depth.
    notes: lines of text.
    """

    given: PredictionInput
    folder: Path
    path: CameraPath
    depth_scale: DepthScale
    network_size: tuple[int, int]
    method: str
    receipt: ScaleReceipt | None
    measured: MeasuredPath
    score: TrajectoryScore | None
    points: int | None
    checks: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def length(self) -> float:
        """Return the length of the trajectory, in the unit of the depth."""
        return path_length_m(self.path.T_world_camera)

    @property
    def left_out(self) -> int:
        """Return the number of frames that the trajectory leaves out because the camera hardly moves there."""
        return 0 if self.path.ends else len(self.given.names) - len(self.path.names)

    def to_json(self) -> dict[str, Any]:
        """Return what odometry.json records about this input."""
        return {
            "depth_scale": str(self.depth_scale),
            "method": self.method,
            "scale_from": None if self.receipt is None else self.receipt.to_json(),
            "source": self.given.name,
            "network_size": list(self.network_size),
            "entries": list(self.given.names),
            "has_frame_numbers": self.given.has_frame_numbers,
            "frames": list(self.path.names),
            "keyframes": self.path.keyframes,
            "length": self.length,
            "network_length": self.path.network_length,
            "frame_ms": {name: float(getattr(np, name)(self.path.frame_ms)) for name in ("mean", "median", "max")},
            "points": self.points or 0,
            "score": None if self.score is None else self.score.to_json(),
            "trained_on": self.measured.trained_on,
            "of_trained_drives": self.measured.of_trained_drives,
            "notes": list(self.notes),
            "checks": self.checks,
        }


@dataclass(frozen=True)
class Odometry:
    """The estimation of the camera trajectory of each recording of an input, from `open_odometry`.

    network: predicts depth and motion.
    source: path of the input.
    method: name of the odometry method.
    poses: measured poses of a video, by frame name, to score by; None without.
    sessions: a session for each recording, with the folder for its result.
    notes: lines of text.
    about: entries of odometry.json that are the same for every recording.
    """

    network: Network
    source: Path
    method: str
    poses: Mapping[str, Any] | None
    sessions: Sequence[tuple[Session, Path]]
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def estimate_path(self, session: Session, folder: Path, track: TrackProgress = no_progress) -> EstimatedPath:
        """Estimate the trajectory of one recording and write it into a folder, which appears complete or not at all.

        session: the recording.
        folder: the new folder.
        track: shows progress.
        """
        session.gate.counted.add(Question.PATH)
        given, scale = session.input, session.predictor.depth_scale
        with atomic_folder(folder) as new:
            path, points = self._track(session, new, track)
            measured = self._find_measured_path(given, path, session.training[1])
            score, notes = _score(given.name, path, measured, scale, folder / TRAJECTORY)
            estimated = EstimatedPath(
                given,
                folder,
                path,
                scale,
                (session.predictor.height, session.predictor.width),
                self.method,
                session.receipt,
                measured=measured,
                score=score,
                points=points,
                checks=session.gate.to_json(),
                notes=(*notes, *path.notes),
            )
            estimated = replace(estimated, notes=(*estimated.notes, *_note_lengths(estimated)))
            _write_path(new, estimated)
            write_json(new / RECORD, {**self.about, **estimated.to_json()})
        return estimated

    def _track(self, session: Session, folder: Path, track: TrackProgress) -> tuple[CameraPath, int | None]:
        given, predictor, options, mapped = session.input, session.predictor, session.options, None
        frames: Iterable[Frame] = observe_frames(session.gate, predictor, iter(given.frames))
        if self.method == "refined" and is_own_video(self.source, options.data.get("format", "auto")):
            height_m = find_given_height(options.scale_from)
            mapped = MappedPath.find(expand_home(self.source), predictor.depth_scale, height_m)
        if mapped is not None:
            session.gate.verdicts[Question.PATH] = judge_path_by_map(mapped.mapped)
            frames = mapped.observe(partial(predict_frame_depth, predictor), frames)
        frames = track(frames, given.count, f"following {given.name}")
        if self.method != "refined":
            return track_camera(predictor, frames, self.method, source=given.name), None
        unit = "metres" if predictor.depth_scale is DepthScale.METRES else "up to scale, no metres"
        with atomic_write(folder / POINTS) as temporary, temporary.open("wb") as stream:
            writer = PlyWriter(stream, unit)

            def take_points(points: MapPoints) -> None:
                writer.add(points.position, (255 * points.color).round().astype(np.uint8))

            path = track_camera(predictor, frames, self.method, source=given.name, take_points=take_points)
            writer.finish()
        return path if mapped is None else mapped.replace_path(path), writer.count

    def _find_measured_path(self, given: PredictionInput, path: CameraPath, trained: TrainedInput) -> MeasuredPath:
        recording, overlap = given.recording, trained.overlap
        if recording is None or overlap is None:
            poses = self.poses or {}
            path_of_data = self.network.trained_with.get("data", {}).get("path")
            count = None if trained.names is None else len(trained.names.intersection(path.names))
            notes = []
            if count:
                notes.append(note_trained(count, len(path.names)))
            elif count is None and poses and path_of_data and _is_same_file(path_of_data, self.source):
                notes.append("this video trained the network")
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


def open_odometry(
    network: Network, source: Path, options: PredictOptions, *, method: str = "refined", out: Path | None = None
) -> Odometry:
    """Open an input to estimate its camera trajectory.

    network: predicts depth.
    source: the video, folder of images or dataset.
    options: options of the prediction; `options.data["poses"]` names a file of measured poses of a video file to score
        by.
    method: a name in `ODOMETRY_METHODS`: refined, graph, aligned or network.
    out: folder for the result; None takes a folder in the network's run.

    Raises StadiaError if the folder is not empty.
    """
    ODOMETRY_METHODS.check(method)
    network.require_weights()
    data, poses = dict(options.data), None
    if source.is_file() and source.suffix.lower() in VIDEO_SUFFIXES:
        poses = _read_video_poses(source, data.pop("poses", None))
    options = replace(options, data=data, motion="aligned")  # this module finds its own path
    sessions = open_sessions(network, source, options)
    network = sessions[0].network
    provenance, choice = network.make_provenance(options), options.backend_choice
    about: dict[str, Any] = {"recipe": provenance.recipe, "checkpoint": provenance.checkpoint}
    if not choice.is_default:
        about |= {"backend": choice.backend, "precision": choice.precision}
    if options.flip:
        about["flip"] = True
    out = out or _default_folder(network, source, method, flip=options.flip)
    folders = [out] if len(sessions) == 1 else [safe_join(out, session.name) for session in sessions]
    for folder in folders:
        _check_empty(folder)
    notes = network_size_notes(requested_size(options.size, network.trained_with), network.trained_with)
    return Odometry(
        network, source, method, poses, list(zip(sessions, folders, strict=True)), notes=tuple(notes), about=about
    )


def _default_folder(network: Network, source: Path, method: str, *, flip: bool) -> Path:
    run = network.run_folder
    if run is None:
        found, expected = "nothing, and the network has no run", "a folder for the path"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    check_no_links(run)
    return run / "odometry" / f"{source.resolve().stem}-{method}{'-flip' * flip}"


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found, expected = "a path that is not empty", "a new or an empty folder"
        raise StadiaError(folder, found=found, expected=expected, fix="choose another --out")
    check_writable(folder)


def _read_video_poses(video: Path, file: str | None) -> dict[str, Any] | None:
    if file is None:
        return None
    path = expand_home(file)
    read, frames = read_kitti_trajectory(path), count_indexed_frames(video)
    if frames is not None and read.frames is None and len(read) != frames:
        expected = f"{frames}, one for each frame of {video.name}, or rows that start with a frame number"
        raise DataError(path, found=f"{len(read)} poses", expected=expected)
    return {f"{number:06d}": T for number, T in zip(read.frame_numbers, read.T_world_camera, strict=True)}


def _is_same_file(data: str, source: Path) -> bool:
    return expand_home(data).resolve() == expand_home(source).resolve()


def _note_lengths(estimated: EstimatedPath) -> list[str]:
    lengths = _compare_lengths(estimated.length, estimated.path.network_length, estimated.depth_scale)
    if estimated.points != 0:
        return lengths
    return [*lengths, f"{POINTS} is empty: the camera moved too little"]


def _compare_lengths(length: float, network_length: float | None, depth_scale: DepthScale) -> list[str]:
    if network_length is None or depth_scale is not DepthScale.METRES:
        return []
    if abs(length - network_length) <= MAX_LENGTH_DIFFERENCE * max(length, network_length):
        return []
    lengths = f"the refined path is {length:.4g} m long, but the pose network's path {network_length:.4g} m"
    return [f"{lengths}. Compare both with a known distance; --method network writes the second"]


def _write_path(folder: Path, estimated: EstimatedPath) -> None:
    path, method, score = estimated.path, estimated.method, estimated.score
    write_kitti_trajectory(folder / TRAJECTORY, Trajectory(path.T_world_camera))
    known = [time_s for time_s in path.times_s if time_s is not None]
    if len(known) == len(path.names):
        write_tum_trajectory(folder / TRAJECTORY_TUM, Trajectory(path.T_world_camera, np.array(known)))
    if score is None:
        title = "as estimated, without a measured path"
        draw_paths(folder / DRAWING, {method: path.T_world_camera}, estimated.depth_scale, title=title)
    else:
        paths = score.paths_from_start
        named = {method: paths["estimated"], "measured": paths["true"]}
        draw_paths(folder / DRAWING, named, DepthScale.METRES, title=score.headline, gaps=score.gaps)


def _score(
    source: str, path: CameraPath, measured: MeasuredPath, depth_scale: DepthScale, file: Path
) -> tuple[TrajectoryScore | None, list[str]]:
    ends = [path.ends] if path.ends else []
    poses = [measured.poses.get(name) for name in path.names]
    depth_scale = depth_scale if measured.is_metric else DepthScale.UP_TO_SCALE
    score = score_measured_path(path.T_world_camera, path.times_s, poses, depth_scale, source=source)
    if score is None:
        how = f"stadia evaluate --trajectory {file} --reference REF --align {PATH_ALIGNMENT[depth_scale]}"
        return None, [*measured.notes, f"not scored without a measured path. To compare with one: {how}", *ends]
    count = sum(pose is not None for pose in poses)
    partly = [f"the score and {DRAWING} use the {count} of {len(poses)} poses that are measured"]
    return score, [*measured.notes, *(partly if count < len(poses) else []), *score.notes, *ends]
