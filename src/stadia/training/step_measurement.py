"""Train three steps of a configuration, and measure their time and peak memory."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from stadia.core.errors import RunError
from stadia.core.memory import available_memory_bytes, peak_memory_bytes, reset_peak_memory
from stadia.core.signals import discard_if_interrupted
from stadia.core.terminal import StopSignals, Terminal
from stadia.differentiable import torch_state
from stadia.training.loading.loader import Loader, MixtureLoader, take_batches_of_each
from stadia.training.loop.batches import TrainingPlan, select_device
from stadia.training.loop.config import CHECK_SECONDS, TrainingConfig
from stadia.training.loop.fit import open_training, run_training
from stadia.training.loop.loop import Callback, StopRequest, TrainingLoop
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.build_recipe import TrainingData, create_recipe
from stadia.training.recipes.base.config import RecipeConfig

SMALLER_STEP = (
    "lower training.batch_size (and raise training.grad_accumulation_steps as much), or data.height and data.width"
)
"""This makes a step need less memory."""

PROBE_STEPS = 3
"""The second step adds the optimizer's state; the third shows that memory stays constant."""


@dataclass(frozen=True)
class DryRunResult:
    """Time and peak memory of each step of `training.dry_run`: three steps for each dataset and stage.

    device: "cpu" or "cuda".
    peak_bytes: peak memory during each step: torch's on a GPU, otherwise of the process and its children. Only on Linux
        each step has its own peak; elsewhere the peak since the start of the process counts.
    seconds: wall time of each step, with its data.
    not_checked: names of the loss checks that exceeded `training.check_seconds`.
    is_estimated: whether the one step was estimated from one sample, because three steps would take long.

    Examples:
        >>> print(DryRunResult("cpu", (500 << 20, 520 << 20, 520 << 20), (1.8, 0.6, 0.6)))
        3 full steps: peak memory of all its processes 500, 520, 520 MB, 1.80, 0.60, 0.60 s
    """

    device: str
    peak_bytes: tuple[int, ...]
    seconds: tuple[float, ...]
    not_checked: tuple[str, ...] = ()
    is_estimated: bool = False

    def __str__(self) -> str:
        if self.is_estimated:
            peak_gb = self.peak_bytes[0] / 1e9
            return f"a step, estimated from one sample: about {self.seconds[0]:.0f} s, at least {peak_gb:.1f} GB"
        peaks = ", ".join(f"{peak / (1 << 20):.0f}" for peak in self.peak_bytes)
        where = "of the GPU" if self.device == "cuda" else "of all its processes"
        times = ", ".join(f"{seconds:.2f}" for seconds in self.seconds)
        return f"{len(self.seconds)} full steps: peak memory {where} {peaks} MB, {times} s"


MAX_DRY_STEPS_S = 10.0
"""Three steps that take longer by one sample are estimated from it, and not made."""

SHORT_CHECK_SECONDS = 5.0
"""Time limit of the loss checks of a dry run whose steps are estimated."""

OPTIMIZER_COPIES = 3
"""A step has a gradient and two moments of Adam for each weight."""

MAX_MEMORY_SHARE = 0.9
"""A training that needs more than this share of the free memory does not fit: other programs need some, too."""


@dataclass(frozen=True)
class SampleStep:
    """Forward and backward pass of one sample, from which `estimate_steps` extrapolates a whole step.

    device: "cpu" or "cuda".
    seconds: wall time.
    held_bytes: memory before it, with the weights.
    weight_bytes: size of the weights that are trained.
    sample_bytes: memory that the forward pass of a sample keeps for the backward pass.
    """

    device: str
    seconds: float
    held_bytes: int
    weight_bytes: int
    sample_bytes: int

    def estimate_steps(self, batch_size: int, batches: int) -> DryRunResult:
        """Return the estimated time and peak memory of a step of some batches."""
        peak_bytes = self.held_bytes + OPTIMIZER_COPIES * self.weight_bytes + batch_size * self.sample_bytes
        return DryRunResult(self.device, (peak_bytes,), (batches * batch_size * self.seconds,), is_estimated=True)


def measure_sample(recipe: AnyRecipe, config: RecipeConfig, data: TrainingData) -> SampleStep | None:
    """Measure the forward and backward pass of one sample. The recipe and the random generators stay as they are.

    Returns None on a GPU, and for several datasets or sizes, whose steps are always made.
    """
    train, device = data.train, select_device(config.training.accelerator)
    if not isinstance(train, Loader) or device.type != "cpu":
        return None
    one = Loader(train.samples, batch_size=1, shuffle=False)
    buffers = {name: tensor.clone() for name, tensor in recipe.named_buffers()}
    recipe.plan = TrainingPlan.from_loader(train, config.training)
    process = psutil.Process()
    is_bf16 = config.training.precision == "bf16"
    held_bytes, sample_bytes = process.memory_info().rss, 0
    with torch_state.preserve_generators(), torch.enable_grad():
        batch = next(iter(one))
        for _ in range(2):  # the first pass also starts libraries
            start_s = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                total = recipe.training_step(batch).total
            sample_bytes = max(process.memory_info().rss - held_bytes, sample_bytes)
            total.backward()  # type: ignore[no-untyped-call]
            seconds = time.perf_counter() - start_s
            if seconds > MAX_DRY_STEPS_S:
                break
    trained = [one for one in recipe.parameters() if one.requires_grad]
    recipe.zero_grad(set_to_none=True)
    for name, tensor in recipe.named_buffers():
        tensor.copy_(buffers[name])
    weight_bytes = sum(weight.numel() * weight.element_size() for weight in trained)
    return SampleStep(device.type, seconds, held_bytes, weight_bytes, sample_bytes)


def find_check_seconds(config: TrainingConfig, *, is_estimated: bool) -> float:
    """Return the time limit of the loss checks of a dry run: short by default where its steps are estimated."""
    if is_estimated and config.check_seconds == CHECK_SECONDS:
        return SHORT_CHECK_SECONDS
    return config.check_seconds or CHECK_SECONDS  # a dry run always checks the losses


def check_memory(estimated: DryRunResult, config: RecipeConfig) -> None:
    """Raise RunError if an estimated step needs more memory than is free, before it fills the memory."""
    needed, free = max(estimated.peak_bytes), available_memory_bytes() + psutil.Process().memory_info().rss
    if needed > MAX_MEMORY_SHARE * free:
        batch = f"batch_size={config.training.batch_size}"
        raise RunError(
            "memory of a step",
            found=f"about {needed / 1e9:.1f} GB with training.{batch}, by one sample",
            expected=f"at most {MAX_MEMORY_SHARE * free / 1e9:.1f} GB, which are free",
            fix=SMALLER_STEP,
        )


def measure_steps(recipe_class: type[AnyRecipe], config: RecipeConfig, data: TrainingData) -> DryRunResult:
    """Build the networks and train PROBE_STEPS steps of each dataset at one size, in a temporary folder.

    Raises the errors of `workflow.train` before training, and RunError if memory does not suffice.
    """
    train, data_sets = data.train, 1
    if isinstance(train, MixtureLoader):
        train = take_batches_of_each(train.loaders, PROBE_STEPS * config.training.grad_accumulation_steps)
        data_sets = len(train.loaders)
    few = {"max_steps": PROBE_STEPS * data_sets, "max_epochs": None, "loggers": (), "images_every": 0, "log_every": 1}
    training = config.training.model_copy(update=few)
    probe, console = MemoryProbe(), Terminal(quiet=True)
    with (
        tempfile.TemporaryDirectory(prefix="stadia-dry-run-", ignore_cleanup_errors=True) as folder,
        discard_if_interrupted(Path(folder)),
    ):
        run = Run.create(Path(folder), config.name, config, recipe=recipe_class.recipe, seed=config.seed)
        recipe = create_recipe(recipe_class, config, data, run)
        try:
            run_training(
                open_training(recipe, train, None, training, run, signals=StopSignals(console)), [probe], console
            )
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise out_of_memory_error(len(probe.seconds) + 1, probe.peak_bytes, error) from error
        except StopRequest:
            raise KeyboardInterrupt from None
    return DryRunResult(probe.device, tuple(probe.peak_bytes), tuple(probe.seconds))


class MemoryProbe(Callback):
    """Records the peak memory of every step."""

    def __init__(self) -> None:
        self.device = "cpu"
        self.peak_bytes: list[int] = []
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_start(self, loop: TrainingLoop) -> None:
        self.device = loop.fabric.device.type
        self._start()

    def on_step_end(self, loop: TrainingLoop) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
            self.peak_bytes.append(torch.cuda.max_memory_allocated())
        else:
            self.peak_bytes.append(peak_memory_bytes())
        self.seconds.append(time.perf_counter() - self.started)
        self._start()

    def _start(self) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            reset_peak_memory()
        self.started = time.perf_counter()


def out_of_memory_error(step: int, peaks: Sequence[int], error: BaseException) -> RunError:
    """Return an error with the step and the peak of the step before it."""
    before = f" after {peaks[-1] / (1 << 20):.0f} MB of the step before" if peaks else ""
    return RunError(
        f"memory of step {step}",
        found=f"none left{before} ({' '.join(str(error).split())[:200]})",
        expected="memory for every step",
        fix=SMALLER_STEP,
    )
