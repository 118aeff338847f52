"""Run `stadia predict` and `stadia evaluate` for any trained recipe, and score a training's validation data.

All recipes share what is here: load the checkpoint, refuse unused options, choose folders, write score files.
A recipe adds its hooks, a subclass of `Commands` in the table `stadia.recipes.COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as show_bar

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import TrackProgress
from stadia.datasets.frame_store import ReportProgress
from stadia.evaluation.io.predictions_record import Provenance
from stadia.files.atomic_files import check_no_links, hold_lock, safe_join
from stadia.recipes import COMMANDS
from stadia.recipes.base import build_recipe
from stadia.recipes.prediction.prediction_outputs import list_files
from stadia.recipes.prediction.requests import (
    EvaluateRequest,
    PredictRequest,
    Size,
    network_size_notes,
    refuse_unused,
    requested_size,
    size_text,
)
from stadia.training.checkpoint import Checkpoint
from stadia.training.recipe import AnyRecipe
from stadia.training.run_folder import Run

T = TypeVar("T")


class NamedInput(Protocol):
    """An input to predict. name: of its folder, if there are several inputs."""

    @property
    def name(self) -> str:
        """Return the name of the input, for files and messages."""


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


RecipeT = TypeVar("RecipeT", bound=AnyRecipe)
InputT = TypeVar("InputT", bound=NamedInput)
LabeledT = TypeVar("LabeledT", bound=LabeledSet)
ScoreT = TypeVar("ScoreT", bound=Score)


class Commands(Generic[RecipeT, InputT, LabeledT, ScoreT]):
    """What the commands need of one kind of prediction: depth, objects, or depth and mask. The default does nothing.

    reuse_predictions: whether finished predictions of an earlier evaluation are scored again instead of replaced.

    Args:
        recipe: trained, in evaluation mode.
        trained_with: the configuration in its checkpoint.
        size: (height, width) of the network's images; None = the training's.
    """

    reuse_predictions: ClassVar[bool] = False

    def __init__(self, recipe: RecipeT, trained_with: Mapping[str, Any], size: Size | None = None) -> None:
        self.recipe, self.trained_with, self.size = recipe, trained_with, size

    def used_options(self, request: PredictRequest | EvaluateRequest) -> Collection[str]:
        """Return the fields of the request that are used; all others are refused if they are given.

        Default: all but `flip`, which predictions and scores record as used.
        """
        return [one.name for one in fields(request) if one.name != "flip"]

    def open_inputs(self, request: PredictRequest) -> Sequence[InputT]:
        """Open the images to predict. Default: raises CheckpointError."""
        raise self._unsupported(request.checkpoint, "predicts nothing of an image")

    def predict_input(
        self, given: InputT, folder: Path, request: PredictRequest, provenance: Provenance, track: TrackProgress
    ) -> Iterator[str]:
        """Predict one input into its folder; yield its line, then notes ("note: ...")."""
        raise NotImplementedError

    def closing_lines(self) -> Iterator[str]:
        """Yield lines about what the predictions mean."""
        raise NotImplementedError

    def open_labeled(self, request: EvaluateRequest, run: Path, progress: ReportProgress) -> LabeledT:
        """Open labeled data, without the frames that trained if the request excludes them.

        run: folder of the run that the checkpoint is of.

        Default: raises CheckpointError.
        """
        raise self._unsupported(request.checkpoint, "scores nothing")

    def open_validation(self, data: Any, run: Run) -> Sequence[LabeledT]:
        """Return the validation data of a training, one labeled set for each of its data sets that has some."""
        return []

    def score(self, labeled: LabeledT, out: ScoreOutput, track: TrackProgress) -> ScoreT:
        """Predict to disk, and score from there."""
        raise NotImplementedError

    def finish_validation(self, labeled: LabeledT, score: ScoreT, run: Run, console: Console) -> None:
        """Write what a training keeps beside its scores, such as baselines and point clouds. Default: nothing."""

    def check_predictions(self, data: Any, run: Run, console: Console) -> None:
        """Judge what a finished training predicts, and add the findings to the run's. Default: nothing."""

    def _unsupported(self, checkpoint: Path, what: str) -> CheckpointError:
        found = f"a checkpoint of '{self.recipe.recipe}', which {what}"
        return CheckpointError(checkpoint, found=found, expected="a recipe that does", fix="pass another checkpoint")


def run_predict(request: PredictRequest, track: TrackProgress) -> Iterator[str]:
    """Predict an input into a new folder, or one folder for each of several; yield lines for people.

    Raises CheckpointError if the recipe has no commands, and the errors of opening the input.
    """
    commands, provenance = _open_commands(request)
    yield from (f"note: {note}" for note in network_size_notes(commands.size, commands.trained_with))
    inputs = commands.open_inputs(request)
    for given in inputs:
        folder = request.out if len(inputs) == 1 else safe_join(request.out, given.name)
        yield from commands.predict_input(given, folder, request, provenance, track)
        yield from list_files(folder)
    yield from commands.closing_lines()


def run_evaluate(
    request: EvaluateRequest, track: TrackProgress, progress: ReportProgress
) -> tuple[dict[str, Any], list[Path]]:
    """Predict labeled data and score the predictions from disk.

    Args:
        track: shows the progress of loops.
        progress: called while images are decoded.

    Returns the summary to print, with its "notes", and the written files. Raises CheckpointError if the recipe has no
    commands, ConfigError without a folder to write into, and the errors of opening the data.
    """
    commands, provenance = _open_commands(request)
    checkpoint = Checkpoint.open(request.checkpoint)
    run = checkpoint.path.parent.parent
    is_run = (run / "run.json").is_file()
    if is_run:
        check_no_links(run)
    if request.out is None and not is_run:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
    labeled = commands.open_labeled(request, run, progress)
    about = {"checkpoint": provenance.checkpoint, "data": str(request.data.resolve()), **labeled.about}
    labeled = replace(labeled, about=about)
    suffix = request.suffix + (f"-{size_text(commands.size)}" if commands.size else "")
    name = labeled.name + suffix
    origin = f"{checkpoint.path.stem}-step{checkpoint.header.step}{suffix}"
    folder = request.out or safe_join(run / "predictions", origin if commands.reuse_predictions else name)
    if request.out is None and not commands.reuse_predictions:
        _take_back(folder, run)  # of the same images, by an earlier evaluation
    scores = (run if is_run else folder) / "scores"
    out = ScoreOutput(folder, provenance, scores / f"{labeled.name}{request.suffix}.json")
    score = commands.score(labeled, out, track)
    return {**labeled.summary, **score.summary()}, [folder, *score.write(scores, name, about)]


def score_validation(recipe: AnyRecipe, data: Any, run: Run, console: Console) -> None:
    """Score the validation data of a training into its run; nothing without validation data or commands.

    recipe: with the best weights, in evaluation mode and without gradients.
    """
    recipe.finish_training(run, console)
    commands = _find_commands(recipe.recipe)(recipe, run.config)
    for labeled in commands.open_validation(data, run):
        score = score_split(commands.score, labeled, run, Provenance.from_checkpoint(run.folder), console)
        commands.finish_validation(labeled, score, run, console)
    commands.check_predictions(data, run, console)


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
    found = score(labeled, ScoreOutput(folder, provenance), _console_track(console))
    about = {"checkpoint": provenance.checkpoint, "motion": provenance.motion, **labeled.about}
    if provenance.flip:
        about["flip"] = True
    found.write(run.folder / "scores", labeled.name, about)
    return found


def _take_back(folder: Path, run: Path) -> None:
    """Move earlier predictions into the run's folder `taken-back`: they may hold files that stadia did not write.

    Raises StadiaError where another process writes them.
    """
    if folder.is_dir():
        with hold_lock(folder):
            kept = run / "taken-back" / "predictions"
            kept.mkdir(parents=True, exist_ok=True)
            numbered = (kept / f"{folder.name}-{number}" for number in count(1))
            folder.rename(next(path for path in numbered if not path.exists()))


def _find_commands(recipe: str) -> type[Commands[Any, Any, Any, Any]]:
    """Return the hooks of a recipe; the default ones if the table has none."""
    return COMMANDS.load(recipe) if recipe in COMMANDS else Commands


def _open_commands(request: PredictRequest | EvaluateRequest) -> tuple[Commands[Any, Any, Any, Any], Provenance]:
    """Load the recipe and its commands; refuse options that it does not use."""
    recipe = build_recipe.load_recipe(request.checkpoint)
    header = Checkpoint.open(request.checkpoint).header
    size = requested_size(request.size, header.config)
    commands = _find_commands(header.recipe)(recipe, header.config, size)
    refuse_unused(request, commands.used_options(request), f"recipe '{header.recipe}'")
    provenance = Provenance.from_checkpoint(request.checkpoint, request.motion or "aligned", size)
    provenance = provenance.model_copy(update={"flip": request.flip})
    if isinstance(request, PredictRequest):
        choice = request.backend_choice
        provenance = provenance.model_copy(update={"backend": choice.backend, "precision": choice.precision})
    return commands, provenance


def _console_track(console: Console) -> TrackProgress:
    """Return a function that shows progress on a terminal."""

    def track(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return show_bar(
            items, escape(what), total=count, console=console, transient=True, disable=not console.is_terminal
        )

    return track
