"""Make the training and validation loaders of any recipe."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from stadia.core.types import Batch
from stadia.data.loader import Loader, PackedSamples
from stadia.training.config import TrainingConfig
from stadia.training.devices import device_of

PackedT = TypeVar("PackedT")
BatchT = TypeVar("BatchT", bound=Batch[Any, Any])


def loaders(
    train: PackedSamples[PackedT, BatchT],
    val: PackedSamples[PackedT, BatchT] | None,
    training: TrainingConfig,
    *,
    seed: int,
) -> tuple[Loader[PackedT, BatchT], Loader[PackedT, BatchT] | None]:
    """Return a shuffled training loader, and a validation loader in order; None without validation data."""
    device = device_of(training.accelerator)
    load = partial(
        Loader[PackedT, BatchT], batch_size=training.batch_size, workers=training.workers, seed=seed, device=device
    )
    return load(train, shuffle=True), None if val is None else load(val, shuffle=False)
