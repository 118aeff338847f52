"""Optimizers by name, over every trainable parameter exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from stadia.core.errors import RunError
from stadia.training import OPTIMIZERS
from stadia.training.config import OptimizerConfig

Groups = list[dict[str, Any]]


def adam(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam (arXiv 1412.6980); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, lr=config.lr, betas=config.betas)


def adamw(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def sgd(groups: Groups, config: OptimizerConfig) -> Optimizer:
    """Gradient descent, with Nesterov's momentum where it is not 0."""
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def parameter_groups(module: nn.Module, weight_decay: float) -> Groups:
    """Every trainable parameter of a module, as `grouped`."""
    return grouped(module.parameters(), weight_decay)


def grouped(parameters: Iterable[nn.Parameter], weight_decay: float) -> Groups:
    """Two groups: decayed weights, and what is never decayed (biases and normalization layers: all with one axis or
    none).
    """
    trainable = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def check_groups(module: nn.Module, groups: Groups) -> None:
    """Raise RunError unless every trainable parameter of the module is in exactly one group, and nothing else is."""
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    grouped = [id(p) for group in groups for p in group["params"]]
    wrong = [f"'{name}' left out" for key, name in names.items() if key not in grouped]
    wrong += [
        f"'{names[key]}' {grouped.count(key)} times"
        for key in dict.fromkeys(grouped)
        if key in names and grouped.count(key) > 1
    ]
    wrong += ["a parameter of another module" for key in dict.fromkeys(grouped) if key not in names]
    if wrong or not names:
        raise RunError(
            "optimizer",
            found=("; ".join(wrong[:3]) + f"; and {len(wrong) - 3} more" * (len(wrong) > 3))
            or "no trainable parameter",
            expected="each trainable parameter of the model exactly once",
            fix="correct the recipe's parameter groups",
        )


def build(module: nn.Module, config: OptimizerConfig, groups: Groups | None = None) -> Optimizer:
    """The optimizer of a module.

    Args:
        module: whose trainable parameters to optimize.
        config: name, learning rate, decay.
        groups: as torch takes them, where a recipe wants its own; `parameter_groups` by default.
    """
    groups = parameter_groups(module, config.weight_decay) if groups is None else groups
    check_groups(module, groups)
    optimizer: Optimizer = OPTIMIZERS.load(config.name)(groups, config)
    return optimizer
