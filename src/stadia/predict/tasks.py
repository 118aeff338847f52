"""Open an input for a network, and score labeled data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as show_bar

from stadia.core.errors import CheckpointError
from stadia.core.types import TrackProgress, no_progress
from stadia.data.frame_store import ReportProgress
from stadia.evaluation.predictions_folder import Provenance
from stadia.io.atomic_files import hold_folder
from stadia.io.input_files import check_no_links, safe_join
from stadia.predict import TASKS
from stadia.predict.network import Network, open_network
from stadia.predict.options import (
    EvaluateOptions,
    NetworkOptions,
    PredictOptions,
    as_predict_options,
    refuse_unused,
    requested_size,
    size_text,
)
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.loop.run_folder import Run

if TYPE_CHECKING:
    from stadia.training.loop.recipe import AnyRecipe

T = TypeVar("T")
LabeledT = TypeVar("LabeledT", bound="LabeledSet")
ScoreT = TypeVar("ScoreT", bound="Score")


@dataclass(frozen=True, kw_only=True)
class LabeledSet:
    """Labeled data to score; a task adds its samples.

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
    """The folder and the provenance of the predictions of an evaluation."""

    predictions: Path
    provenance: Provenance


class Score(Protocol):
    """Scores of a labeled set."""

    def summary(self) -> dict[str, Any]:
        """Return what is printed."""
        ...

    def write(self, folder: Path, name: str, about: Mapping[str, Any]) -> list[Path]:
        """Write NAME.json, and files next to it, into a folder; return the files."""
        ...


class Task:
    """A network's predictions and scores. The default predicts and scores nothing.

    reuse_predictions: score finished predictions of an earlier evaluation again, instead of replacing them.
    network: opened; its recipe is in evaluation mode.
    """

    reuse_predictions: ClassVar[bool] = False

    def __init__(self, network: Network) -> None:
        self.network = network

    @property
    def recipe(self) -> Any:
        """Return the recipe of the network."""
        return self.network.recipe

    def open(self, source: Path, options: PredictOptions) -> Sequence[Any]:
        """Open the images to predict: a session for each output folder. Default: raises CheckpointError."""
        raise self._unsupported("predicts nothing of an image")

    def open_labeled(self, data: Path, options: EvaluateOptions, progress: ReportProgress | None) -> Any:
        """Open labeled data, without the frames that trained if excluded. Default: raises CheckpointError."""
        raise self._unsupported("scores nothing")

    def open_validation(self, data: Any, run: Run) -> Sequence[Any]:
        """Return a labeled set for each data set of a training that has validation data."""
        return []

    def score(self, labeled: Any, out: ScoreOutput, track: TrackProgress) -> Any:
        """Predict to disk, and score from there."""
        raise NotImplementedError

    def finish_validation(self, labeled: Any, score: Any, run: Run, console: Console) -> None:
        """Write files next to the scores of a training. Default: nothing."""

    def check_predictions(self, data: Any, run: Run, console: Console) -> None:
        """Judge the predictions of a finished training, and record the findings. Default: nothing."""

    def refuse_unused(self, options: NetworkOptions, used: Collection[str]) -> None:
        """Raise ConfigError for options that are set and that this recipe does not use."""
        refuse_unused(options, used, f"recipe '{self.recipe.recipe}'")

    def _unsupported(self, what: str) -> CheckpointError:
        found, fix = f"a checkpoint of '{self.recipe.recipe}', which {what}", "pass another checkpoint"
        return CheckpointError(self.network.checkpoint.path, found=found, expected="a recipe that does", fix=fix)


def find_task(network: Network) -> Task:
    """Return a network's task: depth without a run, the default for a recipe without a task."""
    recipe = network.checkpoint.header.recipe if network.has_own_size and not network.is_exported else "selfsup"
    task: type[Task] = TASKS.load(recipe) if recipe in TASKS else Task
    return task(network)


# -- scores


@dataclass(frozen=True)
class Evaluation:
    """Scores of a network on labeled data.

    summary: scores by name, the split, the number of images, and "notes".
    files: the written files.
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
    """Predict labeled data with a network, and score depth and path.

    network: opened, or its name.
    data: recordings with ground truth, or labeled data of another task.
    protocol: a name of `stadia list protocols`; metric by default.
    out: folder for the predictions; by default the network's run, or a temporary folder.
    options: further options of `stadia evaluate`.

    Returns the scores (`summary`) and their files. Raises the errors of opening network and data.
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
    """Predict labeled data and score the predictions from disk.

    out: folder for the predictions; None = into the run, or DATA-scores for a network without a run.
    progress: called while images are decoded.

    Raises CheckpointError for a recipe without a task, and the errors of opening data.
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
            _take_back(folder, run)  # an earlier evaluation's, of the same images
    scores = (folder if run is None else run) / "scores"
    score = task.score(labeled, ScoreOutput(folder, provenance), track)
    return Evaluation({**labeled.summary, **score.summary()}, [folder, *score.write(scores, name, about)])


def score_validation(recipe: AnyRecipe, checkpoint: Checkpoint, data: Any, run: Run, console: Console) -> None:
    """Score the validation data of a training, if any, into its run.

    recipe: with the weights of the checkpoint, in evaluation mode and without gradients.
    """
    recipe.finish_training(run, console)
    task = find_task(Network.of_recipe(recipe, checkpoint))
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
    """Move earlier predictions into `taken-back` of the run. Raises StadiaError if another process writes them."""
    if folder.is_dir():
        with hold_folder(folder):
            kept = run / "taken-back" / "predictions"
            kept.mkdir(parents=True, exist_ok=True)
        numbered = (kept / f"{folder.name}-{number}" for number in count(1))
        folder.rename(next(path for path in numbered if not path.exists()))


def _console_track(console: Console) -> TrackProgress:
    def track(items: Iterable[T], count: int | None, what: str) -> Iterable[T]:
        return show_bar(
            items, escape(what), total=count, console=console, transient=True, disable=not console.is_terminal
        )

    return track
