"""Train three steps of a configuration, and measure their time and peak memory."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stadia.core.errors import RunError
from stadia.core.memory import peak_memory_bytes, reset_peak_memory
from stadia.core.signals import discard_if_interrupted
from stadia.core.terminal import StopSignals, Terminal
from stadia.training.loading.loader import MixtureLoader, take_batches_of_each
from stadia.training.loop.fit import open_training, run_training
from stadia.training.loop.loop import Callback, StopRequest, TrainingLoop
from stadia.training.loop.recipe import AnyRecipe
from stadia.training.loop.run_folder import Run
from stadia.training.recipes.base.build_recipe import TrainingData, create_recipe
from stadia.training.recipes.base.config import RecipeConfig

PROBE_STEPS = 3
"""The second step adds the optimizer's state; the third shows that memory stays constant."""


@dataclass(frozen=True)
class DryRunResult:
    """Time and peak memory of each step of `launch.dry_run`: three steps for each dataset and stage.

    device: "cpu" or "cuda".
    peak_bytes: peak memory during each step: torch's on a GPU, otherwise of the process and its children. Only on Linux
        each step has its own peak; elsewhere the peak since the start of the process counts.
    seconds: wall time of each step, with its data.
    not_checked: names of the loss checks that exceeded `training.check_seconds`.

    Examples:
        >>> print(DryRunResult("cpu", (500 << 20, 520 << 20, 520 << 20), (1.8, 0.6, 0.6)))
        3 full steps: peak memory of all its processes 500, 520, 520 MB, 1.80, 0.60, 0.60 s
    """

    device: str
    peak_bytes: tuple[int, ...]
    seconds: tuple[float, ...]
    not_checked: tuple[str, ...] = ()

    def __str__(self) -> str:
        peaks = ", ".join(f"{peak / (1 << 20):.0f}" for peak in self.peak_bytes)
        where = "of the GPU" if self.device == "cuda" else "of all its processes"
        times = ", ".join(f"{seconds:.2f}" for seconds in self.seconds)
        return f"{len(self.seconds)} full steps: peak memory {where} {peaks} MB, {times} s"


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
        fix=(
            "lower training.batch_size (and raise training.grad_accumulation_steps as much),"
            " or data.height and data.width"
        ),
    )
