"""Log and show a training: scalars, images, histograms, progress."""

import csv
import importlib.util
import io
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from stadia.core.errors import RunError
from stadia.core.progress import PAUSE_S, SHOWN_PROGRESS
from stadia.core.terminal import make_progress
from stadia.differentiable import torch_state
from stadia.differentiable.batch import is_temporal
from stadia.io.atomic_files import atomic_write, explain_write_error, open_to_append, write_text
from stadia.io.image_io import compose_image_sheet
from stadia.io.metrics_table import read_rows
from stadia.losses.loss_report import check_loss
from stadia.training.loop.loop import Callback, TrainingLoop
from stadia.training.loop.recipe import UpdateRatio, sample_values
from stadia.training.loop.run_folder import Run

PERCENTS = (5, 25, 50, 75, 95)
"""Percentiles of the weights' absolute values in the file of histograms."""

HISTOGRAM = ["step", "name", "zero", *(f"p{percent:02}" for percent in PERCENTS)]


class Logger(ABC):
    """Write the callbacks' measurements. Opened once per training, in its main process.

    run: the run that gets the files.
    step: step of the resumed checkpoint, or 0; later rows are removed.
    """

    @abstractmethod
    def __init__(self, run: Run, step: int) -> None: ...

    @abstractmethod
    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log scalars of a step, by name."""

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log an (H, W, 3) RGB image of a step."""
        return

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        """Log the distribution of (N,) values of a step."""
        return

    def close(self) -> None:
        """Flush and close."""
        return


class CsvLogger(Logger):
    """Write metrics.csv: `step`, `epoch`, then a column per scalar in order of appearance.

    histograms.csv has a row per histogram: percentiles of |value|, and the share of zeros.
    """

    def __init__(self, run: Run, step: int) -> None:
        self.path, self.histograms = run.metrics_csv, run.histograms_csv
        self.columns = ["step", "epoch"]
        rows = read_rows(self.path) if self.path.exists() else []
        if rows:
            self.columns = list(rows[0])
        self._write(_keep_rows(rows, step))
        if self.histograms.exists():
            before = _keep_rows(read_rows(self.histograms), step)
            write_text(self.histograms, "".join([_line(HISTOGRAM), *(_line(list(row.values())) for row in before)]))

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        row = {"step": str(step), "epoch": str(epoch), **{name: repr(float(value)) for name, value in values.items()}}
        new = [name for name in row if name not in self.columns]
        if new:
            rows = read_rows(self.path)
            self.columns += new
            self._write(rows)
        _append(self.path, [row.get(name, "") for name in self.columns])

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        if not self.histograms.exists():
            write_text(self.histograms, _line(HISTOGRAM))
        sizes = np.abs(values)
        numbers = [float((sizes == 0).mean()), *np.percentile(sizes, PERCENTS).tolist()]
        _append(self.histograms, [str(step), name, *map(repr, numbers)])

    def _write(self, rows: list[dict[str, str]]) -> None:
        lines = [self.columns, *([row.get(name, "") for name in self.columns] for row in rows)]
        write_text(self.path, "".join(map(_line, lines)))


def _keep_rows(rows: list[dict[str, str]], step: int) -> list[dict[str, str]]:
    return [row for row in rows if int(row["step"]) <= step]


def _append(path: Path, cells: list[str]) -> None:
    try:
        with open_to_append(path) as file:
            file.write(_line(cells).encode())
    except OSError as error:
        fix = "free some space, then resume the run"
        raise RunError(
            path, found=f"a table that cannot be written ({error.strerror})", expected="free space for a row", fix=fix
        ) from error


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


class TensorBoardLogger(Logger):
    """Write events into RUN/tensorboard; `tensorboard --logdir runs` shows every run."""

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = run.folder / "tensorboard"
        with self._explained():
            self.writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            explain_write_error(error, self.folder)
            raise

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        with self._explained():
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        with self._explained():
            self.writer.add_image(name, image, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        with self._explained():
            self.writer.add_histogram(name, values, step)

    def close(self) -> None:
        with self._explained():
            self.writer.close()


class WandbLogger(Logger):
    """Log to Weights & Biases; a resumed training continues the same W&B run."""

    def __init__(self, run: Run, step: int) -> None:
        if importlib.util.find_spec("wandb") is None:
            found, expected, fix = "'wandb', not installed", "a logger at hand", "pip install 'stadia[wandb]'"
            raise RunError("training.loggers", found=found, expected=expected, fix=fix)
        import wandb

        self.wandb, name, folder = wandb, run.folder.name, str(run.folder)
        self.run = wandb.init(project="stadia", name=name, id=name, dir=folder, config=run.config, resume="allow")

    def scalars(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self.run.log({"epoch": epoch, **finite}, step=step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        self.run.log({name: self.wandb.Image(image)}, step=step)

    def histogram(self, step: int, name: str, values: NDArray[np.float32]) -> None:
        self.run.log({name: self.wandb.Histogram(values)}, step=step)

    def close(self) -> None:
        self.run.finish()


TERM = "train/term/"
OF_A_STEP = ("loading", "forward", "loss", "backward", "optimizer")

MAX_GROUPS = 24
"""Most groups of weights that are logged: more are too many curves for one figure."""

MAX_PARTS = 4
"""Most parts of a weight's path that name its group, such as `network.encoder.layer1.0`."""

MAIN_SCORES = ("val/abs_rel", "val/residual")

WRAPPERS = ("backbone",)


def is_due(every: int, step: int, total_steps: int) -> bool:
    """Return whether a step is the first, the last or a multiple of `every`; never with 0."""
    return every > 0 and (step % every == 0 or step in (1, total_steps))


class Scalars(Callback):
    """Log a row every `log_every` steps and one per validation; check each row of a step (`check_loss`).

    Values are means over the batches and processes of the step; `time/...` over the steps since the last row.
    """

    def __init__(self, loggers: Sequence[Logger], every: int) -> None:
        self.loggers, self.every = loggers, every
        self.sums: dict[str, Tensor] = {}
        self.update_ratio, self.output_gradients = UpdateRatio(), OutputGradients()
        self.marked = (0, 0.0)  # step and time at the last row

    def on_train_start(self, loop: TrainingLoop) -> None:
        self._mark(loop)

    def _logs(self, loop: TrainingLoop, step: int) -> bool:
        return step % self.every == 0 or step == loop.plan.total_steps

    def on_batch_start(self, loop: TrainingLoop, is_last: bool) -> None:
        if is_last and self._logs(loop, loop.step + 1):
            self.output_gradients.attach(loop.recipe)

    def on_before_update(self, loop: TrainingLoop) -> None:
        if self._logs(loop, loop.step + 1):
            self.update_ratio.measure_before(loop.recipe.parameters())

    def on_batch_end(self, loop: TrainingLoop) -> None:
        report = loop.report
        assert report is not None
        values = {"train/loss": report.total} | {f"{TERM}{name}": term for name, term in report.terms.items()}
        for name, value in (values | {f"train/{name}": value for name, value in report.logged.items()}).items():
            value = value.detach().float() / loop.plan.grad_accumulation_steps
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def on_step_end(self, loop: TrainingLoop) -> None:
        sums, self.sums = self.sums, {}
        if not self._logs(loop, loop.step):
            return
        assert loop.report is not None
        means = torch.stack(list(sums.values()))
        if loop.fabric.world_size > 1:
            means = loop.fabric.all_reduce(means, reduce_op="mean")
        same_everywhere = {"train/gradient_norm": loop.gradient_norm}
        if (ratio := self.update_ratio.measure_after()) is not None:
            same_everywhere["train/update_ratio"] = ratio
        sizes = self.output_gradients.collect(getattr(loop.batch, "source_names", ()))
        of_process = {f"gradient/{name}": loop.plan.grad_accumulation_steps * size for name, size in sizes.items()}
        others = torch.stack([value.float() for value in (same_everywhere | of_process).values()])
        values = torch.cat([means, others]).tolist()  # one transfer from the device
        row = dict(zip((*sums, *same_everywhere, *of_process), values, strict=True)) | {"train/lr": loop.lr}
        if loop.scaler is not None:
            row["train/loss_scale"] = loop.scaler.get_scale()
        self._log(loop, row | self._times(loop))
        terms = {name.removeprefix(TERM): value for name, value in row.items() if name.startswith(TERM)}
        check_loss(loop.step, row["train/loss"], terms, loop.report.least, loop.report.total.dtype)

    def on_validation_end(self, loop: TrainingLoop) -> None:
        self._log(loop, loop.metrics)
        self._mark(loop)

    def _times(self, loop: TrainingLoop) -> dict[str, float]:
        before, begun_s = self.marked
        parts = loop.clock.lap()
        steps, now_s = max(loop.step - before, 1), time.perf_counter()
        named = {f"time/{name}_s": parts.pop(name, 0.0) / steps for name in OF_A_STEP}
        self.marked = (loop.step, now_s)
        return {"time/step_s": (now_s - begun_s) / steps, **named, "time/rest_s": sum(parts.values()) / steps}

    def _mark(self, loop: TrainingLoop) -> None:
        loop.clock.lap()
        self.marked = (loop.step, time.perf_counter())

    def _log(self, loop: TrainingLoop, row: Mapping[str, float]) -> None:
        if row:
            for logger in self.loggers:
                logger.scalars(loop.step, loop.plan.epoch_of(loop.step), row)
            loop.call("on_row", loop.step, row)


class Images(Callback):
    """Write `Recipe.images` as images/step-000100.png every so many steps, at the first and the last.

    Each validation also writes images/NAME/step-000100.png: `Recipe.validation_images`. every=0 writes nothing.
    """

    phase = "images"

    def __init__(self, run: Run, loggers: Sequence[Logger], every: int) -> None:
        self.run, self.loggers, self.every = run, loggers, every

    def on_step_end(self, loop: TrainingLoop) -> None:
        ends = self.every > 0 and (loop.is_finished or loop.stop_requested())
        is_shown = ends or is_due(self.every, loop.step, loop.plan.total_steps)
        if not is_shown or not loop.fabric.is_global_zero:
            return
        assert loop.batch is not None
        assert loop.report is not None
        with torch.no_grad(), torch_state.preserve_generators():
            images = loop.recipe.images(loop.batch, loop.report)
        if images:
            self._write(self.run.images, loop.step, "images", compose_image_sheet(images))

    def on_validation_end(self, loop: TrainingLoop) -> None:
        if self.every and loop.fabric.is_global_zero:
            for name, image in loop.recipe.validation_images().items():
                self._write(self.run.images / name, loop.step, name, image)

    def _write(self, folder: Path, step: int, name: str, image: NDArray[np.uint8]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _, png = cv2.imencode(".png", image[..., ::-1])
        with atomic_write(folder / f"step-{step:06d}.png") as temporary:
            temporary.write_bytes(png.tobytes())
        for logger in self.loggers:
            logger.image(step, name, image)


class ProgressBar(Callback):
    """A bar in a terminal, otherwise a line every half minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pause_s = (
            1.0 if console.is_terminal else PAUSE_S
        )  # least time between readings of the loss, because a reading waits for the device
        self.bar = make_progress(
            console, "steps", TextColumn("loss {task.fields[loss]:.4f}"), TimeElapsedColumn(), transient=False
        )
        self.started_s = self.shown_s = 0.0
        self.first_step = 0

    def on_train_start(self, loop: TrainingLoop) -> None:
        self.started_s = self.shown_s = time.perf_counter()
        self.first_step = loop.step
        total = loop.plan.total_steps
        self.task = self.bar.add_task("training", total=total, completed=loop.step, loss=math.nan)
        if self.console.is_terminal:
            self.bar.start()

    def on_step_end(self, loop: TrainingLoop) -> None:
        assert loop.report is not None
        now_s, step = time.perf_counter(), loop.step
        rate = (step - self.first_step) / (now_s - self.started_s)
        left_s, by_time_s = (loop.plan.total_steps - step) / rate, loop.time_limit.left_s
        is_last, is_bar = loop.is_finished, self.console.is_terminal
        total = loop.plan.total_steps
        if is_last or by_time_s < left_s:  # the time may end it earlier
            total = step if is_last else step + math.ceil(by_time_s * rate)
        if is_bar:
            self.bar.update(self.task, completed=step, total=total)
        if now_s - self.shown_s < self.pause_s and not is_last and not (is_bar and step == self.first_step + 1):
            return
        self.shown_s, loss = now_s, loop.report.total.item()
        if is_bar:
            self.bar.update(self.task, loss=loss)
            return
        if SHOWN_PROGRESS.is_silent:
            return
        spent = now_s - self.started_s
        since = f"since step {self.first_step}" if self.first_step else "in all"
        left = f"{_minutes(spent)} {since}" if is_last else f"{_minutes(min(left_s, by_time_s))} left"
        about = "~" if by_time_s < left_s and not is_last else ""
        line = f"step {step}/{about}{total}  loss {loss:.4f}  {rate:.2f} steps/s  {left}"
        self.console.print(line, highlight=False)

    def on_validation_start(self, loop: TrainingLoop) -> None:
        self.bar.update(self.task, description="validating")

    def on_validation_end(self, loop: TrainingLoop) -> None:
        self.bar.update(self.task, description="training")
        if line := describe_validation(loop):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_train_end(self, loop: TrainingLoop) -> None:
        if self.console.is_terminal:
            self.bar.stop()


def describe_validation(loop: TrainingLoop) -> str:
    """Return a line about the latest validation, with the best score so far; "" without a finite score."""
    for name in loop.recipe.best_metrics or MAIN_SCORES:
        if math.isfinite(score := loop.metrics.get(name, math.nan)):
            break
    else:
        return ""
    line = f"step {loop.step}/{loop.plan.total_steps}  validation: {loop.recipe.describe_score(name)} {score:.4g}"
    if not loop.recipe.best_metrics or (loop.best_score is not None and loop.best_score.name != name):
        return line
    if loop.best is None or score < loop.best:
        return f"{line}, the best so far"
    at = f" at step {loop.best_score.step}" if loop.best_score is not None else ""
    return f"{line}; the best is {loop.best:.4g}{at}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class Histograms(Callback):
    """Log histograms before clipping and update, every so many steps, at the first and the last."""

    def __init__(self, loggers: Sequence[Logger], every: int) -> None:
        self.loggers, self.every = loggers, every

    def on_before_update(self, loop: TrainingLoop) -> None:
        step = loop.step + 1
        if not self.loggers or not is_due(self.every, step, loop.plan.total_steps):
            return
        for name, values in sample_distributions(loop.recipe):
            numbers = values.numpy()
            for logger in self.loggers:
                logger.histogram(step, name, numbers)


def group_layers(names: Iterable[str]) -> dict[str, str]:
    """Return the group of each weight by name: up to MAX_PARTS parts of its path, at most MAX_GROUPS groups.

    The paths' common start is left out: `model.depth.encoder.backbone.layer1.0.conv1.weight` belongs to
    `depth.encoder.layer1`.
    """
    paths = {name: [part for part in name.split(".")[:-1] if part not in WRAPPERS] for name in names}
    columns = zip(*paths.values(), strict=False) if len(paths) > 1 else ()
    shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, columns)))
    paths = {name: path[shared:] or path for name, path in paths.items()}
    lengths = range(MAX_PARTS, -1, -1)
    length = next(n for n in lengths if len({tuple(path[:n]) for path in paths.values()}) <= MAX_GROUPS)
    return {name: ".".join(path[:length]) or "all" for name, path in paths.items()}


def sample_distributions(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield `weights/GROUP` and `gradients/GROUP` with a sample of the values, (n,) float32 on the CPU.

    Only weights with two axes or more count. A missing gradient counts as 0.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.ndim > 1}
    groups: dict[str, list[nn.Parameter]] = {}
    for name, group in group_layers(weights).items():
        groups.setdefault(group, []).append(weights[name])
    for group, parameters in groups.items():
        yield f"weights/{group}", _concatenate([sample_values(weight) for weight in parameters])
        trained = [weight for weight in parameters if weight.requires_grad]
        if trained:
            gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in trained]
            yield f"gradients/{group}", _concatenate(list(map(sample_values, gradients)))


def _concatenate(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([sample.float() for sample in values]).cpu()


# -- the gradient of the loss with respect to each output of the networks


class OutputGradients:
    """Measure the gradients of one backward: call `attach` before the forward, `collect` after the backward."""

    def __init__(self) -> None:
        self._outputs: list[tuple[str, Tensor]] = []
        self._hooks: list[RemovableHandle] = []

    def attach(self, recipe: nn.Module) -> None:
        """Keep the outputs of the trained networks of a recipe."""
        networks = [child for child in recipe.children() if any(p.requires_grad for p in child.parameters())]
        self._hooks = [network.register_forward_hook(self._keep) for network in networks]

    def _keep(self, network: nn.Module, arguments: Any, output: Any) -> None:
        for name, value in _named_tensors(output):
            value.retain_grad()
            self._outputs.append((name, value))

    def collect(self, source_names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the sum of |d loss / d value| of each output, () each, without waiting for a device.

        Transforms (B, N, 4, 4) between neighbors in time have `translation` (per unit of length) and `rotation` (per
        radian, axes of the source). Brightness has `gain` and `offset`.
        """
        outputs, self._outputs = self._outputs, []
        while self._hooks:
            self._hooks.pop().remove()
        temporal = [i for i, name in enumerate(source_names) if is_temporal(name)]
        found: dict[str, Tensor] = {}
        for name, value in outputs:
            gradient = torch.zeros_like(value) if value.grad is None else value.grad.detach()
            for quantity, part in _parts(name, value.detach(), gradient, temporal):
                size = part.abs().sum().float()
                found[quantity] = found[quantity] + size if quantity in found else size
        return found


def _named_tensors(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        if output.requires_grad:
            yield name, output
    elif is_dataclass(output):
        for field in fields(output):
            yield from _named_tensors(getattr(output, field.name), field.name)
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        for field_name, value in zip(output._fields, output, strict=True):
            yield from _named_tensors(value, field_name)
    elif isinstance(output, tuple | list):
        for number, value in enumerate(output):
            yield from _named_tensors(value, f"{name}/{number}")


def _parts(name: str, value: Tensor, gradient: Tensor, temporal: list[int]) -> Iterator[tuple[str, Tensor]]:
    if name == "T_source_target":
        if temporal:
            yield "translation", gradient[:, temporal, :3, 3]
            yield "rotation", compute_rotation_gradient(value[:, temporal, :3, :3], gradient[:, temporal, :3, :3])
    elif name == "brightness":
        yield "gain", gradient[..., 0]
        yield "offset", gradient[..., 1]
    else:
        yield name, gradient


def compute_rotation_gradient(R: Tensor, gradient: Tensor) -> Tensor:
    """Return d loss / d w (..., 3) at w = 0 of exp(w) R, from R (..., 3, 3) and d loss / d R (..., 3, 3)."""
    turning = gradient @ R.transpose(-1, -2)
    return torch.stack([turning[..., j, i] - turning[..., i, j] for i, j in ((1, 2), (2, 0), (0, 1))], dim=-1)
