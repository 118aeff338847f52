"""The tasks of networks, such as depth: how an input is opened for prediction, and how labeled data are scored."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from rich.console import Console

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.progress import TrackProgress, no_progress
from stadia.core.types import Predictor, Recording, name_ground_truth
from stadia.data.frame_store import ReportProgress
from stadia.data.height_priors import RoadConfig
from stadia.data.open_dataset import detect_format, find_held_out_split, open_recordings
from stadia.data.splits import read_frame_list
from stadia.evaluation import protocols
from stadia.evaluation.predictions_folder import Provenance
from stadia.evaluation.protocol_search import PublishedFigure, parse_published
from stadia.evaluation.recording_scores import RecordingScores
from stadia.io.atomic_files import hold_folder
from stadia.io.input_files import check_no_links, safe_join
from stadia.predict import TASKS, TRAIN_FLOOR
from stadia.predict.evaluate_recordings import evaluate_recordings
from stadia.predict.inputs import choose_recording_camera, describe_recording_camera, make_recording_input
from stadia.predict.network import Network, open_network
from stadia.predict.options import (
    EvaluateOptions,
    NetworkOptions,
    PredictOptions,
    as_predict_options,
    network_size_notes,
    refuse_unused,
    requested_size,
    size_text,
)
from stadia.predict.predict_frames import find_default_motion
from stadia.predict.receipt import ScaledPredictor, measure_scale
from stadia.predict.training_overlap import TrainingOverlap
from stadia.scale.scale_receipt import ScaleReceipt, describe_receipt

T = TypeVar("T")
LabeledT = TypeVar("LabeledT", bound="LabeledSet")
ScoreT = TypeVar("ScoreT", bound="Score")


@dataclass(frozen=True, kw_only=True)
class LabeledSet:
    """Labeled data to score; each task adds its samples in a subclass.

    name: name of the score file.
    about: entries of the score file that describe the evaluation.
    summary: values that are printed before the scores.
    notes: lines of text for a reader of the score.
    """

    name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ScoreOutput:
    """The output of the predictions of an evaluation.

    predictions: the folder.
    provenance: the network and options that made them.
    error_maps: new folder for drawings of depth errors; None draws none.
    """

    predictions: Path
    provenance: Provenance
    error_maps: Path | None = None


class Score(Protocol):
    """The scores of a labeled set."""

    def summary(self) -> dict[str, Any]:
        """Return the values that are printed."""

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write NAME.json, and files next to it, into a folder; return the files.

        folder: the folder.
        name: NAME.
        about: entries of the file that describe the evaluation.
        """


class Task:
    """What a network predicts, and how it is scored. This base class predicts and scores nothing; each task overrides
    it.

    reuse_predictions: whether finished predictions of an earlier evaluation are scored again instead of being replaced.
    network: the opened network; its recipe is in evaluation mode.
    """

    reuse_predictions: ClassVar[bool] = False

    def __init__(self, network: Network) -> None:
        self.network = network

    @property
    def recipe(self) -> Any:
        """Return the network's recipe, which has its weights and its training's code."""
        return self.network.recipe

    def open(self, source: Path, options: PredictOptions) -> Sequence[Any]:
        """Open images to predict: returns a session for each output folder. This base class raises CheckpointError."""
        raise self._unsupported("predicts from an image")

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> Any:
        """Open labeled data to score. This base class raises CheckpointError.

        data: path of the data.
        options: options of the evaluation; they may leave out the frames that trained the network.
        progress: called while images are decoded.
        """
        raise self._unsupported("has scores")

    def open_validation(self, data: Any, run: Any) -> Sequence[Any]:
        """Return the validation data of a training as labeled sets, one for each dataset that has any."""
        return []

    def score(self, labeled: Any, out: ScoreOutput, track: TrackProgress) -> Any:
        """Predict a labeled set into files, and score the files."""
        raise NotImplementedError

    def finish_validation(self, labeled: Any, score: Any, run: Any, console: Console) -> None:
        """Write further files next to the scores of a training; this base class writes none."""

    def check_predictions(self, data: Any, run: Any, console: Console) -> None:
        """Judge the predictions of a finished training and record the findings; this base class does nothing."""

    def refuse_unused(self, options: NetworkOptions, used: Collection[str]) -> None:
        """Raise ConfigError for options that are set but that this task does not use."""
        refuse_unused(options, used, f"recipe '{self.recipe.recipe}'")

    def _unsupported(self, what: str) -> CheckpointError:
        found, fix = f"a checkpoint of recipe '{self.recipe.recipe}'", "pass a checkpoint of another recipe"
        return CheckpointError(self.network.checkpoint.path, found=found, expected=f"a recipe that {what}", fix=fix)


def find_task(network: Network) -> Task:
    """Return the task of a network: depth for a network without a run; for a recipe without a task, the base class."""
    recipe = network.checkpoint.header.recipe if network.has_own_size and not network.is_exported else "selfsup"
    task: type[Task] = TASKS.load(recipe) if recipe in TASKS else Task
    return task(network)


# -- scores


@dataclass(frozen=True)
class Evaluation:
    """The scores of a network on a labeled dataset, from `stadia.evaluate`.

    summary: the scores by name, the split, the number of images, and "notes" (sentences for the user).
    files: paths of the written files.
    """

    summary: Mapping[str, Any]
    files: Sequence[Path]


def evaluate(
    network: Network | str | Path,
    data: str | Path,
    *,
    protocol: str | None = None,
    out: str | Path | None = None,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Predict a labeled dataset with a network, and score the depth and the camera trajectory.

    network: an opened network, or a name that `open_network` accepts.
    data: path of recordings with ground truth, or of labeled data of another task, such as object poses.
    protocol: the rules for scoring depth (alignment, crop, depth limits), a name of `stadia list protocols`; None takes
        `options.protocol` ("metric" by default).
    out: folder for the predictions; None takes the folder of the network's run, or a temporary folder without a run.
    options: further options of `stadia evaluate`.

    Returns the scores and the written files. Raises StadiaError if the network or the data cannot be opened.
    """
    opened = network if isinstance(network, Network) else open_network(network)
    chosen = options or EvaluateOptions()
    chosen = chosen if protocol is None else replace(chosen, protocol=protocol)
    if out is None and opened.run_folder is None:
        with tempfile.TemporaryDirectory() as folder:
            return replace(evaluate_network(opened, Path(data), chosen, out=Path(folder) / "predicted"), files=())
    return evaluate_network(opened, Path(data), chosen, out=None if out is None else Path(out))


def evaluate_network(
    network: Network,
    data: Path,
    options: EvaluateOptions,
    *,
    out: Path | None = None,
    track: TrackProgress = no_progress,
    progress: ReportProgress | None = None,
) -> Evaluation:
    """Predict labeled data, and score the written predictions.

    network: the network.
    data: path of the data.
    options: options of the evaluation.
    out: folder for the predictions; None takes a folder in the network's run, or DATA-scores for a network without a
        run.
    track: shows progress.
    progress: called while images are decoded.

    Raises CheckpointError for a network that cannot be scored, and the errors of opening the data.
    """
    network.require_weights()
    network = network.fit_source(data, options.data)
    task = find_task(network)
    provenance = network.make_provenance(as_predict_options(options))
    run = network.run_folder
    if run is not None:
        check_no_links(run)
    if out is None and run is None:
        out = Path(f"{data.resolve().name}-scores")
    labeled = task.open_labeled(data, options, progress)
    about = {"checkpoint": provenance.checkpoint, "data": str(data.resolve()), **labeled.about}
    labeled = replace(labeled, about=about)
    size = requested_size(options.size, network.trained_with)
    suffix = options.suffix + (f"-{size_text(size)}" if size else "")
    name = labeled.name + suffix
    checkpoint = network.checkpoint
    origin = f"{checkpoint.path.stem}-step{checkpoint.header.step}{suffix}"
    if out is not None:
        folder = out
    else:
        assert run is not None
        folder = safe_join(run / "predictions", origin if task.reuse_predictions else name)
        if not task.reuse_predictions:
            take_back(folder, run)  # an earlier evaluation's, of the same images
    scores = (folder if run is None else run) / "scores"
    score = task.score(labeled, ScoreOutput(folder, provenance, options.error_maps), track)
    drawn = [folder for folder in (options.error_maps,) if folder is not None and folder.is_dir()]
    return Evaluation({**labeled.summary, **score.summary()}, [folder, *score.write(scores, name, about), *drawn])


def take_back(folder: Path, run: Path) -> None:
    """Move earlier predictions into `taken-back` of the run. Raises StadiaError if another process writes them."""
    if folder.is_dir():
        with hold_folder(folder):
            kept = run / "taken-back" / "predictions"
            kept.mkdir(parents=True, exist_ok=True)
        numbered = (kept / f"{folder.name}-{number}" for number in count(1))
        folder.rename(next(path for path in numbered if not path.exists()))


@dataclass(frozen=True, kw_only=True)
class LabeledRecordings(LabeledSet):
    """Recordings with ground truth to score.

    predictor: the network or a baseline.
    recordings: the recordings.
    indices: for each recording by its name, the frames to score, ascending.
    protocol: how depth is scored.
    reuse: whether finished predictions in the folder are scored again instead of being replaced.
    trained_on: frames of the training, by recording; their mean depth is a baseline.
    scale_from: texts of `--scale-from` (sources of metres), which are measured on each recording.
    published: figures whose protocol is searched.
    """

    predictor: Predictor
    recordings: Sequence[Recording]
    indices: Mapping[str, Sequence[int]]
    protocol: protocols.Protocol
    reuse: bool = False
    trained_on: Sequence[tuple[Recording, Sequence[int]]] = ()
    scale_from: tuple[str, ...] = ()
    published: tuple[PublishedFigure, ...] = ()


def score_labeled_recordings(labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
    """Predict recordings into files, and score the files.

    labeled: the recordings.
    out: folder of the predictions, and their provenance.
    track: shows progress.
    """
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
        published=labeled.published,
        error_maps=out.error_maps,
        track=track,
    )
    notes = list(labeled.notes)
    notes += [f"{name}: {line}" for name, receipt in receipts.items() for line in describe_receipt(receipt)]
    return replace(scores, notes=(*notes, *scores.notes))


class DepthTask(Task):
    """The task of networks that predict depth, and camera motion if they do."""

    reuse_predictions = True

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> LabeledRecordings:
        """Open recordings with ground truth to score: by default the held-out split of a dataset.

        data: the dataset or video.
        options: options of the evaluation.
        progress: called while images are decoded.

        Raises ConfigError if the object heights that gave the network its scale were measured on this dataset.
        """
        protocol = protocols.find_protocol(options.protocol, options.by)
        if any(text.partition("=")[0] == "map" for text in options.scale_from):
            fix = "use lidar, baseline, gps or height"
            raise ConfigError("--scale-from map", found="a dataset", expected="a video with its map", fix=fix)
        network, opened = self.network, dict(options.data)
        trained_with, size = network.trained_with, requested_size(options.size, network.trained_with)
        if "road" in trained_with:
            formats = [detect_format(data, opened.get("format", "auto"))]
            RoadConfig.model_validate(trained_with["road"]).check_scored_on(formats)
        notes = network_size_notes(size, trained_with)
        if options.frames is None:
            notes += _choose_split(data, opened)
        predictor = network.make_predictor(as_predict_options(options))
        opened_with, camera = choose_recording_camera(data, network.complete_data_options(data, opened))
        recordings = open_recordings(data, progress=progress, **opened_with)
        notes += describe_recording_camera(recordings[0], 0, camera)
        listed = None if options.frames is None else read_frame_list(options.frames, recordings)
        indices: Mapping[str, Sequence[int]] = (
            {recording.name: range(0, len(recording), options.every) for recording in recordings}
            if listed is None
            else listed.indices
        )
        run = network.checkpoint.run_folder
        overlap = TrainingOverlap.find(run, recordings, indices)
        indices = overlap.left_out(indices, run) if options.held_out else indices
        summary = {
            "split": opened.get("split"),
            "trained_on": overlap.count(indices),
            "of_trained_drives": overlap.count_same_session(indices),
        }
        truth = name_ground_truth(recordings, indices)
        about = {
            "options": opened,
            "every": options.every,
            "motion": options.motion or find_default_motion(),
            "size": size and size_text(size),
            **({"flip": True} if options.flip else {}),
            **({"steady": True} if options.smooth else {}),
            **({"scale_from": list(options.scale_from)} if options.scale_from else {}),
            **({} if listed is None else {"frames": listed.to_json()}),
            **summary,
        }
        return LabeledRecordings(
            name="-".join(filter(None, (data.resolve().name, options.protocol, truth, opened.get("split")))),
            about=about,
            summary=summary,
            notes=(*notes, *overlap.notes(indices)),
            predictor=predictor,
            recordings=recordings,
            indices=indices,
            protocol=protocol,
            reuse=True,
            scale_from=options.scale_from,
            published=() if options.find_protocol is None else parse_published(options.find_protocol),
        )

    def score(self, labeled: LabeledRecordings, out: ScoreOutput, track: TrackProgress) -> RecordingScores:
        return score_labeled_recordings(labeled, out, track)

    def open_validation(self, data: Any, run: Any) -> Sequence[Any]:
        return TRAIN_FLOOR.load("open_validation")(self.recipe, data, run)

    def finish_validation(self, labeled: Any, score: Any, run: Any, console: Console) -> None:
        TRAIN_FLOOR.load("finish_validation")(labeled, score, run, console)

    def check_predictions(self, data: Any, run: Any, console: Console) -> None:
        TRAIN_FLOOR.load("check_predictions")(self.network, data, run, console)


def _choose_split(data: Path, options: dict[str, Any]) -> list[str]:
    split = None
    if not options.keys() & {"split", "recordings"}:
        split = find_held_out_split(data, options.get("format", "auto"))
    if split is None:
        return []
    options["split"] = split
    return [f"scores the split '{split}'; choose another with data.split=NAME or data.recordings=[NAMES]"]
