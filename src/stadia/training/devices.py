"""Devices, processes and precision of a training on Lightning Fabric, and its fully sharded data parallelism.

With `training.strategy=fsdp`, each process holds a part of the weights, of their gradients and of the optimizer's state
during an update (FSDP2, `torch.distributed.fsdp.fully_shard`). The model is one group: its weights are whole from an
update to the end of the next backward, since losses, images and callbacks may read any of them. State dicts hold whole
tensors.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, cast

import stadia.process.torchvision_shim  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from stadia.core.errors import ConfigError
from stadia.training.batches import select_device
from stadia.training.config import TrainingConfig
from stadia.training.optim import gather_shards
from stadia.training.processes import find_layout

FEW_PROCESSES = 8
"""Processes of a training on the CPU that any machine may start, for tests of distributed trainings."""

_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(config: TrainingConfig) -> Fabric:
    """Return Lightning Fabric with the devices, processes and precision of a training, not launched yet."""
    check_precision(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    strategy = ShardedStrategy() if config.strategy == "fsdp" else config.strategy
    for key, value, expected in (
        ("training.precision", config.precision, "32, bf16 or fp16"),
        ("training.compile", config.compile, "off, loss, networks, all or graphs"),
    ):
        if value == "auto":
            fix = "train by stadia.launch.train, which measures them"
            raise ConfigError(key, found="'auto', unresolved", expected=expected, fix=fix)
    precision = _PRECISION[config.precision]
    layout = find_layout(config)
    devices = layout.per_node if layout.is_started else config.devices
    if layout.count > 1 and strategy == "auto":
        strategy = "ddp"
    return Fabric(
        accelerator=config.accelerator, devices=devices, num_nodes=layout.nodes, strategy=strategy, precision=precision
    )


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence tips of Lightning and of data parallelism. Warnings of other packages pass."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("fabric", "pytorch")]  # whichever was imported last
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for advice in ("GPU available but not used", "LeafSpec.*deprecated", "Grad strides do not match bucket"):
            warnings.filterwarnings("ignore", message=f".*{advice}")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def check_devices(config: TrainingConfig) -> None:
    """Raise ConfigError for an accelerator that is not here, more devices than there are, or an impossible precision.

    Opens no data.
    """
    kind, key = config.accelerator, "training.accelerator"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    is_here = {
        "cuda": gpus > 0,
        "gpu": gpus > 0 or has_mps,
        "mps": has_mps,
        "tpu": importlib.util.find_spec("torch_xla") is not None,
    }
    if not is_here.get(kind, True):
        fix = f"set {key}=auto, or install the driver and a torch for it"
        raise ConfigError(key, found=f"'{kind}', and none is here", expected="a device of this machine", fix=fix)
    place = select_device(kind).type
    most = gpus if place == "cuda" else max(os.cpu_count() or 1, FEW_PROCESSES)
    if config.devices != "auto" and kind not in ("tpu", "mps") and config.devices > most:
        what = "GPUs" if place == "cuda" else "processes on the CPU"
        expected, fix = f"at most {most} {what}", "set training.devices=auto, or a smaller number"
        raise ConfigError("training.devices", found=config.devices, expected=expected, fix=fix)
    check_precision(config)


def check_precision(config: TrainingConfig) -> None:
    """Raise ConfigError for fp16 without a scaler (no CUDA GPU, or sharded), and for auto of several sizes."""
    place = select_device(config.accelerator).type
    for key, value, fix in (
        ("training.precision", config.precision, "set training.precision=bf16 or 32"),
        ("training.compile", config.compile, "set training.compile=all or off"),
    ):
        if value == "auto" and (config.devices != 1 or config.stages):
            found = "auto with training.stages" if config.stages else f"auto with training.devices={config.devices}"
            raise ConfigError(key, found=found, expected="one device and one image size, to measure", fix=fix)
    if config.precision == "fp16" and (place != "cuda" or config.strategy == "fsdp"):
        found = "fp16 with training.strategy=fsdp" if config.strategy == "fsdp" else f"fp16 on {place}"
        expected, fix = "fp16 on a CUDA GPU, with another strategy than fsdp", "set training.precision=bf16 or 32"
        raise ConfigError("training.precision", found=found, expected=expected, fix=fix)


# -- fully sharded data parallelism ------------------------------------------------------------------------------------


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
    module.register_forward_pre_hook(lambda whole, _: _broadcast(whole.buffers()))
    part: Any
    for part in module.modules():
        shards = {name: weight for name, weight in part.named_parameters(recurse=False) if isinstance(weight, DTensor)}
        part.register_load_state_dict_pre_hook(partial(_shard_weights, shards))
        part.register_state_dict_post_hook(_gather_weights)
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
    state = {
        number: {name: convert(number, value) for name, value in values.items()}
        for number, values in state_dict["state"].items()
    }
    return {**state_dict, "state": state}
