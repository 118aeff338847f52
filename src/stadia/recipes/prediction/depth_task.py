"""Predict and score depth, and motion where the network predicts it: `DepthTask`, and scores of recordings."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from stadia.core.recording import Recording, name_ground_truth
from stadia.core.types import Camera, DepthScale, Predictor, TrackProgress, no_progress
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.masks.height_priors import RoadConfig
from stadia.datasets.open_dataset import detect_format, find_held_out_split, open_recordings
from stadia.datasets.splits import frame_indices, read_frame_list, unique_recordings
from stadia.diagnostics.prediction_checks import TrainingRecord
from stadia.diagnostics.prediction_checks.focal_belief import FocalBelief
from stadia.evaluation import MOTIONS
from stadia.evaluation.baselines import score_mean_depth
from stadia.evaluation.frame_preparation import Frame, Listener, PreparedFrame, frame_name, read_frames
from stadia.evaluation.io.point_clouds import open_point_cloud_file, write_cloud_sample
from stadia.evaluation.io.predictions_folder import PredictionChecker, Predictions, write_predictions
from stadia.evaluation.io.predictions_record import TRAJECTORY, Provenance
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.plots.colormaps import to_uint8
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.evaluation.predict_frames import stream_predictions
from stadia.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from stadia.evaluation.recording_scores import RecordingScores, evaluate_recordings, has_ground_truth, write_score
from stadia.evaluation.steady_depth import steady_frames
from stadia.files.paths import expand_home, safe_join
from stadia.geometry.sky import find_far_sky
from stadia.models import DEFAULT_NETWORK
from stadia.models.depth.depth_network import DepthNetwork
from stadia.recipes.base.depth_recipe import DepthPredictor, DepthRecipe, choose_flip
from stadia.recipes.base.training_overlap import TrainingOverlap, note_trained
from stadia.recipes.base.video_data import VideoData
from stadia.recipes.prediction.backend_predictor import (
    BackendPredictor,
    describe_backend_choice,
    describe_cost,
    open_backend,
)
from stadia.recipes.prediction.map_following import MappedPath, find_mapped_path
from stadia.recipes.prediction.mapped_odometry import MappedOdometry
from stadia.recipes.prediction.prediction_inputs import (
    PredictionInput,
    add_training_options,
    choose_recording_camera,
    describe_recording_camera,
    is_own_video,
    make_recording_input,
    open_inputs,
)
from stadia.recipes.prediction.prediction_outputs import (
    CLOUD,
    DEPTH_COLOR,
    IMAGE,
    VIDEO,
    mark_verdict,
    prediction_lines,
    side_by_side_writer,
    trust_line,
)
from stadia.recipes.prediction.requests import (
    EvaluateRequest,
    PredictRequest,
    compare_with_trained_size,
    network_size_notes,
    size_text,
)
from stadia.recipes.prediction.scale_receipt import ScaledPredictor, ScaleReceipt, measure_scale
from stadia.recipes.prediction.scale_sources import MappedRoad, find_given_height
from stadia.recipes.prediction.scene_outputs import SceneOutputs, check_scenes, open_scenes
from stadia.recipes.prediction.task import LabeledSet, ScoreOutput, Task, score_split
from stadia.recipes.prediction.verdict import (
    MapOfFrames,
    PredictionGate,
    open_gate,
    read_training_record,
    record_worse_verdict,
    refuse_unusable,
    replace_verdict,
    verdict_lines,
)
from stadia.training.run_folder import Run

"""Point cloud of a prediction."""

PATH_DRAWING = "trajectory.png"
"""Drawing of the path of a prediction."""

BASE_ERROR = (
    "expect a mean relative error of .20 to .39 in metres, and of .13 to .27 where a known length sets the scale, as on"
    " real samples (docs/reference/base-network.md)"
)
"""What a photo by the network of the package can be relied on for."""

MIN_CHECKED_FRAMES = 30
"""Fewer validation frames are judged together with those that trained: pairs with motion need frames in a row."""

MAX_CHECKED_RECORDINGS = 4
"""Maximum number of recordings for the verdict at a training's end, which takes seconds for each."""

MAX_CHECKED_FRAMES = 60
"""Maximum number of frames of each of them."""

MAX_SCORED_FRAMES = 1000
"""Maximum number of scored validation frames."""


@dataclass(frozen=True, kw_only=True)
class LabeledRecordings(LabeledSet):
    """Recordings to score.

    indices: frames, ascending, by recording name.
    reuse: whether finished predictions in the folder are scored again.
    trained_on: frames that trained, by recording, for the baseline of mean depth; none without one.
    scale_from: sources of metres, measured on each recording.
    """

    predictor: Predictor
    recordings: Sequence[Recording]
    indices: Mapping[str, Sequence[int]]
    protocol: Protocol
    reuse: bool = False
    trained_on: Sequence[tuple[Recording, Sequence[int]]] = ()
    scale_from: tuple[str, ...] = ()


class DepthTask(Task):
    """Depth, and motion if the network predicts it: maps, trajectory, side-by-side video and point cloud."""

    recipe: DepthRecipe[Any, Any, Any, Any]
    reuse_predictions = True

    def used_options(self, request: PredictRequest | EvaluateRequest) -> set[str]:
        used = {
            "options",
            "every",
            "motion",
            "size",
            "flip",
            "video",
            "cloud",
            "glb",
            "rerun",
            "protocol",
            "by",
            "frames",
            "held_out",
            "steady",
        }
        return used | {"backend", "precision", "strict", "scale_from"}

    def open_inputs(self, request: PredictRequest) -> Sequence[PredictionInput]:
        self.predictor = choose_flip(self.recipe.predictor(self.size), request.flip)
        self.trust_lines = dict[str, None]()
        self.is_strict = request.strict
        self.checks = dict[str, Mapping[str, Any]]()
        options = add_training_options(self.checkpoint, request.source, request.options)
        self.open_again = partial(open_inputs, request.source, every=request.every, **options)
        inputs = self.open_again()
        self.scenes = check_scenes(request, inputs, self.predictor.depth_scale)
        return inputs

    def predict_input(
        self,
        given: PredictionInput,
        folder: Path,
        *,
        request: PredictRequest,
        provenance: Provenance,
        track: TrackProgress,
    ) -> Iterator[str]:
        yield from given.camera_lines()
        yield from self._start_backend(request)
        provenance = provenance.model_copy(update={"camera_origin": given.describe_camera_origin()})
        predictor: Predictor = self.predictor
        receipt: ScaleReceipt | None = None
        if request.scale_from:
            road = MappedRoad.find(expand_home(request.source))
            receipt = measure_scale(predictor, partial(self._open_one, given), request.scale_from, road=road)
            predictor = ScaledPredictor(predictor, receipt)
            provenance = provenance.model_copy(update={"scale_from": receipt.to_json()})
            yield from receipt.lines()
        source = expand_home(request.source)
        gate, trained = open_gate(self.checkpoint, given, predictor.depth_scale, source=source)
        belief = None if receipt is None else receipt.find_focal()
        gate.beliefs += [] if belief is None else [belief]
        gate.of_scale += [] if receipt is None else receipt.findings()
        gate.beliefs += find_network_focals(self.recipe, self.predictor, self._open_one(given).frames)
        mapped = yield from self._find_mapped_path(given, request, predictor)
        if mapped is not None:
            provenance = provenance.model_copy(update={"path_origin": mapped.describe_origin()})
        predictions = predict_input(
            predictor,
            given,
            folder,
            provenance,
            video=request.video,
            cloud=request.cloud is not False,
            checker=gate,
            track=track,
            trained=trained.names,
            scenes=self.scenes,
            mapped=mapped,
        )
        self.trust_lines[trust_line(predictions)] = None
        yield from prediction_lines(folder, predictions)
        if given.is_photo and str(self.checkpoint.path) == DEFAULT_NETWORK:
            yield BASE_ERROR
        yield from [] if mapped is None else mapped.lines(predictor.depth_scale)
        if predictions.record is not None:
            note = note_trained(predictions.record.trained_on, len(predictions.record.entries))
            yield from [f"note: {note}"] * bool(note)
        self.checks[given.name] = gate.to_json()
        limit = None if receipt is None else receipt.describe_limit(gate.judge().verdict)
        yield from [] if limit is None else [limit]
        yield from record_worse_verdict(self.checkpoint.run_folder, gate.judge(), given.name)

    def _open_one(self, given: PredictionInput) -> PredictionInput:
        """Open one of the inputs anew."""
        return given if given.is_photo else next(again for again in self.open_again() if again.name == given.name)

    def _find_mapped_path(
        self, given: PredictionInput, request: PredictRequest, predictor: Predictor
    ) -> Generator[str, None, MappedPath | None]:
        """Return the path of the map beside your own video in the unit of the depth, None without; yield notes."""
        source, is_affine = expand_home(request.source), predictor.depth_scale.is_affine
        is_video = is_own_video(source, request.options.get("format", "auto")) and given.count != 1
        if request.motion is not None or is_affine or not is_video:
            return None
        first = next(iter(self._open_one(given).frames))
        mapped = find_mapped_path(source, first, find_given_height(request.scale_from))
        if mapped is None:
            camera = " (state its camera first: `stadia camera`)" if given.camera_is_assumed else ""
            yield (
                f"note: the path, where there is one, stands on predicted depth; `stadia map {request.source}`{camera}"
                " makes one without it"
            )
            return None
        if isinstance(mapped, MappedPath) and math.isnan(mapped.scale):
            odometry = MappedOdometry.open(source, predictor)
            deque(odometry.observe(self._open_one(given).frames) if odometry is not None else (), maxlen=0)
            scales = [] if odometry is None else odometry.scales
            mapped = replace(mapped, scale=float(np.median(scales))) if scales else "no key frame gives its scale"
        if isinstance(mapped, str):
            yield f"note: the path is that of the predicted depth, and the map beside the video was not used: {mapped}"
            return None
        return mapped

    def _start_backend(self, request: PredictRequest) -> Iterator[str]:
        """Replace the predictor, once, where the request names a backend; yield notes."""
        choice = request.backend_choice
        if choice.is_default or isinstance(self.predictor, BackendPredictor):
            return
        yield describe_backend_choice(choice)
        self.predictor = open_backend(self.checkpoint, self.predictor, choice, self.open_again)
        yield from describe_cost(choice.precision, self.predictor.precision_cost)

    def closing_lines(self) -> Iterator[str]:
        yield from self.trust_lines
        if self.is_strict:
            refuse_unusable(self.checks)

    def open_labeled(self, request: EvaluateRequest, progress: ReportProgress) -> LabeledRecordings:
        """Open recordings, by default the held-out split of a dataset.

        Raises ConfigError if the object heights that gave the scale were measured on this dataset.
        """
        protocol = find_protocol(request.protocol, request.by)
        data, options = request.data, dict(request.options)
        if "road" in self.trained_with:
            formats = [detect_format(data, options.get("format", "auto"))]
            RoadConfig.model_validate(self.trained_with["road"]).check_scored_on(formats)
        notes = network_size_notes(self.size, self.trained_with)
        if request.frames is None:
            notes += _choose_split(data, options)
        predictor = choose_flip(self.recipe.predictor(self.size), request.flip)
        opened_with = add_training_options(self.checkpoint, data, options)
        opened_with, camera = choose_recording_camera(data, opened_with)
        recordings = open_recordings(data, progress=progress, **opened_with)
        notes += describe_recording_camera(recordings[0], 0, camera)
        listed = None if request.frames is None else read_frame_list(request.frames, recordings)
        indices: Mapping[str, Sequence[int]] = (
            {recording.name: range(0, len(recording), request.every) for recording in recordings}
            if listed is None
            else listed.indices
        )
        run = self.checkpoint.run_folder
        overlap = TrainingOverlap.find(run, recordings, indices)
        indices = overlap.left_out(indices, run) if request.held_out else indices
        summary = {
            "split": options.get("split"),
            "trained_on": overlap.count(indices),
            "of_trained_drives": overlap.count_same_session(indices),
        }
        truth = name_ground_truth(recordings, indices)
        about = {
            "options": options,
            "every": request.every,
            "motion": request.motion,
            "size": self.size and size_text(self.size),
            **({"flip": True} if request.flip else {}),
            **({"steady": True} if request.steady else {}),
            **({"scale_from": list(request.scale_from)} if request.scale_from else {}),
            **({} if listed is None else {"frames": listed.to_json()}),
            **summary,
        }
        return LabeledRecordings(
            name="-".join(filter(None, (data.resolve().name, request.protocol, truth, options.get("split")))),
            about=about,
            summary=summary,
            notes=(*notes, *overlap.notes(indices)),
            predictor=predictor,
            recordings=recordings,
            indices=indices,
            protocol=protocol,
            reuse=True,
            scale_from=request.scale_from,
        )

    def open_validation(self, data: VideoData, run: Run) -> list[LabeledRecordings]:
        """Return the validation frames of each data set, predicted at its own size and crop."""
        labeled = []
        for name, dataset in data.data_sets.items():
            config, split = dataset.config, dataset.split
            if name:
                predictor = DepthPredictor(self.recipe, (config.height, config.width), config.crop)
            else:
                predictor = DepthPredictor(self.recipe)
            recordings, indices = unique_recordings(split.val), frame_indices(split.val)
            scored = _label_split(predictor, recordings, run, f"val-{name}" if name else "val", indices)
            if scored is not None:
                trained_on = [(part.recording, part.indices) for part in split.train]
                labeled.append(replace(scored, trained_on=trained_on))
        return labeled

    def score(self, labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
        return score_labeled_recordings(labeled, out, track)

    def check_predictions(self, data: VideoData, run: Run, console: Console) -> None:
        """Judge predictions of validation frames, and where these are few, of those that trained: findings, a line."""
        training = read_training_record(self.checkpoint)
        count = sum(map(len, frame_indices(next(iter(data.data_sets.values())).split.val).values()))
        has_few = count < MIN_CHECKED_FRAMES
        judged = observe_training_data(self.recipe.predictor(), data, training).judge()
        replace_verdict(run, judged, training, has_trained_frames=has_few)
        few = f"note: {count} frames validate, fewer than {MIN_CHECKED_FRAMES}: frames that trained are judged too"
        for line in [*verdict_lines(judged.to_json()), *([few] if has_few else [])]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def finish_validation(self, labeled: LabeledRecordings, score: RecordingScores, run: Run, console: Console) -> None:
        """Write a point cloud and the score of the mean depth (scores/NAME-mean-depth.json); print the notes."""
        _write_middle_cloud(labeled, run)
        if score.depth is not None:
            baseline = score_mean_depth(
                labeled.trained_on, labeled.recordings, labeled.indices, labeled.predictor, labeled.protocol
            )
            if baseline is not None:
                write_score(run.folder / "scores" / f"{labeled.name}-mean-depth.json", baseline)
        split = labeled.name.replace("val", "validation", 1)
        for note in score.notes:
            console.print(f"note: {split}: {note}", markup=False, highlight=False, soft_wrap=True)


def observe_training_data(predictor: Predictor, data: VideoData, training: TrainingRecord) -> PredictionGate:
    """Return the gate that has seen predictions of validation frames, and where these are few, of those that trained.

    training: what is known of the predictor's training.
    """
    split = next(iter(data.data_sets.values())).split
    validated = frame_indices(split.val)
    has_few = sum(map(len, validated.values())) < MIN_CHECKED_FRAMES
    frames = [*split.val, *split.train] if has_few else split.val
    indices = frame_indices(frames)
    named = {recording.name: recording for recording in unique_recordings(frames)}
    named = dict([*named.items()][:MAX_CHECKED_RECORDINGS])
    trained = {part.recording.session for dataset in data.data_sets.values() for part in dataset.split.train}
    is_of_training = any(recording.session in trained for recording in named.values())
    mapped = MapOfFrames.find(expand_home(data.config.path)) if len(data.data_sets) == 1 else None
    gate = PredictionGate(predictor.depth_scale, training, is_of_training=is_of_training, mapped=mapped)
    for name, recording in named.items():
        chosen = choose_window(indices[name], validated.get(name, ()), MAX_CHECKED_FRAMES)
        deque(observe_frames(gate, predictor, read_frames(recording, chosen)), maxlen=0)
    return gate


# -- predict

MAX_FOCAL_FRAMES = 8
"""Frames whose field of view a network predicts, the first of an input."""


@torch.no_grad()
def find_network_focals(recipe: object, predictor: Predictor, frames: Iterable[Frame]) -> list[FocalBelief]:
    """Return the median focal length that a network itself predicts for some frames; [] where it predicts none."""
    network = getattr(recipe, "depth_network", None)
    if not isinstance(network, DepthNetwork) or type(network).predict_focal is DepthNetwork.predict_focal:
        return []
    focals = []
    for frame in islice(frames, MAX_FOCAL_FRAMES):
        image = torch.from_numpy(PreparedFrame.prepare(predictor, frame).image)[None]
        focal = network.predict_focal(image.to(next(network.parameters()).device))
        if focal is None:
            return []
        focals.append(float(focal[0]))
    return [FocalBelief(float(np.median(focals)), "the network")] if focals else []


def observe_frames(gate: PredictionGate, predictor: Predictor, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Pass frames through, and let the gate judge a part of them."""

    def predict(prepared: PreparedFrame) -> NDArray[np.float32]:
        image, K = (torch.from_numpy(values) for values in (prepared.image, prepared.K))
        camera = Camera(K, predictor.height, predictor.width)
        return predictor.inverse_depth(image[None], camera)[0, 0].float().cpu().numpy()

    for frame in frames:
        prepared = PreparedFrame.prepare(predictor, frame)
        gate.take(prepared.frame, partial(predict, prepared))
        yield frame


def predict_input(
    predictor: Predictor,
    given: PredictionInput,
    out: Path,
    provenance: Provenance,
    *,
    video: bool = True,
    cloud: bool = True,
    checker: PredictionChecker | None = None,
    track: TrackProgress = no_progress,
    trained: Collection[str] | None = None,
    scenes: SceneOutputs | None = None,
    mapped: MappedPath | None = None,
) -> Predictions:
    """Predict into a new folder, with depth in colors, video, point cloud and drawing of the trajectory.

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        given: from `open_inputs`; it is consumed.
        out: a new or empty folder, or one with the same prediction unfinished, which starts again.
        provenance: `Provenance.from_checkpoint(checkpoint)`.
        video: write side_by_side.mp4 (side_by_side.png for one image).
        cloud: write cloud.ply; not for inverse depth up to scale and shift, which defines no points.
        checker: judges the predictions, such as a `PredictionGate`.
        track: shows progress.
        trained: names of frames that trained the network; None where that is not known.
        scenes: files in 3D beside the folder.
        mapped: the path that replaces that by the predicted depth; None keeps it.

    Writes and raises what `write_predictions` does; also trajectory.png if there is a trajectory.
    """
    listeners: list[Listener] = [depth_color_writer(out / DEPTH_COLOR)]
    with ExitStack() as files:
        if video:
            listeners.append(files.enter_context(side_by_side_writer(given, out)))
        if cloud and not predictor.depth_scale.is_affine:
            points = open_point_cloud_file(out / CLOUD, predictor.depth_scale, given.count, find_far_sky)
            listeners.append(files.enter_context(points))
        listeners += [files.enter_context(scene) for scene in open_scenes(scenes, predictor.depth_scale, given.count)]
        frames = track(given.frames, given.count, f"predicting {given.name}")

        def complete() -> None:
            files.close()
            mark_verdict(out, checker)
            if (out / TRAJECTORY).exists():
                path = read_kitti_trajectory(out / TRAJECTORY).T_world_camera
                draw_paths(out / PATH_DRAWING, {given.name: path}, predictor.depth_scale)

        predicted = stream_predictions(predictor, frames, MOTIONS.load(provenance.motion))
        predicted = predicted if mapped is None else mapped.follow(predicted)
        return write_predictions(
            steady_frames(predicted) if provenance.steady else predicted,
            predictor,
            out,
            provenance,
            source=given.name,
            has_frame_numbers=given.has_frame_numbers,
            listeners=listeners,
            complete=complete,
            further=(VIDEO, IMAGE, CLOUD, PATH_DRAWING),
            checker=checker,
            precision_cost=predictor.precision_cost if isinstance(predictor, BackendPredictor) else None,
            trained=trained,
        )


# -- evaluate


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    """Select the data set's held-out split if the user selected none: set it in `options` and return a note."""
    split = None
    if not options.keys() & {"split", "recordings"}:
        split = find_held_out_split(data, options.get("format", "auto"))
    if split is None:
        return []
    options["split"] = split
    return [f"the data's split '{split}', the default (choose another with data.split=NAME or data.recordings=[NAMES])"]


def score_labeled_recordings(labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
    """Predict recordings to disk and score them from there; notes are those of the data, then those of the scores."""
    receipts: dict[str, ScaleReceipt] = {}

    def prepare(recording: Recording, indices: Sequence[int]) -> tuple[Predictor, Provenance]:
        given = partial(make_recording_input, recording, indices)
        receipts[recording.name] = receipt = measure_scale(labeled.predictor, given, labeled.scale_from)
        scaled = ScaledPredictor(labeled.predictor, receipt)
        return scaled, out.provenance.model_copy(update={"scale_from": receipt.to_json()})

    scores = evaluate_recordings(
        labeled.predictor,
        labeled.recordings,
        labeled.protocol,
        out.predictions,
        out.provenance,
        indices=labeled.indices,
        reuse=labeled.reuse,
        prepare=prepare if labeled.scale_from else None,
        track=track,
    )
    notes = list(labeled.notes)
    notes += [f"{name}: {line}" for name, receipt in receipts.items() for line in receipt.lines()]
    if labeled.about.get("size") and scores.depth is not None and out.reference is not None:
        notes += compare_with_trained_size(scores.depth.metrics["silog"], out.reference, labeled.about)
    return replace(scores, notes=(*notes, *scores.notes))


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
    """Score recordings by the protocol that fits the predictor's scale; None if none has ground truth.

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
        indices: frames to score, ascending, by recording name; default: all. At most MAX_SCORED_FRAMES are scored.
    """
    labeled = _label_split(predictor, recordings, run, name, indices)
    if labeled is None:
        return None
    scores = score_split(score_labeled_recordings, labeled, run, provenance, console)
    if provenance.checkpoint:
        _write_middle_cloud(labeled, run)
    return scores


def _label_split(
    predictor: Predictor,
    recordings: Sequence[Recording],
    run: Run,
    name: str,
    indices: Mapping[str, Sequence[int]] | None,
) -> LabeledRecordings | None:
    """Return the recordings with ground truth; None without any."""
    every = {recording.name: range(len(recording)) for recording in recordings}
    chosen = thin_frames(indices or every, MAX_SCORED_FRAMES)
    known = [recording for recording in recordings if has_ground_truth(recording, chosen[recording.name])]
    if not known:
        return None
    cut = f"only the crop '{predictor.crop}' of each image is scored, since the data were cut to it"
    cropped = () if predictor.crop == "none" else (f"{cut}: `stadia evaluate` scores what lies outside",)
    return LabeledRecordings(
        name=name,
        notes=(*cropped, *TrainingOverlap.find(run.folder, known, chosen).notes(chosen)),
        predictor=predictor,
        recordings=known,
        indices=chosen,
        protocol=PROTOCOLS["metric" if predictor.depth_scale is DepthScale.METRES else "relative"],
    )


def _write_middle_cloud(labeled: LabeledRecordings, run: Run) -> None:
    """Write the middle frame of the first recording as points with the colors of the network input, without its sky.

    Nothing is written where depth defines no points.
    """
    predictor, recording = labeled.predictor, labeled.recordings[0]
    if predictor.depth_scale.is_affine:
        return
    frames = labeled.indices[recording.name]
    middle = frames[len(frames) // 2]
    name = frame_name(recording, middle)
    shown = PreparedFrame.prepare(predictor, next(read_frames(recording, [middle])))
    predictions, folder = (run.folder / kind / labeled.name for kind in ("predictions", "clouds"))
    depth = Predictions.open(safe_join(predictions, recording.name)).read(name)
    image = to_uint8(shown.image)
    depth = np.where(find_far_sky(image, depth), 0, depth)  # the lowest rows are never sky
    write_cloud_sample(folder, f"{recording.name}/{name}", predictor.depth_scale, image, depth, shown.K)


# -- the frames that are scored or checked, where all would take too long


def choose_window(indices: Sequence[int], middle: Sequence[int], most: int) -> Sequence[int]:
    """Return at most `most` neighboring ones of ascending indices, around the first that are in `middle`.

    middle: ascending, each one of `indices`; empty for the first ones.
    """
    if not middle:
        return indices[:most]
    first = bisect.bisect_left(indices, middle[0])
    before = max(0, (most - len(middle)) // 2)
    start = max(0, min(first - before, len(indices) - most))
    return indices[start : start + most]


def thin_frames(indices: Mapping[str, Sequence[int]], most: int) -> dict[str, list[int]]:
    """Return at most `most` frames spread over all: the first frames of each block, since motion is scored too.

    A block is a range of consecutive frames; each keeps its share. Of single frames every n-th stays.

    indices: ascending, by recording name.
    """
    total, before = max(sum(map(len, indices.values())), 1), 0
    kept: dict[str, list[int]] = {}
    for name, frames in indices.items():
        kept[name] = []
        for block in np.split(np.asarray(frames, dtype=np.intp), np.flatnonzero(np.diff(frames) != 1) + 1):
            after = before + len(block)
            kept[name] += block[: after * most // total - before * most // total].tolist()
            before = after
    return kept
