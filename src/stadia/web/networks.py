"""Networks of the app: listed by a key, opened at their first use, and kept warm."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.models import DEFAULT_NETWORK
from stadia.models.published_networks import HUB

if TYPE_CHECKING:
    from stadia.core.types import Predictor
    from stadia.diagnostics.prediction_checks import TrainingRecord
    from stadia.predict.loaded_network import LoadedNetwork
    from stadia.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

MAX_NETWORK_PIXELS = 480 * 640
"""Pixels of the network's image where no training chose its size: a small network takes 0.4 s for so many."""

MAX_LISTED_RUNS = 30
"""Newest runs that the choice of networks lists."""


@dataclass(frozen=True)
class OpenNetwork:
    """A network that predicts depth.

    label: as users named it.
    recipe: loaded, in evaluation mode.
    focal: fx / width of its training; empty where it is not known.
    training: what is known of it, for the verdict.
    relative_error: AbsRel of its validation, of `base` on real samples; None where it is not known in metres or up to
        scale.
    has_own_size: whether a training chose the size of its images.
    checkpoint: that it was loaded from.
    """

    label: str
    recipe: Any
    licence: str
    focal: tuple[float, ...]
    training: TrainingRecord
    relative_error: float | None
    has_own_size: bool
    checkpoint: Checkpoint | None = None

    @property
    def loaded(self) -> LoadedNetwork:
        """Return it as a session takes it."""
        from stadia.predict.loaded_network import LoadedNetwork

        assert self.checkpoint is not None
        return LoadedNetwork.of_recipe(self.recipe, self.checkpoint)

    def find_predictor(self, height: int, width: int) -> Predictor:
        """Return what predicts images of a size. Raises CheckpointError where the recipe predicts no depth."""
        size = None
        network = getattr(self.recipe, "depth_network", None)
        if not self.has_own_size and network is not None:
            size = network.image_size(*fit_size(height, width, MAX_NETWORK_PIXELS))
        predictor: Predictor | None = self.recipe.predictor(size)
        if predictor is None:
            found = f"recipe '{self.recipe.recipe}'"
            fix = "choose another network"
            raise CheckpointError(self.label, found=found, expected="a network that predicts depth", fix=fix)
        return predictor


def fit_size(height: int, width: int, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of the same shape with at most so many pixels.

    Examples:
        >>> fit_size(960, 1280, 480 * 640)
        (480, 640)
    """
    factor = min(1.0, math.sqrt(max_pixels / (height * width)))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def load_network(name: str) -> OpenNetwork:
    """Open a run, a checkpoint, or a published network by its name. Raises StadiaError where it is none of these."""
    from stadia.files.run_facts import RUN_FILE
    from stadia.models.depth.base_network import REAL_ERROR
    from stadia.predict.verdict import read_training_record
    from stadia.recipes.base.build_recipe import load_recipe
    from stadia.recipes.base.config import NETWORK_RECIPE
    from stadia.recipes.base.network_checkpoint import open_network_checkpoint

    checkpoint = open_network_checkpoint(name)
    recipe = load_recipe(checkpoint)
    run = checkpoint.run_folder
    error = find_relative_error(run) if (run / RUN_FILE).is_file() else None
    return OpenNetwork(
        label=find_label(name),
        recipe=recipe,
        licence=checkpoint.licence,
        focal=checkpoint.buffer("focal"),
        training=read_training_record(checkpoint),
        relative_error=REAL_ERROR if name == DEFAULT_NETWORK else error,
        has_own_size=checkpoint.header.recipe != NETWORK_RECIPE,
        checkpoint=checkpoint,
    )


def find_label(name: str) -> str:
    """Return what a page calls a network: the last part of a path, without folders of this machine.

    Examples:
        >>> find_label("runs/2026-01-02-030405-road"), find_label("hf:org/name")
        ('2026-01-02-030405-road', 'hf:org/name')
    """
    return name if name.startswith(HUB) else Path(name).name


def find_relative_error(run: Path) -> float | None:
    """Return AbsRel of a run's validation; None where it has none."""
    from stadia.report.run_files import flatten_mapping, read_run

    try:
        scores = read_run(run).scores
    except (StadiaError, OSError):
        return None
    for name, score in scores.items():
        if name.startswith("val") and "mean-depth" not in name:
            for key, value in flatten_mapping(score).items():
                if key.endswith("abs_rel") and isinstance(value, float) and 0 <= value < math.inf:
                    return value
    return None


def list_runs_with_weights(folder: Path) -> list[str]:
    """Return the newest runs of a folder that have a checkpoint, newest first."""
    if not folder.is_dir():
        return []
    runs = sorted((path for path in folder.iterdir() if (path / "checkpoints").is_dir()), reverse=True)
    has_weights = (run for run in runs[: 4 * MAX_LISTED_RUNS] if any((run / "checkpoints").glob("*.safetensors")))
    return [str(run) for _, run in zip(range(MAX_LISTED_RUNS), has_weights, strict=False)]


class NetworkShelf:
    """The networks that users choose from. Each is opened at its first use; the last ones stay in memory.

    Args:
        names: runs, checkpoints or published networks; the first is the default.
        max_open: number of networks in memory.
    """

    def __init__(self, names: Iterable[str], max_open: int = 3) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.max_open = max_open
        self._open: dict[int, OpenNetwork] = {}
        self._lock = threading.Lock()

    def labels(self) -> list[str]:
        """Return what a page calls them; the place in this list is the key."""
        return [find_label(name) for name in self.names]

    def find(self, key: int) -> OpenNetwork:
        """Return a network by its key. Raises ConfigError for an unknown key, and what `load_network` does."""
        if not 0 <= key < len(self.names):
            found, fix = f"number {key}", "name one: stadia app RUN"
            raise ConfigError("network", found=found, expected=f"one of {len(self.names)} networks", fix=fix)
        with self._lock:
            network = self._open.pop(key, None) or load_network(self.names[key])
            self._open[key] = network
            while len(self._open) > self.max_open:
                del self._open[next(iter(self._open))]
        return network
