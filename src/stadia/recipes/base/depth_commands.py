"""Predict and evaluate with a depth recipe: `stadia predict`, `stadia evaluate`, and the scores after a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from stadia.core.errors import ConfigError
from stadia.core.files import safe_join
from stadia.core.recording import Recording
from stadia.core.types import DepthScale, Predictor, TrackProgress, no_progress
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.masks.height_priors import RoadConfig
from stadia.datasets.open_dataset import detect_format, find_held_out_split, open_recordings
from stadia.evaluation.io.point_clouds import open_point_cloud_file, write_cloud_sample
from stadia.evaluation.io.predictions_folder import TRAJECTORY, Predictions, Provenance
from stadia.evaluation.io.trajectory_files import read_kitti_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.predict.frame_preparation import Listener, PreparedFrame, frame_name, read_frames
from stadia.evaluation.predict.predict_frames import predict_to_folder
from stadia.evaluation.protocols import PROTOCOLS, find_protocol
from stadia.evaluation.score.recording_scores import RecordingScores, evaluate_recordings, has_ground_truth
from stadia.recipes.base.prediction_inputs import (
    PredictionInput,
    is_own_video,
    open_inputs,
    predict_inputs,
    side_by_side_writer,
)
from stadia.recipes.base.requests import (
    EvaluateRequest,
    PredictRequest,
    Size,
    compare_with_trained_size,
    network_size_notes,
    requested_size,
)
from stadia.recipes.base.scored_frames import TrainingOverlap, read_frame_list
from stadia.recipes.base.video_data import VideoData, frame_indices, unique_recordings
from stadia.training.checkpoint import Checkpoint
from stadia.training.run_folder import Run

# -- Predict opened inputs with a depth recipe: depth, trajectory, side-by-side video and point cloud.

CLOUD = "cloud.ply"
PATH_DRAWING = "trajectory.png"


def add_training_options(checkpoint: Path, path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` completed by the training options of your own video: its stride, and its camera if it is the
    same video.
    """
    if not is_own_video(path, options.get("format", "auto")):
        return dict(options)
    trained = Checkpoint.open(checkpoint).header.config.get("data", {})
    same = "path" in trained and Path(trained["path"]).expanduser().resolve() == path.expanduser().resolve()
    camera = {"camera": trained["camera"]} if same and "camera" in trained else {}
    return {"stride": trained.get("stride", "auto"), **camera, **options}


def predict_depth(
    predictor_at: Callable[[Size | None], Predictor], request: PredictRequest, watch: TrackProgress
) -> Iterator[str]:
    """Run `stadia predict` for a depth recipe; yield lines for people.

    predictor_at: returns the predictor at a size, None = the training size (`DepthRecipe.predictor`).
    """
    config = Checkpoint.open(request.checkpoint).header.config
    size = requested_size(request.size, config)
    provenance, predictor = Provenance.of(request.checkpoint, request.motion, size), predictor_at(size)
    yield from (f"note: {note}" for note in network_size_notes(size, config))
    inputs = open_inputs(
        request.source, every=request.every, **add_training_options(request.checkpoint, request.source, request.options)
    )
    predict_to = partial(
        predict_input, predictor, provenance=provenance, video=request.video, cloud=request.cloud, watch=watch
    )
    yield from predict_inputs(inputs, request.out, predict_to, predictor.depth_scale)


def predict_input(
    predictor: Predictor,
    given: PredictionInput,
    out: Path,
    provenance: Provenance,
    *,
    video: bool = True,
    cloud: bool = True,
    watch: TrackProgress = no_progress,
) -> Predictions:
    """Predict into a new folder, with video, point cloud and drawing of the trajectory.

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        given: from `open_input`; it is consumed.
        out: a new or empty folder, or one with the same prediction unfinished, which starts again.
        provenance: `Provenance.of(checkpoint)`.
        video: write side_by_side.mp4 (side_by_side.png for one image).
        cloud: write cloud.ply; not for inverse depth up to scale and shift, which defines no points.
        watch: shows progress.

    Writes and raises what `stadia.evaluation.predict.predict_frames.predict_to_folder` does, and trajectory.png if there is a trajectory.
    """
    listeners: list[Listener] = []
    with ExitStack() as files:
        if video:
            listeners.append(files.enter_context(side_by_side_writer(given, out)))
        if cloud and predictor.depth_scale is not DepthScale.AFFINE_INVERSE:
            listeners.append(
                files.enter_context(open_point_cloud_file(out / CLOUD, predictor.depth_scale, given.count))
            )
        frames = watch(given.frames, given.count, f"predicting {given.name}")
        predictions = predict_to_folder(predictor, frames, out, provenance, source=given.name, listeners=listeners)
    if predictions.record is not None and predictions.record.path:
        draw_paths(
            out / PATH_DRAWING,
            {given.name: read_kitti_trajectory(out / TRAJECTORY).T_world_camera},
            predictor.depth_scale,
        )
    return predictions


# -- Run `stadia evaluate CHECKPOINT DATA` for a depth recipe: predict into the run's folder, score, add notes.


def evaluate_depth(
    predictor_at: Callable[[Size | None], Predictor],
    request: EvaluateRequest,
    run: Path,
    watch: TrackProgress,
    progress: ReportProgress,
) -> tuple[dict[str, Any], list[Path]]:
    """Return the summary to print, and the written files.

    predictor_at: returns the predictor at a size, None = the training size (`DepthRecipe.predictor`).

    Raises ConfigError if a height that gave the scale was measured on the data to score.
    """
    rules = find_protocol(request.protocol)
    opened = Checkpoint.open(request.checkpoint)
    data, header, options = request.data, opened.header, dict(request.options)
    if "road" in header.config:  # heights gave the scale: those of a data set's labels may not be scored on it
        RoadConfig.model_validate(header.config["road"]).check_scored_on(
            [detect_format(data, options.get("format", "auto"))]
        )
    size = requested_size(request.size, header.config)
    suffix = request.suffix + (f"-{size[1]}x{size[0]}" if size else "")
    folder = request.out or _in_run(run, "predictions") / f"{opened.path.stem}-step{header.step}{suffix}"
    provenance = Provenance.of(request.checkpoint, request.motion, size)
    notes = network_size_notes(size, header.config) + (_choose_split(data, options) if request.frames is None else [])
    about: dict[str, Any] = {
        "checkpoint": provenance.checkpoint,
        "data": str(data.resolve()),
        "options": options,
        "split": options.get("split"),
        "every": request.every,
        "motion": request.motion,
        "size": size and f"{size[1]}x{size[0]}",
    }
    predictor = predictor_at(size)
    recordings = open_recordings(data, progress=progress, **add_training_options(request.checkpoint, data, options))
    if request.frames is None:
        indices: Mapping[str, Sequence[int]] = {r.name: range(0, len(r), request.every) for r in recordings}
    else:
        indices = _listed_frames(recordings, request.frames, about)
    trained = TrainingOverlap.on(run, recordings, indices)
    indices = trained.left_out(indices, run) if request.held_out else indices
    about["trained_on"], about["of_trained_drives"] = trained.count(indices), trained.count_same_session(indices)
    evaluation = evaluate_recordings(
        predictor, recordings, rules, folder, provenance, indices=indices, reuse=True, watch=watch
    )
    scores = (run if (run / "run.json").is_file() else folder) / "scores"
    name = "-".join(filter(None, (data.resolve().name, request.protocol, about["split"])))
    if size and evaluation.depth is not None:
        notes += compare_with_trained_size(
            evaluation.depth.metrics["silog"], scores / f"{name}{request.suffix}.json", about
        )
    evaluation = replace(evaluation, notes=(*notes, *trained.notes(indices), *evaluation.notes))
    written = [folder, *evaluation.write(scores, f"{name}{suffix}", about)]
    return {key: about[key] for key in ("split", "trained_on", "of_trained_drives")} | evaluation.summary(), written


def _in_run(run: Path, name: str) -> Path:
    """Return a folder of the run. Raises ConfigError if there is no run."""
    if not (run / "run.json").is_file():
        raise ConfigError(
            "--out",
            found="a checkpoint outside a run's folder",
            expected="a folder for its predictions",
            fix="pass --out DIR",
        )
    return run / name


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    """Select the data set's held-out split if the user selected none: set it in `options` and return a note."""
    if (
        options.keys() & {"split", "recordings"}
        or (split := find_held_out_split(data, options.get("format", "auto"))) is None
    ):
        return []
    options["split"] = split
    return [f"the data's split '{split}', the default (choose another with data.split=NAME or data.recordings=[NAMES])"]


def _listed_frames(recordings: Sequence[Recording], frames: Path, about: dict[str, Any]) -> Mapping[str, Sequence[int]]:
    """Return the frames of a frame list, and add the file to the metadata."""
    listed = read_frame_list(frames, recordings)
    about["frames"] = listed.to_json()
    return listed.indices


# -- Score recordings after a training: predict to disk, score from disk, into the run's folder.

T = TypeVar("T")
MAX_SCORED_FRAMES = 1000
"""Maximum number of scored frames of a split."""
PROTOCOL_BY_SCALE = {
    DepthScale.METRES: "metric",
    DepthScale.UP_TO_SCALE: "relative",
    DepthScale.AFFINE_INVERSE: "relative",
}


def score_validation(predictor: Predictor, data: VideoData, run: Run, console: Console, *, name: str = "val") -> None:
    """Score the validation frames with the run's best checkpoint; nothing without validation frames."""
    recordings = unique_recordings(data.split.val)
    scored = score_recordings(
        predictor, recordings, run, name, Provenance.of(run.folder), console, indices=frame_indices(data.split.val)
    )
    for note in scored.notes if scored else ():
        console.print(
            f"note: {name.replace('val', 'validation', 1)}: {note}", markup=False, highlight=False, soft_wrap=True
        )


def score_recordings(
    predictor: Predictor,
    recordings: Sequence[Recording],
    run: Run,
    name: str,
    provenance: Provenance,
    console: Console,
    *,
    indices: Mapping[str, Sequence[int]] | None = None,
) -> RecordingScores | None:
    """Score recordings by the protocol that fits the predictor's depth scale.

    Writes predictions/NAME/, scores/NAME.json and scores/NAME-RECORDING.json into the run's folder; of a checkpoint
    also clouds/NAME/, the middle frame of the first recording as points. Notes list frames or drives that trained the
    network, and a crop.

    Args:
        predictor: trained, or a baseline.
        recordings: those without ground-truth depth and poses are skipped.
        run: run whose folder is written.
        name: of the split ("val", "test").
        provenance: of the predictions.
        console: shows progress.
        indices: frames to score, ascending, by recording name; default: all. At most MOST_FRAMES, see `thinned`.

    Returns None if no recording can be scored.
    """
    chosen = thin_frames(
        indices or {recording.name: range(len(recording)) for recording in recordings}, MAX_SCORED_FRAMES
    )
    known = [recording for recording in recordings if has_ground_truth(recording, chosen[recording.name])]
    if not known:
        return None
    folder = run.folder / "predictions" / name
    if folder.exists():
        shutil.rmtree(folder)  # of this run before it was resumed, or half-written when it was killed

    def watch(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return track(items, what, total=count, console=console, transient=True, disable=not console.is_terminal)

    protocol = PROTOCOLS[PROTOCOL_BY_SCALE[predictor.depth_scale]]
    evaluation = evaluate_recordings(predictor, known, protocol, folder, provenance, indices=chosen, watch=watch)
    notes = (*_crop_notes(predictor.crop), *TrainingOverlap.on(run.folder, known, chosen).notes(chosen))
    evaluation = replace(evaluation, notes=(*notes, *evaluation.notes))
    evaluation.write(run.folder / "scores", name, {"checkpoint": provenance.checkpoint})
    if provenance.checkpoint and predictor.depth_scale is not DepthScale.AFFINE_INVERSE:
        frames = chosen[known[0].name]
        _write_cloud(predictor, known[0], frames[len(frames) // 2], folder, run.folder / "clouds" / name)
    return evaluation


def _write_cloud(predictor: Predictor, recording: Recording, index: int, predicted: Path, folder: Path) -> None:
    """Write one predicted frame as points with the colors of the network input."""
    name = frame_name(recording, index)
    shown = PreparedFrame.to(predictor, next(read_frames(recording, [index])))
    depth = Predictions.open(safe_join(predicted, recording.name)).read(name)
    write_cloud_sample(folder, f"{recording.name}/{name}", predictor.depth_scale, to_uint8(shown.image), depth, shown.K)


def _crop_notes(crop: str) -> list[str]:
    """Return a note if only a crop of each image is scored."""
    if crop == "none":
        return []
    return [
        f"only the crop '{crop}' of each image is scored, since the data were cut to it: `stadia evaluate` scores"
        " what lies outside"
    ]


def thin_frames(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """Return at most `most` frames spread over all: the first frames of each block, since motion is scored too.

    A block is a range of consecutive frames; each keeps its share. Of single frames every n-th stays.

    indices: ascending, by recording name.
    """
    total, seen = max(sum(map(len, indices.values())), 1), 0
    kept: dict[str, list[int]] = {}
    for name, frames in indices.items():
        kept[name] = []
        for block in np.split(np.asarray(frames, dtype=np.intp), np.flatnonzero(np.diff(frames) != 1) + 1):
            after = seen + len(block)
            kept[name] += block[: after * most // total - seen * most // total].tolist()
            seen = after
    return kept
