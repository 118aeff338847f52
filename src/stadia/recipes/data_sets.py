"""Several data sets of video in one training: each opened alone, their batches alternate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console

from stadia.core.types import Batch
from stadia.data.config import DataConfig, OneDataConfig
from stadia.data.mixture import InTurn, Mixture
from stadia.data.splits import Split
from stadia.recipes.video import VideoData, open_video
from stadia.training.config import TrainingConfig


@dataclass(frozen=True)
class SeveralData(VideoData):
    """Several data sets as one. `config` is that of the first data set and holds the others; `split` holds all frames.

    parts: each data set by name, the first one first.
    """

    config: DataConfig
    train: Mixture[Batch]  # type: ignore[assignment]
    val: InTurn[Batch] | None  # type: ignore[assignment]
    parts: Mapping[str, VideoData]

    @classmethod
    def of(cls, config: DataConfig, parts: Mapping[str, VideoData], *, seed: int) -> Self:
        """Combine data sets that were opened one by one, with their resolved configurations."""
        first, *_ = parts.values()
        others = {name: part.config for name, part in parts.items() if name != config.name}
        settled = {"stereo": first.config.stereo, "sparse_depth": first.config.sparse_depth}
        config = config.model_copy(update={**settled, "others": others})
        split = Split(
            *(
                [frames for part in parts.values() for frames in getattr(part.split, which)]
                for which in ("train", "val")
            )
        )
        epochs = {name: one.epochs for name, one in config.sets.items()}
        train = Mixture({name: part.train for name, part in parts.items()}, epochs, order=config.order, seed=seed)
        validate = {name: part.val for name, part in parts.items() if part.val is not None}
        return cls(config, split, train, InTurn(validate) if validate else None, parts)

    @property
    def each(self) -> Mapping[str, VideoData]:
        return self.parts

    @property
    def facts(self) -> dict[str, object]:
        """Return the facts of the first data set as if it were alone, and those of the others in `others`."""
        (name, first), *others = self.parts.items()
        return {**first.facts, "name": name, "others": {other: part.facts for other, part in others}}

    def summary_lines(self) -> list[str]:
        """Return one line for each data set: size, and share of the batches."""
        batches = self.train.batches
        return [
            f"data set {name}: {len(part.train.samples)} samples train, {len(part.val.samples) if part.val else 0}"
            f" validate, {part.config.width}x{part.config.height}, {'stereo' if part.config.stereo else 'one camera'},"
            f" {batches[name]} of {sum(batches.values())} batches an epoch"
            for name, part in self.parts.items()
        ]


def open_data_sets(config: DataConfig, training: TrainingConfig, *, seed: int, console: Console) -> VideoData:
    """Open the one data set of a configuration, or each of several. Raises DataError, ConfigError."""
    if not config.others:
        return open_video(config, training, seed=seed, console=console)
    parts = {name: open_video(_single(one), training, seed=seed, console=console) for name, one in config.sets.items()}
    data = SeveralData.of(config, parts, seed=seed)
    for line in data.summary_lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return data


def _single(one: OneDataConfig) -> OneDataConfig:
    """Return a data set's configuration without the others."""
    values: dict[str, Any] = {name: getattr(one, name) for name in OneDataConfig.model_fields}
    return OneDataConfig.model_construct(**values)
