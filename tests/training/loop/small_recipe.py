"""A small recipe for tests: dropout (random numbers), batch norm (buffers), a loader that obeys the protocol."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from stadia.core.seeds import derive_seed, make_generator
from stadia.core.types import Camera
from stadia.differentiable import torch_state
from stadia.differentiable.batch import Batch, Inputs, Meta, Targets
from stadia.losses.loss_report import LossReport
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from stadia.training.loop.fit import TrainingResult, fit
from stadia.training.loop.recipe import Recipe
from stadia.training.loop.run_folder import Run

HEIGHT, WIDTH, SAMPLES = 4, 6, 22


class SmallSamples(Dataset[tuple[Tensor, Meta]]):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Meta]:
        epoch, index = key
        picture = torch.from_numpy(make_generator(self.seed, epoch, index).random((3, HEIGHT, WIDTH), dtype=np.float32))
        return picture, Meta("small", index)


def collate(samples: Sequence[tuple[Tensor, Meta]]) -> Batch:
    image = torch.stack([picture for picture, _ in samples])
    K, rig = torch.eye(3).expand(len(samples), 3, 3), torch.full((len(samples), 1, 4, 4), torch.nan)
    camera, source_camera = Camera(K, HEIGHT, WIDTH), Camera(K[:, None], HEIGHT, WIDTH)
    return Batch(
        inputs=Inputs(image, image[:, None], camera, rig),
        targets=Targets(image, image[:, None], camera, source_camera, rig),
        meta=tuple(meta for _, meta in samples),
        source_names=("+1",),
    )


class SmallBatches(Sampler[list[tuple[int, int]]]):
    def __init__(self, seed: int, batch_size: int, shuffled: bool) -> None:
        self.seed, self.batch_size, self.shuffled = seed, batch_size, shuffled
        self.epoch = self.batch = self.rank = 0
        self.world_size = 1

    def __len__(self) -> int:
        return SAMPLES // self.batch_size // self.world_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = (
            make_generator(self.seed, "order", self.epoch).permutation(SAMPLES) if self.shuffled else np.arange(SAMPLES)
        )
        for batch in range(self.batch, len(self)):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [(self.epoch, int(index)) for index in order[first : first + self.batch_size]]


class SmallLoader:
    def __init__(self, seed: int = 0, batch_size: int = 3, workers: int = 0, shuffled: bool = True) -> None:
        self.batches = SmallBatches(seed, batch_size, shuffled)
        self.loader = DataLoader(
            SmallSamples(seed), batch_sampler=self.batches, num_workers=workers, collate_fn=collate
        )

    def __len__(self) -> int:
        return len(self.batches)

    def start(self) -> None:
        """Start no worker early."""

    def set_position(self, epoch: int, batch: int) -> None:
        self.batches.epoch, self.batches.batch = epoch, batch

    def shard(self, rank: int, world_size: int) -> None:
        self.batches.rank, self.batches.world_size = rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


@dataclass
class SmallConfig:
    optimizer: OptimizerConfig
    schedule: ScheduleConfig


class SmallRecipe(Recipe[SmallConfig, Any]):
    recipe = "small"
    best_metrics = ("val/error",)

    def __init__(
        self, seed: int = 0, width: int = 8, lr: float = 0.02, warmup_steps: int = 4, pause_s: float = 0.0
    ) -> None:
        super().__init__(SmallConfig(OptimizerConfig(lr=lr), ScheduleConfig(name="cosine", warmup_steps=warmup_steps)))
        torch_state.seed_generators(seed, "weights")
        self.network = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.LazyLinear(1)
        )
        self.network(torch.zeros(2, 3, HEIGHT, WIDTH))
        self.pause_s = pause_s

    def training_step(self, batch: Batch) -> LossReport:
        time.sleep(self.pause_s)
        error = self.network(batch.inputs.image)[:, 0] - batch.targets.image.mean(dim=(1, 2, 3))
        square, size = error.square(), 1e-3 * self.network[0].weight.square().mean()
        return LossReport(
            square.mean() + size, {"square": square.mean(), "size": size}, {"square": square[:, None, None]}
        )

    def validation_step(self, batch: Batch) -> Mapping[str, Tensor]:
        return {"error": self.training_step(batch).terms["square"], "draw": torch.rand(())}

    def images(self, batch: Batch, report: Any) -> Mapping[str, NDArray[np.uint8]]:
        picture = (batch.inputs.image[0].permute(1, 2, 0) * 255).byte().numpy()
        return {"input": picture, "noise": (torch.rand(HEIGHT, WIDTH, 3) * 255).byte().numpy()}


def train(
    root: Path,
    *,
    resume: Path | None = None,
    recipe: SmallRecipe | None = None,
    pause_s: float = 0.0,
    callbacks: Sequence[Any] = (),
    console: Console | None = None,
    training_finish: Mapping[str, Any] | None = None,
    **training: Any,
) -> tuple[Run, TrainingResult]:
    config = TrainingConfig(
        **{"max_steps": 20, "batch_size": 3, "log_every": 1, "checkpoint_every": 5, "images_every": 0, "workers": 0}
        | {"loggers": ("csv",), "accelerator": "cpu", "threads": 1, "finish": training_finish}
        | training
    )
    recipe = recipe or SmallRecipe(pause_s=pause_s)
    seed = derive_seed(1, "data")
    whole = {"training": config.model_dump(mode="json")}
    run = Run.open(resume) if resume else Run.create(root, "small", whole, recipe="small", seed=1)
    loaders = SmallLoader(seed, workers=config.workers), SmallLoader(seed + 1, shuffled=False)
    further = {"callbacks": callbacks, "console": console}
    return run, fit(recipe, *loaders, config, run, resume=resume is not None, **further)
