"""Estimate the time of a training step on a GPU from its operations and bytes, on paper: nothing is measured here.

One sample is trained on the CPU by the code that a GPU runs (the torch version of the loss, bf16). Each operation is
counted: floating point operations by torch's formulas, and bytes of its inputs and outputs, as if nothing stayed in a
cache and nothing were fused. On the card an operation takes the longest of arithmetic, memory and launch:

    t = max(batch flops / (E_F peak), batch bytes / (E_B bandwidth), LAUNCH_S)
"""

# mypy: disable-error-code="arg-type, no-untyped-call"

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from harness import make_selfsup
from step import bare_loss
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stadia.losses.reprojection import TorchReprojector
from stadia.training.loop.recipe import build_optimizer


@dataclass(frozen=True)
class Card:
    """Numbers of a card's data sheet: dense bf16 with float32 sums, float32 without tensor cores, memory."""

    name: str
    bf16_flops_per_s: float
    float32_flops_per_s: float
    bytes_per_s: float


CARDS = {
    "a100": Card("A100 SXM 40 GB", 312e12, 19.5e12, 1.555e12),
    "rtx4090": Card("GeForce RTX 4090", 165e12, 82.6e12, 1.008e12),
    "h200": Card("H200 SXM", 989e12, 67e12, 4.8e12),
}

FLOP_SHARE, BANDWIDTH_SHARE, LAUNCH_S = 0.4, 0.7, 5e-6
"""Assumed shares of the data sheet that convolutions and memory reach, and the time to launch a kernel."""

BATCH, HEIGHT, WIDTH, ENCODER = 12, 192, 640, "resnet18"
"""The step that is estimated, as a GPU is measured."""


@dataclass(frozen=True)
class Operation:
    """An operation of a batch of one. per_sample: whether its work grows with the batch."""

    flops: float
    bytes: float
    is_bf16: bool
    per_sample: bool = True

    def seconds(self, card: Card, batch: int) -> float:
        times = batch if self.per_sample else 1
        peak = card.bf16_flops_per_s if self.is_bf16 else card.float32_flops_per_s
        arithmetic_s = times * self.flops / (FLOP_SHARE * peak)
        return max(arithmetic_s, times * self.bytes / (BANDWIDTH_SHARE * card.bytes_per_s), LAUNCH_S)


class OperationCounter(TorchDispatchMode):
    """While entered, keep each operation that launches a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.per_sample = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view or func.overloadpacket.__name__ in ("detach", "empty", "empty_like", "new_empty"):
            return out
        read = [one for one in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        written = [one for one in torch.utils._pytree.tree_leaves(out) if isinstance(one, Tensor)]
        formula, flops = flop_registry.get(func._overloadpacket), 0
        if formula is not None:
            with contextlib.suppress(Exception):
                flops = int(formula(*args, **(kwargs or {}), out_val=out))
        size = sum(one.numel() * one.element_size() for one in (*read, *written))
        is_bf16 = any(one.dtype == torch.bfloat16 for one in read)
        self.operations.append(Operation(flops, size, is_bf16, self.per_sample))
        return out


def count_operations(make_batch: Callable[[int, int, int], Any]) -> dict[str, list[Operation]]:
    """Return the operations of a batch of one, of the "networks" (with their update) and of the whole "step"."""
    recipe = make_selfsup(ENCODER, HEIGHT, WIDTH)
    recipe.view_synthesis.loss.reprojector = TorchReprojector  # as on a GPU
    batch, found = make_batch(1, HEIGHT, WIDTH), dict[str, list[Operation]]()
    for name in ("networks", "step"):
        model = copy.deepcopy(recipe)
        optimizer = build_optimizer(model, model.config.optimizer)
        with OperationCounter() as counter:
            with torch.autocast("cpu", torch.bfloat16):
                total = model.training_step(batch).total if name == "step" else bare_loss(model.model(batch))
            total.backward()
            counter.per_sample = False
            optimizer.step()
        found[name] = counter.operations
    return found


def estimate_step(make_batch: Callable[[int, int, int], Any], *, card: str) -> dict[str, Any]:
    """Return the estimate of a card with its assumptions, and its lines for the table."""
    chosen, operations = CARDS[card], count_operations(make_batch)
    seconds = {name: sum(one.seconds(chosen, BATCH) for one in ones) for name, ones in operations.items()}
    sums = {
        name: {
            "operations": len(ones),
            "flops": sum(one.flops * (BATCH if one.per_sample else 1) for one in ones),
            "bytes": sum(one.bytes * (BATCH if one.per_sample else 1) for one in ones),
        }
        for name, ones in operations.items()
    }
    lines = {
        f"{name} (bf16, not compiled)": (
            f"{1e3 * seconds[name]:.1f} ms, {BATCH / seconds[name]:.0f} images/s;"
            f" {sums[name]['flops'] / 1e9:.0f} GFLOP, {sums[name]['bytes'] / 1e9:.1f} GB,"
            f" {sums[name]['operations']} kernels"
        )
        for name in seconds
    }
    assumptions = (
        f"{ENCODER} at {WIDTH}x{HEIGHT}, batch {BATCH}; convolutions reach {FLOP_SHARE:.0%} of"
        f" {chosen.bf16_flops_per_s / 1e12:.0f} TFLOP/s in bf16 ({chosen.float32_flops_per_s / 1e12:.3g} in float32),"
        f" memory {BANDWIDTH_SHARE:.0%} of {chosen.bytes_per_s / 1e12:.3g} TB/s, a launch {1e6 * LAUNCH_S:.0f} us;"
        " nothing is fused or cached"
    )
    return {
        "is_estimate": True,
        "card": asdict(chosen),
        "seconds": seconds,
        "sums": sums,
        "lines": lines,
        "assumptions": assumptions,
    }
