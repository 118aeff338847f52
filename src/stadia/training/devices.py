"""Devices, processes and precision of a training on Lightning Fabric."""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import stadia.core.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning.fabric import Fabric

from stadia.core.errors import ConfigError
from stadia.training.batches import select_device
from stadia.training.config import TrainingConfig
from stadia.training.processes import find_layout

FEW_PROCESSES = 8
"""Any machine may start this many processes on the CPU, to try a distributed training."""

_PRECISION: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(config: TrainingConfig) -> Fabric:
    """Return Lightning Fabric with the devices, processes and precision of a training, not launched."""
    check_precision(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    layout = find_layout(config)
    return Fabric(
        accelerator=config.accelerator,
        devices=layout.per_node if layout.is_started else config.devices,
        num_nodes=layout.nodes,
        strategy="ddp" if layout.count > 1 and config.strategy == "auto" else config.strategy,
        precision=_PRECISION[config.precision],
    )


def resolve_auto(config: TrainingConfig, saved: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Return the configuration with "auto" of `precision` and `compile` resolved for the device.

    A GPU gets bf16, if it supports it, and compiled code; a CPU gets neither.

    saved: `training` of the resumed run, whose values are kept.
    """
    is_gpu = select_device(config.accelerator).type == "cuda"
    chosen = {
        "precision": "bf16" if is_gpu and torch.cuda.is_bf16_supported() else "32",
        "compile": "all" if is_gpu else "off",
    }
    values = {key: (saved or {}).get(key, value) for key, value in chosen.items() if getattr(config, key) == "auto"}
    return config.model_copy(update=values)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence tips of Lightning and of data parallelism."""
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
    """Raise ConfigError for a missing accelerator, too many devices, or an impossible precision."""
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
        raise ConfigError(key, found=f"'{kind}', not on this machine", expected="a device of this machine", fix=fix)
    place = select_device(kind).type
    most = gpus if place == "cuda" else max(os.cpu_count() or 1, FEW_PROCESSES)
    if config.devices != "auto" and kind not in ("tpu", "mps") and config.devices > most:
        what = "GPUs" if place == "cuda" else "processes on the CPU"
        expected, fix = f"at most {most} {what}", "set training.devices=auto, or a smaller number"
        raise ConfigError("training.devices", found=config.devices, expected=expected, fix=fix)
    check_precision(config)


def check_precision(config: TrainingConfig) -> None:
    """Raise ConfigError for fp16 without a CUDA GPU."""
    place = select_device(config.accelerator).type
    if config.precision == "fp16" and place != "cuda":
        fix = "set training.precision=bf16 or 32"
        raise ConfigError("training.precision", found=f"fp16 on {place}", expected="a CUDA GPU", fix=fix)
