"""A training before its first step: a copy of the recipe, a batch, and one backward pass."""

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

SAMPLES, MIN_SAMPLES, CPU_PIXELS = 8, 2, 80_000
"""Samples of the batch; on the CPU, at least MIN_SAMPLES and about CPU_PIXELS pixels in all."""


@runtime_checkable
class SaysDepth(Protocol):
    """A recipe whose networks predict depth of an image."""

    @property
    def claim(self) -> Claim: ...

    def inverse_depth(self, image: Tensor) -> Tensor: ...


@runtime_checkable
class SaysMotion(Protocol):
    """A recipe whose networks predict motion between images."""

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None: ...


@dataclass(frozen=True)
class Start:
    """The state that is checked; `Start.of` builds it.

    task: a copy of the recipe that will be trained, on the device of the batch; changes to it are lost.
    batch: the first batch of the training, or some of its samples.
    batch_size: samples of a full batch.
    precision: of the training, "32" or "bf16".
    depth_range_m: (nearest, farthest) depth that the model can predict; None where that is not known.
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
        """Copy a recipe and at most eight samples of a batch, fewer of large images on the CPU."""
        device = torch.device(device)
        pixels = batch.inputs.image.shape[-2] * batch.inputs.image.shape[-1] if hasattr(batch.inputs, "image") else 1
        count = SAMPLES if device.type != "cpu" else max(MIN_SAMPLES, min(SAMPLES, CPU_PIXELS // pixels))
        return cls(
            copy.deepcopy(task).to(device).train(), fewer(batch, count).to(device), batch.size, precision, depth_range_m
        )

    @cached_property
    def report(self) -> LossReport:
        """Report of the first step after backward: the parameters of the copy hold their gradients."""
        self.task.zero_grad(set_to_none=True)
        report = self.task.training_step(self.batch)
        report.total.backward()
        return report

    @cached_property
    def inverse_depth(self) -> Tensor | None:
        """(B, 1, H, W) predicted for the images of the batch; None where the recipe predicts no depth."""
        return self.inverse_depth_of(self.batch.inputs.image) if isinstance(self.task, SaysDepth) else None

    @torch.no_grad()
    def inverse_depth_of(self, image: Tensor) -> Tensor:
        """Return (B, 1, H, W) predicted in evaluation mode; training mode is restored whatever is raised."""
        self.task.eval()
        try:
            predicted: Tensor = self.task.inverse_depth(image)
        finally:
            self.task.train()
        return predicted

    @torch.no_grad()
    def values_of_statistics(self, layers: Collection[str]) -> dict[str, int]:
        """Return the number of values per channel in a full batch, by the names of layers."""
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
    """Return the first samples of a batch."""
    size = batch.size

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[:count] if value.ndim and len(value) == size else value
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: cut(getattr(value, field.name)) for field in fields(value)})
        return value

    return replace(batch, inputs=cut(batch.inputs), targets=cut(batch.targets), meta=batch.meta[:count])
