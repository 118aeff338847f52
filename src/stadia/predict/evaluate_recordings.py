"""Evaluate a network on recordings: predict to disk, then score depth and camera paths from disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2

from stadia.core.errors import ProtocolError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import DepthScale, Predictor, Recording, name_ground_truth
from stadia.data.frame_preparation import frame_name, has_frame_numbers, read_frames
from stadia.evaluation.depth_score import GroundTruthReaders, collect_scores, score_images
from stadia.evaluation.image_score import ImageScore
from stadia.evaluation.plots.error_maps import write_error_maps
from stadia.evaluation.predictions_folder import Predictions, Provenance, read_record
from stadia.evaluation.protocol_search import PublishedFigure, search_protocols
from stadia.evaluation.protocols import Alignment, Protocol
from stadia.evaluation.recording_scores import (
    MIN_POSES,
    RecordingScores,
    TrajectoryScore,
    read_labeled_maps,
    score_measured_path,
)
from stadia.evaluation.steady_depth import FlickerScore, score_flicker
from stadia.io.image_io import write_image
from stadia.io.input_files import safe_join
from stadia.io.output_files import check_new_folder, fill_new_folder
from stadia.io.records.read import read_kitti_trajectory
from stadia.io.records.trajectory import TRAJECTORY
from stadia.predict.predict_frames import predict_to_folder

MAX_IMAGE_WIDTH = 640  # pixels of the image that a report shows

PreparePredictor = Callable[[Recording, Sequence[int]], tuple[Predictor, Provenance]]
"""Type of a function that returns the predictor, and the origin of its predictions, for some video frames of a
recording.
"""


def evaluate_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    protocol: Protocol,
    out: Path,
    provenance: Provenance,
    *,
    indices: Mapping[str, Sequence[int]] | None = None,
    reuse: bool = False,
    prepare: PreparePredictor | None = None,
    published: tuple[PublishedFigure, ...] = (),
    error_maps: Path | None = None,
    track: TrackProgress = no_progress,
) -> RecordingScores:
    """Predict each recording into its own folder in `out`, then score the written files.

    predictor: the network.
    recordings: recordings with ground truth.
    protocol: the rules for scoring depth. Paths are aligned by PATH_ALIGNMENT.
    out: folder whose subfolders must be new or empty, unless `reuse` is set.
    provenance: origin of the predictions.
    indices: rising indices of the frames to predict, by the recording's name; None takes all.
    reuse: whether to score finished predictions in `out` again, if provenance and frames match.
    prepare: returns the predictor of a recording, with the metric scale that was measured on it, and the provenance.
    published: published figures; the protocols that reproduce them are searched.
    error_maps: new folder for drawings of the errors of the best and the worst images; None draws none.
    track: wraps loops to show their progress.

    Raises ProtocolError if the protocol refuses the depth scale, if nothing can be scored, or if `out` contains other
    predictions; StadiaError if `out` is in use.
    """
    depth_scale = predictor.depth_scale if prepare is None else DepthScale.METRES
    protocol.alignment(depth_scale)
    frames = {recording.name: range(len(recording)) for recording in recordings} if indices is None else indices
    scorable = [recording for recording in recordings if has_ground_truth(recording, frames.get(recording.name, ()))]
    if not scorable:
        raise _nothing_to_score(recordings, frames)
    check_unit_of_truth(scorable, protocol, depth_scale)
    if error_maps is not None:
        check_new_folder(error_maps)
    scores: list[tuple[str, ImageScore | None]] = []
    odometry: dict[str, TrajectoryScore] = {}
    flicker: dict[str, FlickerScore] = {}
    predicted: dict[str, tuple[Predictions, GroundTruthReaders]] = {}
    for recording in recordings:
        chosen = frames.get(recording.name, ())
        if recording not in scorable:  # such as a benchmark's test sequences
            scores += [(f"{recording.name}/{frame_name(recording, index)}", None) for index in chosen]
            continue
        folder, source, fingerprint = safe_join(out, recording.name), recording.name, recording.fingerprint()
        used, made_by = (predictor, provenance) if prepare is None else prepare(recording, chosen)
        if reuse and (record := read_record(folder)) is not None and record.finished:
            predictions = Predictions.open(folder, depth_scale)
            predictions.check_made_by(made_by, fingerprint, [frame_name(recording, index) for index in chosen])
        else:
            tracked = track(read_frames(recording, chosen), len(chosen), f"predicting {source}")
            predictions = predict_to_folder(
                used,
                tracked,
                folder,
                made_by,
                source=source,
                fingerprint=fingerprint,
                has_frame_numbers=has_frame_numbers(recording),
            )
            _write_middle_image(predictions, recording, chosen)
        truth = {name: partial(recording.depth_m, index) for name, index in zip(predictions.files, chosen, strict=True)}
        predicted[source] = (predictions, truth)
        for name, score in track(score_images(predictions, truth, protocol), len(chosen), f"scoring {source}"):
            scores.append((f"{source}/{name}", score and replace(score, name=f"{source}/{name}")))
        if (path := _path_score(predictions, recording, chosen)) is not None:
            odometry[source] = path
        unit_m = None if path is None else path.scale
        if (consistency := score_flicker(predictions, recording, chosen, unit_m)) is not None:
            flicker[source] = consistency
    depth = collect_scores(scores, depth_scale, protocol) if any(score for _, score in scores) else None
    if depth is None and not odometry:
        raise _nothing_to_score(recordings, frames)
    notes = [] if depth is not None else ["no ground-truth depth: only the path is scored"]
    if short := [known.name for known in scorable if 0 < _poses_in_a_row(known, frames[known.name]) < MIN_POSES]:
        notes.append(f"no path score for {_list_names(short)}: it needs {MIN_POSES} neighboring frames with poses")
    kind = name_ground_truth(recordings, frames)
    if depth is not None and "+" in kind:
        notes.append(f"several kinds of ground truth, {kind}: choose one with data.ground_truth to compare scores")
    if error_maps is not None and depth is not None:
        with fill_new_folder(error_maps) as folder:
            write_error_maps(folder, predicted, protocol, depth)
    protocols = None
    if published:
        protocols = search_protocols(
            published,
            partial(read_labeled_maps, predicted.values(), protocol),
            depth_scale,
            count=sum(len(truth) for _, truth in predicted.values()),
            track=track,
        )
    return RecordingScores(depth, odometry, tuple(notes), kind, flicker, protocols)


def _write_middle_image(predictions: Predictions, recording: Recording, indices: Sequence[int]) -> None:
    (frame,) = read_frames(recording, [indices[len(indices) // 2]])
    height, width = frame.image.shape[:2]
    shrink = min(1.0, MAX_IMAGE_WIDTH / width)
    size = round(width * shrink), max(1, round(height * shrink))
    small = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    write_image(safe_join(predictions.folder, f"images/{frame.name}.png"), small[..., ::-1])


def has_ground_truth(recording: Recording, indices: Sequence[int]) -> bool:
    """Return whether a recording can be scored: a chosen video frame has true depth, or there are true camera poses.

    Enough of the first video frames must have a pose for a trajectory.

    recording: the recording.
    indices: indices of the chosen video frames.
    """
    if _poses_in_a_row(recording, indices) >= MIN_POSES:
        return True
    return any(recording.depth_m(index) is not None for index in indices)


def check_unit_of_truth(recordings: Sequence[Recording], protocol: Protocol, depth_scale: DepthScale) -> None:
    """Raise ProtocolError if metric depth would be compared with ground truth in another unit."""
    unitless = [recording.name for recording in recordings if not recording.has_metric_depth]
    if unitless and protocol.alignment(depth_scale) is Alignment.NONE:
        found = f"ground truth without a unit in {_list_names(unitless)}"
        fix = "score depth up to scale there, or pass data with depth in metres"
        raise ProtocolError(f"protocol '{protocol.name}'", found=found, expected="metres", fix=fix)


def _poses_in_a_row(recording: Recording, indices: Sequence[int]) -> int:
    """Count the poses of the first frames that are neighbors."""
    neighbors = (index for position, index in enumerate(indices) if index - indices[0] == position)
    return sum(recording.T_world_camera(index) is not None for index in neighbors)


def _nothing_to_score(recordings: Sequence[Recording], indices: Mapping[str, Sequence[int]]) -> ProtocolError:
    what = _list_names([recording.name for recording in recordings]) or "no recording"
    if any(_poses_in_a_row(recording, indices.get(recording.name, ())) for recording in recordings):
        fix = "leave --every out, or list neighboring frames"
        expected = "neighboring frames, since only the path can be scored"
        found = f"no ground truth depth, and fewer than {MIN_POSES} neighboring frames with poses"
        return ProtocolError(what, found=found, expected=expected, fix=fix)
    fix = "evaluate on recordings with ground truth, or use stadia predict"
    return ProtocolError(what, found="neither ground truth depth nor poses", expected="one of them", fix=fix)


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + " ..." * (len(names) > 4)


def _path_score(predictions: Predictions, recording: Recording, indices: Sequence[int]) -> TrajectoryScore | None:
    """Score the path on disk against the recording's poses. Return None with fewer than MIN_POSES poses."""
    record = predictions.record
    if record is None or not record.path:
        return None
    index_of = dict(zip(record.entries, indices, strict=True))
    score = score_measured_path(
        read_kitti_trajectory(predictions.folder / TRAJECTORY).T_world_camera,
        [recording.timestamp_s(index_of[name]) for name in record.path],
        [recording.T_world_camera(index_of[name]) for name in record.path],
        predictions.depth_scale if recording.has_metric_poses else DepthScale.UP_TO_SCALE,
        source=recording.name,
    )
    return replace(score, notes=(*score.notes, record.path_ends)) if score and record.path_ends else score
