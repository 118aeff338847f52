"""Predict and score depth, and motion where the network predicts it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from stadia.core.errors import ConfigError
from stadia.core.recording import name_ground_truth
from stadia.core.types import Predictor, TrackProgress, no_progress
from stadia.datasets.frame_store import ReportProgress
from stadia.datasets.masks.height_priors import RoadConfig
from stadia.datasets.open_dataset import detect_format, find_held_out_split, open_recordings
from stadia.datasets.splits import frame_indices, read_frame_list, unique_recordings
from stadia.datasets.video.video_map import find_map_geometry
from stadia.evaluation import MOTIONS
from stadia.evaluation.baselines import score_mean_depth
from stadia.evaluation.frame_preparation import Listener
from stadia.evaluation.io.point_clouds import open_point_cloud_file
from stadia.evaluation.io.predictions_folder import PredictionChecker, Predictions, write_predictions
from stadia.evaluation.io.predictions_record import TRAJECTORY, Provenance
from stadia.evaluation.io.trajectory_formats import read_kitti_trajectory
from stadia.evaluation.plots.charts import draw_paths
from stadia.evaluation.plots.videos import depth_color_writer
from stadia.evaluation.predict_frames import stream_predictions
from stadia.evaluation.protocols import find_protocol
from stadia.evaluation.recording_scores import RecordingScores, write_score
from stadia.evaluation.steady_depth import steady_frames
from stadia.files.paths import expand_home
from stadia.geometry.sky import find_far_sky
from stadia.models import DEFAULT_NETWORK
from stadia.odometry.mapped_path import MappedPath
from stadia.predict.backend_predictor import BackendPredictor, describe_backend_choice, describe_cost, open_backend
from stadia.predict.checked_frames import MIN_CHECKED_FRAMES, find_network_focals, observe_training_data
from stadia.predict.labeled_recordings import (
    LabeledRecordings,
    label_split,
    score_labeled_recordings,
    write_middle_cloud,
)
from stadia.predict.prediction_inputs import (
    PredictionInput,
    add_training_options,
    choose_recording_camera,
    describe_recording_camera,
    is_own_video,
    open_inputs,
)
from stadia.predict.prediction_outputs import (
    CLOUD,
    DEPTH_COLOR,
    IMAGE,
    VIDEO,
    SceneOutputs,
    check_scenes,
    mark_verdict,
    open_scenes,
    prediction_lines,
    side_by_side_writer,
    trust_line,
)
from stadia.predict.requests import EvaluateRequest, PredictRequest, network_size_notes, size_text
from stadia.predict.scale_grammar import find_given_height
from stadia.predict.scale_receipt import ScaledPredictor, ScaleReceipt, measure_scale
from stadia.predict.task import ScoreOutput, Task
from stadia.predict.verdict import (
    open_gate,
    read_training_record,
    record_worse_verdict,
    refuse_unusable,
    replace_verdict,
    verdict_lines,
)
from stadia.recipes.base.depth_recipe import DepthPredictor, DepthRecipe, choose_flip
from stadia.recipes.base.training_overlap import TrainingOverlap, note_trained
from stadia.recipes.base.video_data import VideoData
from stadia.training.run_folder import Run

PATH_DRAWING = "trajectory.png"
"""Drawing of the path of a prediction."""

BASE_ERROR = (
    "expect a mean relative error of .20 to .39 in metres, and of .13 to .27 where a known length sets the scale, as on"
    " real samples (docs/reference/base-network.md)"
)
"""What a photo by the network of the package can be relied on for."""


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
        source = expand_home(request.source)
        if request.scale_from:
            opened = partial(self._open_one, given)
            receipt = measure_scale(predictor, opened, request.scale_from, mapped=find_map_geometry(source))
            predictor = ScaledPredictor(predictor, receipt)
            provenance = provenance.model_copy(update={"scale_from": receipt.to_json()})
            yield from receipt.lines()
        gate, trained = open_gate(self.checkpoint, given, predictor.depth_scale, source=source)
        belief = None if receipt is None else receipt.find_focal()
        gate.beliefs += [] if belief is None else [belief]
        gate.of_scale += [] if receipt is None else receipt.findings()
        gate.beliefs += find_network_focals(self.recipe, self.predictor, self._open_one(given).frames)
        mapped = yield from self._find_mapped_path(given, request, predictor)
        if mapped is not None:
            provenance = provenance.model_copy(update={"path_origin": mapped.describe_origin()})
            gate.has_own_path = mapped.deviation is not None
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
        mapped = MappedPath.find(source, predictor.depth_scale, find_given_height(request.scale_from))
        if mapped is None:
            camera = " (state its camera first: `stadia camera`)" if given.camera_is_assumed else ""
            yield (
                f"note: the path, where there is one, stands on predicted depth; `stadia map {request.source}`{camera}"
                " makes one without it"
            )
            return None
        why = mapped.compare_camera(next(iter(self._open_one(given).frames)))
        if not why and not mapped.has_road_scale:
            deque(mapped.observe(predictor, self._open_one(given).frames), maxlen=0)
        if why or mapped.scale is None:
            why = why or "no key frame gives its scale"
            yield f"note: the path is that of the predicted depth, and the map beside the video was not used: {why}"
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
        if any(text.partition("=")[0] == "map" for text in request.scale_from):
            fix = "name lidar, baseline, gps or height; `stadia predict VIDEO` takes the map beside a video"
            raise ConfigError("--scale-from map", found="a data set", expected="a video with its map", fix=fix)
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
            scored = label_split(predictor, recordings, run, f"val-{name}" if name else "val", indices)
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
        write_middle_cloud(labeled, run)
        if score.depth is not None:
            baseline = score_mean_depth(
                labeled.trained_on, labeled.recordings, labeled.indices, labeled.predictor, labeled.protocol
            )
            if baseline is not None:
                write_score(run.folder / "scores" / f"{labeled.name}-mean-depth.json", baseline)
        split = labeled.name.replace("val", "validation", 1)
        for note in score.notes:
            console.print(f"note: {split}: {note}", markup=False, highlight=False, soft_wrap=True)


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


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    """Select the data set's held-out split if the user selected none: set it in `options` and return a note."""
    split = None
    if not options.keys() & {"split", "recordings"}:
        split = find_held_out_split(data, options.get("format", "auto"))
    if split is None:
        return []
    options["split"] = split
    return [f"the data's split '{split}', the default (choose another with data.split=NAME or data.recordings=[NAMES])"]
