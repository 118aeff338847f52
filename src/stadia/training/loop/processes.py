"""Processes of a training: devices and precision, share of a global batch, batch statistics, restarts.

torchrun and SLURM start processes and describe them in the environment; otherwise Lightning Fabric starts them.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import stadia.differentiable.torchvision_operators  # noqa: F401

# isort: split
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn import functional

from stadia.core.errors import ConfigError, StadiaError, summarize_exception
from stadia.differentiable.number_rates import find_rates, note_slow_bf16
from stadia.io.atomic_files import write_json
from stadia.io.input_files import read_json, safe_join
from stadia.training.loop.batches import select_device
from stadia.training.loop.config import TrainingConfig, check_launcher

JOBS = ".jobs"
"""This folder in the folder of runs records which run a job of torchrun or SLURM trains."""

JOB_VARIABLE = "STADIA_JOB"
"""This variable has the name of the job, the same on all of its machines."""

AUTO_VARIABLE = "STADIA_PRECISION"
"""This variable, "32" or "bf16", is the precision of "auto" on every device, so that results do not depend on it."""

WAIT_S = 300.0
"""Processes of an attempt wait at most this long for each other."""

POLL_S = 0.1
"""Interval at which a waiting process looks for the files of the others."""

_STORES: list[Store] = []
"""This list keeps the store of this process open."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class ProcessLayout:
    """Processes of a training.

    nodes: number of machines.
    per_node: number of processes of each machine.
    is_started: whether a launcher started them.
    """

    nodes: int
    per_node: int
    is_started: bool = False

    @property
    def count(self) -> int:
        """Return the number of all processes."""
        return self.nodes * self.per_node


def find_layout(config: TrainingConfig) -> ProcessLayout:
    """Return the processes that torchrun or `srun` has started, otherwise `training.devices`."""
    variables = os.environ
    if "LOCAL_WORLD_SIZE" in variables and "WORLD_SIZE" in variables:  # torchrun
        per_node = int(variables["LOCAL_WORLD_SIZE"])
        return ProcessLayout(max(int(variables["WORLD_SIZE"]) // per_node, 1), per_node, is_started=True)
    check_launcher()
    if "SLURM_PROCID" in variables and int(variables.get("SLURM_NTASKS", "1")) > 1:  # srun
        nodes = int(variables.get("SLURM_NNODES", "1"))
        return ProcessLayout(nodes, int(variables["SLURM_NTASKS"]) // nodes, is_started=True)
    if config.devices != "auto":
        return ProcessLayout(1, config.devices)
    on_gpu = select_device(config.accelerator).type == "cuda"
    return ProcessLayout(1, torch.cuda.device_count() if on_gpu else 1)


def resolve_batch_size(config: TrainingConfig) -> TrainingConfig:
    """Return the configuration with the batch of one process for `global_batch_size`.

    Raises ConfigError if it is not a multiple of processes times accumulated batches.
    """
    if config.global_batch_size is None:
        return config
    layout = find_layout(config)
    parts = layout.count * config.grad_accumulation_steps
    size, rest = divmod(config.global_batch_size, parts)
    if rest or not size:
        accumulated = f" times {config.grad_accumulation_steps} accumulated batches"
        many = accumulated if config.grad_accumulation_steps > 1 else ""
        expected = f"a multiple of {parts}: {layout.count} processes{many}"
        fix = f"take {max(round(config.global_batch_size / parts), 1) * parts}, or another number of processes"
        key = "training.global_batch_size"
        raise ConfigError(key, found=config.global_batch_size, expected=expected, fix=fix)
    return config.model_copy(update={"batch_size": size})


# -- statistics of a batch over all processes


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization by the statistics of all processes, equal to one process with the whole batch."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled network breaks its graph here
    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, H, W) normalized."""
        if not self.training or not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
            return super().forward(input)
        values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        output, mean, variance = _GlobalNormalization.apply(values, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            count = input.numel() // input.shape[1] * torch.distributed.get_world_size()
            self._update_statistics(mean, variance, count)
        return cast(Tensor, output.to(input.dtype))

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = 1 / int(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        unbiased = variance * (count / max(count - 1, 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _GlobalNormalization(torch.autograd.Function):
    """Normalize a batch by mean and variance over all processes; sums over processes are in float64."""

    @staticmethod
    def forward(
        context: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, C, H, W) normalized, and the (C,) mean and variance of all processes."""
        own_mean, own_variance = torch.batch_norm_update_stats(values, None, None, 0.0)  # biased
        own_mean, own_variance = own_mean.double(), own_variance.double()
        mean, square = _average_over_processes(own_mean, own_variance + own_mean.square())
        variance = (square - mean.square()).clamp(min=0)
        mean, variance = mean.to(values.dtype), variance.to(values.dtype)
        context.save_for_backward(values, weight, mean, variance)
        context.eps = eps
        context.mark_non_differentiable(mean, variance)
        return functional.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps), mean, variance

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        values, weight, mean, variance = context.saved_tensors
        scale = (variance.double() + context.eps).rsqrt()
        _, weight_gradient, bias_gradient = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, None, None, False, context.eps, [False, True, True]
        )
        count = values.numel() // values.shape[1]
        along, total = _average_over_processes(weight_gradient.double() / count, bias_gradient.double() / count)
        slope = scale if weight is None else scale * weight.double()
        parts = (slope, -slope * scale * along, slope * (scale * along * mean.double() - total))
        of_gradient, of_values, constant = (part.to(values.dtype)[:, None, None] for part in parts)
        of_input = torch.addcmul(torch.addcmul(constant, values, of_values), gradient, of_gradient)
        return of_input, None if weight is None else weight_gradient, None if weight is None else bias_gradient, None


def _average_over_processes(*values: Tensor) -> Tensor:
    own, count = torch.stack(values), torch.distributed.get_world_size()
    if own.device.type != "cpu":
        torch.distributed.all_reduce(own)
        return own / count
    parts = [own if rank == torch.distributed.get_rank() else torch.empty_like(own) for rank in range(count)]
    others = [rank for rank in range(count) if parts[rank] is not own]
    transfers = [torch.distributed.isend(own, rank) for rank in others]  # gloo's all_reduce takes five times as long
    transfers += [torch.distributed.irecv(parts[rank], rank) for rank in others]
    for transfer in transfers:
        assert transfer is not None
        transfer.wait()
    return torch.stack(parts).mean(0)


def use_global_batch_norm(module: ModuleT) -> ModuleT:
    """Let each BatchNorm2d of a module normalize by the statistics of all processes, in place."""
    for part in module.modules():
        if type(part) is nn.BatchNorm2d:
            part.__class__ = GlobalBatchNorm2d
    return module


def launch_processes(fabric: Any) -> None:
    """Start or join the processes of a training. Raises StadiaError if they do not connect."""
    try:
        fabric.launch()
    except torch.distributed.DistError as error:
        where, fix = f"MASTER_PORT={os.environ.get('MASTER_PORT')}", "take another port: torchrun --master-port PORT"
        found = f"no connection ({summarize_exception(error)})"
        raise StadiaError(where, found=found, expected="a free port that each process reaches", fix=fix) from error


# -- restarts by torchrun and SLURM


def start_attempt() -> None:
    """Give the processes that torchrun has started a store of their own.

    torchrun has one store for all restarts of a job, with addresses of dead processes
    (https://github.com/pytorch/pytorch/issues/135712). So the processes of this attempt agree on a new store, the count
    of restarts, and the name of the job.
    """
    variables = os.environ
    if variables.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or torch.distributed.is_initialized():
        return
    shared, rank, count = next(rendezvous("env://"))
    restarts = int(variables.get("TORCHELASTIC_RESTART_COUNT", "0"))
    name, present = agree_on_attempt(shared, rank, count, {"restarts": restarts, "job": find_job()})
    attempt = PrefixStore(name, shared)
    host = variables["MASTER_ADDR"]
    if rank == 0:
        open_store: Any = torch.distributed.TCPStore  # type: ignore[attr-defined]
        server = open_store(host, 0, is_master=True, multi_tenant=True, wait_for_workers=False)
        _STORES.append(server)
        attempt.set("port", str(server.port))
    variables["MASTER_PORT"] = attempt.get("port").decode()
    variables["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    variables["TORCHELASTIC_RESTART_COUNT"] = str(max(process["restarts"] for process in present))
    variables[JOB_VARIABLE] = str(present[0]["job"])


def agree_on_attempt(store: Store, rank: int, count: int, facts: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return one name of this attempt and the facts of all its processes, by rank; the same in every process.

    Each process writes an entry, and waits until all have seen the same entries.

    store: store of all attempts.
    rank: number of this process, from 0.
    count: number of processes.

    Raises StadiaError with the missing processes after WAIT_S.
    """
    end_s = time.monotonic() + WAIT_S
    store.set(f"present/{rank}", json.dumps({**facts, "entry": uuid.uuid4().hex}))
    while True:  # polled, because a signal does not end a wait of the store
        if store.check([f"present/{other}" for other in range(count)]):
            entries = [store.get(f"present/{other}") for other in range(count)]
            name = hashlib.sha256(b"".join(entries)).hexdigest()
            store.set(f"{name}/{rank}", "seen")
            if store.check([f"{name}/{other}" for other in range(count)]):
                return name, [json.loads(entry) for entry in entries]
        if time.monotonic() > end_s:
            missing = [str(other) for other in range(count) if not store.check([f"present/{other}"])]
            found = f"no answer of process {', '.join(missing) or 'of this attempt'} for {WAIT_S:.0f} s"
            fix = "read the logs of the other machines, and start the job again: it resumes from its checkpoint"
            raise StadiaError("torchrun", found=found, expected=f"{count} processes", fix=fix)
        time.sleep(POLL_S)


def find_job() -> str | None:
    """Return the name of this process's job in all of its restarts; None without torchrun and SLURM."""
    if JOB_VARIABLE in os.environ:
        return os.environ[JOB_VARIABLE]
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is not None:
        agent = f"{socket.gethostname()}-{os.getppid()}" if run_id == "none" else ""
        return f"torchrun-{run_id}-{agent}"
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None and "SLURM_PROCID" in os.environ:
        return f"slurm-{job}-{os.environ.get('SLURM_STEP_ID', '')}"
    return None


def is_restarted() -> bool:
    """Return whether torchrun or SLURM has restarted this job."""
    counts = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    return any(count not in ("", "0") for count in counts)


def record_job(root: Path, run: Path) -> None:
    """Write which run this job trains; nothing without a job."""
    job = find_job()
    if job is not None:
        write_json(_job_file(root, job), {"job": job, "run": run.name})


def find_run_of_job(root: Path) -> Path | None:
    """Return the run that this job trained before its restart, or None."""
    job = find_job()
    if job is None or not is_restarted() or not _job_file(root, job).is_file():
        return None
    record: Any = read_json(_job_file(root, job))
    name = record.get("run") if isinstance(record, dict) and record.get("job") == job else None
    folder = safe_join(root, name) if isinstance(name, str) else None
    return folder if folder is not None and (folder / "run.json").is_file() else None


def _job_file(root: Path, job: str) -> Path:
    return Path(root) / JOBS / f"{hashlib.sha256(job.encode()).hexdigest()[:16]}.json"


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

    A GPU gets bf16, if it supports it, and compiled code. A CPU gets bf16 if it is measured to be faster than float32.

    saved: `training` of the resumed run, whose values are kept.
    """
    device = select_device(config.accelerator).type
    choose: dict[str, Callable[[], str]] = {
        "precision": lambda: choose_precision(device, find_layout(config).count),
        "compile": lambda: "all" if device == "cuda" else "off",
    }
    unresolved = [key for key in choose if getattr(config, key) == "auto"]
    return config.model_copy(update={key: (saved or {}).get(key) or choose[key]() for key in unresolved})


def choose_precision(device: str, processes: int = 1) -> Literal["32", "bf16"]:
    """Return "bf16" if a device computes faster in it, else "32".

    device: kind of device: "cuda", "cpu" and others.
    processes: number of processes that train together. On CPUs they need one choice for all, which is "32".
    """
    if (fixed := os.environ.get(AUTO_VARIABLE)) in ("32", "bf16"):
        return cast(Literal["32", "bf16"], fixed)
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "32"
    return "bf16" if device == "cpu" and processes == 1 and find_rates().is_bf16_faster else "32"


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence tips of Lightning and of data parallelism."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    with warnings.catch_warnings():
        for advice in ("GPU available but not used", "LeafSpec.*deprecated", "Grad strides do not match bucket"):
            warnings.filterwarnings("ignore", message=f".*{advice}")
        logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
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
    if config.precision == "bf16" and place == "cpu":
        note_slow_bf16("training.precision=bf16", "set training.precision=auto")


def check_precision(config: TrainingConfig) -> None:
    """Raise ConfigError for fp16 without a CUDA GPU."""
    place = select_device(config.accelerator).type
    if config.precision == "fp16" and place != "cuda":
        fix = "set training.precision=bf16 or 32"
        raise ConfigError("training.precision", found=f"fp16 on {place}", expected="a CUDA GPU", fix=fix)
