"""`Recipe`: what every recipe says, whatever it learns. `DepthRecipe` (recipes/depth.py) is one that predicts depth of
an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol

from rich.console import Console
from typing_extensions import TypeVar

from stadia.core.errors import CheckpointError
from stadia.core.types import Batch, InputsT, Predictor, TargetsT
from stadia.data.cache import Progress
from stadia.diagnostics.contract.exact import Exact
from stadia.diagnostics.finding import Finding
from stadia.evaluation.watch import Watch
from stadia.recipes.asked import EvaluationAsked, PredictionAsked
from stadia.recipes.config import RecipeConfig
from stadia.training.run import Run
from stadia.training.stream import Batches, EpochLoader
from stadia.training.task import Task


class TrainingData(Protocol):
    """What a recipe opens (`recipes.video.VideoData` is that of video).

    train, val: loaders of batches; val is None where nothing validates.
    facts: what identifies the data, for run.json; a resumed run must have the same.
    """

    @property
    def train(self) -> EpochLoader: ...
    @property
    def val(self) -> Batches | None: ...
    @property
    def facts(self) -> dict[str, object]: ...

    def findings(self) -> list[Finding]:
        """What the checks that need no training say of it."""
        ...


ConfigT = TypeVar("ConfigT", bound=RecipeConfig)
DataT = TypeVar("DataT", bound=TrainingData)


class Recipe(Task[InputsT, TargetsT], Generic[ConfigT, DataT, InputsT, TargetsT]):
    """A Task that opens its own data and knows what is done when it has been trained.

    `Recipe[MyConfig, MyData]` learns from batches of video; `Recipe[MyConfig, MyData, MyInputs, MyTargets]` from its
    own.
    Beside what is declared here a recipe says what `Task` asks: `recipe`, `best_metrics`, `step`, `validate`, `images`.

    in_stages: whether `training.stages` may train it at several sizes, by `data.height` and `data.width`: no weight is
        bound to a size.
    starts_from: other recipes whose checkpoints `start_from` takes: their networks are the same.
    of_data: buffers that tell of a training's own data; they are not taken from what it starts from.

    Args:
        config: with every "auto" settled, as `prepare` gives it back.
    """

    in_stages: ClassVar[bool] = False
    starts_from: ClassVar[tuple[str, ...]] = ()
    of_data: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config.optimizer, config.schedule)
        self.config = config

    @classmethod
    def prepare(cls, config: ConfigT, console: Console) -> tuple[ConfigT, DataT]:
        """Open the data; the configuration comes back with every "auto" of it settled.

        What cannot be (an encoder that nobody knows) is refused before anything is decoded. Raises DataError,
        ConfigError.
        """
        raise NotImplementedError(f"{cls.__name__} opens no data")

    @classmethod
    def check_start(cls, config: ConfigT) -> None:
        """Raise CheckpointError where the weights that a new training starts from cannot be had. Asked first, and of no
        resumed one.
        """

    def remember(self, data: DataT) -> None:
        """Keep in buffers, which checkpoints hold, what prediction needs to know of the training's data. Called before
        it trains.
        """

    @property
    def about(self) -> Mapping[str, object]:
        """What run.json says of the recipe from the start."""
        return {}

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        """What its depth can be, nearest and farthest, metres or the unit of its claim; None where it is not bounded."""
        return None

    def exact_losses(self, batch: Batch[InputsT, TargetsT]) -> Mapping[str, Exact]:
        """Its losses by name, on scenes whose right answer is known: what the contract asks about. None unless said
        otherwise.

        batch: one of the training, for its sources.
        """
        return {}

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor | None:
        """Depth and motion of images, for `load_predictor`; None where it predicts no depth.

        size: (height, width) to run at; by default the training's. Raises ConfigError where its networks cannot.
        """
        return None

    def predict(self, asked: PredictionAsked, watch: Watch) -> Iterator[str]:
        """`stadia predict`: write what it makes of an input into a new folder, and say what is there, line by line
        ("note: ..." among them). Raises CheckpointError where it predicts nothing.
        """
        raise self._has_none(asked.checkpoint, "predicts nothing of an image")

    def evaluate(
        self, asked: EvaluationAsked, run: Path, watch: Watch, progress: Progress
    ) -> tuple[dict[str, Any], list[Path]]:
        """`stadia evaluate CHECKPOINT DATA`: score what it makes of a labeled data set.

        run: the folder that the checkpoint is of.  progress: of images that are decoded first.
        Returns the summary to print, with its "notes", and what was written. Raises CheckpointError where nothing can
        be scored.
        """
        raise self._has_none(asked.checkpoint, "scores nothing")

    def _has_none(self, checkpoint: Path, what: str) -> CheckpointError:
        return CheckpointError(
            checkpoint,
            found=f"a checkpoint of '{self.recipe}', which {what}",
            expected="one that does",
            fix="pass another",
        )

    def score(self, data: DataT, run: Run, console: Console) -> None:
        """Predict and score what validated, into the run's folder. Called when the training has ended, on the task with
        its best weights, in evaluation mode and without gradients.
        """


AnyRecipe = Recipe[Any, Any, Any, Any]
