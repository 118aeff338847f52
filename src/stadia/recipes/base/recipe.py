"""`Recipe`, the base class of every recipe, and `TrainingData`, what it trains on."""

from __future__ import annotations

from typing import Protocol

from stadia.diagnostics.finding import Finding
from stadia.training.batches import BatchIterable, EpochLoader
from stadia.training.recipe import AnyRecipe as AnyRecipe
from stadia.training.recipe import ConfigT as ConfigT
from stadia.training.recipe import Recipe as Recipe


class TrainingData(Protocol):
    """Data of a training (`recipes.base.video_data.VideoData` for video).

    train, val: loaders of batches; val is None without validation data.
    facts: identity of the data for run.json; a resumed run must have the same.
    """

    @property
    def train(self) -> EpochLoader: ...
    @property
    def val(self) -> BatchIterable | None: ...
    @property
    def facts(self) -> dict[str, object]: ...

    def findings(self) -> list[Finding]:
        """Return the findings of the checks that run before training."""
        ...
