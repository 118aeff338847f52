"""Run `stadia predict` and `stadia evaluate` for any trained recipe, and score a training's validation data.

All recipes share what is here: load the recipe, refuse unused options, choose folders, write score files.
What a recipe predicts is a subclass of `Task` in the table `stadia.predict.TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as show_bar

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import TrackProgress
from stadia.datasets.frame_store import ReportProgress
from stadia.evaluation.io.predictions_record import Provenance
from stadia.files.atomic_files import hold_folder
from stadia.files.paths import check_no_links, safe_join
from stadia.predict import TASKS
from stadia.predict.prediction_outputs import list_files
from stadia.predict.requests import (
    EvaluateRequest,
    PredictRequest,
    Size,
    network_size_notes,
    refuse_unused,
    requested_size,
    size_text,
)
from stadia.recipes.base import build_recipe
from stadia.recipes.base.config import NETWORK_RECIPE
from stadia.training.checkpoint import Checkpoint
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run

T = TypeVar("T")
LabeledT = TypeVar("LabeledT", bound="LabeledSet")
ScoreT = TypeVar("ScoreT", bound="Score")


@dataclass(frozen=True, kw_only=True)
class LabeledSet:
    """Labeled data to score; a recipe adds its samples.

    name: of the score file.
    about: metadata for the score file.
    summary: printed before the scores.
    notes: for a reader of the score.
    """

    name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class ScoreOutput:
    """Where an evaluation writes.

    predictions: folder of the predictions.
    provenance: of the predictions.
    reference: the score file of the same data at the training's image size; it may not exist.
    """

    predictions: Path
    provenance: Provenance
    reference: Path | None = None


class Score(Protocol):
    """Scores of a labeled set."""

    def summary(self) -> dict[str, Any]:
        """Return what is printed."""
        ...

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write NAME.json, and files beside it, into a folder; return the files."""
        ...


class Task:
    """What is predicted and scored: depth, objects, or depth and mask. The default predicts and scores nothing.

    A subclass names its own types of inputs, which have a `name`, of labeled sets and of scores.

    reuse_predictions: whether finished predictions of an earlier evaluation are scored again instead of replaced.

    Args:
        recipe: trained, in evaluation mode.
        checkpoint: that the recipe was loaded from.
        size: (height, width) of the network's images; None = the training's.
    """

    reuse_predictions: ClassVar[bool] = False

    def __init__(self, recipe: Any, checkpoint: Checkpoint, size: Size | None = None) -> None:
        self.recipe, self.checkpoint, self.size = recipe, checkpoint, size

    @property
    def trained_with(self) -> Mapping[str, Any]:
        """Return the configuration of the training."""
        return self.checkpoint.header.config

    def used_options(self, request: PredictRequest | EvaluateRequest) -> Collection[str]:
        """Return the fields of the request that are used; all others are refused if they are given.

        Default: all but `flip` and `steady`, which predictions and scores record as used.
        """
        return [option.name for option in fields(request) if option.name not in ("flip", "steady")]

    def open_inputs(self, request: PredictRequest) -> Sequence[Any]:
        """Open the images to predict. Default: raises CheckpointError."""
        raise self._unsupported("predicts nothing of an image")

    def predict_input(
        self, given: Any, folder: Path, *, request: PredictRequest, provenance: Provenance, track: TrackProgress
    ) -> Iterator[str]:
        """Predict one input into its folder; yield its line, then notes ("note: ...")."""
        raise NotImplementedError

    def closing_lines(self) -> Iterator[str]:
        """Yield lines about what the predictions mean."""
        raise NotImplementedError

    def open_labeled(self, request: EvaluateRequest, progress: ReportProgress) -> Any:
        """Open labeled data, without the frames that trained if the request excludes them.

        Default: raises CheckpointError.
        """
        raise self._unsupported("scores nothing")

    def open_validation(self, data: Any, run: Run) -> Sequence[Any]:
        """Return the validation data of a training, one labeled set for each of its data sets that has some."""
        return []

    def score(self, labeled: Any, out: ScoreOutput, track: TrackProgress) -> Any:
        """Predict to disk, and score from there."""
        raise NotImplementedError

    def finish_validation(self, labeled: Any, score: Any, run: Run, console: Console) -> None:
        """Write what a training keeps beside its scores, such as baselines and point clouds. Default: nothing."""

    def check_predictions(self, data: Any, run: Run, console: Console) -> None:
        """Judge what a finished training predicts, and add the findings to the run's. Default: nothing."""

    def _unsupported(self, what: str) -> CheckpointError:
        found, fix = f"a checkpoint of '{self.recipe.recipe}', which {what}", "pass another checkpoint"
        return CheckpointError(self.checkpoint.path, found=found, expected="a recipe that does", fix=fix)


def run_predict(checkpoint: Checkpoint, request: PredictRequest, track: TrackProgress) -> Iterator[str]:
    """Predict an input into a new folder, or one folder for each of several; yield lines for people.

    Raises CheckpointError if the recipe has no task, and the errors of opening the input.
    """
    yield from predict_with(open_task(checkpoint, request), request, track)


def predict_with(task: Task, request: PredictRequest, track: TrackProgress) -> Iterator[str]:
    """Predict an input as `run_predict`, with a task that is open: its network serves many inputs."""
    choice = request.backend_choice
    used = {"backend": choice.backend, "precision": choice.precision}
    provenance = _describe_provenance(task, request).model_copy(update=used)
    yield from (f"note: {note}" for note in network_size_notes(task.size, task.trained_with))
    inputs = task.open_inputs(request)
    for given in inputs:
        folder = request.out if len(inputs) == 1 else safe_join(request.out, given.name)
        yield from task.predict_input(given, folder, request=request, provenance=provenance, track=track)
        yield from list_files(folder)
    yield from task.closing_lines()


def run_evaluate(
    checkpoint: Checkpoint, request: EvaluateRequest, track: TrackProgress, progress: ReportProgress
) -> tuple[dict[str, Any], list[Path]]:
    """Predict labeled data and score the predictions from disk.

    Args:
        track: shows the progress of loops.
        progress: called while images are decoded.

    Returns the summary to print, with its "notes", and the written files. Raises CheckpointError if the recipe has no
    task, ConfigError without a folder to write into, and the errors of opening the data.
    """
    task = open_task(checkpoint, request)
    provenance = _describe_provenance(task, request)
    run = checkpoint.run_folder
    is_run = (run / "run.json").is_file()
    if is_run:
        check_no_links(run)
    if request.out is None and not is_run:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    labeled = task.open_labeled(request, progress)
    about = {"checkpoint": provenance.checkpoint, "data": str(request.data.resolve()), **labeled.about}
    labeled = replace(labeled, about=about)
    suffix = request.suffix + (f"-{size_text(task.size)}" if task.size else "")
    name = labeled.name + suffix
    origin = f"{checkpoint.path.stem}-step{checkpoint.header.step}{suffix}"
    folder = request.out or safe_join(run / "predictions", origin if task.reuse_predictions else name)
    if request.out is None and not task.reuse_predictions:
        _take_back(folder, run)  # of the same images, by an earlier evaluation
    scores = (run if is_run else folder) / "scores"
    out = ScoreOutput(folder, provenance, scores / f"{labeled.name}{request.suffix}.json")
    score = task.score(labeled, out, track)
    return {**labeled.summary, **score.summary()}, [folder, *score.write(scores, name, about)]


def score_validation(recipe: AnyRecipe, checkpoint: Checkpoint, data: Any, run: Run, console: Console) -> None:
    """Score the validation data of a training into its run; nothing without validation data or a task.

    recipe: with the weights of the checkpoint, the run's best, in evaluation mode and without gradients.
    """
    recipe.finish_training(run, console)
    task = _find_task(recipe.recipe)(recipe, checkpoint)
    for labeled in task.open_validation(data, run):
        score = score_split(task.score, labeled, run, Provenance.from_checkpoint(checkpoint), console)
        task.finish_validation(labeled, score, run, console)
    task.check_predictions(data, run, console)


def score_split(
    score: Callable[[LabeledT, ScoreOutput, TrackProgress], ScoreT],
    labeled: LabeledT,
    run: Run,
    provenance: Provenance,
    console: Console,
) -> ScoreT:
    """Score labeled data into a run's folder: predictions/NAME and scores/NAME.json."""
    folder = safe_join(run.folder / "predictions", labeled.name)
    _take_back(folder, run.folder)  # of this run before it was resumed, or half-written when it was killed
    scored = score(labeled, ScoreOutput(folder, provenance), _console_track(console))
    about = {"checkpoint": provenance.checkpoint, "motion": provenance.motion, **labeled.about}
    about |= {name: True for name in ("flip", "steady") if getattr(provenance, name)}
    scored.write(run.folder / "scores", labeled.name, about)
    return scored


def _take_back(folder: Path, run: Path) -> None:
    """Move earlier predictions into the run's folder `taken-back`: they may hold files that stadia did not write.

    Raises StadiaError where another process writes them.
    """
    if folder.is_dir():
        with hold_folder(folder):
            kept = run / "taken-back" / "predictions"
            kept.mkdir(parents=True, exist_ok=True)
        numbered = (kept / f"{folder.name}-{number}" for number in count(1))
        folder.rename(next(path for path in numbered if not path.exists()))


def _find_task(recipe: str) -> type[Task]:
    """Return the task of a recipe, for a network without a run that of depth; the default one if there is none."""
    if recipe == NETWORK_RECIPE:
        return TASKS.load("selfsup")
    return TASKS.load(recipe) if recipe in TASKS else Task


def open_task(checkpoint: Checkpoint, request: PredictRequest | EvaluateRequest) -> Task:
    """Load the recipe of a checkpoint with its task; refuse options that it does not use."""
    recipe = build_recipe.load_recipe(checkpoint)
    size = requested_size(request.size, checkpoint.header.config)
    task = _find_task(checkpoint.header.recipe)(recipe, checkpoint, size)
    refuse_unused(request, task.used_options(request), f"recipe '{checkpoint.header.recipe}'")
    return task


def _describe_provenance(task: Task, request: PredictRequest | EvaluateRequest) -> Provenance:
    provenance = Provenance.from_checkpoint(task.checkpoint, request.motion or "aligned", task.size)
    return provenance.model_copy(update={"flip": request.flip, "steady": request.steady})


def _console_track(console: Console) -> TrackProgress:
    """Return a function that shows progress on a terminal."""

    def track(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return show_bar(
            items, escape(what), total=count, console=console, transient=True, disable=not console.is_terminal
        )

    return track
