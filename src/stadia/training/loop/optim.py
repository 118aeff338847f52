"""Optimizers and learning-rate schedules by name, and the size of an update."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stadia.core.errors import NotFiniteError, RunError
from stadia.core.types import Meta
from stadia.losses.loss_report import LossReport
from stadia.training.loop import OPTIMIZERS, SCHEDULES
from stadia.training.loop.batches import TrainingPlan
from stadia.training.loop.config import OptimizerConfig, ScheduleConfig

Groups = list[dict[str, Any]]

SAMPLE_SIZE = 4096
"""This many values of each weight measure the size of an update."""


# -- optimizers --------------------------------------------------------------------------------------------------------


def adam(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam (arXiv 1412.6980); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, lr=config.lr, betas=config.betas, fused=has_fused_update(groups))


def adamw(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=has_fused_update(groups))


def sgd(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Gradient descent, with Nesterov's momentum unless it is 0."""
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


FUSED_DEVICES = ("cpu", "cuda")


def has_fused_update(groups: Groups) -> bool | None:
    """Return True if Adam can update each weight in one fused operation; None leaves the choice to torch."""
    is_supported = all(weight.device.type in FUSED_DEVICES for group in groups for weight in group["params"])
    return True if is_supported else None


def group_parameters(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Return two groups: weights with decay, and biases and normalization layers without."""
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def check_groups(module: nn.Module, groups: Groups) -> None:
    """Raise RunError unless the groups have every trainable parameter of the module once, and nothing else."""
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    keys = [id(p) for group in groups for p in group["params"]]
    wrong = [f"'{name}' left out" for key, name in names.items() if key not in keys]
    counts = Counter(keys)
    wrong += [f"'{names[key]}' {count} times" for key, count in counts.items() if key in names and count > 1]
    wrong += ["a parameter of another module" for key in counts if key not in names]
    if wrong or not names:
        found = "; ".join(wrong[:3]) + f"; and {len(wrong) - 3} more" * (len(wrong) > 3)
        expected = "each trainable parameter of the model exactly once in the groups of the recipe"
        raise RunError("optimizer", found=found or "no trainable parameter", expected=expected)


def build_optimizer(module: nn.Module, config: OptimizerConfig, groups: Groups | None = None) -> Optimizer:
    """Return the optimizer of a module."""
    groups = group_parameters(module.parameters(), config.weight_decay) if groups is None else groups
    check_groups(module, groups)
    optimizer: Optimizer = OPTIMIZERS.load(config.name)(groups, config)
    return optimizer


# -- learning rate -----------------------------------------------------------------------------------------------------


# A schedule is a factor of the learning rate of update number `update` (from 0), counted from the end of the warm-up.


def constant(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return 1 from the first step to the last."""
    return 1.0


def step(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return `gamma` to the power of passed milestones; the update after a milestone is the first with the new rate."""
    return config.gamma ** sum(update >= milestone for milestone in milestone_steps)


def cosine(update: int, *, config: ScheduleConfig, total_steps: int, milestone_steps: tuple[float, ...]) -> float:
    """Return half a cosine from 1 to final_factor (SGDR, arXiv 1608.03983, eq. 5, one period)."""
    progress = min(update / max(total_steps, 1), 1.0)
    return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * progress))


def compute_lr_factor(step: int, config: ScheduleConfig, *, total_steps: int, steps_per_epoch: float) -> float:
    """Return the factor of `optimizer.lr` for update number `step` (from 0): the warm-up, then the schedule.

    The warm-up gives 1/n, 2/n, ... 1. A warm-up at a later epoch multiplies the schedule there.
    """
    start = round(config.warmup_from_epoch * steps_per_epoch)
    warmup = config.warmup_steps if start == 0 else 0
    if step < warmup:
        return (step + 1) / warmup
    is_warming = start > 0 and start <= step < start + config.warmup_steps
    ramp = (step - start + 1) / config.warmup_steps if is_warming else 1.0
    unit = total_steps if config.milestones_in == "fractions" else steps_per_epoch
    milestones = tuple(milestone * unit - warmup for milestone in config.milestones)
    schedule: Callable[..., float] = SCHEDULES.load(config.name)
    of_schedule = schedule(step - warmup, config=config, total_steps=total_steps - warmup, milestone_steps=milestones)
    return ramp * of_schedule


class LearningRate:
    """Set the learning rate of each update: the rate of the parameter group, times schedule and stage.

    It depends on the step, and on the time with `training.max_minutes`. A group with `from_step` waits for that step.
    """

    def __init__(self, optimizer: Optimizer, config: ScheduleConfig, plan: TrainingPlan) -> None:
        self.optimizer, self.config, self.plan = optimizer, config, plan
        self.of_groups = [group["lr"] for group in optimizer.param_groups]
        self.set(0)

    @property
    def value(self) -> float:
        """Return the rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set(self, step: int, time_share: float = 0.0) -> None:
        """Set the rate of update number `step`, from 0.

        time_share: share of the training's time that is over; the schedule is at least that far.
        """
        total_steps, steps_per_epoch = self.plan.total_steps, self.plan.steps_per_epoch
        scheduled_step = max(step, int(time_share * total_steps)) if step >= self.config.warmup_steps else step
        scheduled = compute_lr_factor(
            scheduled_step, self.config, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        for group, lr in zip(self.optimizer.param_groups, self.of_groups, strict=True):
            is_held = step < group.get("from_step", 0)
            group["lr"] = 0.0 if is_held else lr * (self.plan.lr_factor(step) * scheduled)


# -- updates -----------------------------------------------------------------------------------------------------------


class UpdateRatio:
    """Measure |update| / |weight| of one update: `measure_before`, `measure_after`.

    It is about 1e-3 in a healthy training. Only weights with two axes or more count.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[nn.Parameter, Tensor]] = []

    def measure_before(self, parameters: Iterable[nn.Parameter]) -> None:
        """Keep a sample of the weights that have a gradient."""
        self._kept = [(p, sample_values(p).clone()) for p in parameters if p.ndim > 1 and p.grad is not None]

    def measure_after(self) -> Tensor | None:
        """Return the ratio () over all samples together, or None, without waiting for a device."""
        kept, self._kept = self._kept, []
        if not kept:
            return None
        moved = torch.stack([(sample_values(p) - was).float().norm() for p, was in kept]).norm()
        size = torch.stack([was.float().norm() for _, was in kept]).norm()
        return moved / size.clamp(min=torch.finfo(torch.float32).tiny)


def sample_values(weight: Tensor) -> Tensor:
    """Return about SAMPLE_SIZE values (n,) of a weight.

    Their distance and number share no divisor, because the sample might otherwise be one corner of each 3x3 kernel.
    """
    flat = weight.detach().flatten()
    distance = max(flat.numel() // SAMPLE_SIZE, 1)
    while math.gcd(distance, flat.numel()) > 1:
        distance -= 1
    return flat[::distance]


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch on its device, and the cause if it is not finite.

    total: (), float32.  terms: () each, by name.  sample_sums: (B,) of all maps.  meta: of the B samples.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    sample_sums: Tensor
    meta: tuple[Meta, ...]

    @classmethod
    def from_report(cls, report: LossReport, meta: tuple[Meta, ...]) -> "BatchLoss":
        """Return the numbers of a report without its maps, and without waiting for a device."""
        sums = torch.zeros(len(meta), device=report.total.device)
        for values in report.maps.values():
            if values.shape[:1] == sums.shape:
                sums = sums + values.detach().reshape(len(meta), -1).sum(1, dtype=torch.float32)
        terms = {name: value.clone() for name, value in report.terms.items()}  # CUDA graphs reuse their outputs
        return cls(report.total.detach().float().clone(), terms, sums, meta)

    @property
    def samples(self) -> tuple[str, ...]:
        """Return "RECORDING INDEX" of each sample."""
        return tuple(f"{meta.recording} {meta.index}" for meta in self.meta)


def explain_loss(loss: BatchLoss, step: int) -> NotFiniteError:
    """Return an error that names the terms, and the samples if the maps show them."""
    terms = [name for name, value in loss.terms.items() if not torch.isfinite(value).all()]
    broken = (~torch.isfinite(loss.sample_sums)).tolist()
    samples = [name for name, is_broken in zip(loss.samples, broken, strict=True) if is_broken] or loss.samples
    found = f"{loss.total.item()} (terms: {', '.join(terms) or 'all finite'}; samples: {', '.join(samples)})"
    fix = "look at these samples with `stadia check`, or lower optimizer.lr"
    return NotFiniteError(f"loss of step {step}", found=found, expected="a finite loss", fix=fix)


def explain_gradient(module: nn.Module, norm: float, step: int) -> NotFiniteError:
    """Return an error that names the parameters."""
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    broken = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
    found = f"{norm} in {len(broken)} parameters, first '{broken[0] if broken else 'none alone'}'"
    fix = "lower optimizer.lr, or find the division or square root at 0 in the loss"
    return NotFiniteError(f"gradient of step {step}", found=found, expected="a finite gradient", fix=fix)
