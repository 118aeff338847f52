"""A training as it stands before its first step: a copy of its task, a batch, and what one backward pass makes of both."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stadia.core.types import Batch, Claim
from stadia.losses.report import LossReport
from stadia.training.recipe import AnyRecipe

SAMPLES, FEWEST_SAMPLES, CPU_PIXELS = 8, 2, 80_000
"""Samples of the batch, and pixels of all of them where a processor has to do it."""


@runtime_checkable
class SaysDepth(Protocol):
    """A task whose networks say depth of an image."""

    @property
    def claim(self) -> Claim: ...

    def inverse_depth(self, image: Tensor) -> Tensor: ...


@runtime_checkable
class SaysMotion(Protocol):
    """A task whose networks say motion between images."""

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None: ...


@dataclass(frozen=True)
class Start:
    """What is looked at; `Start.of` makes it.

    task: a copy of what will train, on the device of the batch; what is done to it is lost.
    batch: the training's first one, or some of its samples.
    batch_size: samples of a whole one.
    precision: of the training, "32" or "bf16".
    depth_range_m: what its depth can be, (nearest, farthest); None where that is not known.
    """

    task: Any
    batch: Batch[Any, Any]
    batch_size: int
    precision: str = "32"
    depth_range_m: tuple[float, float] | None = None

    @classmethod
    def of(
        cls,
        task: AnyRecipe,
        batch: Batch[Any, Any],
        device: torch.device | str = "cpu",
        *,
        precision: str = "32",
        depth_range_m: tuple[float, float] | None = None,
    ) -> Start:
        """A copy of a task and eight samples of a batch at most, fewer of large images on the processor."""
        device = torch.device(device)
        pixels = batch.inputs.image.shape[-2] * batch.inputs.image.shape[-1] if hasattr(batch.inputs, "image") else 1
        room = SAMPLES if device.type != "cpu" else max(FEWEST_SAMPLES, min(SAMPLES, CPU_PIXELS // pixels))
        return cls(
            copy.deepcopy(task).to(device).train(), fewer(batch, room).to(device), batch.size, precision, depth_range_m
        )

    @cached_property
    def report(self) -> LossReport:
        """Of the first step, its total differentiated: the task's parameters hold their gradients."""
        self.task.zero_grad(set_to_none=True)
        report = self.task.training_step(self.batch)
        report.total.backward()
        return report

    @cached_property
    def inverse_depth(self) -> Tensor | None:
        """(B, 1, H, W) that is said of the batch's images; None where the task says none."""
        return self.inverse_depth_of(self.batch.inputs.image) if isinstance(self.task, SaysDepth) else None

    @torch.no_grad()
    def inverse_depth_of(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) that is said of images in evaluation; the task trains again afterwards, whatever it raised."""
        self.task.eval()
        try:
            said: Tensor = self.task.inverse_depth(image)
        finally:
            self.task.train()
        return said

    @torch.no_grad()
    def values_of_statistics(self, layers: Collection[str]) -> dict[str, int]:
        """Of layers that a step passes, by their names: how many values a channel has in a whole batch."""
        values: dict[str, int] = {}

        def count(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values[name] = inputs[0][0, 0].numel() * self.batch_size

        hooks = [self.task.get_submodule(name).register_forward_pre_hook(partial(count, name)) for name in layers]
        try:
            if hooks:
                self.task.training_step(self.batch)
        finally:
            for hook in hooks:
                hook.remove()
        return values


def fewer(batch: Batch[Any, Any], count: int) -> Batch[Any, Any]:
    """The first samples of a batch."""
    size = batch.size

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:count] if value.ndim and len(value) == size else value
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: cut(getattr(value, field.name)) for field in fields(value)})
        return value

    return replace(batch, inputs=cut(batch.inputs), targets=cut(batch.targets), meta=batch.meta[:count])
