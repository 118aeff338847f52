"""`Task`: the LightningModule that every recipe is."""

from __future__ import annotations

import cmath
import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol

import stadia.core.torchvision_shim  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from stadia.core.errors import NotFiniteError
from stadia.core.types import Batch, InputsT, Meta, TargetsT
from stadia.training import optimizers, schedules
from stadia.training.batches import TrainingPlan
from stadia.training.config import OptimizerConfig, ScheduleConfig
from stadia.training.validation_scores import ValidationScores

log = logging.getLogger(__name__)


class Report(Protocol):
    """What a step gives (the losses' LossReport).

    total: () the loss to minimize.
    terms: its named parts, () each, as they enter the total.
    maps: named per-pixel maps, (B, ...), for images and checks.
    least: the smallest value that a term can have, by name, where it has one; see `loss_laws`.
    seen: scalars that enter nothing, () each, logged as `train/NAME`.
    """

    @property
    def total(self) -> Tensor: ...
    @property
    def terms(self) -> Mapping[str, Tensor]: ...
    @property
    def maps(self) -> Mapping[str, Tensor]: ...
    @property
    def least(self) -> Mapping[str, float]: ...
    @property
    def seen(self) -> Mapping[str, Tensor]: ...


class Task(pl.LightningModule, Generic[InputsT, TargetsT]):
    """Something that can be trained: subclass, and say what a step is. `Task` alone is one of video, see Batch.

    recipe: its name, written into checkpoints; a checkpoint of another one is refused.
    best_metrics: what chooses the best checkpoint: the first of these that validation gives, lower is better. None of
        them may depend on the loss's weights, or the best could be had by turning one down. Without any the last one
        counts.
    """

    recipe: ClassVar[str]
    best_metrics: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: OptimizerConfig | None = None, schedule: ScheduleConfig | None = None) -> None:
        super().__init__()
        self.optimizer_config = optimizer or OptimizerConfig()
        self.schedule_config = schedule or ScheduleConfig()
        self.plan: TrainingPlan | None = None  # set by `fit`
        self.started_from = ""  # the checkpoint whose weights it was given before it trained
        self.report: Report | None = None  # of the latest training step
        self.scores = ValidationScores()  # of the validation that runs
        self.validated: dict[str, float] = {}  # the means of the latest one, `val/<name>`, equal in all processes
        self.without_score: dict[
            str, tuple[int, int]
        ] = {}  # in the latest one: how many samples of how many have none of a name
        self.meta: tuple[Meta, ...] = ()  # of the latest training batch
        self.batch_loss = math.nan  # of the latest training batch
        self.found: list[Any] = []  # findings of the recipe's own; the watch takes them out and tells them
        self.gradient_norm = torch.zeros(())  # of the latest update, before clipping
        self.lr = 0.0  # of the latest update

    # -- what a recipe says
    # ---------------------------------------------------------------------------------------------

    def step(self, batch: Batch[InputsT, TargetsT]) -> Report:
        """Networks, geometry and losses of a batch. Runs under autocast where precision is "bf16"."""
        raise NotImplementedError(f"{type(self).__name__} says no step")

    def validate(self, batch: Batch[InputsT, TargetsT]) -> Mapping[str, Tensor | float]:
        """Scores of a validation batch by name: (B,), NaN for a sample that has none, or () for a mean over the batch.

        Logged as `val/<name>`, the mean over the set's samples, NaN left out, over all processes. Names may differ from
        batch to batch.
        """
        report = self.step(batch)
        return {"loss": report.total, **{f"term/{name}": value for name, value in report.terms.items()}}

    def validation_summary(self) -> Mapping[str, float]:
        """Scores of the whole validation by name that are no means over samples: a median, an average precision.

        Called once it has ended, by all processes, which have to agree; `validate` keeps what it takes.
        """
        return {}

    def validation_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """(H, W, 3) RGB by name, of a validation that has ended. Called after `validation_summary`, in the main
        process alone.
        """
        return {}

    def images(self, batch: Batch[InputsT, TargetsT], report: Report) -> Mapping[str, NDArray[np.uint8]]:
        """(H, W, 3) RGB by label, for the image sheet of a training step: input, depth, warped, residual, winner."""
        return {}

    @property
    def weights(self) -> Mapping[str, str]:
        """What each network started from, "pretrained" or "random", by name. Written into run.json."""
        return {}

    def parameter_groups(self) -> optimizers.Groups:
        """As torch takes them; every trainable parameter once."""
        return optimizers.parameter_groups(self, self.optimizer_config.weight_decay)

    # -- what Lightning calls
    # -------------------------------------------------------------------------------------------

    def training_step(self, batch: Batch[InputsT, TargetsT], batch_idx: int) -> Tensor:
        self.report, self.meta = self.step(batch), batch.meta
        return self.report.total

    def on_after_backward(self) -> None:
        """Stop where the loss or the gradient is not finite, while the weights are whole.

        The one time in a batch that a GPU is waited for: both are read together, once it has been given all there is to
            do.
        """
        assert self.report is not None
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.gradient_norm = torch.nn.utils.get_total_norm(gradients)
        both = torch.complex(
            self.report.total.detach().float(), self.gradient_norm.float()
        ).item()  # as one number: two would wait twice
        self.batch_loss = both.real
        if cmath.isfinite(both):
            return
        if not math.isfinite(self.batch_loss):
            raise _loss_not_finite(self.report, self.meta, step=self.global_step + 1)
        raise _gradient_not_finite(self, step=self.global_step + 1)

    def on_train_batch_end(self, outputs: Any, batch: Batch[InputsT, TargetsT], batch_idx: int) -> None:
        self.report = None  # its maps would live on through the next forward

    def on_validation_epoch_start(self) -> None:
        self.scores = ValidationScores()

    def validation_step(self, batch: Batch[InputsT, TargetsT], batch_idx: int) -> None:
        self.scores.add(batch.meta, self.validate(batch))

    def on_validation_epoch_end(self) -> None:
        scores = self.scores.means() | dict(self.validation_summary())
        self.validated = {f"val/{name}": value for name, value in scores.items()}
        if self.scores.without != self.without_score and self.global_rank == 0:
            for count, total in dict.fromkeys(self.scores.without.values()):
                names = ", ".join(name for name, of in self.scores.without.items() if of == (count, total))
                log.warning(
                    "validation: %d of %d samples have no %s (nothing to score it by) and are in no mean",
                    count,
                    total,
                    names,
                )
        self.without_score = self.scores.without

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = optimizers.build(self, self.optimizer_config, self.parameter_groups())
        plan, config = self.plan, self.schedule_config
        if plan is None:
            raise RuntimeError("a Task is trained by stadia.training.fit")

        def factor(step: int) -> float:
            scheduled = schedules.factor(
                step, config, total_steps=plan.total_steps, steps_per_epoch=plan.steps_per_epoch
            )
            return plan.lr_factor(step) * scheduled

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        if gradient_clip_val is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, self.gradient_norm)
        self.lr = optimizer.param_groups[0]["lr"]

    def transfer_batch_to_device(
        self, batch: Batch[InputsT, TargetsT], device: torch.device, dataloader_idx: int
    ) -> Batch[InputsT, TargetsT]:
        return batch.to(device, non_blocking=True)


def _loss_not_finite(report: Report, meta: tuple[Meta, ...], step: int) -> NotFiniteError:
    """Which term, and which samples where the maps can tell."""
    terms = [name for name, value in report.terms.items() if not torch.isfinite(value).all()]
    culprits: set[int] = set()
    for values in report.maps.values():
        if values.shape[:1] == (len(meta),):
            culprits |= set((~torch.isfinite(values.reshape(len(meta), -1))).any(dim=1).nonzero().flatten().tolist())
    samples = [f"{one.recording} {one.index}" for index, one in enumerate(meta) if not culprits or index in culprits]
    return NotFiniteError(
        f"loss of step {step}",
        found=f"{report.total.item()} (terms: {', '.join(terms) or 'all finite'}; samples: {', '.join(samples)})",
        expected="a finite loss",
        fix="look at these samples with `stadia check`, or lower optimizer.lr",
    )


def _gradient_not_finite(task: Task, step: int) -> NotFiniteError:
    """Which parameters."""
    broken = [name for name, p in task.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    return NotFiniteError(
        f"gradient of step {step}",
        found=(
            f"{task.gradient_norm.item()} in {len(broken)} parameters, first '{broken[0] if broken else 'none alone'}'"
        ),
        expected="a finite gradient",
        fix="lower optimizer.lr, or find the division or square root at 0 in the loss",
    )
