"""A copy of a training before its first step, and the checks that train it for a few steps."""

import contextlib
import copy
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import psutil
import torch
from torch import Tensor, nn

from stadia.core.types import DepthScale
from stadia.differentiable.batch import Batch
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.losses.loss_report import LossReport
from stadia.training.loop.recipe import AnyRecipe, build_optimizer
from stadia.training.loss_checks.loss_case import map_tensors

MAX_SAMPLES = 8  # samples of the checked batch
MIN_SAMPLES = 2  # samples on a CPU, at any image size
MAX_CPU_PIXELS = 80_000  # pixels of all samples on a CPU, beyond MIN_SAMPLES
BATCH_STEPS = 30  # steps on one batch
MIN_BATCH_STEPS = 10  # steps that show whether the loss falls
MIN_DECREASE = 0.01  # share by which the loss must fall; the five recipes have .04 to .60
MAX_TRAINED_LOSS = 0.5  # loss over the loss with shuffled weights, below which weights are trained
SETTLED_STEPS = 2  # steps until memory has settled
MAX_GROWTH_MB = 100  # growth of memory after that
MIN_STEADY_GROWTH = 0.5  # growth in each third of the steps over a third of the growth: leaks are steady
MAX_BF16_CHANGE = 0.05  # relative difference of the loss in bfloat16; the five recipes have .01


TIME_LIMIT = "the time limit of the checks"


class TimeLimitReached(NotChecked):
    """A network was stopped before it returned an output."""

    def __init__(self) -> None:
        super().__init__(f"{TIME_LIMIT} was reached", is_out_of_time=True)


@runtime_checkable
class PredictsDepth(Protocol):
    """A recipe whose networks predict depth of an image."""

    @property
    def depth_scale(self) -> DepthScale:
        """The scale of the predicted depth."""

    def inverse_depth(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) RGB in [0, 1] to inverse depth (B, 1, H, W)."""


@runtime_checkable
class PredictsMotion(Protocol):
    """A recipe whose networks predict motion between images."""

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        """Return the motion (B, 4, 4) between neighboring images; None without a pose network."""


@dataclass(frozen=True)
class TrainingStart:
    """The checked state; `TrainingStart.prepare` builds it.

    recipe: a copy of the recipe on the device of the batch; changes to it are lost.
    batch: some samples of the first batch.
    batch_size: samples of a full batch.
    precision: number type of the training, "32" or "bf16".
    depth_range_m: (nearest, farthest) depth that the model can predict; None if unknown.
    """

    recipe: Any
    batch: Batch[Any, Any]
    batch_size: int
    precision: str = "32"
    depth_range_m: tuple[float, float] | None = None

    @classmethod
    def prepare(
        cls,
        recipe: AnyRecipe,
        batch: Batch[Any, Any],
        device: torch.device | str = "cpu",
        *,
        precision: str = "32",
        depth_range_m: tuple[float, float] | None = None,
    ) -> "TrainingStart":
        """Copy a recipe and at most eight samples of a batch, fewer of large images on the CPU."""
        device = torch.device(device)
        pixels = math.prod(batch.inputs.image.shape[-2:]) if hasattr(batch.inputs, "image") else 1
        count = MAX_SAMPLES if device.type != "cpu" else max(MIN_SAMPLES, min(MAX_SAMPLES, MAX_CPU_PIXELS // pixels))
        recipe, samples = copy.deepcopy(recipe).to(device).train(), take_samples(batch, count).to(device)
        return cls(recipe, samples, batch.size, precision, depth_range_m)

    @cached_property
    def report(self) -> LossReport:
        """Return the report of the loss of the first training step, after its gradients were computed."""
        self.recipe.zero_grad(set_to_none=True)
        report = self.recipe.training_step(self.batch)
        report.total.backward()
        return report

    @cached_property
    def inverse_depth(self) -> Tensor | None:
        """Return the initial inverse depth of the batch, (B, 1, H, W); None if the recipe predicts no depth."""
        return self.predict_inverse_depth(self.batch.inputs.image) if isinstance(self.recipe, PredictsDepth) else None

    @torch.no_grad()
    def predict_inverse_depth(self, image: Tensor) -> Tensor:
        """Return (B, 1, H, W) predicted in evaluation mode; restores training mode."""
        self.recipe.eval()
        try:
            predicted: Tensor = self.recipe.inverse_depth(image)
        finally:
            self.recipe.train()
        return predicted

    @torch.no_grad()
    def count_statistics_values(self, layers: Collection[str]) -> dict[str, int]:
        """Return over how many values per channel each layer would compute statistics in a full batch, by layer name.

        layers: names of layers that normalize by batch statistics.
        """
        values: dict[str, int] = {}

        def count(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values[name] = inputs[0][0, 0].numel() * self.batch_size

        hooks = [self.recipe.get_submodule(name).register_forward_pre_hook(partial(count, name)) for name in layers]
        try:
            if hooks:
                self.recipe.training_step(self.batch)
        finally:
            for hook in hooks:
                hook.remove()
        return values


def take_samples(batch: Batch[Any, Any], count: int) -> Batch[Any, Any]:
    """Return a batch that contains only the first samples of a given one.

    batch: the given batch.
    count: largest number of samples.
    """

    def cut(value: Tensor) -> Tensor:
        return value[:count] if value.ndim and len(value) == batch.size else value

    inputs, targets = map_tensors(batch.inputs, cut), map_tensors(batch.targets, cut)
    return replace(batch, inputs=inputs, targets=targets, meta=batch.meta[:count])


def check_one_batch(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if training on a single batch does not lower the loss (T26), or if memory grows (T29).

    The first part is skipped for weights that are trained already.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    recipe, batch, shuffled_loss = start.recipe, start.batch, 0.0
    optimizer = build_optimizer(recipe, recipe.config.optimizer, recipe.parameter_groups())
    losses: list[float] = []
    memory_bytes: list[int] = []
    with contextlib.suppress(TimeLimitReached):
        shuffled_loss = _measure_shuffled_loss(recipe, batch)
        for _ in range(BATCH_STEPS):
            optimizer.zero_grad(set_to_none=True)
            report = recipe.training_step(batch)
            report.total.backward()
            optimizer.step()
            losses.append(float(report.total.detach()))
            del report
            memory_bytes.append(_memory_bytes(batch.inputs.image.device))
        with torch.no_grad():
            losses.append(float(recipe.training_step(batch).total))
    if len(memory_bytes) < MIN_BATCH_STEPS:
        reason = f"{len(memory_bytes)} steps until {TIME_LIMIT}, and {MIN_BATCH_STEPS} are needed"
        raise NotChecked(reason, is_out_of_time=True)
    fell = losses[0] - sum(sorted(losses[-3:])[:2]) / 2
    if not fell > MIN_DECREASE * abs(losses[0]) and not losses[0] < MAX_TRAINED_LOSS * shuffled_loss:
        measured = f"the loss of one batch goes from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses) - 1} steps"
        evidence = {"losses": {"step": list(range(len(losses))), "loss": losses}}
        yield make_finding("T26", Severity.WARN, measured, f"below by {MIN_DECREASE:.0%} at least", evidence=evidence)
    if grows_steadily(memory_bytes):
        first_mb, last_mb = memory_bytes[SETTLED_STEPS] >> 20, memory_bytes[-1] >> 20
        measured = f"{first_mb} MB are allocated after step {SETTLED_STEPS + 1}, "
        measured += f"{last_mb} MB after step {len(memory_bytes)}"
        evidence = {"held": {"step": list(range(1, len(memory_bytes) + 1)), "bytes": memory_bytes}}
        yield make_finding("T29", Severity.WARN, measured, "the same after every step", evidence=evidence)


def grows_steadily(memory_bytes: Sequence[int]) -> bool:
    """Return whether memory grows throughout training: by more than MAX_GROWTH_MB, and in every third of the steps.

    memory_bytes: memory in bytes after each step.
    """
    last = len(memory_bytes) - 1
    ends = [memory_bytes[SETTLED_STEPS + (last - SETTLED_STEPS) * third // 3] for third in range(4)]
    growth = ends[-1] - ends[0]
    least = min(after - before for before, after in pairwise(ends))
    return growth > MAX_GROWTH_MB << 20 and least > MIN_STEADY_GROWTH * growth / 3


def _measure_shuffled_loss(recipe: AnyRecipe, batch: Batch[Any, Any]) -> float:
    generator = torch.Generator().manual_seed(0)
    given_weights = {name: value.clone() for name, value in recipe.state_dict().items()}
    try:
        with torch.no_grad():
            for weights in recipe.parameters():
                order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                weights.copy_(weights.flatten()[order].view_as(weights))
            return float(recipe.training_step(batch).total)
    finally:
        recipe.load_state_dict(given_weights)


def check_bf16_loss(start: TrainingStart) -> Iterator[Finding]:
    """Yield a warning if the loss in bfloat16 differs from the loss in float32 (T27), if the training uses bfloat16.

    start: copy of the training's state before its first step, with some samples of its first batch.
    """
    if start.precision != "bf16":
        return
    with torch.no_grad():
        exact = float(start.recipe.training_step(start.batch).total)
        with torch.autocast(start.batch.inputs.image.device.type, dtype=torch.bfloat16):
            half = float(start.recipe.training_step(start.batch).total)
    if not abs(half - exact) <= MAX_BF16_CHANGE * abs(exact):
        measured = f"the loss is {half:.4g} in bfloat16, {exact:.4g} in float32"
        yield make_finding("T27", Severity.WARN, measured, f"the same within {MAX_BF16_CHANGE:.0%}")


def _memory_bytes(device: torch.device) -> int:
    """Return torch's memory on a GPU, otherwise the process's."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
