"""What commands do with the recipe of a network: open an input, and score labeled data.

Depth is `depth_task.DepthTask`; a wing has its own subclass of `Task`, named in the table `stadia.predict.TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as show_bar

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import TrackProgress, no_progress
from stadia.datasets.frame_store import ReportProgress
from stadia.evaluation.io.predictions_record import Provenance
from stadia.files.atomic_files import hold_folder
from stadia.files.paths import check_no_links, safe_join
from stadia.predict import TASKS
from stadia.predict.loaded_network import LoadedNetwork
from stadia.predict.options import (
    EvaluateOptions,
    NetworkOptions,
    PredictOptions,
    as_predict_options,
    refuse_unused,
    requested_size,
    size_text,
)
from stadia.training.checkpoint import Checkpoint
from stadia.training.run_folder import Run

if TYPE_CHECKING:
    from stadia.training.recipe import AnyRecipe

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

    A subclass names its own types of labeled sets and of scores.

    reuse_predictions: whether finished predictions of an earlier evaluation are scored again instead of replaced.

    Args:
        network: opened; its recipe is trained, in evaluation mode.
    """

    reuse_predictions: ClassVar[bool] = False

    def __init__(self, network: LoadedNetwork) -> None:
        self.network = network

    @property
    def recipe(self) -> Any:
        """Return the recipe of the network."""
        return self.network.recipe

    def open(self, source: Path, options: PredictOptions) -> Sequence[Any]:
        """Open the images to predict, a session for each folder that is written. Default: raises CheckpointError."""
        raise self._unsupported("predicts nothing of an image")

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> Any:
        """Open labeled data, without the frames that trained if the options exclude them.

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

    def refuse_unused(self, options: NetworkOptions, used: Collection[str]) -> None:
        """Raise ConfigError for options that were given, and that this recipe does not use."""
        refuse_unused(options, used, f"recipe '{self.recipe.recipe}'")

    def _unsupported(self, what: str) -> CheckpointError:
        found, fix = f"a checkpoint of '{self.recipe.recipe}', which {what}", "pass another checkpoint"
        return CheckpointError(self.network.checkpoint.path, found=found, expected="a recipe that does", fix=fix)


class InputSession(Protocol):
    """What predicts one input: `session.Session` for depth, and the sessions of the wings."""

    @property
    def name(self) -> str:
        """Return the name of the input."""

    @property
    def count(self) -> int | None:
        """Return the number of images; None where that is not known."""

    def start(self) -> None:
        """Measure what is needed before the first image."""
        ...

    def write(self, folder: Path, track: TrackProgress) -> Any:
        """Predict into a folder; return what `describe.describe` turns into lines for people."""
        ...


def find_task(network: LoadedNetwork) -> Task:
    """Return what commands do with a network: depth for one without a run; the default for a recipe without a task."""
    recipe = network.checkpoint.header.recipe if network.has_own_size and not network.is_exported else "selfsup"
    task: type[Task] = TASKS.load(recipe) if recipe in TASKS else Task
    return task(network)


def predict_to_folders(
    sessions: Sequence[InputSession], out: Path, track: TrackProgress = no_progress
) -> Iterator[tuple[InputSession, Any]]:
    """Start each session and yield it with None; then predict it into its folder, and yield it with its result.

    Several inputs get a folder each in `out`.
    """
    for session in sessions:
        session.start()
        yield session, None
        yield session, session.write(out if len(sessions) == 1 else safe_join(out, session.name), track)


# -- scores


@dataclass(frozen=True)
class Evaluation:
    """Scores of a network on labeled data.

    summary: scores by their names, with the split, the number of images, and "notes" for a reader of the scores.
    files: that were written.
    """

    summary: Mapping[str, Any]
    files: Sequence[Path]


def evaluate_network(
    network: LoadedNetwork,
    data: Path,
    options: EvaluateOptions,
    *,
    out: Path | None = None,
    track: TrackProgress = no_progress,
    progress: ReportProgress | None = None,
) -> Evaluation:
    """Predict labeled data and score the predictions from disk.

    Args:
        network: opened.
        data: labeled.
        options: of the predictions and the scores.
        out: folder for the predictions; None = into the run.
        track: shows the progress of loops.
        progress: called while images are decoded.

    Raises CheckpointError if the recipe has no task, ConfigError without a folder to write into, and the errors of
    opening the data.
    """
    network.require_weights()
    network = network.fit_source(data, options.data)
    task = find_task(network)
    provenance = network.make_provenance(as_predict_options(options))
    run = network.run_folder
    if run is not None:
        check_no_links(run)
    if out is None and run is None:
        found, expected = "a checkpoint outside a run's folder", "a folder for its predictions"
        raise ConfigError("--out", found=found, expected=expected, fix="pass --out DIR")
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
            _take_back(folder, run)  # of the same images, by an earlier evaluation
    scores = (folder if run is None else run) / "scores"
    output = ScoreOutput(folder, provenance, scores / f"{labeled.name}{options.suffix}.json")
    score = task.score(labeled, output, track)
    return Evaluation({**labeled.summary, **score.summary()}, [folder, *score.write(scores, name, about)])


def score_validation(recipe: AnyRecipe, checkpoint: Checkpoint, data: Any, run: Run, console: Console) -> None:
    """Score the validation data of a training into its run; nothing without validation data or a task.

    recipe: with the weights of the checkpoint, the run's best, in evaluation mode and without gradients.
    """
    recipe.finish_training(run, console)
    task = find_task(LoadedNetwork.of_recipe(recipe, checkpoint))
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


def _console_track(console: Console) -> TrackProgress:
    """Return a function that shows progress on a terminal."""

    def track(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return show_bar(
            items, escape(what), total=count, console=console, transient=True, disable=not console.is_terminal
        )

    return track
