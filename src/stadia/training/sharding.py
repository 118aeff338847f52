"""Fully sharded data parallelism (`training.strategy=fsdp`) on Lightning Fabric.

During an update each process holds a part of the weights, of their gradients and of the optimizer's state (FSDP2,
`torch.distributed.fsdp.fully_shard`). The model is one group: its weights are whole from an update to the end of the
next backward, since losses, images and callbacks may read any of them. State dicts hold whole tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any, cast

import stadia.process.torchvision_shim  # noqa: F401

# isort: split
import torch
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from stadia.training.optim import gather_shards


class ShardedStrategy(ModelParallelStrategy):
    """Fabric's strategy for FSDP2 over all processes, on GPUs or CPUs."""

    def __init__(self) -> None:
        super().__init__(shard_module)
        self.module: FSDPModule | None = None

    def setup_environment(self) -> None:
        """Start the processes and their device mesh."""
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup_module(self, module: nn.Module) -> nn.Module:
        """Distribute the weights of a module over the devices."""
        self.module = cast(FSDPModule, super().setup_module(module))
        return module

    def setup_optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Return the optimizer, whose state is distributed with the weights."""
        optimizer.register_state_dict_post_hook(_gather_optimizer_state)
        optimizer.register_load_state_dict_pre_hook(_shard_optimizer_state)
        return super().setup_optimizer(optimizer)

    def optimizer_step(self, optimizer: Any, **kwargs: Any) -> Any:
        """Update the shards, then gather the weights, which the next forward would do."""
        result = super().optimizer_step(optimizer, **kwargs)
        assert self.module is not None
        self.module.unshard()
        return result


def shard_module(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard a module in place, with the weights and buffers of the first process, as DistributedDataParallel does."""
    _broadcast(chain(module.parameters(), module.buffers()))
    fully_shard(module, mesh=mesh["data_parallel"], reshard_after_forward=False)
    module.register_forward_pre_hook(lambda one, _: _broadcast(one.buffers()))
    one: Any
    for one in module.modules():
        shards = {name: weight for name, weight in one.named_parameters(recurse=False) if isinstance(weight, DTensor)}
        one.register_load_state_dict_pre_hook(partial(_shard_weights, shards))
        one.register_state_dict_post_hook(_gather_weights)
    return module


@torch.no_grad()
def _broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of the first process to all others."""
    for work in [torch.distributed.broadcast(tensor, src=0, async_op=True) for tensor in tensors]:
        work.wait()


def _shard_like(whole: Any, weight: Any) -> Any:
    """Return the shard of a tensor for this process, where its weight is sharded. Every process has the whole."""
    if not isinstance(weight, DTensor) or not isinstance(whole, Tensor) or whole.shape != weight.shape:
        return whole  # a count of steps, for example
    return distribute_tensor(whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


def _shard_weights(
    shards: Mapping[str, Tensor], module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    for name, weight in shards.items():
        if prefix + name in state_dict:
            state_dict[prefix + name] = _shard_like(state_dict[prefix + name], weight)


def _gather_weights(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    for name, _ in module.named_parameters(recurse=False):
        if prefix + name in state_dict:
            state_dict[prefix + name] = gather_shards(state_dict[prefix + name])


def _gather_optimizer_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    return _map_state(state_dict, lambda _, value: gather_shards(value))


def _shard_optimizer_state(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return _map_state(state_dict, lambda number, value: _shard_like(value, weights[number]))


def _map_state(state_dict: dict[str, Any], convert: Callable[[int, Any], Any]) -> dict[str, Any]:
    """Return the state of an optimizer with each value of each weight, by its number, converted."""
    each = state_dict["state"].items()
    state = {number: {name: convert(number, value) for name, value in values.items()} for number, values in each}
    return {**state_dict, "state": state}
