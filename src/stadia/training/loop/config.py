"""Configuration of a training, its optimizer, schedule and stages. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from stadia.core.config import StrictModel, check_registered
from stadia.core.errors import ConfigError
from stadia.training.loop import LOGGERS, OPTIMIZERS, SCHEDULES

MAX_STEPS = 10**9
"""Largest number of steps, epochs or minutes of a configuration: a larger one is a typing mistake."""

MAX_BATCH = 1 << 16
"""Largest batch of a configuration, samples."""

MAX_PROCESSES = 512
"""Largest number of processes of a configuration."""

MAX_SIDE = 8192
"""Largest height and width of a stage's images, pixels."""

CHECK_SECONDS = 20
"""Default time for the checks of the losses before a training."""

MIN_CHECK_SECONDS = 5
"""In less time, not even the first laws are checked."""

MAX_CHECK_SECONDS = 3600
"""Largest time for the checks of the losses: they end long before."""

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")


def check_launcher() -> None:
    """Raise ConfigError if SLURM started or allocated several tasks without `--ntasks-per-node`, or if WORLD_SIZE names
    several processes without torchrun.

    Lightning Fabric refuses such jobs, after the data have been checked. Interactive shells and torchrun are exempt, as
    in Fabric.
    """
    tasks = os.environ.get("OMPI_COMM_WORLD_SIZE", "1")
    if tasks != "1" and "RANK" not in os.environ:
        found, fix = f"{tasks} processes of mpirun, each of which would train alone", "start by torchrun"
        raise ConfigError("OMPI_COMM_WORLD_SIZE", found=found, expected="the variables of torchrun", fix=fix)
    processes = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and processes != "1" and "LOCAL_WORLD_SIZE" not in os.environ:
        found, fix = f"{processes} without LOCAL_WORLD_SIZE", "start by torchrun, or unset RANK"
        raise ConfigError("WORLD_SIZE", found=found, expected="the variables of torchrun", fix=fix)
    tasks = os.environ.get("SLURM_NTASKS", "1")
    is_exempt = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or "TORCHELASTIC_RUN_ID" in os.environ
    if tasks == "1" or is_exempt:
        return
    per_node, nodes = os.environ.get("SLURM_NTASKS_PER_NODE", ""), os.environ.get("SLURM_NNODES", "1")
    is_known = per_node.isdecimal() and nodes.isdecimal()
    if is_known and tasks == str(int(per_node) * int(nodes)):
        return
    if is_known:
        found, fix = (
            f"{tasks} tasks on {nodes} machines",
            f"start by `srun --nodes={nodes} --ntasks-per-node={per_node}`",
        )
        raise ConfigError("SLURM_NTASKS", found=found, expected=f"{per_node} on each machine", fix=fix)
    found, fix = f"{tasks} without SLURM_NTASKS_PER_NODE", "start by `srun --ntasks-per-node=N`, for one process `unset"
    expected = "one task, or the tasks of each machine"
    raise ConfigError("SLURM_NTASKS", found=found, expected=expected, fix=f"{fix} SLURM_NTASKS`")


def _is_supported(strategy: str) -> str:
    if strategy not in STRATEGIES:
        raise ValueError("expected 'auto', 'ddp' or 'ddp_find_unused_parameters_true'")
    return strategy


class OptimizerConfig(StrictModel):
    """The optimizer.

    name: the optimizer (`stadia list optimizers`).
    lr: learning rate at the top of the schedule.
    weight_decay: decay of the weights; biases and normalization layers have none.
    betas: betas of adam and adamw.
    momentum: momentum of sgd (Nesterov's, unless it is 0).
    """

    name: Annotated[str, AfterValidator(check_registered(OPTIMIZERS))] = "adamw"
    lr: float = Field(default=1e-4, gt=0, le=1e4)
    weight_decay: float = Field(default=1e-2, ge=0, le=1e4)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class ScheduleConfig(StrictModel):
    """The learning-rate schedule: a factor on `optimizer.lr`, a function of the step alone.

    name: a row of SCHEDULES.
    warmup_steps: steps of a linear warm-up before the schedule.
    warmup_from_epoch: the epoch, from 0, at which the warm-up starts.
    milestones, gamma: `step` multiplies by gamma at each milestone.
    milestones_in: the unit of milestones: epochs, or fractions of the run.
    final_factor: factor on the learning rate at the end of `cosine`.
    """

    experimental: ClassVar[frozenset[str]] = frozenset({"warmup_from_epoch"})
    name: Annotated[str, AfterValidator(check_registered(SCHEDULES))] = "cosine"
    warmup_steps: int = Field(default=0, ge=0, le=MAX_STEPS)
    warmup_from_epoch: int = Field(default=0, ge=0, le=MAX_STEPS)
    milestones: tuple[Annotated[float, Field(gt=0, le=MAX_STEPS)], ...] = (0.75,)
    milestones_in: Literal["fractions", "epochs"] = "fractions"
    gamma: float = Field(default=0.1, gt=0, le=1)
    final_factor: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> ScheduleConfig:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise")
        if self.milestones_in == "fractions" and any(m >= 1 for m in self.milestones):
            raise ValueError("milestones are fractions between 0 and 1; for epochs set milestones_in=epochs")
        return self


class StageConfig(StrictModel):
    """One stage of progressive resizing.

    height, width: size of its images; the last stage has `data.height` and `data.width`.
    share: share of all samples of the training.
    batch_size: batch size on one device. "auto": as many pixels as in a batch of the last stage, or fewer so that the
        stage has 100 steps.
    """

    height: int = Field(ge=1, le=MAX_SIDE)
    width: int = Field(ge=1, le=MAX_SIDE)
    share: float = Field(gt=0, le=1)
    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH)] | Literal["auto"] = "auto"


class FinishConfig(StrictModel):
    """Changes near the end of a training.

    at: share of the steps after which it changes.
    optimizer: the optimizer that starts there; null keeps the one before. The schedule continues.
    loss: keys of `loss` with other values from there on: {"residual": "mse"}.
    """

    at: float = Field(default=0.9, gt=0, lt=1)
    optimizer: OptimizerConfig | None = None
    loss: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _changes_something(self) -> FinishConfig:
        if self.optimizer is None and not self.loss:
            raise ValueError("training.finish changes nothing: set its optimizer or its loss")
        return self


class TrainingConfig(StrictModel):
    """Length, batch size, devices and logging of a training. A step is one update of the weights.

    max_epochs, max_steps: the training ends at the first of the two. max_steps alone sets no limit of epochs.
    max_minutes: time limit of all steps, without validations and checkpoints. A resume may raise it.
    batch_size: samples of one forward and backward on one device.
    grad_accumulation_steps: batches of a step.
    global_batch_size: samples of a step over all processes and accumulated batches. `batch_size` follows from it, and
        batch normalization uses all of them. null: `batch_size` counts.
    clip_norm: the largest norm of the gradient; null: any.
    precision: "bf16" runs the networks in bfloat16, "fp16" in float16 with a gradient scaler, on CUDA GPUs. "auto" is
        bf16 on a GPU that supports it and on a CPU that is measured to be faster in it, else 32.
    compile: the parts that torch.compile compiles: "off", "loss", "networks", "all", or "graphs" (all, replayed as CUDA
        graphs). "auto" is "all" on a GPU, else "off".
    workers: processes that load data; 0 loads in the training process.
    threads: number of threads of torch on the CPU; null leaves torch's default.
    log_every, images_every, histograms_every, checkpoint_every: intervals in steps. Images and histograms also at the
        first and the last step; 0: never.
    keep_every: interval in steps; keeps the weights as checkpoints/step-NNNNNNN.safetensors. 0: only the last and the
        best.
    validate_every: interval in steps; null: once an epoch. The last step is always validated.
    stages: image sizes for progressive resizing, usually the smallest first. The length counts samples then: max_steps
        * batch_size of them, or max_epochs.
    stage_lr_scaling: learning rate of a stage whose batches are k times as large as the last one's: times k ** 0.5
        ("root", for adam), k ("linear", for sgd) or 1 ("constant").
    finish: another optimizer, other keys of the loss, or both near the end of the training.
    check_seconds: time limit of the loss checks before the first step; 0 leaves them out.
    loggers: rows of LOGGERS; each gets every scalar, image and histogram.
    devices, accelerator, strategy: options of Lightning Fabric ("auto", 2, "gpu", "ddp").
    """

    max_epochs: int | None = Field(default=20, ge=1, le=MAX_STEPS)
    max_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    max_minutes: float | None = Field(default=None, gt=0, le=MAX_STEPS)
    batch_size: int = Field(default=8, ge=1, le=MAX_BATCH)
    grad_accumulation_steps: int = Field(default=1, ge=1, le=MAX_BATCH)
    global_batch_size: int | None = Field(default=None, ge=1, le=1 << 24)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    compile: Literal["auto", "off", "loss", "networks", "all", "graphs"] = "off"
    workers: int = Field(default=1, ge=0, le=MAX_PROCESSES)
    threads: int | None = Field(default=None, ge=1, le=MAX_PROCESSES)
    log_every: int = Field(default=10, ge=1, le=MAX_STEPS)
    images_every: int = Field(default=500, ge=0, le=MAX_STEPS)
    histograms_every: int = Field(default=500, ge=0, le=MAX_STEPS)
    checkpoint_every: int = Field(default=500, ge=1, le=MAX_STEPS)
    keep_every: int = Field(default=0, ge=0, le=MAX_STEPS)
    validate_every: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    devices: Annotated[int, Field(ge=1, le=MAX_PROCESSES)] | Literal["auto"] = 1
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    strategy: Annotated[str, AfterValidator(_is_supported)] = "auto"
    stages: tuple[StageConfig, ...] = ()
    stage_lr_scaling: Literal["root", "linear", "constant"] = "root"
    finish: FinishConfig | None = None
    check_seconds: float = Field(default=CHECK_SECONDS, ge=0, le=MAX_CHECK_SECONDS)
    loggers: tuple[Annotated[str, AfterValidator(check_registered(LOGGERS))], ...] = ("csv", "tensorboard")

    @model_validator(mode="before")
    @classmethod
    def _steps_instead_of_epochs(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("max_steps") is not None and "max_epochs" not in values:
            return {**values, "max_epochs": None}
        return values

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        values = super().complete(given)
        return values if given.get("max_epochs") is None or "max_steps" in given else {**values, "max_steps": None}

    @model_validator(mode="after")
    def _check_length(self) -> TrainingConfig:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("set max_epochs or max_steps")
        return self

    @model_validator(mode="after")
    def _check_time_of_checks(self) -> TrainingConfig:
        if 0 < self.check_seconds < MIN_CHECK_SECONDS:
            least = f"use at least {MIN_CHECK_SECONDS}, or 0 to skip the checks"
            raise ValueError(f"check_seconds={self.check_seconds:g} is too short: {least}")
        return self

    @model_validator(mode="after")
    def _check_graphs(self) -> TrainingConfig:
        if self.compile == "graphs" and (self.grad_accumulation_steps > 1 or self.stages):
            other = "stages" if self.stages else f"grad_accumulation_steps={self.grad_accumulation_steps}"
            raise ValueError(f"compile=graphs does not work with {other}: set compile=all")
        return self

    @model_validator(mode="after")
    def _check_finish(self) -> TrainingConfig:
        if self.finish is not None and self.finish.loss and self.compile in ("loss", "all", "graphs"):
            raise ValueError(f"finish.loss does not work with compile={self.compile}: set compile=networks or off")
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> TrainingConfig:
        if self.stages and not math.isclose(total := sum(stage.share for stage in self.stages), 1, abs_tol=1e-6):
            raise ValueError(f"the shares of training.stages add up to {total:g}, expected 1")
        if self.stages and self.stages[-1].batch_size not in ("auto", self.batch_size):
            last = f"training.stages ends with batch_size={self.stages[-1].batch_size}"
            fix = "set both to the same value, or leave the last one out"
            raise ValueError(f"{last}, and training.batch_size is {self.batch_size}: {fix}")
        return self
